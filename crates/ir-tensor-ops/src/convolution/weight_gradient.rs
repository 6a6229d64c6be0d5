//! The weight gradient: ∂w\[o,i,ky,kx\] = Σ over images and pixels of ∂y\[o,y,x\] · x\[i,y+ky,x+kx\].
//!
//! The lanes are output channels. For 16 output
//! channels, a kernel row and 4 input channels, 4 × 3 vectors of sums stay in registers while
//! the kernel runs over all pixels of an image, 8 vectors of ∂y at a time; each input pixel is
//! broadcast once and meets the three ∂y vectors that lie under its taps. Narrow instruction
//! sets take 2 input channels at a time.
//!
//! Tried without gain: 8 input channels with 2 or 4 vectors of ∂y, which have as few loads but
//! made the compiler move sums to memory.
//!
//! The chains of f32 additions are as long as the pixels of an image, plus the images of a slot
//! (slots.rs), plus the slots.

use super::Source;
use super::pack::{Padded, TILE};
use super::product::Product;
use super::shape::Convolution;
use super::slots::Slots;
use crate::arch::{self, Kernel, LANES, Lanes, Vector, unrolled};
use crate::blocks;
use crate::images::{Extent, Images};
use crate::parallel;
use crate::scratch::{self, Scratch, Use};

/// Input channels come in groups of this many, whatever the instruction set.
const GROUP: usize = 4;

/// The gradients of weight and bias.
pub(super) fn weight_gradient(
    shape: &Convolution,
    x: Source<'_>,
    gradient: Images<'_>,
) -> (Vec<f32>, Vec<f32>) {
    let layout = Layout::new(shape);
    let (wanted, blocks) = (layout.slots(), layout.gradient.blocks());
    let slots = Slots::fill(
        shape.batch,
        wanted,
        layout.size(),
        blocks,
        |images, sums, bias| {
            sums.fill(Lanes::ZERO);
            for index in images {
                arch::run(AddImage {
                    layout: &layout,
                    index,
                    x,
                    gradient,
                    sums,
                    bias,
                });
            }
        },
    );
    let row = shape.inputs * shape.kernel * shape.kernel;
    let weight = parallel::pieces(shape.outputs * row, LANES * row, |block, to| {
        arch::run(AddSlots {
            layout: &layout,
            sums: &slots.sums[block * layout.block()..],
            row,
            to,
        });
    });
    (weight, slots.bias_gradient(shape.outputs))
}

/// The sizes, and where the sums lie: [block of 16 outputs][group of 4 inputs][ky][input][kx].
#[derive(Debug, Clone, Copy)]
struct Layout {
    x: Padded,
    gradient: Extent,
    /// The width of ∂y.
    width: usize,
    groups: usize,
    kernel: usize,
    stride: usize,
}

impl Layout {
    fn new(shape: &Convolution) -> Self {
        Self {
            x: Product::forward(shape).input,
            gradient: Extent {
                channels: shape.outputs,
                plane: shape.out_height * shape.out_width,
            },
            width: shape.out_width,
            groups: shape.inputs.div_ceil(GROUP),
            kernel: shape.kernel,
            stride: shape.stride,
        }
    }

    /// The vectors of one block of outputs.
    fn block(&self) -> usize {
        self.groups * GROUP * self.kernel * self.kernel
    }

    /// The vectors of all sums.
    fn size(&self) -> usize {
        self.gradient.blocks() * self.block()
    }

    /// The vectors of a row of ∂y, filled up to whole tiles.
    fn row(&self) -> usize {
        self.width.next_multiple_of(TILE)
    }

    /// The vectors of one block of ∂y with filled rows.
    fn filled_block(&self) -> usize {
        self.gradient.plane / self.width * self.row()
    }

    /// Sixteen slots where they take up to 32 MiB together, fewer for large weights, at least 4.
    fn slots(&self) -> usize {
        const BUDGET: usize = 32 << 20;
        (BUDGET / (self.size() * size_of::<Lanes>())).clamp(4, 16)
    }

    /// ∂y of one image with its rows filled up with zeros.
    #[inline(always)]
    fn fill_rows<'a, V: Vector>(
        &self,
        vector: V,
        gradient: &'a [Lanes],
        room: &'a mut [Lanes],
    ) -> &'a [Lanes] {
        if self.row() == self.width {
            return gradient;
        }
        let rows = room.chunks_exact_mut(self.row());
        for (to, from) in rows.zip(gradient.chunks_exact(self.width)) {
            blocks::copy(vector, from, to);
            to[self.width..].fill(Lanes::ZERO);
        }
        room
    }
}

/// Adds the products of one image to the sums.
struct AddImage<'a> {
    layout: &'a Layout,
    index: usize,
    x: Source<'a>,
    gradient: Images<'a>,
    sums: &'a mut [Lanes],
    bias: &'a mut [[f64; LANES]],
}

