//! Two-dimensional convolution on slices: forward, input gradient, weight gradient.
//!
//! Most 3 × 3 convolutions at stride 1 take the Winograd path, which needs a quarter of the
//! multiplications (`winograd`, which also says when: `winograd::pays`). What follows is
//! about all others.
//!
//! Those are direct sums of products; what makes them fast is how often a number is used
//! once it is in a register. In plain words, for one image:
//!
//! ```text
//! pad x with zeros, in blocks of 16 channels                                (pack.rs)
//! for every 32 output channels, every 8 pixels of a row:                    (product.rs)
//!     sums[32 channels][8 pixels] = bias
//!     for every input channel, kernel row:
//!         sums += 10 pixels ⊗ 3 taps ⊗ 32 channels, from registers
//!     write the sums, 8 pixels of two blocks of 16 channels
//! ```
//!
//! - The input gradient is the same computation on ∂L/∂y with the weight turned around and
//!   its channels exchanged; at stride 2, every other row and column of ∂L/∂x is met by other
//!   taps, which makes four computations of it (strided_gradient.rs).
//! - The weight gradient keeps 4 input channels × 3 taps × 16 output channels of sums in
//!   registers while it runs over an image (weight_gradient.rs).
//! - Batch norm and ReLU are applied while packing, so their result is never stored.
//! - Channels that are not a multiple of 16 and sizes that are not a multiple of 8 take the
//!   same path; the superfluous lanes are computed on zeros and not written.
//!
//! Each image is a unit of work for one thread. All sums are f32, in the order: input channel,
//! kernel row, kernel column (forward and input gradient); pixel, image, slot of images (weight
//! gradient; the number of slots depends on the shape alone).

mod finish;
mod incoming;
mod pack;
mod product;
mod region;
mod shape;
mod slots;
mod strided_gradient;
mod weight_gradient;
pub(crate) mod winograd;

use crate::blocks::Sums;
use crate::images::{Images, ImagesMut};
use crate::norm::Norm;

pub(crate) use finish::Finish;
pub(crate) use incoming::{Incoming, Through};
pub(crate) use shape::Convolution;

/// What a convolution reads: x, or relu(norm(x)).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) images: Images<'a>,
    pub(crate) norm: Option<&'a Norm>,
}

impl<'a> Source<'a> {
    /// The images as they are.
    pub(crate) fn plain(images: Images<'a>) -> Self {
        Self { images, norm: None }
    }
}

/// The convolution of every image, finished and written to `to`. Gives the sums of every block
/// of every image, if the finish takes any.
pub(crate) fn forward(
    shape: &Convolution,
    source: Source<'_>,
    weight: &[f32],
    bias: Option<&[f32]>,
    finish: Finish<'_>,
    to: ImagesMut<'_>,
) -> Vec<Sums> {
    if winograd::pays(shape) {
        winograd::forward(shape, source, weight, bias, finish, to)
    } else {
        product::forward(shape, source, weight, bias, finish, to)
    }
}

/// The gradient of x, finished and written to `to`; gives sums as [`forward`]. A pending
/// gradient is whole afterwards.
pub(crate) fn input_gradient(
    shape: &Convolution,
    weight: &[f32],
    gradient: Incoming<'_>,
    finish: Finish<'_>,
    to: ImagesMut<'_>,
) -> Vec<Sums> {
    if winograd::pays(shape) {
        winograd::input_gradient(shape, weight, gradient, finish, to)
    } else if shape.stride == 1 {
        product::input_gradient(shape, weight, gradient, finish, to)
    } else {
        strided_gradient::input_gradient(shape, weight, gradient, finish, to)
    }
}

/// The gradients of the weight `[O, I, K, K]` and of the bias `[O]`, the sum of ∂y over N, H
/// and W.
pub(crate) fn weight_gradient(
    shape: &Convolution,
    x: Source<'_>,
    gradient: Images<'_>,
) -> (Vec<f32>, Vec<f32>) {
    if winograd::weight_gradient_pays(shape) {
        winograd::weight_gradient(shape, x, gradient)
    } else {
        weight_gradient::weight_gradient(shape, x, gradient)
    }
}
