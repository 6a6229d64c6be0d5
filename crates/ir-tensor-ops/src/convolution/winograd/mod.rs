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
//!     y = Aᵀ m A + bias + residual for every tile and 16 output channels
//!     take statistics, or mask a gradient, while y is in the cache  (finish.rs)
//! ```
//!
//! (With hundreds of channels, all chunks take each step before the next: batched.rs.) The
//! input gradient is the same with ∂L/∂y in the place of x and the weight turned around;
//! the weight gradient is the adjoint of these steps (weight_gradient.rs).
//!
//! The price is rounding: sums of numbers of both signs are larger inside than their result.
//! The points 0, ±3/4, ±3/2, ∞ keep the error at about twice that of the direct sum; the usual
//! 0, ±1, ±2, ∞ double that again.

pub(crate) mod batched;
mod product;
mod tiling;
mod transform;
mod weight_gradient;
mod weights;

use super::incoming::Incoming;
use super::pack::{self, Direction};
use super::region::{Region, TaskImages, Work};
use super::shape::Convolution;
use super::{Finish, Source};
use crate::arch::{LANES, Lanes, Vector};
use crate::blocks::Sums;
use crate::images::{Extent, ImagesMut};
use crate::norm::Norm;
use crate::scratch;

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
/// batch (64 where the batch is transformed as a whole), so that the sums, which are four times those of the direct kernel, are a small part.
pub(crate) fn weight_gradient_pays(shape: &Convolution) -> bool {
    let tiles = shape.height.div_ceil(OUTPUTS) * shape.width.div_ceil(OUTPUTS);
    let enough = if batched::pays(shape) { 64 } else { 256 };
    pays(shape) && shape.batch * tiles >= enough
}

/// The forward pass; as the direct one.
pub(super) fn forward(
    shape: &Convolution,
    source: Source<'_>,
    weight: &[f32],
    bias: Option<&[f32]>,
    finish: Finish<'_>,
    to: ImagesMut<'_>,
) -> Vec<Sums> {
    let product = Product {
        tiling: tiling(shape),
        sources: shape.inputs,
        targets: shape.outputs,
        norm: source.norm,
        weights: Weights::new(shape, weight, Direction::Forward),
        bias: pack::vector(bias, shape.outputs),
        finish,
    };
    product.apply(shape, Incoming::Whole(source.images), to)
}

/// The input gradient; as the direct one.
pub(super) fn input_gradient(
    shape: &Convolution,
    weight: &[f32],
    gradient: Incoming<'_>,
    finish: Finish<'_>,
    to: ImagesMut<'_>,
) -> Vec<Sums> {
    let product = Product {
        tiling: tiling(shape),
        sources: shape.outputs,
        targets: shape.inputs,
        norm: None,
        weights: Weights::new(shape, weight, Direction::Backward),
        bias: pack::vector(None, shape.inputs),
        finish,
    };
    product.apply(shape, gradient, to)
}

/// The chunks of a convolution.
fn tiling(shape: &Convolution) -> Tiling {
    if batched::pays(shape) {
        Tiling::whole(shape.height, shape.width)
    } else {
        Tiling::new(shape.height, shape.width, shape.inputs + shape.outputs)
    }
}

/// A product of images with a weight.
struct Product<'a> {
    tiling: Tiling,
    sources: usize,
    targets: usize,
    /// Applied to the images, with a ReLU, as they are read.
    norm: Option<&'a Norm>,
    weights: Weights,
    /// One vector per block of target channels.
    bias: Vec<Lanes>,
    finish: Finish<'a>,
}

impl Product<'_> {
    fn apply(&self, shape: &Convolution, from: Incoming<'_>, to: ImagesMut<'_>) -> Vec<Sums> {
        if batched::pays(shape) {
            self.run_batched(shape.batch, from, to)
        } else {
            self.region(shape.batch).run(self, from, to)
        }
    }

    /// A few images are a task.
    fn region(&self, batch: usize) -> Region<'_> {
        Region {
            batch,
            images: self.tiling.images,
            source: self.source(),
            target: self.target(),
            finish: self.finish,
        }
    }

    /// The sizes of a strip, of the transformed inputs and of the transformed outputs.
    fn sizes(&self) -> [usize; 3] {
        let (from, to) = self.tiles();
        [self.tiling.strip_size(), from.size(), to.size()]
    }

    /// Where the transformed inputs and outputs of a chunk lie.
    fn tiles(&self) -> (Tiles, Tiles) {
        let tiling = &self.tiling;
        (tiling.tiles_of(self.sources), tiling.tiles_of(self.targets))
    }

    fn target(&self) -> Extent {
        Extent {
            channels: self.targets,
            plane: self.tiling.plane(),
        }
    }

    fn source(&self) -> Extent {
        Extent {
            channels: self.sources,
            plane: self.tiling.plane(),
        }
    }
}

