//! The weight gradient, as the adjoint of the forward pass.
//!
//! The forward pass is linear in the weight: with v = Bᵀ x B it is y = Aᵀ ((G w Gᵀ) ⊙ v) A, so
//!
//! ```text
//! d = A ∂y Aᵀ for every tile and 16 output channels
//! ∂u[position] = Σ over tiles of v ⊗ d
//! ∂w = Gᵀ ∂u G for every pair of channels, once
//! ```
//!
//! At every position, 8 or 16 input channels × 16 to 48 output channels of sums stay in
//! registers while the kernel runs over the tiles of a chunk; then they are added to the sums
//! in memory. Narrow instruction sets take 4 × 16.
//!
//! The chains of f32 additions are as long as the tiles of a chunk, plus the chunks of a slot
//! (slots.rs). The slots are added in f64, in which also the last map is computed.

use super::super::Source;
use super::super::slots::Slots;
use super::tiling::{GROUP, Tiles, Tiling};
use super::transform::{self, POSITIONS};
use super::weights::TAPS;
use crate::arch::{self, Kernel, LANES, Lanes, Vector, unrolled};
use crate::blocks;
use crate::convolution::shape::Convolution;
use crate::images::{Extent, Images};
use crate::parallel::{self, Panels};
use crate::scratch::{Scratch, Use};

/// The gradients of weight and bias; as the direct ones.
pub(in super::super) fn weight_gradient(
    shape: &Convolution,
    x: Source<'_>,
    gradient: Images<'_>,
) -> (Vec<f32>, Vec<f32>) {
    let layout = Layout::new(shape);
    let (wanted, blocks) = (layout.slots(), layout.outputs.div_ceil(LANES));
    let slots = Slots::fill(
        shape.batch,
        wanted,
        layout.size(),
        blocks,
        |images, sums, bias| {
            for first in images.clone().step_by(layout.tiling.images) {
                arch::run(AddImages {
                    layout: &layout,
                    images: first..images.end.min(first + layout.tiling.images),
                    fresh: first == images.start,
                    x,
                    gradient,
                    sums,
                    bias,
                });
            }
        },
    );
    let row = shape.inputs * TAPS;
    let mut weight = vec![0.; shape.outputs * row];
    let panels = Panels::of(&mut weight, row, (LANES, LANES * TAPS));
    let across = shape.inputs.div_ceil(LANES);
    parallel::for_each(panels, |panel, to| {
        let (block, first) = (panel / across, panel % across * LANES);
        arch::run(Finish {
            sums: &slots.sums[block * layout.block() + first..],
            layout: &layout,
            to,
        });
    });
    (weight, slots.bias_gradient(shape.outputs))
}

/// The sizes, and where the sums lie: [block of 16 outputs][position][input], the inputs filled
/// up to a multiple of 16.
#[derive(Debug, Clone, Copy)]
struct Layout {
    tiling: Tiling,
    inputs: usize,
    outputs: usize,
}

impl Layout {
    fn new(shape: &Convolution) -> Self {
        Self {
            tiling: Tiling::new(shape.height, shape.width, shape.inputs + shape.outputs),
            inputs: shape.inputs,
            outputs: shape.outputs,
        }
    }

    /// The vectors of one block of outputs at one position.
    fn line(&self) -> usize {
        self.inputs.next_multiple_of(LANES)
    }

    /// The vectors of one block of outputs.
    fn block(&self) -> usize {
        POSITIONS * self.line()
    }

    /// The vectors of all sums.
    fn size(&self) -> usize {
        self.outputs.div_ceil(LANES) * self.block()
    }

    /// A power of two, so that threads get equal shares: 16 slots where they take up to 8 MiB
    /// together, fewer for large weights, at least 4. To fill a slot with zeros and to add it
    /// up costs as much as the products of some images.
    fn slots(&self) -> usize {
        const BUDGET: usize = 8 << 20;
        let slots = (BUDGET / (self.size() * size_of::<Lanes>())).clamp(4, 16);
        1 << slots.ilog2()
    }
}

/// Adds the products of a few images to the sums.
struct AddImages<'a> {
    layout: &'a Layout,
    images: std::ops::Range<usize>,
    /// Whether nothing is in the sums yet.
    fresh: bool,
    x: Source<'a>,
    gradient: Images<'a>,
    sums: &'a mut [Lanes],
    bias: &'a mut [[f64; LANES]],
}

impl Kernel for AddImages<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, vector: V) {
        let Layout {
            tiling,
            inputs,
            outputs,
        } = *self.layout;
        let plane = tiling.plane();
        let (source, target) = (
            Extent {
                channels: inputs,
                plane,
            },
            Extent {
                channels: outputs,
                plane,
            },
        );
        let (from, to) = (tiling.tiles_of(inputs), tiling.tiles_of(outputs));
        let images = self.images.len();
        let sizes = [
            tiling.strip_size(),
            from.size(),
            to.size(),
            self.x.images.room(source, images),
            self.gradient.room(target, images),
        ];
        let mut scratch = Scratch::take(Use::Unit, sizes.iter().sum());
        let [strip, v, d, x, gradient] = scratch.split(sizes);
        let x = self
            .x
            .images
            .blocked(vector, source, self.images.clone(), x);
        let gradient = self.gradient.blocked(vector, target, self.images, gradient);
        for (index, pixels) in gradient.chunks_exact(plane).enumerate() {
            let total = &mut self.bias[index % target.blocks()];
            blocks::add_total(vector, pixels, total);
        }
        for strips in tiling.strips() {
            tiling.transform_inputs(vector, x, inputs, self.x.norm, strips, strip, v);
            tiling.transform_gradients(vector, gradient, outputs, strips, strip, d);
            let tiles = images * strips.1 * tiling.columns;
            let sums = (self.fresh && strips.0 == 0, &mut *self.sums);
            add(vector, self.layout, tiles, (from, v), (to, d), sums);
        }
    }
}

