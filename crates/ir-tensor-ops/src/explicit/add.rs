//! The sum of two tensors.

use candle_core::Tensor;

use crate::error::Result;
use crate::input::{self, Input};
use crate::parallel::{self, PIECE};

/// x + y, on all threads. Both are f32 on the CPU and have the same shape.
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
    let y = Input::shaped(OP, "y", y, x.dims())?;
    let x = Input::new(OP, "x", x)?;
    let (x_values, y_values) = (x.values(), y.values());
    let (xs, ys): (&[f32], &[f32]) = (&x_values, &y_values);
    let sum = parallel::pieces(xs.len(), PIECE, |index, sum| {
        let terms = xs[index * PIECE..].iter().zip(&ys[index * PIECE..]);
        for (sum, (x, y)) in sum.iter_mut().zip(terms) {
            *sum = x + y;
        }
    });
    input::output(sum, x.tensor().shape())
}
