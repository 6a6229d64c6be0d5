//! Convolutions of activations, with or without the batch norm and ReLU before them.

use candle_core::Tensor;

use super::{Activation, Gradient};
use crate::blocks::Sums;
use crate::convolution::{self, Convolution, Finish, Source};
use crate::error::Result;
use crate::explicit::{Wanted, through_norm};
use crate::images::Images;
use crate::input::{self, Input};
use crate::norm::Norm;
use crate::statistics::ChannelStatistics;

/// A convolution's parameters: weight `[O, I, K, K]` with K = 1 or 3, bias `[O]`, a stride of 1 or 2,
/// and a padding below K.
#[derive(Debug, Clone, Copy)]
pub struct Conv2d<'a> {
    /// `[O, I, K, K]`.
    pub weight: &'a Tensor,
    /// `[O]`.
    pub bias: &'a Tensor,
    /// 1 or 2, in both directions.
    pub stride: usize,
    /// The zeros on each side.
    pub padding: usize,
}

/// The gradients of a convolution of an [`Activation`].
#[derive(Debug, Default)]
pub struct ActivationGradients {
    /// ∂L/∂x `[N, I, H, W]`, if it was wanted.
    pub x: Option<Gradient>,
    /// ∂L/∂weight `[O, I, K, K]`, if it was wanted.
    pub weight: Option<Tensor>,
    /// ∂L/∂bias `[O]`, as the weight's.
    pub bias: Option<Tensor>,
    /// Those of the batch norm before it, if there is one.
    pub norm: Option<NormGradients>,
}

/// The gradients of a batch norm's parameters.
#[derive(Debug, Clone)]
pub struct NormGradients {
    /// ∂L/∂γ `[C]`.
    pub gamma: Tensor,
    /// ∂L/∂β `[C]`.
    pub beta: Tensor,
}

impl NormGradients {
    pub(super) fn new(gamma: Vec<f32>, beta: Vec<f32>) -> Result<Self> {
        let channels = gamma.len();
        Ok(Self {
            gamma: input::output(gamma, channels)?,
            beta: input::output(beta, channels)?,
        })
    }
}

