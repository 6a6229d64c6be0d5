//! Winograd's minimal filtering F(4×4, 3×3), for 3 × 3 kernels at stride 1 with padding 1.
//!
//! A tile of 4 × 4 outputs needs 6 × 6 inputs; both, and the 3 × 3 taps, are taken to 36
//! numbers in which the convolution is a product of numbers at equal positions
//! (transform.rs). With many channels, the products of one position are a matrix product, and
//! 36 multiply-adds take the place of 144:
//!
//! ```text
//! u = G w Gᵀ for every pair of channels, once                     (weights.rs)
//! for every chunk of tiles:                                       (tiling.rs)
//!     v = Bᵀ x B for every tile and 16 input channels
//!     m[position] = v[position] · u[position]                     (product.rs)
//!     y = Aᵀ m A + bias for every tile and 16 output channels
//!     transpose y and write whole rows of tiles of each channel
//! ```
//!
//! The input gradient is the same with ∂L/∂y in the place of x and the weight turned around;
//! the weight gradient is the adjoint of these steps (weight_gradient.rs).
//!
//! The price is rounding: sums of numbers of both signs are larger inside than their result.
//! The points 0, ±3/4, ±3/2, ∞ keep the error at about twice that of the direct sum; the usual
//! 0, ±1, ±2, ∞ double that again.

mod product;
mod tiling;
mod transform;
mod weight_gradient;
mod weights;

use super::Source;
use super::pack::{self, Direction};
use super::shape::Convolution;
use crate::arch::{self, Kernel, LANES, Lanes, Vector};
use crate::norm::Norm;
use crate::parallel;
use crate::scratch::Scratch;

use tiling::{Tiles, Tiling};
use transform::{OUTPUTS, POINTS};
pub(super) use weight_gradient::weight_gradient;
use weights::Weights;

/// Whether the forward pass and the input gradient are faster this way: 3 × 3 at stride 1 with
/// padding 1, at least 16 channels on both sides, so that the transforms are a small part of
/// the work, and tiles that cover at most half more than the image.
///
/// The batch does not matter, although transforming the weight takes longer than the direct
/// sums of only a few small images: the numbers of an image must not depend on how many others
/// come with it.
pub(crate) fn pays(shape: &Convolution) -> bool {
    let covered = shape.height.next_multiple_of(OUTPUTS) * shape.width.next_multiple_of(OUTPUTS);
    (shape.kernel, shape.stride, shape.padding) == (3, 1, 1)
        && shape.inputs.min(shape.outputs) >= LANES
        && 2 * covered <= 3 * shape.height * shape.width
}

/// Whether the weight gradient is faster this way: as [`pays`], with at least 256 tiles in the
/// batch, so that the sums, which are four times those of the direct kernel, are a small part.
pub(crate) fn weight_gradient_pays(shape: &Convolution) -> bool {
    let tiles = shape.height.div_ceil(OUTPUTS) * shape.width.div_ceil(OUTPUTS);
    pays(shape) && shape.batch * tiles >= 256
}

/// The forward pass; as the direct one.
pub(super) fn forward<T: Send>(
    shape: &Convolution,
    source: Source<'_>,
    weight: &[f32],
    bias: Option<&[f32]>,
    finish: impl Fn(usize, &mut [f32]) -> T + Sync,
) -> (Vec<f32>, Vec<T>) {
    let product = Product {
        tiling: Tiling::new(shape.height, shape.width, shape.inputs + shape.outputs),
        sources: shape.inputs,
        targets: shape.outputs,
        norm: source.norm,
        weights: Weights::new(shape, weight, Direction::Forward),
        bias: pack::vector(bias, shape.outputs),
    };
    product.run(shape.batch, source.values, finish)
}

/// The input gradient; as the direct one.
pub(super) fn input_gradient<T: Send>(
    shape: &Convolution,
    weight: &[f32],
    gradient: &[f32],
    finish: impl Fn(usize, &mut [f32]) -> T + Sync,
) -> (Vec<f32>, Vec<T>) {
    let product = Product {
        tiling: Tiling::new(shape.height, shape.width, shape.inputs + shape.outputs),
        sources: shape.outputs,
        targets: shape.inputs,
        norm: None,
        weights: Weights::new(shape, weight, Direction::Backward),
        bias: pack::vector(None, shape.inputs),
    };
    product.run(shape.batch, gradient, finish)
}

/// A product of images with a weight.
struct Product<'a> {
    tiling: Tiling,
    sources: usize,
    targets: usize,
    norm: Option<&'a Norm>,
    weights: Weights,
    /// One vector per block of target channels.
    bias: Vec<Lanes>,
}

