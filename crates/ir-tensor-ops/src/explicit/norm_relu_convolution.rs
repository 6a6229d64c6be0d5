//! Batch norm, ReLU and convolution in one: the branch of a pre-activation block is two of these.

use candle_core::Tensor;

use crate::arch::{self, Kernel, Vector};
use crate::convolution::{self, Convolution, Source};
use crate::error::Result;
use crate::explicit::norm_relu;
use crate::input::{self, Input, Output};
use crate::norm::Norm;
use crate::planes;
use crate::statistics::{self, ChannelStatistics};

/// y = conv(relu(norm(x)), weight) + bias + residual; relu(norm(x)) is never stored.
///
/// # Shapes
/// x `[N, I, H, W]`, weight `[O, I, K, K]` with K = 1 or 3, bias `[O]`, residual and the result
/// `[N, O, H', W']` with H' = ⌊(H + 2·padding − K) / stride⌋ + 1, W' likewise. The padding pads
/// relu(norm(x)) with zeros.
///
/// # Errors
/// As [`conv2d`](super::conv2d) and [`norm_relu`](super::norm_relu).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use ir_tensor_ops::{ChannelStatistics, Norm, explicit};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let x = Tensor::new(&[-1f32, 1.], &Device::Cpu)?.reshape((1, 1, 1, 2))?;
/// let one = Tensor::new(&[1f32], &Device::Cpu)?;
/// let norm = Norm::batch(&ChannelStatistics::of(&x)?, &one, &one.zeros_like()?, 1e-12)?;
/// let weight = one.reshape((1, 1, 1, 1))?;
/// let y = explicit::norm_relu_conv2d(&x, &norm, &weight, &one, 1, 0, Some(&x))?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [0., 3.]);
/// # Ok(())
/// # }
/// ```
pub fn norm_relu_conv2d(
    x: &Tensor,
    norm: &Norm,
    weight: &Tensor,
    bias: &Tensor,
    stride: usize,
    padding: usize,
    residual: Option<&Tensor>,
) -> Result<Tensor> {
    const OP: &str = "norm_relu_conv2d";
    norm_relu_conv2d_output(OP, x, norm, weight, bias, stride, padding, residual)?.tensor()
}

/// [`norm_relu_conv2d`] under the name `op`.
pub(crate) fn norm_relu_conv2d_output(
    op: &'static str,
    x: &Tensor,
    norm: &Norm,
    weight: &Tensor,
    bias: &Tensor,
    stride: usize,
    padding: usize,
    residual: Option<&Tensor>,
) -> Result<Output> {
    let call = Call::new(op, x, norm, weight, stride, padding)?;
    let (y, _) = call.forward(norm, bias, residual, |_| ())?;
    Ok(Output::new(y, &call.shape.output_shape()))
}

/// As [`norm_relu_conv2d`]; also gives the statistics of the result, taken while it is written.
///
/// # Errors
/// As [`norm_relu_conv2d`].
///
/// ```
/// use candle_core::{Device, Tensor};
/// use ir_tensor_ops::{Norm, explicit};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let x = Tensor::new(&[-1f32, 2.], &Device::Cpu)?.reshape((1, 1, 1, 2))?;
/// let one = Tensor::new(&[1f32], &Device::Cpu)?;
/// let zero = one.zeros_like()?;
/// let norm = Norm::running(&zero, &one, &one, &zero, 1e-12)?;
/// let weight = one.reshape((1, 1, 1, 1))?;
/// let (y, statistics) =
///     explicit::norm_relu_conv2d_with_statistics(&x, &norm, &weight, &one, 1, 0, None)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [1., 3.]);
/// assert_eq!((statistics.mean, statistics.variance), (vec![2.], vec![1.]));
/// # Ok(())
/// # }
/// ```
pub fn norm_relu_conv2d_with_statistics(
    x: &Tensor,
    norm: &Norm,
    weight: &Tensor,
    bias: &Tensor,
    stride: usize,
    padding: usize,
    residual: Option<&Tensor>,
) -> Result<(Tensor, ChannelStatistics)> {
    let call = Call::new(
        "norm_relu_conv2d_with_statistics",
        x,
        norm,
        weight,
        stride,
        padding,
    )?;
    let plane = call.shape.out_height * call.shape.out_width;
    let (y, moments) = call.forward(norm, bias, residual, |image| {
        statistics::image_moments(image, plane)
    })?;
    let statistics = ChannelStatistics::merge(&moments, plane);
    Ok((input::output(y, &call.shape.output_shape())?, statistics))
}

/// The gradients of [`norm_relu_conv2d`].
#[derive(Debug, Clone)]
pub struct NormReluConv2dGradients {
    /// ∂L/∂x `[N, I, H, W]`, with `residual_gradient` added.
    pub x: Tensor,
    /// ∂L/∂γ `[I]`.
    pub gamma: Tensor,
    /// ∂L/∂β `[I]`.
    pub beta: Tensor,
    /// ∂L/∂weight `[O, I, K, K]`.
    pub weight: Tensor,
    /// ∂L/∂bias `[O]`.
    pub bias: Tensor,
}

