//! Differentiable operations on Candle tensors, fast enough to train on a CPU.
//!
//! - [`conv2d`], [`batch_norm_train`], [`batch_norm_eval`], [`relu`], [`avg_pool2d`],
//!   [`linear`] and [`cross_entropy`] take part in Candle's automatic differentiation;
//!   [`frozen_norm_relu_conv2d`] and [`frozen_norm_relu`] differentiate with respect to x alone.
//! - [`explicit`] has the same computations, and fused ones, as pairs of forward and backward
//!   functions for training loops that apply the chain rule themselves.
//! - [`Activation`] has them once more, for passes through whole networks: its layout is that of
//!   the kernels and its memory is used again. [`together`] keeps the threads at hand meanwhile.
//! - [`tap`] reads the gradient at a point inside a network, [`per_sample`] reduces a batch to
//!   one number per sample, [`random`] draws numbers that depend only on what they are for.
//!
//! Everything is f32, on tensors `[N, C, H, W]`, and runs on the rayon pool of the caller. Work is cut into
//! pieces by the shapes alone and sums are added in a fixed order: the result is the same bits for
//! any number of threads.
//!
//! With the feature `cuda` the functions also take tensors of an NVIDIA GPU, all of one call on one
//! device, and their results stay there; what comes as numbers (statistics, values per sample) and
//! what a [`Norm`] is made of passes through the CPU. [`Activation`] is for the CPU alone; the module
//! `gpu` has what takes its place.
//!
//! ```
//! use candle_core::{DType, Device, Tensor, Var};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let images = Tensor::randn(0f32, 1., (2, 3, 8, 8), &Device::Cpu)?;
//! let labels = Tensor::new(&[0u32, 1], &Device::Cpu)?;
//! let weight = Var::randn(0f32, 0.2, (10, 3, 3, 3), &Device::Cpu)?;
//! let h = ir_tensor_ops::relu(&ir_tensor_ops::conv2d(&images, &weight, None, 1, 1)?)?;
//! let logits = ir_tensor_ops::avg_pool2d(&h, 8)?.flatten_from(1)?;
//! let loss = ir_tensor_ops::cross_entropy(&logits, &labels)?;
//! let gradients = loss.backward()?;
//! assert_eq!(gradients.get(&weight).unwrap().dims(), weight.dims());
//! # Ok(())
//! # }
//! ```

mod activation;
mod arch;
mod autograd;
mod blocks;
mod convolution;
mod crew;
mod differentiable;
mod dispatch;
mod error;
pub mod explicit;
#[cfg(any(feature = "cuda", feature = "emulation"))]
#[cfg_attr(
    not(any(feature = "cuda", emulation)),
    allow(dead_code, reason = "no device can be made")
)]
pub mod gpu;
mod images;
mod input;
#[cfg(all(
    any(feature = "cuda", test),
    target_arch = "x86_64",
    target_os = "linux",
    target_env = "gnu"
))]
mod late;
mod memory;
mod norm;
mod parallel;
pub mod per_sample;
pub mod random;
mod scratch;
mod statistics;
mod tap;
#[cfg(test)]
mod tests;

pub use activation::{Activation, ActivationGradients, Conv2d, Gradient, NormGradients, Workspace};
pub use crew::together;
pub use differentiable::{
    avg_pool2d, batch_norm_eval, batch_norm_train, conv2d, cross_entropy, frozen_norm_relu,
    frozen_norm_relu_conv2d, linear, relu,
};
pub use error::{Error, Result};
pub use memory::keep_freed_memory;
pub use norm::Norm;
pub use parallel::for_each_piece;
pub use statistics::ChannelStatistics;
pub use tap::{Tap, tap};

/// Whether the operations of this crate take tensors of a device: those of the CPU always, those of an NVIDIA GPU with
/// the feature `cuda`.
///
/// ```
/// assert!(ir_tensor_ops::computes_on(&candle_core::Device::Cpu));
/// ```
pub fn computes_on(device: &candle_core::Device) -> bool {
    device.is_cpu() || (cfg!(feature = "cuda") && device.is_cuda())
}

/// The instruction set that the kernels of this process use: `AVX-512`, `AVX2` or `portable`.
///
/// ```
/// assert!(["AVX-512", "AVX2", "portable"].contains(&ir_tensor_ops::instruction_set()));
/// ```
pub fn instruction_set() -> &'static str {
    arch::Level::current().name()
}