impl Product<'_> {
    fn run<T: Send>(
        &self,
        batch: usize,
        values: &[f32],
        finish: impl Fn(usize, &mut [f32]) -> T + Sync,
    ) -> (Vec<f32>, Vec<T>) {
        let plane = self.tiling.plane();
        let (from, to) = (self.sources * plane, self.targets * plane);
        let unit = self.tiling.images;
        let (y, finished) = parallel::pieces_with(batch * to, unit * to, 0., |index, output| {
            let images = output.len() / to;
            arch::run(Unit {
                product: self,
                images: &values[index * unit * from..][..images * from],
                output,
            });
            let images = output.chunks_exact_mut(to).enumerate();
            images
                .map(|(image, output)| finish(index * unit + image, output))
                .collect::<Vec<_>>()
        });
        (y, finished.into_iter().flatten().collect())
    }
}

/// The product of a few images, for one thread.
struct Unit<'a> {
    product: &'a Product<'a>,
    images: &'a [f32],
    output: &'a mut [f32],
}

impl Kernel for Unit<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(mut self, vector: V) {
        let Product {
            tiling,
            sources,
            targets,
            norm,
            weights,
            ..
        } = self.product;
        let images = self.images.len() / (sources * tiling.plane());
        let (from, to) = (tiling.tiles_of(*sources), tiling.tiles_of(*targets));
        let pixels = (OUTPUTS * tiling.width).next_multiple_of(LANES);
        let strip_size = tiling.strip_size().max(pixels);
        let mut scratch = Scratch::take();
        let (_, room) = scratch.room(0, strip_size + from.size() + to.size());
        let (strip, room) = room.split_at_mut(strip_size);
        let (v, m) = room.split_at_mut(from.size());
        for strips in tiling.strips() {
            tiling.transform_inputs(vector, self.images, *sources, *norm, strips, strip, v);
            let tiles = images * strips.1 * tiling.columns;
            product::multiply(vector, tiles, (from, v), weights, (to, m));
            self.outputs(vector, strips, (to, m), &mut strip[..pixels]);
        }
        scratch.give_back();
    }
}

impl Unit<'_> {
    /// Transforms the outputs of a chunk, and writes them; `line` has room for the pixels of a
    /// row of tiles.
    #[inline(always)]
    fn outputs<V: Vector>(
        &mut self,
        vector: V,
        (first, rows): (usize, usize),
        (tiles, m): (Tiles, &[Lanes]),
        line: &mut [Lanes],
    ) {
        let tiling = &self.product.tiling;
        let (plane, width) = (tiling.plane(), tiling.width);
        let images = self.output.chunks_exact_mut(self.product.targets * plane);
        for (image, output) in images.enumerate() {
            for (block, planes) in output.chunks_mut(LANES * plane).enumerate() {
                let bias = vector.load(&self.product.bias[block]);
                for row in 0..rows {
                    for column in 0..tiling.columns {
                        let tile = (image * rows + row) * tiling.columns + column;
                        let m = &m[tiles.at(tile, block)..];
                        let to = &mut line[OUTPUTS * column..];
                        let kept = OUTPUTS.min(width - OUTPUTS * column);
                        transform_output(vector, m, tiles.position, bias, to, width, kept);
                    }
                    let start = OUTPUTS * (first + row) * width;
                    let end = plane.min(start + OUTPUTS * width);
                    for (step, matrix) in line.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
                        let start = start + step * LANES;
                        if start >= end {
                            break;
                        }
                        vector.transpose(matrix);
                        let end = end.min(start + LANES);
                        for (plane, lanes) in planes.chunks_exact_mut(plane).zip(matrix) {
                            let to = &mut plane[start..end];
                            match to.first_chunk_mut() {
                                Some(to) => *to = lanes.0,
                                None => to.copy_from_slice(&lanes.0[..to.len()]),
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Aᵀ m A + bias of one tile, of which the first `kept` pixels of a row are written.
#[inline(always)]
fn transform_output<V: Vector>(
    vector: V,
    m: &[Lanes],
    position: usize,
    bias: V::Register,
    to: &mut [Lanes],
    width: usize,
    kept: usize,
) {
    let mut columns = [[vector.splat(0.); OUTPUTS]; POINTS];
    for (x, to) in columns.iter_mut().enumerate() {
        let mut column = [vector.splat(0.); POINTS];
        for (y, register) in column.iter_mut().enumerate() {
            *register = vector.load(&m[(y * POINTS + x) * position]);
        }
        *to = transform::output(vector, column);
    }
    for y in 0..OUTPUTS {
        let mut line = [vector.splat(0.); POINTS];
        for (register, column) in line.iter_mut().zip(&columns) {
            *register = column[y];
        }
        let pixels = transform::output(vector, line);
        for (to, &pixel) in to[y * width..][..kept].iter_mut().zip(&pixels) {
            vector.store(vector.add(pixel, bias), to);
        }
    }
}
