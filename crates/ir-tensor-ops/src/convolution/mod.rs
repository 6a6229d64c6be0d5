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
//! pack x into planes [I][rows][row] with the zero padding written out       (pack.rs)
//! for every 32 output channels, every 8 pixels of a row:                    (product.rs)
//!     sums[32 channels][8 pixels] = bias
//!     for every input channel, kernel row:
//!         sums += 10 pixels ⊗ 3 taps ⊗ 32 channels, from registers
//!     transpose the sums and write 8 pixels of each channel
//! ```
//!
//! - The input gradient is the same computation on ∂L/∂y with the weight turned around and
//!   its channels exchanged; stride 2 puts zeros between the pixels of ∂L/∂y when packing.
//! - The weight gradient keeps 4 input channels × 3 taps × 16 output channels of sums in
//!   registers while it runs over an image (weight_gradient.rs).
//! - Batch norm and ReLU are applied while packing, so their result is never stored.
//! - Channels that are not a multiple of 16 and sizes that are not a multiple of 8 take the
//!   same path; the superfluous lanes are computed on zeros and not written.
//!
//! Each image is a unit of work for one thread. All sums are f32, in the order: input channel,
//! kernel row, kernel column (forward and input gradient); pixel, image, slot of images (weight
//! gradient; the number of slots depends on the shape alone).

mod pack;
mod product;
mod shape;
mod weight_gradient;
pub(crate) mod winograd;

use crate::arch;
use crate::norm::Norm;
use crate::parallel;

use product::{ImageProduct, Product};

pub(crate) use shape::Convolution;

/// What a convolution reads: x, or relu(norm(x)).
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) norm: Option<&'a Norm>,
}

/// The convolution of every image, each then given to `finish(index, image)`.
pub(crate) fn forward<T: Send>(
    shape: &Convolution,
    source: Source<'_>,
    weight: &[f32],
    bias: Option<&[f32]>,
    finish: impl Fn(usize, &mut [f32]) -> T + Sync,
) -> (Vec<f32>, Vec<T>) {
    if winograd::pays(shape) {
        return winograd::forward(shape, source, weight, bias, finish);
    }
    let product = Product::forward(shape);
    let weights = pack::weights(shape, weight, pack::Direction::Forward);
    let bias = pack::vector(bias, shape.outputs);
    run(shape.batch, &product, source, &weights, &bias, finish)
}

/// The gradient of x, each image then given to `finish(index, image)`.
pub(crate) fn input_gradient<T: Send>(
    shape: &Convolution,
    weight: &[f32],
    gradient: &[f32],
    finish: impl Fn(usize, &mut [f32]) -> T + Sync,
) -> (Vec<f32>, Vec<T>) {
    if winograd::pays(shape) {
        return winograd::input_gradient(shape, weight, gradient, finish);
    }
    let product = Product::input_gradient(shape);
    let weights = pack::weights(shape, weight, pack::Direction::Backward);
    let bias = pack::vector(None, shape.inputs);
    let source = Source {
        values: gradient,
        norm: None,
    };
    run(shape.batch, &product, source, &weights, &bias, finish)
}

/// The gradients of the weight `[O, I, K, K]` and of the bias `[O]`, the sum of ∂y over N, H
/// and W.
pub(crate) fn weight_gradient(
    shape: &Convolution,
    x: Source<'_>,
    gradient: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    if winograd::weight_gradient_pays(shape) {
        winograd::weight_gradient(shape, x, gradient)
    } else {
        weight_gradient::weight_gradient(shape, x, gradient)
    }
}

fn run<T: Send>(
    batch: usize,
    product: &Product,
    source: Source<'_>,
    weights: &pack::Weights,
    bias: &[arch::Lanes],
    finish: impl Fn(usize, &mut [f32]) -> T + Sync,
) -> (Vec<f32>, Vec<T>) {
    let (from, to) = (product.input.image_size(), product.output_size());
    parallel::pieces_with(batch * to, to, 0., |index, output| {
        arch::run(ImageProduct {
            product,
            image: &source.values[index * from..][..from],
            norm: source.norm,
            weights,
            bias,
            output,
        });
        finish(index, output)
    })
}