impl Kernel for AddImage<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, vector: V) {
        let layout = self.layout;
        let (input, target) = (layout.x.extent(), layout.gradient);
        let sizes = [
            layout.x.size(),
            target.blocks() * layout.filled_block(),
            self.x.images.room(input, 1),
            self.gradient.room(target, 1),
        ];
        let mut scratch = Scratch::take(Use::Unit, sizes.iter().sum());
        let [x, filled, turned, turned_gradient] = scratch::split(&mut scratch, sizes);
        let range = self.index..self.index + 1;
        let image = self.x.images.blocked(vector, input, range.clone(), turned);
        layout.x.pack(vector, image, self.x.norm, x);
        let gradient = self
            .gradient
            .blocked(vector, target, range, turned_gradient);
        for (total, pixels) in self
            .bias
            .iter_mut()
            .zip(gradient.chunks_exact(target.plane))
        {
            blocks::add_total(vector, pixels, total);
        }
        let gradient = layout.fill_rows(vector, gradient, filled);
        match (layout.kernel, layout.stride) {
            (1, 1) => add::<V, 1, 1>(vector, layout, x, gradient, self.sums),
            (1, _) => add::<V, 1, 2>(vector, layout, x, gradient, self.sums),
            (_, 1) => add::<V, 3, 1>(vector, layout, x, gradient, self.sums),
            (_, _) => add::<V, 3, 2>(vector, layout, x, gradient, self.sums),
        }
    }
}

#[inline(always)]
fn add<V: Vector, const K: usize, const S: usize>(
    vector: V,
    layout: &Layout,
    x: &[Lanes],
    gradient: &[Lanes],
    sums: &mut [Lanes],
) {
    let blocks = gradient.chunks_exact(layout.filled_block());
    for (gradient, sums) in blocks.zip(sums.chunks_exact_mut(layout.block())) {
        for (group, sums) in sums.chunks_exact_mut(K * GROUP * K).enumerate() {
            let (block, lane) = (group * GROUP / LANES, group * GROUP % LANES);
            let x = &x[block * layout.x.block()..][..layout.x.block()];
            for (ky, sums) in sums.chunks_exact_mut(GROUP * K).enumerate() {
                if V::WIDE {
                    add_channels::<V, K, S, GROUP>(vector, layout, (x, lane), ky, gradient, sums);
                } else {
                    const PART: usize = GROUP / 2;
                    for (part, sums) in sums.chunks_exact_mut(PART * K).enumerate() {
                        let x = (x, lane + part * PART);
                        add_channels::<V, K, S, PART>(vector, layout, x, ky, gradient, sums);
                    }
                }
            }
        }
    }
}

/// One kernel row of `CHANNELS` input channels, the first of them in lane `first` of x.
#[inline(always)]
fn add_channels<V: Vector, const K: usize, const S: usize, const CHANNELS: usize>(
    vector: V,
    layout: &Layout,
    (x, first): (&[Lanes], usize),
    ky: usize,
    gradient: &[Lanes],
    to: &mut [Lanes],
) {
    let span = (TILE - 1) * S + K;
    let mut sums = [[vector.splat(0.); K]; CHANNELS];
    for (y, gradient) in gradient.chunks_exact(layout.row()).enumerate() {
        let row = (y * S + ky) * layout.x.row;
        for (step, gradient) in gradient.as_chunks::<TILE>().0.iter().enumerate() {
            let start = row + step * TILE * S;
            let mut pixels = [vector.splat(0.); TILE];
            for (register, lanes) in pixels.iter_mut().zip(gradient) {
                *register = vector.load(lanes);
            }
            let line = &x[start..start + span];
            unrolled!(
                position in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]
                below span,
                {
                    if let Some(values) = line[position].0[first..].first_chunk::<CHANNELS>() {
                        unrolled!(channel in [0, 1, 2, 3] below CHANNELS, {
                            let value = vector.splat(values[channel]);
                            for (kx, sum) in sums[channel].iter_mut().enumerate() {
                                let offset = position.wrapping_sub(kx);
                                if offset % S == 0 && offset / S < TILE {
                                    *sum = vector.multiply_add(value, pixels[offset / S], *sum);
                                }
                            }
                        });
                    }
                }
            );
        }
    }
    for (to, sums) in to.chunks_exact_mut(K).zip(&sums) {
        for (to, &sum) in to.iter_mut().zip(sums) {
            vector.store(vector.add(vector.load(to), sum), to);
        }
    }
}

/// Adds the slots of one block of outputs, and writes it as `[o, i, ky, kx]`.
struct AddSlots<'a> {
    layout: &'a Layout,
    /// The sums of all slots, from this block on in the first.
    sums: &'a [Lanes],
    /// The numbers per output.
    row: usize,
    to: &'a mut [f32],
}

impl Kernel for AddSlots<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, vector: V) {
        let kernel = self.layout.kernel;
        let inputs = self.row / (kernel * kernel);
        for i in 0..inputs {
            for ky in 0..kernel {
                let group = i / GROUP * kernel + ky;
                let from = (group * GROUP + i % GROUP) * kernel;
                for kx in 0..kernel {
                    let mut sum = vector.splat(0.);
                    for slot in self.sums[from + kx..].iter().step_by(self.layout.size()) {
                        sum = vector.add(sum, vector.load(slot));
                    }
                    let mut lanes = Lanes::ZERO;
                    vector.store(sum, &mut lanes);
                    let at = (i * kernel + ky) * kernel + kx;
                    for (to, lane) in self.to.chunks_exact_mut(self.row).zip(lanes.0) {
                        to[at] = lane;
                    }
                }
            }
        }
    }
}