/// Adds v ⊗ d of `tiles` tiles to the sums of every position, or puts it there if nothing is.
#[inline(always)]
fn add<V: Vector>(
    vector: V,
    layout: &Layout,
    tiles: usize,
    (inputs, v): (Tiles, &[Lanes]),
    (outputs, d): (Tiles, &[Lanes]),
    (fresh, sums): (bool, &mut [Lanes]),
) {
    for position in 0..POSITIONS {
        let mut product = Product {
            tiles,
            inputs,
            v: &v[position * inputs.position..][..inputs.position],
            outputs,
            d: &d[position * outputs.position..][..outputs.position],
            fresh,
            sums: &mut sums[position * layout.line()..],
            block: layout.block(),
        };
        let mut block = 0;
        while block < outputs.blocks {
            block += match outputs.blocks - block {
                _ if !V::WIDE => product.run::<V, 1, 4>(vector, block),
                1 => product.run::<V, 1, 16>(vector, block),
                3 => product.run::<V, 3, 8>(vector, block),
                _ => product.run::<V, 2, 8>(vector, block),
            };
        }
    }
}

/// The product at one position.
struct Product<'a> {
    tiles: usize,
    inputs: Tiles,
    v: &'a [Lanes],
    outputs: Tiles,
    d: &'a [Lanes],
    fresh: bool,
    /// The sums of all blocks, from this position on in the first.
    sums: &'a mut [Lanes],
    /// The vectors from one block of sums to the next.
    block: usize,
}

impl Product<'_> {
    /// `BLOCKS` blocks of outputs with all inputs, `CHANNELS` at a time; gives `BLOCKS`.
    #[inline(always)]
    fn run<V: Vector, const BLOCKS: usize, const CHANNELS: usize>(
        &mut self,
        vector: V,
        first: usize,
    ) -> usize {
        for input in (0..self.inputs.blocks * LANES).step_by(CHANNELS) {
            let sums = self.sum::<V, BLOCKS, CHANNELS>(vector, input, first);
            for (b, sums) in sums.iter().enumerate() {
                let to = &mut self.sums[(first + b) * self.block + input..][..CHANNELS];
                for (to, &sum) in to.iter_mut().zip(sums) {
                    let sum = match self.fresh {
                        true => sum,
                        false => vector.add(vector.load(to), sum),
                    };
                    vector.store(sum, to);
                }
            }
        }
        BLOCKS
    }

    /// Σ over the tiles.
    #[inline(always)]
    fn sum<V: Vector, const BLOCKS: usize, const CHANNELS: usize>(
        &self,
        vector: V,
        input: usize,
        first: usize,
    ) -> [[V::Register; CHANNELS]; BLOCKS] {
        let mut sums = [[vector.splat(0.); CHANNELS]; BLOCKS];
        for start in (0..self.tiles).step_by(GROUP) {
            let tiles = GROUP.min(self.tiles - start);
            let v = &self.v[self.inputs.at(start, input / LANES)..][..tiles];
            let mut lines: [&[Lanes]; BLOCKS] = [&[]; BLOCKS];
            for (b, line) in lines.iter_mut().enumerate() {
                *line = &self.d[self.outputs.at(start, first + b)..][..tiles];
            }
            for tile in 0..tiles {
                let Some(values) = v[tile].0[input % LANES..].first_chunk::<CHANNELS>() else {
                    break;
                };
                let mut gradients = [vector.splat(0.); BLOCKS];
                for (register, line) in gradients.iter_mut().zip(&lines) {
                    *register = vector.load(&line[tile]);
                }
                unrolled!(channel in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]
                    below CHANNELS,
                {
                    let value = vector.splat(values[channel]);
                    for (sums, &gradient) in sums.iter_mut().zip(&gradients) {
                        sums[channel] = vector.multiply_add(value, gradient, sums[channel]);
                    }
                });
            }
        }
        sums
    }
}

/// Adds the slots of one block of outputs and up to 16 inputs, and writes Gᵀ ∂u G.
struct Finish<'a> {
    layout: &'a Layout,
    /// The sums of all slots, from this block and input on in the first.
    sums: &'a [Lanes],
    /// Of each output, the taps of the inputs.
    to: Vec<&'a mut [f32]>,
}

impl Kernel for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(mut self, _vector: V) {
        let layout = self.layout;
        let inputs = self.to[0].len() / TAPS;
        for input in 0..inputs {
            let mut u = [[0.; LANES]; POSITIONS];
            for (position, u) in u.iter_mut().enumerate() {
                let first = &self.sums[position * layout.line() + input..];
                for lanes in first.iter().step_by(layout.size()) {
                    for (sum, &value) in u.iter_mut().zip(&lanes.0) {
                        *sum += f64::from(value);
                    }
                }
            }
            let taps = transform::weight_adjoint(&u);
            for (lane, to) in self.to.iter_mut().enumerate() {
                let to = &mut to[input * TAPS..][..TAPS];
                for (to, taps) in to.iter_mut().zip(&taps) {
                    *to = taps[lane] as f32;
                }
            }
        }
    }
}
