//! The operations as nodes of Candle's graph, with their gradients.
//!
//! Each computes its result with a function of [`crate::explicit`] and records the backward
//! rule, which calls another. What is costly is computed only for arguments that are part of a
//! graph. A gradient is no part of a graph itself: there are no second derivatives.

use candle_core::Tensor;

use crate::autograd::{record, wanted};
use crate::error::Result;
use crate::explicit::{self, Wanted};
use crate::norm::Norm;
use crate::statistics::ChannelStatistics;

/// Differentiable two-dimensional convolution; formula, shapes and errors as
/// [`explicit::conv2d`].
///
/// ```
/// use candle_core::{DType, Device, Tensor, Var};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let x = Tensor::ones((1, 2, 4, 4), DType::F32, &Device::Cpu)?;
/// let weight = Var::ones((3, 2, 3, 3), DType::F32, &Device::Cpu)?;
/// let y = ir_tensor_ops::conv2d(&x, &weight, None, 2, 1)?;
/// assert_eq!(y.dims(), [1, 3, 2, 2]);
/// let gradients = y.sum_all()?.backward()?;
/// assert_eq!(gradients.get(&weight).unwrap().dims(), [3, 2, 3, 3]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As [`explicit::conv2d`].
pub fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    padding: usize,
) -> Result<Tensor> {
    const OP: &str = "conv2d";
    let output = explicit::conv2d_output(OP, x, weight, bias, stride, padding)?;
    let gradients = move |x: &Tensor, weight: &Tensor, bias: bool, gradient: &Tensor| {
        let wanted = Wanted {
            x: wanted(x),
            weight: bias || wanted(weight),
        };
        explicit::conv2d_backward(x, weight, stride, padding, gradient, wanted)
    };
    match bias {
        None => record(OP, [x, weight], output, move |[x, weight], gradient| {
            let gradients = gradients(x, weight, false, gradient)?;
            Ok([gradients.x, gradients.weight])
        }),
        Some(bias) => record(
            OP,
            [x, weight, bias],
            output,
            move |[x, weight, bias], gradient| {
                let gradients = gradients(x, weight, wanted(bias), gradient)?;
                Ok([gradients.x, gradients.weight, gradients.bias])
            },
        ),
    }
}

/// Differentiable batch norm with the statistics of the batch,
/// y = γ (x − μ) / √(σ² + ε) + β; the gradient flows through μ and σ². Also gives the
/// statistics, for [`ChannelStatistics::update_running`].
///
/// # Shapes
/// x and y `[N, C, H, W]`, gamma and beta `[C]`; f32.
///
/// # Errors
/// `Shape`, `DType` or `Device` for the tensors, `Setting` unless ε > 0.
///
/// ```
/// use candle_core::{Device, Tensor};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let x = Tensor::new(&[1f32, 3.], &Device::Cpu)?.reshape((2, 1, 1, 1))?;
/// let one = Tensor::new(&[1f32], &Device::Cpu)?;
/// let (y, statistics) = ir_tensor_ops::batch_norm_train(&x, &one, &one.zeros_like()?, 1e-12)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [-1., 1.]);
/// assert_eq!(statistics.mean, [2.]);
/// # Ok(())
/// # }
/// ```
pub fn batch_norm_train(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    epsilon: f64,
) -> Result<(Tensor, ChannelStatistics)> {
    let statistics = ChannelStatistics::of(x)?;
    let norm = Norm::batch(&statistics, gamma, beta, epsilon)?;
    let y = batch_norm("batch_norm_train", x, gamma, beta, norm)?;
    Ok((y, statistics))
}

