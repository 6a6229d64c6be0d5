//! Forward and backward passes as plain functions, without a tape.
//!
//! A training loop that applies the chain rule block by block calls these: it decides what is
//! kept between the passes, and nothing is recorded. The functions at the root of the crate
//! put the same computations into Candle's graph.
//!
//! All tensors are f32, on the CPU or (feature `cuda`) on one NVIDIA GPU; activations are
//! `[N, C, H, W]`; strides other than the usual ones are made contiguous first. Results are not part
//! of any graph, and are the same bits for any number of threads. Errors are those of [`Error`](crate::Error): `Shape`,
//! `DType` and `Device` for tensors, `Setting` for strides, paddings and kernel sizes.

mod convolution;
mod elementwise;
mod linear;
mod loss;
mod norm_relu;
mod norm_relu_convolution;
mod pool;

pub(crate) use convolution::conv2d_output;
pub use convolution::{Conv2dGradients, Wanted, conv2d, conv2d_backward};
pub(crate) use elementwise::relu_output;
pub use elementwise::{add, relu, relu_backward};
pub(crate) use linear::linear_output;
pub use linear::{LinearGradients, linear, linear_backward};
pub(crate) use loss::cross_entropy_output;
pub use loss::{cross_entropy, cross_entropy_backward};
pub use norm_relu::{NormReluGradients, norm_relu, norm_relu_backward};
pub(crate) use norm_relu::{norm_backward, norm_output, through_norm};
#[cfg(any(feature = "cuda", feature = "emulation"))]
pub(crate) use norm_relu_convolution::Arguments as NormReluConv2dArguments;
pub use norm_relu_convolution::{
    NormReluConv2dGradients, norm_relu_conv2d, norm_relu_conv2d_backward,
    norm_relu_conv2d_with_statistics,
};
pub(crate) use norm_relu_convolution::{frozen_input_gradient, norm_relu_conv2d_output};
pub(crate) use pool::{Pooling, avg_pool2d_output};
pub use pool::{avg_pool2d, avg_pool2d_backward};
