//! The weight gradient: ∂w\[o,i,ky,kx\] = Σ over images and pixels of ∂y\[o,y,x\] · x\[i,y+ky,x+kx\].
//!
//! The lanes are output channels, so ∂y is packed as a vector per pixel. For 16 output
//! channels, a kernel row and 4 input channels, 4 × 3 vectors of sums stay in registers while
//! the kernel runs over all pixels of an image, 8 vectors of ∂y at a time; each input pixel is
//! broadcast once and meets the three ∂y vectors that lie under its taps. Narrow instruction
//! sets take 2 input channels at a time.
//!
//! Tried without gain: 8 input channels with 2 or 4 vectors of ∂y, which have as few loads but
//! made the compiler move sums to memory.
//!
//! Images are dealt to slots whose number depends on the shape alone. A slot adds its images
//! in order and the slots are added in order, so the bits do not depend on the threads; the
//! chains of f32 additions are then as long as the pixels of an image, plus the images of a
//! slot, plus the slots.

use super::Source;
use super::pack::{Blocked, Padded, TILE};
use super::product::Product;
use super::shape::Convolution;
use crate::arch::{self, Kernel, LANES, Lanes, Vector, unrolled};
use crate::parallel;
use crate::planes;
use crate::scratch::Scratch;

/// Input channels come in groups of this many, whatever the instruction set.
const GROUP: usize = 4;

/// The gradients of weight and bias.
pub(super) fn weight_gradient(
    shape: &Convolution,
    x: Source<'_>,
    gradient: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    let layout = Layout::new(shape);
    let per_slot = shape.batch.div_ceil(layout.slots());
    let slots = shape.batch.div_ceil(per_slot);
    let size = layout.size();
    let (sums, biases) = parallel::pieces_with(slots * size, size, Lanes::ZERO, |slot, sums| {
        let mut bias = vec![0f64; shape.outputs];
        for index in slot * per_slot..shape.batch.min((slot + 1) * per_slot) {
            arch::run(AddImage {
                layout: &layout,
                x: x.image(index, layout.x.image_size()),
                gradient: &gradient[index * layout.gradient_size()..],
                sums,
                bias: &mut bias,
            });
        }
        bias
    });
    let bias = (0..shape.outputs)
        .map(|o| biases.iter().map(|bias| bias[o]).sum::<f64>() as f32)
        .collect();
    let row = shape.inputs * shape.kernel * shape.kernel;
    let weight = parallel::pieces(shape.outputs * row, LANES * row, |block, to| {
        arch::run(AddSlots {
            layout: &layout,
            sums: &sums[block * layout.block()..],
            row,
            to,
        });
    });
    (weight, bias)
}

/// The sizes, and where the sums lie: [block of 16 outputs][group of 4 inputs][ky][input][kx].
#[derive(Debug, Clone, Copy)]
struct Layout {
    x: Padded,
    gradient: Blocked,
    groups: usize,
    kernel: usize,
    stride: usize,
}

impl Layout {
    fn new(shape: &Convolution) -> Self {
        Self {
            x: Product::forward(shape).input,
            gradient: Blocked {
                channels: shape.outputs,
                height: shape.out_height,
                width: shape.out_width,
            },
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
        self.gradient.channels.div_ceil(LANES) * self.block()
    }

    /// The numbers of one image of ∂y.
    fn gradient_size(&self) -> usize {
        self.gradient.channels * self.gradient.height * self.gradient.width
    }

    /// Sixteen slots where they take up to 32 MiB together, fewer for large weights, at least 4.
    fn slots(&self) -> usize {
        const BUDGET: usize = 32 << 20;
        (BUDGET / (self.size() * size_of::<Lanes>())).clamp(4, 16)
    }
}

impl<'a> Source<'a> {
    fn image(self, index: usize, size: usize) -> Source<'a> {
        Source {
            values: &self.values[index * size..][..size],
            norm: self.norm,
        }
    }
}