/// Differentiable batch norm with running statistics, which are constants:
/// y = γ (x − running_mean) / √(running_var + ε) + β.
///
/// # Shapes
/// x and y `[N, C, H, W]`, the four others `[C]`; f32.
///
/// # Errors
/// `Shape`, `DType` or `Device` for the tensors, `Setting` unless ε > 0.
///
/// ```
/// use candle_core::{Device, Tensor};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let x = Tensor::new(&[1f32, 3.], &Device::Cpu)?.reshape((2, 1, 1, 1))?;
/// let one = Tensor::new(&[1f32], &Device::Cpu)?;
/// let zero = one.zeros_like()?;
/// let y = ir_tensor_ops::batch_norm_eval(&x, &one, &zero, &one, &one, 1e-12)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [0., 2.]);
/// # Ok(())
/// # }
/// ```
pub fn batch_norm_eval(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    running_mean: &Tensor,
    running_var: &Tensor,
    epsilon: f64,
) -> Result<Tensor> {
    let norm = Norm::running(running_mean, running_var, gamma, beta, epsilon)?;
    batch_norm("batch_norm_eval", x, gamma, beta, norm)
}

fn batch_norm(
    op: &'static str,
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    norm: Norm,
) -> Result<Tensor> {
    let output = explicit::norm_output(op, x, &norm, false)?;
    record(op, [x, gamma, beta], output, move |[x, _, _], gradient| {
        let gradients = explicit::norm_backward(op, x, &norm, gradient, false)?;
        Ok([
            Some(gradients.x),
            Some(gradients.gamma),
            Some(gradients.beta),
        ])
    })
}

/// Differentiable rectified linear unit, y = max(x, 0); the gradient at 0 is 0, as in PyTorch
/// (Candle's own has 1 there). x is f32, of any shape.
///
/// # Errors
/// `DType` or `Device`.
///
/// ```
/// use candle_core::{Device, Var};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let x = Var::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = ir_tensor_ops::relu(&x)?;
/// assert_eq!(y.to_vec1::<f32>()?, [0., 0., 2.]);
/// let gradients = y.sum_all()?.backward()?;
/// assert_eq!(gradients.get(&x).unwrap().to_vec1::<f32>()?, [0., 0., 1.]);
/// # Ok(())
/// # }
/// ```
pub fn relu(x: &Tensor) -> Result<Tensor> {
    record("relu", [x], explicit::relu_output(x)?, |[x], gradient| {
        Ok([Some(explicit::relu_backward(x, gradient)?)])
    })
}

/// Differentiable average pooling; formula, shapes and errors as [`explicit::avg_pool2d`].
///
/// # Errors
/// As [`explicit::avg_pool2d`].
///
/// ```
/// use candle_core::{DType, Device, Tensor};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let x = Tensor::ones((1, 1, 5, 4), DType::F32, &Device::Cpu)?;
/// assert_eq!(ir_tensor_ops::avg_pool2d(&x, 2)?.dims(), [1, 1, 2, 2]);
/// # Ok(())
/// # }
/// ```
pub fn avg_pool2d(x: &Tensor, kernel: usize) -> Result<Tensor> {
    let output = explicit::avg_pool2d_output(x, kernel)?;
    record("avg_pool2d", [x], output, move |[x], gradient| {
        Ok([Some(explicit::avg_pool2d_backward(
            x.dims(),
            kernel,
            gradient,
        )?)])
    })
}

/// Differentiable fully connected layer; formula, shapes and errors as [`explicit::linear`].
///
/// # Errors
/// As [`explicit::linear`].
///
/// ```
/// use candle_core::{Device, Tensor};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let x = Tensor::new(&[[1f32, 2.]], &Device::Cpu)?;
/// let y = ir_tensor_ops::linear(&x, &x, &Tensor::new(&[1f32], &Device::Cpu)?)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[6.]]);
/// # Ok(())
/// # }
/// ```
pub fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let output = explicit::linear_output(x, weight, bias)?;
    record(
        "linear",
        [x, weight, bias],
        output,
        |[x, weight, _], gradient| {
            let gradients = explicit::linear_backward(x, weight, gradient)?;
            Ok([
                Some(gradients.x),
                Some(gradients.weight),
                Some(gradients.bias),
            ])
        },
    )
}