impl Activation {
    /// conv(x, weight) + bias.
    ///
    /// # Errors
    /// As [`explicit::conv2d`](crate::explicit::conv2d).
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use ir_tensor_ops::{Activation, Conv2d, Workspace};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let x = Tensor::ones((1, 1, 2, 2), DType::F32, &Device::Cpu)?;
    /// let weight = Tensor::ones((1, 1, 3, 3), DType::F32, &Device::Cpu)?;
    /// let bias = Tensor::new(&[0.5f32], &Device::Cpu)?;
    /// let x = Activation::from_tensor(&Workspace::default(), &x)?;
    /// let layer = Conv2d { weight: &weight, bias: &bias, stride: 1, padding: 1 };
    /// let y = x.conv2d(layer)?;
    /// assert_eq!(y.to_tensor()?.flatten_all()?.to_vec1::<f32>()?, [4.5; 4]);
    /// let (_, statistics) = x.conv2d_with_statistics(layer)?;
    /// assert_eq!(statistics.mean, [4.5]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn conv2d(&self, layer: Conv2d<'_>) -> Result<Self> {
        Ok(self
            .convolve("Activation::conv2d", None, layer, None, false)?
            .0)
    }

    /// As [`Activation::conv2d`]; also gives the statistics of the result, taken while it is
    /// written.
    ///
    /// # Errors
    /// As [`Activation::conv2d`].
    pub fn conv2d_with_statistics(&self, layer: Conv2d<'_>) -> Result<(Self, ChannelStatistics)> {
        let op = "Activation::conv2d_with_statistics";
        Ok(Self::with_statistics(
            self.convolve(op, None, layer, None, true)?,
        ))
    }

    /// conv(relu(norm(x)), weight) + bias + residual.
    ///
    /// # Errors
    /// As [`explicit::norm_relu_conv2d`](crate::explicit::norm_relu_conv2d).
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use ir_tensor_ops::{Activation, Conv2d, Norm, Workspace};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let x = Tensor::new(&[-1f32, 1.], &Device::Cpu)?.reshape((1, 1, 1, 2))?;
    /// let one = Tensor::new(&[1f32], &Device::Cpu)?;
    /// let x = Activation::from_tensor(&Workspace::default(), &x)?;
    /// let norm = Norm::batch(&x.statistics(), &one, &one.zeros_like()?, 1e-12)?;
    /// let weight = one.reshape((1, 1, 1, 1))?;
    /// let layer = Conv2d { weight: &weight, bias: &one, stride: 1, padding: 0 };
    /// let y = x.norm_relu_conv2d(&norm, layer, Some(&x))?;
    /// assert_eq!(y.to_tensor()?.flatten_all()?.to_vec1::<f32>()?, [0., 3.]);
    /// let (_, statistics) = x.norm_relu_conv2d_with_statistics(&norm, layer, Some(&x))?;
    /// assert_eq!(statistics.mean, [1.5]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn norm_relu_conv2d(
        &self,
        norm: &Norm,
        layer: Conv2d<'_>,
        residual: Option<&Self>,
    ) -> Result<Self> {
        let op = "Activation::norm_relu_conv2d";
        Ok(self.convolve(op, Some(norm), layer, residual, false)?.0)
    }

    /// As [`Activation::norm_relu_conv2d`]; also gives the statistics of the result, taken while
    /// it is written.
    ///
    /// # Errors
    /// As [`Activation::norm_relu_conv2d`].
    pub fn norm_relu_conv2d_with_statistics(
        &self,
        norm: &Norm,
        layer: Conv2d<'_>,
        residual: Option<&Self>,
    ) -> Result<(Self, ChannelStatistics)> {
        let op = "Activation::norm_relu_conv2d_with_statistics";
        let found = self.convolve(op, Some(norm), layer, residual, true)?;
        Ok(Self::with_statistics(found))
    }

    fn with_statistics((y, moments): (Self, Vec<Sums>)) -> (Self, ChannelStatistics) {
        let statistics = ChannelStatistics::merge(&moments, y.extent());
        (y, statistics)
    }

    fn convolve(
        &self,
        op: &'static str,
        norm: Option<&Norm>,
        layer: Conv2d<'_>,
        residual: Option<&Self>,
        moments: bool,
    ) -> Result<(Self, Vec<Sums>)> {
        let (shape, weight) = self.check(op, norm, layer)?;
        let bias = input::vector(op, "bias", layer.bias, shape.outputs)?;
        if let Some(residual) = residual {
            check_dims(op, "residual", residual.dims, shape.output_shape())?;
        }
        let mut y = Self::new(&self.workspace, shape.output_shape());
        let moments = convolution::forward(
            &shape,
            self.source(norm),
            &weight.values(),
            Some(&bias),
            Finish::Forward {
                residual: residual.map(Self::images),
                moments,
            },
            y.images_mut(),
        );
        Ok((y, moments))
    }

    /// The gradients of [`Activation::conv2d`] from ∂L/∂y, which is whole afterwards if any of them is wanted.
    ///
    /// # Errors
    /// As [`Activation::conv2d`], and `Shape` if the gradient does not have the result's.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use ir_tensor_ops::{Activation, Conv2d, Workspace, explicit::Wanted};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let ones = Tensor::ones((1, 1, 2, 2), DType::F32, &Device::Cpu)?;
    /// let weight = Tensor::ones((1, 1, 3, 3), DType::F32, &Device::Cpu)?;
    /// let bias = Tensor::new(&[0.5f32], &Device::Cpu)?;
    /// let workspace = Workspace::default();
    /// let x = Activation::from_tensor(&workspace, &ones)?;
    /// let layer = Conv2d { weight: &weight, bias: &bias, stride: 1, padding: 1 };
    /// let mut gradient = Activation::from_tensor(&workspace, &ones)?.into();
    /// let found = x.conv2d_backward(layer, &mut gradient, Wanted { x: true, weight: true })?;
    /// let dx = found.x.expect("it was wanted").whole();
    /// assert_eq!(dx.to_tensor()?.flatten_all()?.to_vec1::<f32>()?, [4.; 4]);
    /// assert_eq!(found.bias.expect("it was wanted").to_vec1::<f32>()?, [4.]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn conv2d_backward(
        &self,
        layer: Conv2d<'_>,
        grad_output: &mut Gradient,
        wanted: Wanted,
    ) -> Result<ActivationGradients> {
        const OP: &str = "Activation::conv2d_backward";
        let (shape, weight) = self.check(OP, None, layer)?;
        check_dims(OP, "grad_output", grad_output.dims(), shape.output_shape())?;
        let mut gradients = ActivationGradients::default();
        if wanted.x {
            let mut dx = Self::new(&self.workspace, self.dims);
            let (gradient, to) = (grad_output.incoming(), dx.images_mut());
            convolution::input_gradient(&shape, &weight.values(), gradient, Finish::Plain, to);
            grad_output.completed();
            gradients.x = Some(dx.into());
        }
        if wanted.weight {
            grad_output.complete();
            self.weight_gradient(&shape, None, grad_output.completed(), &mut gradients)?;
        }
        Ok(gradients)
    }

    /// The gradients of [`Activation::norm_relu_conv2d`] from ∂L/∂y, which is whole afterwards
    /// and is also the gradient of the residual. `residual_gradient`, what reaches x on another
    /// way, is added to x's. Takes x, which the gradient keeps for as long as it needs it.
    ///
    /// # Errors
    /// As [`Activation::norm_relu_conv2d`], and `Shape` if a gradient does not have the shape
    /// named here.
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use ir_tensor_ops::{Activation, Conv2d, Norm, Workspace};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let x = Tensor::new(&[-1f32, 2.], &Device::Cpu)?.reshape((1, 1, 1, 2))?;
    /// let one = Tensor::new(&[1f32], &Device::Cpu)?;
    /// let zero = one.zeros_like()?;
    /// let norm = Norm::running(&zero, &one, &one, &zero, 1e-12)?;
    /// let weight = Tensor::new(&[3f32], &Device::Cpu)?.reshape((1, 1, 1, 1))?;
    /// let layer = Conv2d { weight: &weight, bias: &one, stride: 1, padding: 0 };
    /// let workspace = Workspace::default();
    /// let mut gradient = Activation::from_tensor(&workspace, &x.ones_like()?)?.into();
    /// let added = Activation::from_tensor(&workspace, &x)?;
    /// let x = Activation::from_tensor(&workspace, &x)?;
    /// let found = x.norm_relu_conv2d_backward(&norm, layer, &mut gradient, Some(added))?;
    /// let dx = found.x.expect("always given").whole();
    /// assert_eq!(dx.to_tensor()?.flatten_all()?.to_vec1::<f32>()?, [-1., 5.]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn norm_relu_conv2d_backward(
        self,
        norm: &Norm,
        layer: Conv2d<'_>,
        grad_output: &mut Gradient,
        residual_gradient: Option<Self>,
    ) -> Result<ActivationGradients> {
        const OP: &str = "Activation::norm_relu_conv2d_backward";
        let mut gradients = ActivationGradients::default();
        let added = residual_gradient.as_ref();
        let (dx, sums) = self.masked_gradient(OP, norm, layer, grad_output, added)?;
        let (shape, _) = self.check(OP, Some(norm), layer)?;
        let gradient = grad_output.completed();
        self.weight_gradient(&shape, Some(norm), gradient, &mut gradients)?;
        let found = norm.gradients(&sums);
        gradients.norm = Some(NormGradients::new(found.gamma, found.beta)?);
        gradients.x = Some(Gradient::behind_norm(
            dx,
            found.rules,
            self,
            residual_gradient,
        ));
        Ok(gradients)
    }

    /// That of x alone among the gradients of [`Activation::norm_relu_conv2d_backward`].
    ///
    /// # Errors
    /// As [`Activation::norm_relu_conv2d_backward`].
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use ir_tensor_ops::{Activation, Conv2d, Norm, Workspace};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let x = Tensor::new(&[-1f32, 2.], &Device::Cpu)?.reshape((1, 1, 1, 2))?;
    /// let one = Tensor::new(&[1f32], &Device::Cpu)?;
    /// let zero = one.zeros_like()?;
    /// let norm = Norm::running(&zero, &one, &one, &zero, 1e-12)?;
    /// let weight = Tensor::new(&[3f32], &Device::Cpu)?.reshape((1, 1, 1, 1))?;
    /// let layer = Conv2d { weight: &weight, bias: &one, stride: 1, padding: 0 };
    /// let workspace = Workspace::default();
    /// let mut gradient = Activation::from_tensor(&workspace, &x.ones_like()?)?.into();
    /// let x = Activation::from_tensor(&workspace, &x)?;
    /// let dx = x.norm_relu_conv2d_input_gradient(&norm, layer, &mut gradient, None)?;
    /// assert_eq!(dx.whole().to_tensor()?.flatten_all()?.to_vec1::<f32>()?, [0., 3.]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn norm_relu_conv2d_input_gradient(
        self,
        norm: &Norm,
        layer: Conv2d<'_>,
        grad_output: &mut Gradient,
        residual_gradient: Option<Self>,
    ) -> Result<Gradient> {
        const OP: &str = "Activation::norm_relu_conv2d_input_gradient";
        let added = residual_gradient.as_ref();
        let (dx, sums) = self.masked_gradient(OP, norm, layer, grad_output, added)?;
        let rules = norm.gradients(&sums).rules;
        Ok(Gradient::behind_norm(dx, rules, self, residual_gradient))
    }

    /// As [`Activation::norm_relu_conv2d_input_gradient`], of an x that stays: for many gradients
    /// through the same layer.
    ///
    /// # Errors
    /// As [`Activation::norm_relu_conv2d_backward`].
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use ir_tensor_ops::{Activation, Conv2d, Norm, Workspace};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let x = Tensor::new(&[-1f32, 2.], &Device::Cpu)?.reshape((1, 1, 1, 2))?;
    /// let one = Tensor::new(&[1f32], &Device::Cpu)?;
    /// let zero = one.zeros_like()?;
    /// let norm = Norm::running(&zero, &one, &one, &zero, 1e-12)?;
    /// let weight = Tensor::new(&[3f32], &Device::Cpu)?.reshape((1, 1, 1, 1))?;
    /// let layer = Conv2d { weight: &weight, bias: &one, stride: 1, padding: 0 };
    /// let workspace = Workspace::default();
    /// let gradient = || Activation::from_tensor(&workspace, &x.ones_like()?);
    /// let x = Activation::from_tensor(&workspace, &x)?;
    /// let once = x.norm_relu_conv2d_input_gradient_at(&norm, layer, gradient()?)?;
    /// let twice = x.norm_relu_conv2d_input_gradient_at(&norm, layer, gradient()?)?;
    /// assert_eq!(once.to_tensor()?.flatten_all()?.to_vec1::<f32>()?, [0., 3.]);
    /// assert_eq!(twice.to_tensor()?.flatten_all()?.to_vec1::<f32>()?, [0., 3.]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn norm_relu_conv2d_input_gradient_at(
        &self,
        norm: &Norm,
        layer: Conv2d<'_>,
        grad_output: Self,
    ) -> Result<Self> {
        const OP: &str = "Activation::norm_relu_conv2d_input_gradient_at";
        let (mut dx, sums) =
            self.masked_gradient(OP, norm, layer, &mut grad_output.into(), None)?;
        let (rules, extent) = (norm.gradients(&sums).rules, self.extent());
        through_norm(&rules, extent, self.images(), None, dx.images_mut());
        Ok(dx)
    }

    /// The gradient of norm(x), and its sums; makes ∂L/∂y whole.
    fn masked_gradient(
        &self,
        op: &'static str,
        norm: &Norm,
        layer: Conv2d<'_>,
        grad_output: &mut Gradient,
        residual_gradient: Option<&Self>,
    ) -> Result<(Self, Vec<Sums>)> {
        let (shape, weight) = self.check(op, Some(norm), layer)?;
        check_dims(op, "grad_output", grad_output.dims(), shape.output_shape())?;
        if let Some(added) = residual_gradient {
            check_dims(op, "residual_gradient", added.dims, self.dims)?;
        }
        let mut dx = Self::new(&self.workspace, self.dims);
        let (x, gradient) = (self.images(), grad_output.incoming());
        let finish = Finish::Backward { x, norm };
        let to = dx.images_mut();
        let sums = convolution::input_gradient(&shape, &weight.values(), gradient, finish, to);
        grad_output.completed();
        Ok((dx, sums))
    }

    /// Adds the gradients of weight and bias to the others.
    fn weight_gradient(
        &self,
        shape: &Convolution,
        norm: Option<&Norm>,
        gradient: Images<'_>,
        gradients: &mut ActivationGradients,
    ) -> Result<()> {
        let (dw, db) = convolution::weight_gradient(shape, self.source(norm), gradient);
        gradients.weight = Some(input::output(dw, &shape.weight_shape())?);
        gradients.bias = Some(input::output(db, shape.outputs)?);
        Ok(())
    }

    fn source<'a>(&'a self, norm: Option<&'a Norm>) -> Source<'a> {
        let images: Images<'a> = self.images();
        Source { images, norm }
    }

    fn check(
        &self,
        op: &'static str,
        norm: Option<&Norm>,
        layer: Conv2d<'_>,
    ) -> Result<(Convolution, Input)> {
        if let Some(norm) = norm {
            norm.check(op, &self.dims)?;
        }
        let shape = Convolution::new(op, &self.dims, layer.weight, layer.stride, layer.padding)?;
        Ok((shape, Input::new(op, "weight", layer.weight)?))
    }
}

/// Fails unless an activation has the dimensions.
pub(super) fn check_dims(
    op: &'static str,
    argument: &'static str,
    found: [usize; 4],
    expected: [usize; 4],
) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    let expected = format!("{expected:?}");
    Err(input::wrong_sizes(op, argument, &found, expected))
}
