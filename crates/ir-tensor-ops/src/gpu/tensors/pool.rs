//! Average pooling.

use candle_core::Tensor;

use super::{Call, Gpu};
use crate::error::Result;
use crate::input::Output;

/// The mean over windows of kernel × kernel; `dims` are those of the result.
pub(crate) fn avg_pool2d(
    gpu: &Gpu,
    op: &'static str,
    x: &Tensor,
    kernel: usize,
    dims: [usize; 4],
) -> Result<Output> {
    let call = Call::new(gpu, op, x);
    let y = call.new_map(dims)?;
    call.map("x", x)?.avg_pool2d(kernel, &y)?;
    call.map_output(&y)
}

/// The gradient of x, whose dimensions are `dims`, in [`avg_pool2d`].
pub(crate) fn avg_pool2d_backward(
    gpu: &Gpu,
    op: &'static str,
    dims: [usize; 4],
    kernel: usize,
    grad_output: &Tensor,
) -> Result<Tensor> {
    let call = Call::new(gpu, op, grad_output);
    let dx = call.new_map(dims)?;
    let gradient = call.map("grad_output", grad_output)?;
    gradient.avg_pool2d_gradient(kernel, &dx)?;
    call.map_output(&dx)?.tensor()
}
