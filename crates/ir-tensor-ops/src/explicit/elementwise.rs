//! Sum and ReLU, number by number.

use candle_core::Tensor;

use crate::dispatch::on_gpu;
use crate::error::Result;
use crate::input::{Input, Output};
use crate::parallel::{self, PIECE};

/// x + y, on all threads. Both are f32 and have the same shape.
///
/// # Errors
/// `Shape`, `DType` or `Device`.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use ir_tensor_ops::explicit;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let x = Tensor::new(&[1f32, 2.], &Device::Cpu)?;
/// assert_eq!(explicit::add(&x, &x)?.to_vec1::<f32>()?, [2., 4.]);
/// # Ok(())
/// # }
/// ```
pub fn add(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    const OP: &str = "add";
    on_gpu!(x, elementwise::add(OP, x, y));
    elementwise(OP, x, ("y", y), |x, y| x + y)?.tensor()
}

/// max(x, 0), on all threads; NaN stays NaN. x is f32, of any shape.
///
/// # Errors
/// `DType` or `Device`.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use ir_tensor_ops::explicit;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let x = Tensor::new(&[-1f32, 2.], &Device::Cpu)?;
/// assert_eq!(explicit::relu(&x)?.to_vec1::<f32>()?, [0., 2.]);
/// # Ok(())
/// # }
/// ```
pub fn relu(x: &Tensor) -> Result<Tensor> {
    relu_output(x)?.tensor()
}

/// [`relu`], to be recorded.
pub(crate) fn relu_output(x: &Tensor) -> Result<Output> {
    const OP: &str = "relu";
    on_gpu!(x, elementwise::relu(OP, x));
    elementwise(OP, x, ("x", x), |x, _| if x < 0. { 0. } else { x })
}

/// The gradient of [`relu`] from ∂L/∂y: 0 where x ≤ 0, as in PyTorch. y = relu(x) does in place of
/// x, since it is positive where x is.
///
/// # Errors
/// As [`relu`], and `Shape` if the two do not have one shape.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use ir_tensor_ops::explicit;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let dx = explicit::relu_backward(&x, &x.ones_like()?)?;
/// assert_eq!(dx.to_vec1::<f32>()?, [0., 0., 1.]);
/// # Ok(())
/// # }
/// ```
pub fn relu_backward(x: &Tensor, grad_output: &Tensor) -> Result<Tensor> {
    let gradient = ("grad_output", grad_output);
    const OP: &str = "relu_backward";
    on_gpu!(x, elementwise::relu_backward(OP, x, gradient));
    elementwise(OP, x, gradient, |x, g| if x <= 0. { 0. } else { g })?.tensor()
}

/// f(xᵢ, yᵢ) for every element; y comes with its name.
fn elementwise(
    op: &'static str,
    x: &Tensor,
    (name, y): (&'static str, &Tensor),
    f: impl Fn(f32, f32) -> f32 + Sync,
) -> Result<Output> {
    let y = Input::shaped(op, name, y, x.dims())?;
    let x = Input::new(op, "x", x)?;
    let (x_values, y_values) = (x.values(), y.values());
    let (xs, ys): (&[f32], &[f32]) = (&x_values, &y_values);
    let values = parallel::pieces(xs.len(), PIECE, |index, result| {
        let pairs = xs[index * PIECE..].iter().zip(&ys[index * PIECE..]);
        for (result, (&x, &y)) in result.iter_mut().zip(pairs) {
            *result = f(x, y);
        }
    });
    Ok(Output::new(values, x.tensor().shape()))
}
