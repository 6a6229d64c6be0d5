//! One image times a weight: the kernel of the forward pass and of the input gradient.
//!
//! A tile is 16 vectors of sums: either two blocks of 16 output channels × 8 pixels of a row,
//! or, for the last block of an odd number, one block × 8 pixels of two rows. Its inner loop
//! slides: of the 10 input pixels under 8 outputs and 3 taps, each is broadcast once and
//! multiplied with the up to three taps it meets, whose weights stay in registers; 16 loads
//! then feed 48 multiply-adds, and the loads are not what limits the rate. Narrow instruction
//! sets compute a tile as four parts of 4 pixels, for want of registers.
//!
//! The lanes of a sum are output channels, the tensor's rows are pixels: a finished tile is
//! transposed, and each channel's 8 pixels are written at once.

use super::pack::{Padded, TILE, Weights};
use super::shape::Convolution;
use crate::arch::{Kernel, LANES, Lanes, Vector, unrolled};
use crate::norm::Norm;
use crate::scratch::Scratch;

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
            dilation: 1,
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

    /// ∂x from ∂y.
    pub(super) fn input_gradient(shape: &Convolution) -> Self {
        let unpadded = Padded {
            channels: shape.outputs,
            height: shape.out_height,
            width: shape.out_width,
            dilation: shape.stride,
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
        let held = |size: usize| self.input.margin + size * self.input.dilation;
        let rows = reach(self.height.next_multiple_of(2)).max(held(self.input.height));
        let row = reach(self.width.next_multiple_of(TILE)).max(held(self.input.width));
        (self.input.rows, self.input.row) = (rows, row);
        self
    }

    /// The numbers of one output image.
    pub(super) fn output_size(&self) -> usize {
        self.outputs * self.height * self.width
    }
}

/// The product of one image.
pub(super) struct ImageProduct<'a> {
    pub(super) product: &'a Product,
    pub(super) image: &'a [f32],
    pub(super) norm: Option<&'a Norm>,
    pub(super) weights: &'a Weights,
    /// One vector per block of output channels.
    pub(super) bias: &'a [Lanes],
    pub(super) output: &'a mut [f32],
}

impl Kernel for ImageProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, vector: V) {
        let input = &self.product.input;
        let mut scratch = Scratch::take();
        let (planes, _) = scratch.room(input.channels * input.plane(), 0);
        input.pack(self.image, self.norm, planes);
        match (self.product.kernel, self.product.stride) {
            (1, 1) => self.blocks::<V, 1, 1>(vector, planes),
            (1, _) => self.blocks::<V, 1, 2>(vector, planes),
            (_, 1) => self.blocks::<V, 3, 1>(vector, planes),
            (_, _) => self.blocks::<V, 3, 2>(vector, planes),
        }
        scratch.give_back();
    }
}

