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
//! The sums over the tiles of a chunk are made in registers (product.rs), and added to those in
//! memory. With hundreds of channels, a task has one position and all tiles (batched.rs).
//!
//! The chains of f32 additions are as long as the tiles of a chunk, plus the chunks of a slot
//! (slots.rs). The slots are added in f64, in which also the last map is computed.

mod batched;
mod product;

use super::tiling::Tiling;
use super::transform::{self, POSITIONS};
use super::weights::TAPS;
use crate::arch::{self, Kernel, LANES, Lanes, Vector};
use crate::blocks;
use crate::convolution::Source;
use crate::convolution::shape::Convolution;
use crate::convolution::slots::Slots;
use crate::images::{Extent, Images};
use crate::parallel::{self, Panels};
use crate::scratch::{self, Scratch, Use};

use product::Chunk;

/// The gradients of weight and bias; as the direct ones.
pub(in crate::convolution) fn weight_gradient(
    shape: &Convolution,
    x: Source<'_>,
    gradient: Images<'_>,
) -> (Vec<f32>, Vec<f32>) {
    if super::batched::pays(shape) {
        return batched::weight_gradient(shape, x, gradient);
    }
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
    let weight = finish(shape, &layout, &slots.sums);
    (weight, slots.bias_gradient(shape.outputs))
}

/// The gradient of the weight from the sums of all slots.
fn finish(shape: &Convolution, layout: &Layout, sums: &[Lanes]) -> Vec<f32> {
    let row = shape.inputs * TAPS;
    let mut weight = parallel::zeros(shape.outputs * row);
    let panels = Panels::of(&mut weight, row, (LANES, LANES * TAPS));
    let across = shape.inputs.div_ceil(LANES);
    parallel::for_each(panels, |panel, to| {
        let (block, first) = (panel / across, panel % across * LANES);
        arch::run(Finish {
            sums: &sums[block * layout.line() + first..],
            layout,
            to,
        });
    });
    weight
}

/// The sizes, and where the sums lie: [position][block of 16 outputs][input], the inputs filled
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

    /// The vectors of one position.
    fn position(&self) -> usize {
        self.outputs.div_ceil(LANES) * self.line()
    }

    /// The vectors of all sums.
    fn size(&self) -> usize {
        POSITIONS * self.position()
    }

    /// A power of two, so that threads get equal shares: 16 slots where they take up to 8 MiB
    /// together, fewer for large weights, at least 4. To add a slot up costs as much as the
    /// products of some images.
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
        let [strip, v, d, x, gradient] = scratch::split(&mut scratch, sizes);
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
            let chunk = Chunk {
                tiles,
                unit_tiles: tiles,
                inputs: from,
                v,
                outputs: to,
                d,
            };
            for (position, sums) in self
                .sums
                .chunks_exact_mut(self.layout.position())
                .enumerate()
            {
                let fresh = self.fresh && strips.0 == 0;
                chunk.add(vector, position, fresh, sums);
            }
        }
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
                let first = &self.sums[position * layout.position() + input..];
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