impl Work for Product<'_> {
    fn room(&self) -> usize {
        self.sizes().iter().sum()
    }

    #[inline(always)]
    fn run<V: Vector>(&self, vector: V, images: TaskImages<'_>) {
        let (tiling, weights) = (&self.tiling, &self.weights);
        let (from, to) = self.tiles();
        let [strip, v, m] = scratch::split(images.scratch, self.sizes());
        for strips in tiling.strips() {
            let (input, norm) = (images.input, self.norm);
            tiling.transform_inputs(vector, input, self.sources, norm, strips, strip, v);
            let tiles = images.count * strips.1 * tiling.columns;
            product::multiply(vector, tiles, (from, v), weights, (to, m));
            let mut outputs = Outputs {
                product: self,
                tiles: to,
                operand: images.operand,
                output: &mut *images.output,
                sums: &mut *images.sums,
            };
            outputs.write(vector, strips, m);
        }
    }
}

/// Where the outputs of a chunk go.
struct Outputs<'a> {
    product: &'a Product<'a>,
    tiles: Tiles,
    operand: &'a [Lanes],
    output: &'a mut [Lanes],
    sums: &'a mut [Sums],
}

impl Outputs<'_> {
    /// Transforms the outputs of a chunk, writes them, and finishes them.
    #[inline(always)]
    fn write<V: Vector>(&mut self, vector: V, (first, rows): (usize, usize), m: &[Lanes]) {
        let tiling = &self.product.tiling;
        let (plane, width, blocks) = (tiling.plane(), tiling.width, self.tiles.blocks);
        let written = OUTPUTS * first * width..plane.min(OUTPUTS * (first + rows) * width);
        let images = self.output.chunks_exact_mut(plane).zip(&mut *self.sums);
        for (index, (pixels, sums)) in images.enumerate() {
            let (image, block) = (index / blocks, index % blocks);
            let bias = vector.load(&self.product.bias[block]);
            let operand = self.operand.get(index * plane..(index + 1) * plane);
            let residual = operand.filter(|_| self.product.finish.adds());
            for row in 0..rows {
                let top = OUTPUTS * (first + row);
                for column in 0..tiling.columns {
                    let tile = (image * rows + row) * tiling.columns + column;
                    let corner = top * width + OUTPUTS * column;
                    Tile {
                        m: &m[self.tiles.at(tile, block)..],
                        position: self.tiles.position,
                        width,
                        rows: OUTPUTS.min(tiling.height - top),
                        columns: OUTPUTS.min(width - OUTPUTS * column),
                    }
                    .write(
                        vector,
                        bias,
                        residual.map(|residual| &residual[corner..]),
                        &mut pixels[corner..],
                    );
                }
            }
            self.product
                .finish
                .rows(vector, block, operand, pixels, written.clone(), sums);
        }
    }
}

/// One transformed tile of outputs, and how much of it lies within the image.
struct Tile<'a> {
    m: &'a [Lanes],
    position: usize,
    width: usize,
    rows: usize,
    columns: usize,
}

impl Tile<'_> {
    /// Aᵀ m A + bias + residual.
    #[inline(always)]
    fn write<V: Vector>(
        &self,
        vector: V,
        bias: V::Register,
        residual: Option<&[Lanes]>,
        to: &mut [Lanes],
    ) {
        let mut columns = [[vector.splat(0.); OUTPUTS]; POINTS];
        for (x, to) in columns.iter_mut().enumerate() {
            let mut column = [vector.splat(0.); POINTS];
            for (y, register) in column.iter_mut().enumerate() {
                *register = vector.load(&self.m[(y * POINTS + x) * self.position]);
            }
            *to = transform::output(vector, column);
        }
        for y in 0..OUTPUTS {
            let mut line = [vector.splat(0.); POINTS];
            for (register, column) in line.iter_mut().zip(&columns) {
                *register = column[y];
            }
            if y >= self.rows {
                break;
            }
            let pixels = transform::output(vector, line);
            let row = y * self.width;
            for (x, &pixel) in pixels.iter().enumerate() {
                if x >= self.columns {
                    break;
                }
                let mut pixel = vector.add(pixel, bias);
                if let Some(residual) = residual {
                    pixel = vector.add(pixel, vector.load(&residual[row + x]));
                }
                vector.store(pixel, &mut to[row + x]);
            }
        }
    }
}
