//! One image times a weight: the kernel of the forward pass, and of the input gradient at stride 1
//! (strided_gradient.rs has the other).
//!
//! A tile is 16 vectors of sums: either two blocks of 16 output channels × 8 pixels of a row,
//! or, for the last block of an odd number, one block × 8 pixels of two rows. Its inner loop
//! slides: of the 10 input pixels under 8 outputs and 3 taps, each is broadcast once and
//! multiplied with the up to three taps it meets, whose weights stay in registers; 16 loads
//! then feed 48 multiply-adds, and the loads are not what limits the rate. Narrow instruction
//! sets compute a tile as four parts of 4 pixels, for want of registers.
//!
//! The lanes of a sum are output channels.

use super::incoming::Incoming;
use super::pack::{self, Direction, Padded, TILE, Weights};
use super::region::{Region, TaskImages, Work};
use super::shape::Convolution;
use super::{Finish, Source};
use crate::arch::{LANES, Lanes, Vector, unrolled};
use crate::blocks::{self, Sums};
use crate::images::{Extent, ImagesMut};
use crate::norm::Norm;

/// The sizes of a product: a correlation of padded planes with a weight, at a stride.
#[derive(Debug, Clone, Copy)]
pub(super) struct Product {
    pub(super) input: Padded,
    kernel: usize,
    stride: usize,
    outputs: usize,
    height: usize,
    width: usize,
}

impl Product {
    /// y from x.
    pub(super) fn forward(shape: &Convolution) -> Self {
        let unpadded = Padded {
            channels: shape.inputs,
            height: shape.height,
            width: shape.width,
            margin: shape.padding,
            rows: 0,
            row: 0,
        };
        Self {
            input: unpadded,
            kernel: shape.kernel,
            stride: shape.stride,
            outputs: shape.outputs,
            height: shape.out_height,
            width: shape.out_width,
        }
        .with_whole_tiles()
    }

    /// ∂x from ∂y, at stride 1.
    pub(super) fn input_gradient(shape: &Convolution) -> Self {
        let unpadded = Padded {
            channels: shape.outputs,
            height: shape.out_height,
            width: shape.out_width,
            margin: shape.kernel - 1 - shape.padding,
            rows: 0,
            row: 0,
        };
        Self {
            input: unpadded,
            kernel: shape.kernel,
            stride: 1,
            outputs: shape.inputs,
            height: shape.height,
            width: shape.width,
        }
        .with_whole_tiles()
    }

    /// Makes the padded planes large enough for tiles that stick out at the right and below.
    fn with_whole_tiles(mut self) -> Self {
        let reach = |outputs: usize| (outputs - 1) * self.stride + self.kernel;
        let held = |size: usize| self.input.margin + size;
        let rows = reach(self.height.next_multiple_of(2)).max(held(self.input.height));
        let row = reach(self.width.next_multiple_of(TILE)).max(held(self.input.width));
        (self.input.rows, self.input.row) = (rows, row);
        self
    }

    /// The sizes of an output image.
    fn output(&self) -> Extent {
        Extent {
            channels: self.outputs,
            plane: self.height * self.width,
        }
    }
}

/// The forward pass; see [`super::forward`].
pub(super) fn forward(
    shape: &Convolution,
    source: Source<'_>,
    weight: &[f32],
    bias: Option<&[f32]>,
    finish: Finish<'_>,
    to: ImagesMut<'_>,
) -> Vec<Sums> {
    let call = Call {
        product: Product::forward(shape),
        norm: source.norm,
        weights: pack::weights(shape, weight, Direction::Forward),
        bias: pack::vector(bias, shape.outputs),
        finish,
    };
    call.region(shape.batch)
        .run(&call, Incoming::Whole(source.images), to)
}

/// The input gradient at stride 1; see [`super::input_gradient`].
pub(super) fn input_gradient(
    shape: &Convolution,
    weight: &[f32],
    gradient: Incoming<'_>,
    finish: Finish<'_>,
    to: ImagesMut<'_>,
) -> Vec<Sums> {
    let call = Call {
        product: Product::input_gradient(shape),
        norm: None,
        weights: pack::weights(shape, weight, Direction::Backward),
        bias: pack::vector(None, shape.inputs),
        finish,
    };
    call.region(shape.batch).run(&call, gradient, to)
}