impl ImageProduct<'_> {
    /// All output channels.
    #[inline(always)]
    fn blocks<V: Vector, const K: usize, const S: usize>(mut self, vector: V, planes: &[f32]) {
        for block in (0..self.bias.len()).step_by(2) {
            if block + 1 < self.bias.len() {
                self.tiles::<V, K, S, 2, 1>(vector, planes, block);
            } else {
                self.tiles::<V, K, S, 1, 2>(vector, planes, block);
            }
        }
    }

    /// All pixels of `BLOCKS` blocks, in tiles of `BLOCKS` × `ROWS` × 8 vectors.
    #[inline(always)]
    fn tiles<V: Vector, const K: usize, const S: usize, const BLOCKS: usize, const ROWS: usize>(
        &mut self,
        vector: V,
        planes: &[f32],
        block: usize,
    ) {
        let (weights, bias) = (self.weights, self.bias);
        let tile: Tile<'_, BLOCKS> = Tile {
            planes,
            input: &self.product.input,
            weights: std::array::from_fn(|b| {
                &weights.lanes[(block + b) * weights.block..][..weights.block]
            }),
            bias: std::array::from_fn(|b| bias[block + b]),
        };
        for y in (0..self.product.height).step_by(ROWS) {
            for x in (0..self.product.width).step_by(TILE) {
                let mut sums = [Lanes::ZERO; LANES];
                if V::WIDE {
                    tile.sum::<V, K, S, ROWS, TILE>(vector, y, x, &mut sums);
                } else {
                    tile.sum_in_parts::<V, K, S, ROWS>(vector, y, x, &mut sums);
                }
                vector.transpose(&mut sums);
                for (half, (b, row)) in halves(BLOCKS, ROWS) {
                    self.store(&sums, half, block + b, y + row, x);
                }
            }
        }
    }

    /// Writes half of a transposed tile: 8 pixels of 16 channels.
    #[inline(always)]
    fn store(&mut self, sums: &[Lanes; LANES], half: usize, block: usize, y: usize, x: usize) {
        let Product {
            height,
            width,
            outputs,
            ..
        } = *self.product;
        if y >= height {
            return;
        }
        let channels = LANES.min(outputs - block * LANES);
        let planes = &mut self.output[block * LANES * height * width..];
        let planes = planes.chunks_exact_mut(height * width).take(channels);
        for (plane, sums) in planes.zip(sums) {
            let pixels = &sums.0[half * TILE..][..TILE];
            let to = &mut plane[y * width + x..(y + 1) * width];
            match to.first_chunk_mut::<TILE>() {
                Some(to) => to.copy_from_slice(pixels),
                None => to.copy_from_slice(&pixels[..to.len()]),
            }
        }
    }
}

/// The (block, row) of each half of a tile.
#[inline(always)]
fn halves(blocks: usize, rows: usize) -> impl Iterator<Item = (usize, (usize, usize))> {
    (0..blocks * rows).map(move |half| (half, (half / rows, half % rows)))
}

/// What the sums of a tile are made of.
struct Tile<'a, const BLOCKS: usize> {
    planes: &'a [f32],
    input: &'a Padded,
    weights: [&'a [Lanes]; BLOCKS],
    bias: [Lanes; BLOCKS],
}

impl<const BLOCKS: usize> Tile<'_, BLOCKS> {
    /// The sums of `BLOCKS` × `ROWS` × `PIXELS`, in this order.
    #[inline(always)]
    fn sum<V: Vector, const K: usize, const S: usize, const ROWS: usize, const PIXELS: usize>(
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
        let span = (PIXELS - 1) * S + K;
        let planes = self.planes.chunks_exact(self.input.plane());
        for (channel, plane) in planes.enumerate() {
            for ky in 0..K {
                let mut weights = [[vector.splat(0.); K]; BLOCKS];
                for (registers, weights) in weights.iter_mut().zip(&self.weights) {
                    let taps = &weights[(channel * K + ky) * K..][..K];
                    for (register, tap) in registers.iter_mut().zip(taps) {
                        *register = vector.load(tap);
                    }
                }
                unrolled!(row in [0, 1] below ROWS, {
                    let start = ((y + row) * S + ky) * self.input.row + x * S;
                    let line = &plane[start..start + span];
                    unrolled!(
                        position in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]
                        below span,
                        {
                            let pixel = vector.splat(line[position]);
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
    fn sum_in_parts<V: Vector, const K: usize, const S: usize, const ROWS: usize>(
        &self,
        vector: V,
        y: usize,
        x: usize,
        to: &mut [Lanes; LANES],
    ) {
        const PART: usize = TILE / 2;
        for (half, (b, row)) in halves(BLOCKS, ROWS) {
            let tile = Tile {
                planes: self.planes,
                input: self.input,
                weights: [self.weights[b]],
                bias: [self.bias[b]],
            };
            for part in 0..2 {
                let to = &mut to[half * TILE + part * PART..];
                tile.sum::<V, K, S, 1, PART>(vector, y + row, x + part * PART, to);
            }
        }
    }
}
