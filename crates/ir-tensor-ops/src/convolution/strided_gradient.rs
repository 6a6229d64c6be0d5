//! The input gradient of a convolution at stride 2.
//!
//! Along one direction, ∂x at y is met by the taps k for which y + padding − k is even: x falls
//! into two phases, each of which is a correlation of ∂y with every other tap,
//!
//! ```text
//! ∂x[y₀ + 2t] = Σ_m w[r + 2m] · ∂y[t + c − m],   r = (y₀ + padding) mod 2, c = (y₀ + padding − r) / 2
//! ```
//!
//! and so four phases in two directions. Nothing is multiplied with zeros between the pixels of
//! ∂y, which would be three of four products.

use super::Finish;
use super::incoming::Incoming;
use super::pack::{Padded, TILE};
use super::product::{Tile, halves};
use super::region::{Region, TaskImages, Work};
use super::shape::Convolution;
use crate::arch::{LANES, Lanes, Vector};
use crate::blocks::{self, Sums};
use crate::images::ImagesMut;
use crate::parallel::{self, Pieces};
use crate::scratch::{Scratch, Use};

/// The zeros above and to the left of ∂y: t + c − m is −1 at least.
const MARGIN: usize = 1;

/// The input gradient at stride 2; see [`super::input_gradient`].
pub(super) fn input_gradient(
    shape: &Convolution,
    weight: &[f32],
    gradient: Incoming<'_>,
    finish: Finish<'_>,
    to: ImagesMut<'_>,
) -> Vec<Sums> {
    let (source, target) = (shape.target(), shape.source());
    let rows = [0, 1].map(|first| Phase::new(shape, shape.height, first));
    let columns = [0, 1].map(|first| Phase::new(shape, shape.width, first));
    let size = target.blocks() * shape.outputs * shape.kernel * shape.kernel;
    let mut lanes = Scratch::take(Use::Weights, size);
    let mut parts = Vec::with_capacity(4);
    let mut rest = &mut lanes[..];
    for y in &rows {
        for x in &columns {
            let taps = y.taps * x.taps;
            let (part, after) = rest.split_at_mut(target.blocks() * shape.outputs * taps);
            pack(shape, weight, (y, x), part);
            parts.push((*y, *x, &*part));
            rest = after;
        }
    }
    let reach = |held: usize, steps: usize, tile: usize| {
        (MARGIN + held).max(MARGIN + 2 + steps.next_multiple_of(tile))
    };
    let call = Call {
        shape,
        input: Padded {
            channels: shape.outputs,
            height: shape.out_height,
            width: shape.out_width,
            margin: MARGIN,
            rows: reach(shape.out_height, rows[0].steps, 2),
            row: reach(shape.out_width, columns[0].steps, TILE),
        },
        phases: &parts,
        finish,
    };
    let region = Region {
        batch: shape.batch,
        images: 1,
        source,
        target,
        finish,
    };
    region.run(&call, gradient, to)
}

/// Every other row or column of ∂x.
#[derive(Debug, Clone, Copy)]
struct Phase {
    /// y₀.
    first: usize,
    /// How many there are.
    steps: usize,
    /// The smallest tap that meets them, and the number of those.
    tap: usize,
    taps: usize,
    /// The padded row or column of ∂y that meets the last tap at t = 0.
    corner: usize,
}

impl Phase {
    fn new(shape: &Convolution, size: usize, first: usize) -> Self {
        let tap = (first + shape.padding) % 2;
        let taps = shape.kernel.saturating_sub(tap).div_ceil(2);
        let ahead = (first + shape.padding - tap) / 2;
        Self {
            first,
            steps: size.saturating_sub(first).div_ceil(2),
            tap,
            taps,
            corner: MARGIN + ahead + 1 - taps.max(1),
        }
    }

    /// The tap that meets ∂y `index` steps after the corner.
    fn tap_at(&self, index: usize) -> usize {
        self.tap + 2 * (self.taps - 1 - index)
    }
}

/// Packs the taps of one phase as [block of 16 inputs][output][tap].
fn pack(shape: &Convolution, weight: &[f32], (y, x): (&Phase, &Phase), to: &mut [Lanes]) {
    let (inputs, kernel) = (shape.inputs, shape.kernel);
    let taps = y.taps * x.taps;
    parallel::for_each(Pieces::of(to, shape.outputs * taps), |block, to| {
        to.fill(Lanes::ZERO);
        let channels = block * LANES..inputs.min((block + 1) * LANES);
        for (output, to) in to.chunks_exact_mut(taps).enumerate() {
            for (tap, to) in to.iter_mut().enumerate() {
                let (ky, kx) = (y.tap_at(tap / x.taps), x.tap_at(tap % x.taps));
                for (lane, input) in channels.clone().enumerate() {
                    let pair = output * inputs + input;
                    to.0[lane] = weight[(pair * kernel + ky) * kernel + kx];
                }
            }
        }
    });
}