/// A product of a batch.
struct Call<'a> {
    product: Product,
    /// Applied to the images, with a ReLU, as they are read.
    norm: Option<&'a Norm>,
    weights: Weights,
    /// One vector per block of output channels.
    bias: Vec<Lanes>,
    finish: Finish<'a>,
}

impl Call<'_> {
    /// An image is a task.
    fn region(&self, batch: usize) -> Region<'_> {
        Region {
            batch,
            images: 1,
            source: self.product.input.extent(),
            target: self.product.output(),
            finish: self.finish,
        }
    }
}

impl Work for Call<'_> {
    fn room(&self) -> usize {
        self.product.input.size()
    }

    #[inline(always)]
    fn run<V: Vector>(&self, vector: V, images: TaskImages<'_>) {
        let product = &self.product;
        product
            .input
            .pack(vector, images.input, self.norm, images.scratch);
        let mut blocks = Blocks {
            call: self,
            padded: images.scratch,
            operand: images.operand,
            output: images.output,
            sums: images.sums,
        };
        match (product.kernel, product.stride) {
            (1, 1) => blocks.all::<V, 1, 1>(vector),
            (1, _) => blocks.all::<V, 1, 2>(vector),
            (_, 1) => blocks.all::<V, 3, 1>(vector),
            (_, _) => blocks.all::<V, 3, 2>(vector),
        }
    }
}

/// The output of one image, block by block.
struct Blocks<'a> {
    call: &'a Call<'a>,
    padded: &'a [Lanes],
    operand: &'a [Lanes],
    output: &'a mut [Lanes],
    sums: &'a mut [Sums],
}

