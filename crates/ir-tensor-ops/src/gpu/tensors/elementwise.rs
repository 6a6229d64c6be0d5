//! Operations number by number.

use candle_core::Tensor;

use super::{Call, Gpu};
use crate::error::Result;
use crate::input::Output;

/// What becomes of two numbers: as in `tensors.cuh`.
#[derive(Clone, Copy)]
enum Function {
    Add,
    Relu,
    ReluGradient,
    Copy,
}

/// x + y.
pub(crate) fn add(gpu: &Gpu, op: &'static str, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    elementwise(gpu, op, Function::Add, x, ("y", y))?.tensor()
}

/// max(x, 0).
pub(crate) fn relu(gpu: &Gpu, op: &'static str, x: &Tensor) -> Result<Output> {
    elementwise(gpu, op, Function::Relu, x, ("x", x))
}

/// The gradient of x in [`relu`].
pub(crate) fn relu_backward(
    gpu: &Gpu,
    op: &'static str,
    x: &Tensor,
    gradient: (&'static str, &Tensor),
) -> Result<Tensor> {
    elementwise(gpu, op, Function::ReluGradient, x, gradient)?.tensor()
}

/// x itself, in memory of its own.
pub(crate) fn copy(gpu: &Gpu, op: &'static str, x: &Tensor) -> Result<Output> {
    elementwise(gpu, op, Function::Copy, x, ("x", x))
}

/// f(xᵢ, yᵢ) for every element; y comes with its name.
fn elementwise(
    gpu: &Gpu,
    op: &'static str,
    function: Function,
    x: &Tensor,
    (name, y): (&'static str, &Tensor),
) -> Result<Output> {
    let call = Call::new(gpu, op, x);
    let y = call.shaped(name, y, x.dims())?;
    let shape = x.shape();
    let x = call.numbers("x", x)?;
    let z = call.room(x.len())?;
    let arguments = [
        (&x).into(),
        (&y).into(),
        (&z).into(),
        (x.len() as i32).into(),
        (function as i32).into(),
    ];
    // SAFETY: x, y and z have one length.
    unsafe { gpu.launch_for(x.len(), "elementwise".into(), arguments)? };
    call.output(z, shape)
}
