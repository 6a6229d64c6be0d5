//! The fully connected layer.

use candle_core::Tensor;

use crate::arch::LANES;
use crate::dispatch::on_gpu;
use crate::error::Result;
use crate::input::{self, Input, Output};
use crate::parallel;

/// y = x · weightᵀ + bias.
///
/// # Shapes
/// x `[N, I]`, weight `[O, I]`, bias `[O]`; the result `[N, O]`.
///
/// # Errors
/// `Shape`, `DType` or `Device` for a tensor that does not fit.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use ir_tensor_ops::explicit;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let x = Tensor::new(&[[1f32, 2.]], &Device::Cpu)?;
/// let weight = Tensor::new(&[[3f32, 4.]], &Device::Cpu)?;
/// let bias = Tensor::new(&[0.5f32], &Device::Cpu)?;
/// assert_eq!(explicit::linear(&x, &weight, &bias)?.to_vec2::<f32>()?, [[11.5]]);
/// # Ok(())
/// # }
/// ```
pub fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    linear_output(x, weight, bias)?.tensor()
}

/// [`linear`], not yet a tensor.
pub(crate) fn linear_output(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Output> {
    const OP: &str = "linear";
    let sizes = sizes(OP, x, weight)?;
    on_gpu!(x, classifier::linear(OP, [x, weight, bias], sizes));
    let [batch, inputs, outputs] = sizes;
    let (x, weight) = (Input::new(OP, "x", x)?, Input::new(OP, "weight", weight)?);
    let bias = input::vector(OP, "bias", bias, outputs)?;
    let (x, weight) = (x.values(), weight.values());
    let (x, weight): (&[f32], &[f32]) = (&x, &weight);
    let y = parallel::pieces(batch * outputs, outputs, |sample, y| {
        let x = &x[sample * inputs..][..inputs];
        for (output, y) in y.iter_mut().enumerate() {
            *y = dot(x, &weight[output * inputs..][..inputs]) + bias[output];
        }
    });
    Ok(Output::new(y, &[batch, outputs]))
}

/// The gradients of [`linear`].
#[derive(Debug, Clone)]
pub struct LinearGradients {
    /// ∂L/∂x `[N, I]`.
    pub x: Tensor,
    /// ∂L/∂weight `[O, I]`.
    pub weight: Tensor,
    /// ∂L/∂bias `[O]`.
    pub bias: Tensor,
}

/// The gradients of [`linear`], from ∂L/∂y `[N, O]`.
///
/// # Errors
/// As [`linear`].
///
/// ```
/// use candle_core::{Device, Tensor};
/// use ir_tensor_ops::explicit;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let x = Tensor::new(&[[1f32, 2.]], &Device::Cpu)?;
/// let weight = Tensor::new(&[[3f32, 4.]], &Device::Cpu)?;
/// let gradients = explicit::linear_backward(&x, &weight, &Tensor::new(&[[2f32]], &Device::Cpu)?)?;
/// assert_eq!(gradients.x.to_vec2::<f32>()?, [[6., 8.]]);
/// assert_eq!(gradients.weight.to_vec2::<f32>()?, [[2., 4.]]);
/// # Ok(())
/// # }
/// ```
pub fn linear_backward(
    x: &Tensor,
    weight: &Tensor,
    grad_output: &Tensor,
) -> Result<LinearGradients> {
    const OP: &str = "linear_backward";
    let sizes = sizes(OP, x, weight)?;
    on_gpu!(
        x,
        classifier::linear_backward(OP, [x, weight, grad_output], sizes)
    );
    let [batch, inputs, outputs] = sizes;
    let (x, weight) = (Input::new(OP, "x", x)?, Input::new(OP, "weight", weight)?);
    let gradient = Input::shaped(OP, "grad_output", grad_output, &[batch, outputs])?;
    let (x, weight, gradient) = (x.values(), weight.values(), gradient.values());
    let (x, weight, gradient): (&[f32], &[f32], &[f32]) = (&x, &weight, &gradient);
    let dx = parallel::pieces(batch * inputs, inputs, |sample, dx| {
        for output in 0..outputs {
            let factor = gradient[sample * outputs + output];
            add_scaled(factor, &weight[output * inputs..][..inputs], dx);
        }
    });
    let dw = parallel::pieces(outputs * inputs, inputs, |output, dw| {
        for sample in 0..batch {
            let factor = gradient[sample * outputs + output];
            add_scaled(factor, &x[sample * inputs..][..inputs], dw);
        }
    });
    let db = (0..outputs)
        .map(|output| {
            let column = gradient[output..].iter().step_by(outputs);
            column.map(|&g| f64::from(g)).sum::<f64>() as f32
        })
        .collect();
    Ok(LinearGradients {
        x: input::output(dx, &[batch, inputs])?,
        weight: input::output(dw, &[outputs, inputs])?,
        bias: input::output(db, outputs)?,
    })
}

/// N, I and O.
fn sizes(op: &'static str, x: &Tensor, weight: &Tensor) -> Result<[usize; 3]> {
    let [batch, inputs] = input::dims(op, "x", x, "[N, I]")?;
    let [outputs, _] = input::dims(op, "weight", weight, "[O, I]")?;
    input::check_shape(op, "weight", weight, &[outputs, inputs])?;
    Ok([batch, inputs, outputs])
}

/// y ← y + factor · x.
#[inline(always)]
fn add_scaled(factor: f32, x: &[f32], y: &mut [f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += factor * x;
    }
}

/// Σ xᵢ yᵢ, in 16 chains that are added in f64.
#[inline(always)]
fn dot(x: &[f32], y: &[f32]) -> f32 {
    let ((xs, x_rest), (ys, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    let mut lanes = [0f32; LANES];
    for (x, y) in xs.iter().zip(ys) {
        for (lane, (&x, &y)) in lanes.iter_mut().zip(x.iter().zip(y)) {
            *lane += x * y;
        }
    }
    for (lane, (&x, &y)) in lanes.iter_mut().zip(x_rest.iter().zip(y_rest)) {
        *lane += x * y;
    }
    lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>() as f32
}
