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

use super::incoming::{Incoming, IncomingImages};
use super::pack::{self, Direction};
use super::shape::Convolution;
use super::{Finish, Source};
use crate::arch::{self, Kernel, LANES, Lanes, Vector};
use crate::blocks::Sums;
use crate::images::{Extent, ImagesMut};
use crate::norm::Norm;
use crate::parallel::{self, Pieces};
use crate::scratch::{Scratch, Use};

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
            self.run(shape.batch, from, to)
        }
    }

    fn run(&self, batch: usize, from: Incoming<'_>, to: ImagesMut<'_>) -> Vec<Sums> {
        let (unit, target) = (self.tiling.images, self.target());
        let mut sums = vec![Sums::ZERO; batch * target.blocks()];
        let room = from.room(self.source(), unit);
        let images = (
            from.groups(self.source(), batch, unit),
            to.groups(target, unit),
        );
        let split = (images, Pieces::of(&mut sums, unit * target.blocks()));
        parallel::for_each(split, |_, ((input, output), sums)| {
            arch::run(Unit {
                product: self,
                room,
                input,
                output,
                sums,
            });
        });
        sums
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

/// The product of a few images, for one thread.
struct Unit<'a> {
    product: &'a Product<'a>,
    /// The scratch memory that reading the images takes.
    room: usize,
    input: IncomingImages<'a>,
    output: ImagesMut<'a>,
    /// One for each block of each image.
    sums: &'a mut [Sums],
}

impl Kernel for Unit<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(mut self, vector: V) {
        let product = self.product;
        let (tiling, weights, finish) = (&product.tiling, &product.weights, &product.finish);
        let (source, target) = (product.source(), product.target());
        let range = self.input.range.clone();
        let images = range.len();
        let (from, to) = (
            tiling.tiles_of(source.channels),
            tiling.tiles_of(target.channels),
        );
        let sizes = [
            tiling.strip_size(),
            from.size(),
            to.size(),
            self.room,
            finish.operand().map_or(0, |o| o.room(target, images)),
            self.output.room(target),
        ];
        let mut scratch = Scratch::take(Use::Unit, sizes.iter().sum());
        let [strip, v, m, inputs, operand, turned] = scratch.split(sizes);
        let inputs = self.input.blocked(vector, inputs);
        let operand = match finish.operand() {
            Some(images) => images.blocked(vector, target, range, operand),
            None => &[],
        };
        let output = self.output.blocked(turned);
        for strips in tiling.strips() {
            let norm = product.norm;
            tiling.transform_inputs(vector, inputs, source.channels, norm, strips, strip, v);
            let tiles = images * strips.1 * tiling.columns;
            product::multiply(vector, tiles, (from, v), weights, (to, m));
            let mut outputs = Outputs {
                product,
                tiles: to,
                operand,
                output: &mut *output,
                sums: &mut *self.sums,
            };
            outputs.write(vector, strips, m);
        }
        self.output.finish(vector, target, turned);
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