impl Blocks<'_> {
    /// All output channels.
    #[inline(always)]
    fn all<V: Vector, const K: usize, const S: usize>(&mut self, vector: V) {
        let blocks = self.call.bias.len();
        for block in (0..blocks).step_by(2) {
            if block + 1 < blocks {
                self.tiles::<V, K, S, 2, 1>(vector, block);
            } else {
                self.tiles::<V, K, S, 1, 2>(vector, block);
            }
        }
        for block in 0..blocks {
            self.finish(vector, block);
        }
    }

    /// All pixels of `BLOCKS` blocks, in tiles of `BLOCKS` × `ROWS` × 8 vectors.
    #[inline(always)]
    fn tiles<V: Vector, const K: usize, const S: usize, const BLOCKS: usize, const ROWS: usize>(
        &mut self,
        vector: V,
        block: usize,
    ) {
        let Call {
            product,
            weights,
            bias,
            ..
        } = self.call;
        let tile: Tile<'_, BLOCKS> = Tile {
            padded: self.padded,
            input: &product.input,
            corner: (0, 0),
            weights: std::array::from_fn(|b| {
                &weights.lanes[(block + b) * weights.block..][..weights.block]
            }),
            bias: std::array::from_fn(|b| bias[block + b]),
        };
        let (height, width) = (product.height, product.width);
        for y in (0..height).step_by(ROWS) {
            for x in (0..width).step_by(TILE) {
                let mut sums = [Lanes::ZERO; LANES];
                if V::WIDE {
                    tile.sum::<V, K, K, S, ROWS, TILE>(vector, y, x, &mut sums);
                } else {
                    tile.sum_in_parts::<V, K, K, S, ROWS>(vector, y, x, &mut sums);
                }
                for (half, (b, row)) in halves(BLOCKS, ROWS) {
                    if y + row < height {
                        let pixels = TILE.min(width - x);
                        let to = ((block + b) * height + y + row) * width + x;
                        let to = &mut self.output[to..][..pixels];
                        blocks::copy(vector, &sums[half * TILE..], to);
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn finish<V: Vector>(&mut self, vector: V, block: usize) {
        let (finish, plane) = (&self.call.finish, self.call.product.output().plane);
        let range = block * plane..(block + 1) * plane;
        let operand = self.operand.get(range.clone());
        let pixels = &mut self.output[range];
        if let Some(residual) = operand.filter(|_| finish.adds()) {
            blocks::add(vector, residual, pixels);
        }
        finish.rows(
            vector,
            block,
            operand,
            pixels,
            0..plane,
            &mut self.sums[block],
        );
    }
}

/// The (block, row) of each half of a tile.
#[inline(always)]
pub(super) fn halves(blocks: usize, rows: usize) -> impl Iterator<Item = (usize, (usize, usize))> {
    (0..blocks * rows).map(move |half| (half, (half / rows, half % rows)))
}

/// What the sums of a tile are made of.
pub(super) struct Tile<'a, const BLOCKS: usize> {
    pub(super) padded: &'a [Lanes],
    pub(super) input: &'a Padded,
    /// The row and column of the padded image from which taps are counted.
    pub(super) corner: (usize, usize),
    pub(super) weights: [&'a [Lanes]; BLOCKS],
    pub(super) bias: [Lanes; BLOCKS],
}

impl<const BLOCKS: usize> Tile<'_, BLOCKS> {
    /// The sums of `BLOCKS` × `ROWS` × `PIXELS`, in this order, over KY × KX taps at stride S.
    #[inline(always)]
    pub(super) fn sum<
        V: Vector,
        const KY: usize,
        const KX: usize,
        const S: usize,
        const ROWS: usize,
        const PIXELS: usize,
    >(
        &self,
        vector: V,
        y: usize,
        x: usize,
        to: &mut [Lanes],
    ) {
        let mut sums = [[[vector.splat(0.); PIXELS]; ROWS]; BLOCKS];
        for (sums, bias) in sums.iter_mut().zip(&self.bias) {
            *sums = [[vector.load(bias); PIXELS]; ROWS];
        }
        let span = (PIXELS - 1) * S + KX;
        let (top, left) = self.corner;
        for channel in 0..self.input.channels {
            let (block, lane) = (channel / LANES, channel % LANES);
            let pixels = &self.padded[block * self.input.block()..][..self.input.block()];
            for ky in 0..KY {
                let mut weights = [[vector.splat(0.); KX]; BLOCKS];
                for (registers, weights) in weights.iter_mut().zip(&self.weights) {
                    let taps = &weights[(channel * KY + ky) * KX..][..KX];
                    for (register, tap) in registers.iter_mut().zip(taps) {
                        *register = vector.load(tap);
                    }
                }
                unrolled!(row in [0, 1] below ROWS, {
                    let start = ((y + row) * S + ky + top) * self.input.row + x * S + left;
                    let line = &pixels[start..start + span];
                    unrolled!(
                        position in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]
                        below span,
                        {
                            let pixel = vector.splat(line[position].0[lane]);
                            for (sums, weights) in sums.iter_mut().zip(&weights) {
                                for (kx, &weight) in weights.iter().enumerate() {
                                    let offset = position.wrapping_sub(kx);
                                    if offset % S == 0 && offset / S < PIXELS {
                                        let sum = &mut sums[row][offset / S];
                                        *sum = vector.multiply_add(pixel, weight, *sum);
                                    }
                                }
                            }
                        }
                    );
                });
            }
        }
        for (to, sums) in to.chunks_exact_mut(ROWS * PIXELS).zip(&sums) {
            for (to, sums) in to.chunks_exact_mut(PIXELS).zip(sums) {
                for (to, &sum) in to.iter_mut().zip(sums) {
                    vector.store(sum, to);
                }
            }
        }
    }

    /// The same, each block and row in two parts of 4 pixels.
    #[inline(always)]
    pub(super) fn sum_in_parts<
        V: Vector,
        const KY: usize,
        const KX: usize,
        const S: usize,
        const ROWS: usize,
    >(
        &self,
        vector: V,
        y: usize,
        x: usize,
        to: &mut [Lanes; LANES],
    ) {
        const PART: usize = TILE / 2;
        for (half, (b, row)) in halves(BLOCKS, ROWS) {
            let tile = Tile {
                padded: self.padded,
                input: self.input,
                corner: self.corner,
                weights: [self.weights[b]],
                bias: [self.bias[b]],
            };
            for part in 0..2 {
                let to = &mut to[half * TILE + part * PART..];
                tile.sum::<V, KY, KX, S, 1, PART>(vector, y + row, x + part * PART, to);
            }
        }
    }
}