/// The input gradient of a batch.
struct Call<'a> {
    shape: &'a Convolution,
    /// ∂y.
    input: Padded,
    /// The phases of rows and columns, with their taps.
    phases: &'a [(Phase, Phase, &'a [Lanes])],
    finish: Finish<'a>,
}

impl Work for Call<'_> {
    fn room(&self) -> usize {
        self.input.size()
    }

    #[inline(always)]
    fn run<V: Vector>(&self, vector: V, images: TaskImages<'_>) {
        let (input, plane) = (&self.input, self.shape.source().plane);
        let (padded, to) = (images.scratch, images.output);
        input.pack(vector, images.input, None, padded);
        for &(rows, columns, weights) in self.phases {
            let mut phase = PhaseGradient {
                input,
                padded,
                phases: (rows, columns),
                weights,
                width: self.shape.width,
                plane,
                to: &mut *to,
            };
            match (rows.taps, columns.taps) {
                (0, _) | (_, 0) => phase.clear(),
                (1, 1) => phase.all::<V, 1, 1>(vector),
                (1, _) => phase.all::<V, 1, 2>(vector),
                (_, 1) => phase.all::<V, 2, 1>(vector),
                (_, _) => phase.all::<V, 2, 2>(vector),
            }
        }
        let blocks = to.chunks_exact_mut(plane).zip(images.sums);
        for (block, (pixels, sums)) in blocks.enumerate() {
            let operand = images.operand.get(block * plane..(block + 1) * plane);
            self.finish
                .rows(vector, block, operand, pixels, 0..plane, sums);
        }
    }
}

/// One phase of one image.
struct PhaseGradient<'a> {
    input: &'a Padded,
    padded: &'a [Lanes],
    phases: (Phase, Phase),
    weights: &'a [Lanes],
    width: usize,
    plane: usize,
    to: &'a mut [Lanes],
}

impl PhaseGradient<'_> {
    /// The phase that no tap meets.
    fn clear(&mut self) {
        let (rows, columns) = self.phases;
        for pixels in self.to.chunks_exact_mut(self.plane) {
            for y in (0..rows.steps).map(|t| rows.first + 2 * t) {
                for x in (0..columns.steps).map(|t| columns.first + 2 * t) {
                    pixels[y * self.width + x] = Lanes::ZERO;
                }
            }
        }
    }

    #[inline(always)]
    fn all<V: Vector, const KY: usize, const KX: usize>(&mut self, vector: V) {
        let blocks = self.to.len() / self.plane;
        for block in (0..blocks).step_by(2) {
            if block + 1 < blocks {
                self.tiles::<V, KY, KX, 2, 1>(vector, block);
            } else {
                self.tiles::<V, KY, KX, 1, 2>(vector, block);
            }
        }
    }

    #[inline(always)]
    fn tiles<
        V: Vector,
        const KY: usize,
        const KX: usize,
        const BLOCKS: usize,
        const ROWS: usize,
    >(
        &mut self,
        vector: V,
        block: usize,
    ) {
        let (rows, columns) = self.phases;
        let size = self.input.channels * KY * KX;
        let tile: Tile<'_, BLOCKS> = Tile {
            padded: self.padded,
            input: self.input,
            corner: (rows.corner, columns.corner),
            weights: std::array::from_fn(|b| &self.weights[(block + b) * size..][..size]),
            bias: [Lanes::ZERO; BLOCKS],
        };
        for y in (0..rows.steps).step_by(ROWS) {
            for x in (0..columns.steps).step_by(TILE) {
                let mut sums = [Lanes::ZERO; LANES];
                if V::WIDE {
                    tile.sum::<V, KY, KX, 1, ROWS, TILE>(vector, y, x, &mut sums);
                } else {
                    tile.sum_in_parts::<V, KY, KX, 1, ROWS>(vector, y, x, &mut sums);
                }
                for (half, (b, row)) in halves(BLOCKS, ROWS) {
                    if y + row >= rows.steps {
                        continue;
                    }
                    let line = (block + b) * self.plane
                        + (rows.first + 2 * (y + row)) * self.width
                        + columns.first;
                    let pixels = TILE.min(columns.steps - x);
                    for (step, sum) in sums[half * TILE..][..pixels].iter().enumerate() {
                        let to = &mut self.to[line + 2 * (x + step)..][..1];
                        blocks::copy(vector, std::slice::from_ref(sum), to);
                    }
                }
            }
        }
    }
}