/// Adds the products of one image to the sums.
struct AddImage<'a> {
    layout: &'a Layout,
    x: Source<'a>,
    gradient: &'a [f32],
    sums: &'a mut [Lanes],
    bias: &'a mut [f64],
}

impl Kernel for AddImage<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, vector: V) {
        let layout = self.layout;
        let mut scratch = Scratch::take();
        let size = layout.groups * GROUP * layout.x.plane();
        let (x, gradient) = scratch.room(size, layout.gradient.size());
        layout.x.pack(self.x.values, self.x.norm, x);
        let image = &self.gradient[..layout.gradient_size()];
        layout.gradient.pack(vector, image, gradient);
        let plane = layout.gradient.height * layout.gradient.width;
        for (sum, plane) in self.bias.iter_mut().zip(image.chunks_exact(plane)) {
            *sum += planes::total(plane);
        }
        match (layout.kernel, layout.stride) {
            (1, 1) => add::<V, 1, 1>(vector, layout, x, gradient, self.sums),
            (1, _) => add::<V, 1, 2>(vector, layout, x, gradient, self.sums),
            (_, 1) => add::<V, 3, 1>(vector, layout, x, gradient, self.sums),
            (_, _) => add::<V, 3, 2>(vector, layout, x, gradient, self.sums),
        }
        scratch.give_back();
    }
}

#[inline(always)]
fn add<V: Vector, const K: usize, const S: usize>(
    vector: V,
    layout: &Layout,
    x: &[f32],
    gradient: &[Lanes],
    sums: &mut [Lanes],
) {
    let blocks = gradient.chunks_exact(layout.gradient.block());
    for (gradient, sums) in blocks.zip(sums.chunks_exact_mut(layout.block())) {
        let groups = x.chunks_exact(GROUP * layout.x.plane());
        for (x, sums) in groups.zip(sums.chunks_exact_mut(K * GROUP * K)) {
            for (ky, sums) in sums.chunks_exact_mut(GROUP * K).enumerate() {
                if V::WIDE {
                    add_channels::<V, K, S, GROUP>(vector, layout, x, ky, gradient, sums);
                } else {
                    const PART: usize = GROUP / 2;
                    let parts = x.chunks_exact(PART * layout.x.plane());
                    for (x, sums) in parts.zip(sums.chunks_exact_mut(PART * K)) {
                        add_channels::<V, K, S, PART>(vector, layout, x, ky, gradient, sums);
                    }
                }
            }
        }
    }
}

/// One kernel row of `CHANNELS` input channels.
#[inline(always)]
fn add_channels<V: Vector, const K: usize, const S: usize, const CHANNELS: usize>(
    vector: V,
    layout: &Layout,
    x: &[f32],
    ky: usize,
    gradient: &[Lanes],
    to: &mut [Lanes],
) {
    let span = (TILE - 1) * S + K;
    let mut sums = [[vector.splat(0.); K]; CHANNELS];
    for (y, gradient) in gradient.chunks_exact(layout.gradient.row()).enumerate() {
        let row = (y * S + ky) * layout.x.row;
        for (step, gradient) in gradient.as_chunks::<TILE>().0.iter().enumerate() {
            let start = row + step * TILE * S;
            let mut pixels = [vector.splat(0.); TILE];
            for (register, lanes) in pixels.iter_mut().zip(gradient) {
                *register = vector.load(lanes);
            }
            unrolled!(channel in [0, 1, 2, 3] below CHANNELS, {
                let line = &x[channel * layout.x.plane() + start..][..span];
                unrolled!(
                    position in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]
                    below span,
                    {
                        let pixel = vector.splat(line[position]);
                        for (kx, sum) in sums[channel].iter_mut().enumerate() {
                            let offset = position.wrapping_sub(kx);
                            if offset % S == 0 && offset / S < TILE {
                                *sum = vector.multiply_add(pixel, pixels[offset / S], *sum);
                            }
                        }
                    }
                );
            });
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
