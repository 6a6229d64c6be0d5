//! Reading the gradient at a point inside a network.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Tensor;

use crate::autograd;
use crate::dispatch::on_gpu;
use crate::error::Result;
use crate::input::{Input, Output};
use crate::parallel;

const OP: &str = "tap";

/// Holds the gradient that flowed through one point of the graph; made by [`tap`].
#[derive(Debug, Clone, Default)]
pub struct Tap(Arc<Mutex<Option<Tensor>>>);

impl Tap {
    /// ∂loss/∂x of the last backward pass that came through the tap, in x's shape; `None`
    /// before the first.
    pub fn gradient(&self) -> Option<Tensor> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// The identity, with a [`Tap`] that keeps the gradient that flows back through it.
///
/// Candle keeps only the gradients of variables; with a tap on h_j, one backward pass gives
/// ∂L/∂h_j of every block. Use the returned tensor in place of x. x is f32, of any
/// shape; if x is not part of a graph there is nothing to flow and the tap stays empty.
///
/// # Errors
/// [`Error::DType`](crate::Error::DType) or [`Error::Device`](crate::Error::Device).
///
/// ```
/// use candle_core::{Device, Tensor, Var};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let x = Var::new(&[1f32, -2.], &Device::Cpu)?;
/// let (h, tap) = ir_tensor_ops::tap(&(x.as_tensor() * 3.)?)?;
/// h.sqr()?.sum_all()?.backward()?;
/// assert_eq!(tap.gradient().unwrap().to_vec1::<f32>()?, [6., -12.]);
/// # Ok(())
/// # }
/// ```
pub fn tap(x: &Tensor) -> Result<(Tensor, Tap)> {
    let tap = Tap::default();
    let kept = tap.clone();
    let y = autograd::record(OP, [x], copied(x)?, move |_, gradient| {
        *kept.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(gradient.clone());
        Ok([Some(gradient.clone())])
    })?;
    Ok((y, tap))
}

/// x in memory of its own.
fn copied(x: &Tensor) -> Result<Output> {
    on_gpu!(x, elementwise::copy(OP, x));
    let x = Input::new(OP, "x", x)?;
    let values = parallel::copied(&x.values());
    Ok(Output::new(values, x.tensor().shape()))
}