/// The gradients of [`norm_relu_conv2d`] from ∂L/∂y `[N, O, H', W']`; relu(norm(x)) is computed
/// again. The gradient of the residual is ∂L/∂y itself.
///
/// `residual_gradient` `[N, I, H, W]` is added to x's gradient: what reaches x on another way,
/// such as ∂L/∂h_{j+1} through the identity shortcut.
///
/// # Errors
/// As [`norm_relu_conv2d`], and `Shape` if a gradient does not have the shape named here.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use ir_tensor_ops::{Norm, explicit};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let x = Tensor::new(&[-1f32, 2.], &Device::Cpu)?.reshape((1, 1, 1, 2))?;
/// let one = Tensor::new(&[1f32], &Device::Cpu)?;
/// let zero = one.zeros_like()?;
/// let norm = Norm::running(&zero, &one, &one, &zero, 1e-12)?;
/// let weight = Tensor::new(&[3f32], &Device::Cpu)?.reshape((1, 1, 1, 1))?;
/// let grad = x.ones_like()?;
/// let gradients =
///     explicit::norm_relu_conv2d_backward(&x, &norm, &weight, 1, 0, &grad, Some(&x))?;
/// assert_eq!(gradients.x.flatten_all()?.to_vec1::<f32>()?, [-1., 5.]);
/// assert_eq!(gradients.weight.flatten_all()?.to_vec1::<f32>()?, [2.]);
/// # Ok(())
/// # }
/// ```
pub fn norm_relu_conv2d_backward(
    x: &Tensor,
    norm: &Norm,
    weight: &Tensor,
    stride: usize,
    padding: usize,
    grad_output: &Tensor,
    residual_gradient: Option<&Tensor>,
) -> Result<NormReluConv2dGradients> {
    const OP: &str = "norm_relu_conv2d_backward";
    let call = Call::new(OP, x, norm, weight, stride, padding)?;
    let shape = &call.shape;
    let gradient = Input::shaped(OP, "grad_output", grad_output, &shape.output_shape())?;
    let added = residual_gradient
        .map(|added| Input::shaped(OP, "residual_gradient", added, &shape.input_shape()))
        .transpose()?;
    let (x, gradient) = (call.x.values(), gradient.values());
    let (x, gradient): (&[f32], &[f32]) = (&x, &gradient);
    let source = Source {
        values: x,
        norm: Some(norm),
    };
    let (dw, db) = convolution::weight_gradient(shape, source, gradient);
    let size = x.len() / shape.batch;
    let (dz, sums) =
        convolution::input_gradient(shape, &call.weight.values(), gradient, |index, dz| {
            norm_relu::mask_and_sum(norm, true, &x[index * size..][..size], dz)
        });
    let added = added.as_ref().map(Input::values);
    let through_norm =
        norm_relu::finish(norm, x, dz, &sums, added.as_deref(), &shape.input_shape())?;
    Ok(NormReluConv2dGradients {
        x: through_norm.x,
        gamma: through_norm.gamma,
        beta: through_norm.beta,
        weight: input::output(dw, &shape.weight_shape())?,
        bias: input::output(db, shape.outputs)?,
    })
}

/// The gradient of x alone, under a norm with constant statistics.
pub(crate) fn frozen_input_gradient(
    x: &Tensor,
    norm: &Norm,
    weight: &Tensor,
    stride: usize,
    padding: usize,
    grad_output: &Tensor,
) -> Result<Tensor> {
    const OP: &str = "frozen_norm_relu_conv2d";
    let call = Call::new(OP, x, norm, weight, stride, padding)?;
    let shape = &call.shape;
    let gradient = Input::shaped(OP, "grad_output", grad_output, &shape.output_shape())?;
    let x = call.x.values();
    let x: &[f32] = &x;
    let size = x.len() / shape.batch;
    let (weight, gradient) = (call.weight.values(), gradient.values());
    let (dz, sums) = convolution::input_gradient(shape, &weight, &gradient, |index, dz| {
        norm_relu::mask_and_sum(norm, true, &x[index * size..][..size], dz)
    });
    Ok(norm_relu::finish(norm, x, dz, &sums, None, &shape.input_shape())?.x)
}

/// The checked arguments that all of these have.
struct Call {
    op: &'static str,
    shape: Convolution,
    x: Input,
    weight: Input,
}

impl Call {
    fn new(
        op: &'static str,
        x: &Tensor,
        norm: &Norm,
        weight: &Tensor,
        stride: usize,
        padding: usize,
    ) -> Result<Self> {
        norm.check(op, x)?;
        Ok(Self {
            op,
            shape: Convolution::new(op, x, weight, stride, padding)?,
            x: Input::new(op, "x", x)?,
            weight: Input::new(op, "weight", weight)?,
        })
    }

    /// The forward pass; `look` sees every finished image.
    fn forward<T: Send>(
        &self,
        norm: &Norm,
        bias: &Tensor,
        residual: Option<&Tensor>,
        look: impl Fn(&[f32]) -> T + Sync,
    ) -> Result<(Vec<f32>, Vec<T>)> {
        let bias = input::vector(self.op, "bias", bias, self.shape.outputs)?;
        let residual = residual
            .map(|r| Input::shaped(self.op, "residual", r, &self.shape.output_shape()))
            .transpose()?;
        let residual = residual.as_ref().map(Input::values);
        let residual: Option<&[f32]> = residual.as_deref();
        let source = Source {
            values: &self.x.values(),
            norm: Some(norm),
        };
        let weight = self.weight.values();
        let finish = |index: usize, image: &mut [f32]| {
            if let Some(residual) = residual {
                let residual = &residual[index * image.len()..][..image.len()];
                arch::run(AddResidual { residual, image });
            }
            look(image)
        };
        Ok(convolution::forward(
            &self.shape,
            source,
            &weight,
            Some(&bias),
            finish,
        ))
    }
}

/// Adds the residual to one image while it is in the cache.
struct AddResidual<'a> {
    residual: &'a [f32],
    image: &'a mut [f32],
}

impl Kernel for AddResidual<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _vector: V) {
        planes::add(self.residual, self.image);
    }
}
