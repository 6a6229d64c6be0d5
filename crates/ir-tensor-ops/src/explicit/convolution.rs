//! Convolution.

use candle_core::Tensor;

use crate::convolution::{self, Convolution, Finish, Incoming, Source};
use crate::dispatch::on_gpu;
use crate::error::Result;
use crate::images::{Images, ImagesMut};
use crate::input::{self, Input, Output};
use crate::parallel;

/// y\[n,o\] = bias\[o\] + Σ_i x\[n,i\] ⋆ weight\[o,i\], the cross-correlation that deep learning
/// calls convolution.
///
/// # Shapes
/// x `[N, I, H, W]`, weight `[O, I, K, K]` with K = 1 or 3, bias `[O]`;
/// the result `[N, O, H', W']` with H' = ⌊(H + 2·padding − K) / stride⌋ + 1, W' likewise.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape), `DType` or `Device` for a tensor that does not fit;
/// `Setting` if stride is not 1 or 2, or padding is K or more.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use ir_tensor_ops::explicit;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let x = Tensor::ones((1, 1, 3, 3), DType::F32, &Device::Cpu)?;
/// let weight = Tensor::ones((1, 1, 3, 3), DType::F32, &Device::Cpu)?;
/// let y = explicit::conv2d(&x, &weight, None, 1, 1)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [4., 6., 4., 6., 9., 6., 4., 6., 4.]);
/// # Ok(())
/// # }
/// ```
pub fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    padding: usize,
) -> Result<Tensor> {
    conv2d_output("conv2d", x, weight, bias, stride, padding)?.tensor()
}

/// [`conv2d`] under the name `op`.
pub(crate) fn conv2d_output(
    op: &'static str,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    padding: usize,
) -> Result<Output> {
    let shape = Convolution::new(op, x.dims(), weight, stride, padding)?;
    on_gpu!(x, convolution::conv2d(op, &shape, [x, weight], bias));
    let (x, weight) = (Input::new(op, "x", x)?, Input::new(op, "weight", weight)?);
    let bias = bias
        .map(|bias| input::vector(op, "bias", bias, shape.outputs))
        .transpose()?;
    let mut y = parallel::zeros(shape.batch * shape.target().numbers());
    convolution::forward(
        &shape,
        Source::plain(Images::Planar(&x.values())),
        &weight.values(),
        bias.as_deref(),
        Finish::Plain,
        ImagesMut::Planar(&mut y),
    );
    Ok(Output::new(y, &shape.output_shape()))
}

/// Which gradients [`conv2d_backward`] computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// The gradient of x.
    pub x: bool,
    /// The gradients of weight and bias.
    pub weight: bool,
}

/// The gradients of a convolution; `None` where they were not wanted.
#[derive(Debug, Clone)]
pub struct Conv2dGradients {
    /// ∂L/∂x `[N, I, H, W]`.
    pub x: Option<Tensor>,
    /// ∂L/∂weight `[O, I, K, K]`.
    pub weight: Option<Tensor>,
    /// ∂L/∂bias `[O]`; comes with the weight's.
    pub bias: Option<Tensor>,
}

/// The gradients of [`conv2d`], from ∂L/∂y `[N, O, H', W']`.
///
/// # Errors
/// As [`conv2d`], and `Shape` if `grad_output` does not have the result's shape.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use ir_tensor_ops::explicit::{Wanted, conv2d_backward};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let x = Tensor::ones((1, 1, 3, 3), DType::F32, &Device::Cpu)?;
/// let weight = Tensor::ones((1, 1, 1, 1), DType::F32, &Device::Cpu)?;
/// let gradients = conv2d_backward(&x, &weight, 1, 0, &x, Wanted { x: false, weight: true })?;
/// assert_eq!(gradients.bias.unwrap().to_vec1::<f32>()?, [9.]);
/// assert!(gradients.x.is_none());
/// # Ok(())
/// # }
/// ```
pub fn conv2d_backward(
    x: &Tensor,
    weight: &Tensor,
    stride: usize,
    padding: usize,
    grad_output: &Tensor,
    wanted: Wanted,
) -> Result<Conv2dGradients> {
    const OP: &str = "conv2d_backward";
    let shape = Convolution::new(OP, x.dims(), weight, stride, padding)?;
    let tensors = [x, weight, grad_output];
    on_gpu!(x, convolution::conv2d_backward(OP, &shape, tensors, wanted));
    let [x, weight, grad_output] = tensors;
    let (x, weight) = (Input::new(OP, "x", x)?, Input::new(OP, "weight", weight)?);
    let gradient = Input::shaped(OP, "grad_output", grad_output, &shape.output_shape())?;
    let gradient = gradient.values();
    let gradient = Images::Planar(&gradient);
    let mut gradients = Conv2dGradients {
        x: None,
        weight: None,
        bias: None,
    };
    if wanted.x {
        let mut dx = parallel::zeros(shape.batch * shape.source().numbers());
        let to = ImagesMut::Planar(&mut dx);
        let gradient = Incoming::Whole(gradient);
        convolution::input_gradient(&shape, &weight.values(), gradient, Finish::Plain, to);
        gradients.x = Some(input::output(dx, &shape.input_shape())?);
    }
    if wanted.weight {
        let x = x.values();
        let source = Source::plain(Images::Planar(&x));
        let (dw, db) = convolution::weight_gradient(&shape, source, gradient);
        gradients.weight = Some(input::output(dw, &shape.weight_shape())?);
        gradients.bias = Some(input::output(db, shape.outputs)?);
    }
    Ok(gradients)
}