/// Differentiable mean cross-entropy in nats, a scalar; formula, shapes and errors as
/// [`explicit::cross_entropy`].
///
/// # Errors
/// As [`explicit::cross_entropy`].
///
/// ```
/// use candle_core::{Device, Tensor, Var};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let logits = Var::new(&[[0f32, 0.]], &Device::Cpu)?;
/// let labels = Tensor::new(&[0u32], &Device::Cpu)?;
/// let gradients = ir_tensor_ops::cross_entropy(&logits, &labels)?.backward()?;
/// assert_eq!(gradients.get(&logits).unwrap().to_vec2::<f32>()?, [[-0.5, 0.5]]);
/// # Ok(())
/// # }
/// ```
pub fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let output = explicit::cross_entropy_output(logits, labels)?;
    let labels = labels.clone();
    record(
        "cross_entropy",
        [logits],
        output,
        move |[logits], gradient| {
            let upstream = gradient.to_scalar::<f32>()?;
            let gradient = explicit::cross_entropy_backward(logits, &labels)?;
            Ok([Some(gradient.affine(f64::from(upstream), 0.)?)])
        },
    )
}

/// conv(relu(norm(x)), weight) + bias with everything but x a constant: for evaluation and for
/// measures that need ∂L/∂x alone. The statistics of the norm are constants too, whichever it
/// is. Shapes and errors as [`explicit::norm_relu_conv2d`].
///
/// # Errors
/// As [`explicit::norm_relu_conv2d`].
///
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use ir_tensor_ops::{Norm, frozen_norm_relu_conv2d};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let x = Var::from_tensor(&Tensor::new(&[-1f32, 1.], &Device::Cpu)?.reshape((1, 1, 1, 2))?)?;
/// let one = Tensor::new(&[1f32], &Device::Cpu)?;
/// let zero = one.zeros_like()?;
/// let norm = Norm::running(&zero, &one, &one, &zero, 1e-12)?;
/// let weight = Tensor::new(&[3f32], &Device::Cpu)?.reshape((1, 1, 1, 1))?;
/// let y = frozen_norm_relu_conv2d(&x, &norm, &weight, &zero, 1, 0)?;
/// let gradients = y.sum_all()?.backward()?;
/// let dx = gradients.get(&x).unwrap().flatten_all()?;
/// assert_eq!(dx.to_vec1::<f32>()?, [0., 3.]);
/// # Ok(())
/// # }
/// ```
pub fn frozen_norm_relu_conv2d(
    x: &Tensor,
    norm: &Norm,
    weight: &Tensor,
    bias: &Tensor,
    stride: usize,
    padding: usize,
) -> Result<Tensor> {
    const OP: &str = "frozen_norm_relu_conv2d";
    let norm = norm.frozen();
    let weight = weight.detach();
    let output =
        explicit::norm_relu_conv2d_output(OP, x, &norm, &weight, bias, stride, padding, None)?;
    record(OP, [x], output, move |[x], gradient| {
        let dx = explicit::frozen_input_gradient(x, &norm, &weight, stride, padding, gradient)?;
        Ok([Some(dx)])
    })
}

/// relu(norm(x)) with everything but x a constant, as in [`frozen_norm_relu_conv2d`]. Shapes
/// and errors as [`explicit::norm_relu`].
///
/// # Errors
/// As [`explicit::norm_relu`].
///
/// ```
/// use candle_core::{Device, Tensor};
/// use ir_tensor_ops::{Norm, frozen_norm_relu};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let x = Tensor::new(&[-1f32, 1.], &Device::Cpu)?.reshape((1, 1, 1, 2))?;
/// let one = Tensor::new(&[1f32], &Device::Cpu)?;
/// let zero = one.zeros_like()?;
/// let norm = Norm::running(&zero, &one, &one, &zero, 1e-12)?;
/// let y = frozen_norm_relu(&x, &norm)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [0., 1.]);
/// # Ok(())
/// # }
/// ```
pub fn frozen_norm_relu(x: &Tensor, norm: &Norm) -> Result<Tensor> {
    const OP: &str = "frozen_norm_relu";
    let norm = norm.frozen();
    let output = explicit::norm_output(OP, x, &norm, true)?;
    record(OP, [x], output, move |[x], gradient| {
        Ok([Some(
            explicit::norm_backward(OP, x, &norm, gradient, true)?.x,
        )])
    })
}
