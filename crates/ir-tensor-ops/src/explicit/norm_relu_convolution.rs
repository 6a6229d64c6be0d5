//! Batch norm, ReLU and convolution in one: the branch of a pre-activation block is two of these.

use candle_core::Tensor;

use crate::blocks::Sums;
use crate::convolution::{self, Convolution, Finish, Incoming, Source};
use crate::dispatch::on_gpu;
use crate::error::Result;
use crate::explicit::norm_relu::{self, NormReluGradients};
use crate::images::{Images, ImagesMut};
use crate::input::{self, Input, Output};
use crate::norm::Norm;
use crate::parallel;
use crate::statistics::ChannelStatistics;

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
    let arguments = Arguments::new(op, x, norm, weight, stride, padding)?;
    on_gpu!(
        x,
        convolution::norm_relu_conv2d(op, &arguments, bias, residual)
    );
    let call = Call::new(op, &arguments)?;
    let (y, _) = call.forward(arguments.norm, bias, residual, false)?;
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
    const OP: &str = "norm_relu_conv2d_with_statistics";
    let arguments = Arguments::new(OP, x, norm, weight, stride, padding)?;
    on_gpu!(
        x,
        convolution::norm_relu_conv2d_with_statistics(OP, &arguments, bias, residual)
    );
    let call = Call::new(OP, &arguments)?;
    let (y, moments) = call.forward(arguments.norm, bias, residual, true)?;
    let statistics = ChannelStatistics::merge(&moments, call.shape.target());
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
    let arguments = Arguments::new(OP, x, norm, weight, stride, padding)?;
    let added = residual_gradient;
    on_gpu!(
        x,
        convolution::norm_relu_conv2d_backward(OP, &arguments, grad_output, added)
    );
    let call = Call::new(OP, &arguments)?;
    let shape = &call.shape;
    let gradient = Input::shaped(OP, "grad_output", grad_output, &shape.output_shape())?;
    let added = added
        .map(|added| Input::shaped(OP, "residual_gradient", added, &shape.input_shape()))
        .transpose()?;
    let (x, gradient) = (call.x.values(), gradient.values());
    let (x, gradient) = (Images::Planar(&x), Images::Planar(&gradient));
    let source = Source {
        images: x,
        norm: Some(norm),
    };
    let (dw, db) = convolution::weight_gradient(shape, source, gradient);
    let added = added.as_ref().map(Input::values);
    let added = added.as_deref().map(Images::Planar);
    let through_norm = call.input_gradient(arguments.norm, x, gradient, added)?;
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
    let arguments = Arguments::new(OP, x, norm, weight, stride, padding)?;
    on_gpu!(
        x,
        convolution::norm_relu_conv2d_input_gradient(OP, &arguments, grad_output)
    );
    let call = Call::new(OP, &arguments)?;
    let gradient = Input::shaped(OP, "grad_output", grad_output, &call.shape.output_shape())?;
    let (x, gradient) = (call.x.values(), gradient.values());
    let (x, gradient) = (Images::Planar(&x), Images::Planar(&gradient));
    Ok(call.input_gradient(arguments.norm, x, gradient, None)?.x)
}

/// The arguments that all of these have, of sizes that fit.
pub(crate) struct Arguments<'a> {
    pub(crate) shape: Convolution,
    pub(crate) x: &'a Tensor,
    pub(crate) norm: &'a Norm,
    pub(crate) weight: &'a Tensor,
}

impl<'a> Arguments<'a> {
    fn new(
        op: &'static str,
        x: &'a Tensor,
        norm: &'a Norm,
        weight: &'a Tensor,
        stride: usize,
        padding: usize,
    ) -> Result<Self> {
        norm.check(op, x.dims())?;
        Ok(Self {
            shape: Convolution::new(op, x.dims(), weight, stride, padding)?,
            x,
            norm,
            weight,
        })
    }
}

/// The same on the CPU.
struct Call {
    op: &'static str,
    shape: Convolution,
    x: Input,
    weight: Input,
}

impl Call {
    fn new(op: &'static str, arguments: &Arguments<'_>) -> Result<Self> {
        Ok(Self {
            op,
            shape: arguments.shape,
            x: Input::new(op, "x", arguments.x)?,
            weight: Input::new(op, "weight", arguments.weight)?,
        })
    }

    /// The forward pass, and the moments of every image if they are wanted.
    fn forward(
        &self,
        norm: &Norm,
        bias: &Tensor,
        residual: Option<&Tensor>,
        moments: bool,
    ) -> Result<(Vec<f32>, Vec<Sums>)> {
        let shape = &self.shape;
        let bias = input::vector(self.op, "bias", bias, shape.outputs)?;
        let residual = residual
            .map(|r| Input::shaped(self.op, "residual", r, &shape.output_shape()))
            .transpose()?;
        let residual = residual.as_ref().map(Input::values);
        let mut y = parallel::zeros(shape.batch * shape.target().numbers());
        let sums = convolution::forward(
            shape,
            Source {
                images: Images::Planar(&self.x.values()),
                norm: Some(norm),
            },
            &self.weight.values(),
            Some(&bias),
            Finish::Forward {
                residual: residual.as_deref().map(Images::Planar),
                moments,
            },
            ImagesMut::Planar(&mut y),
        );
        Ok((y, sums))
    }

    /// The gradients of x, γ and β.
    fn input_gradient(
        &self,
        norm: &Norm,
        x: Images<'_>,
        gradient: Images<'_>,
        added: Option<Images<'_>>,
    ) -> Result<NormReluGradients> {
        let (shape, extent) = (&self.shape, self.shape.source());
        let mut dx = parallel::zeros(shape.batch * extent.numbers());
        let finish = Finish::Backward { x, norm };
        let to = ImagesMut::Planar(&mut dx);
        let weight = self.weight.values();
        let gradient = Incoming::Whole(gradient);
        let sums = convolution::input_gradient(shape, &weight, gradient, finish, to);
        let parameters = norm.gradients(&sums);
        let to = ImagesMut::Planar(&mut dx);
        norm_relu::through_norm(&parameters.rules, extent, x, added, to);
        Ok(NormReluGradients {
            x: input::output(dx, &shape.input_shape())?,
            gamma: input::output(parameters.gamma, norm.channels())?,
            beta: input::output(parameters.beta, norm.channels())?,
        })
    }
}
