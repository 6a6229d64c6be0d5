//! The weight as the products read it: G w Gᵀ of every pair of channels.

use super::transform::{self, POSITIONS};
use crate::arch::{self, Kernel, LANES, Lanes, Vector};
use crate::convolution::pack::Direction;
use crate::convolution::shape::Convolution;
use crate::parallel::{self, Panels};
use crate::scratch::{Scratch, Use};

/// The taps of a 3 × 3 kernel.
pub(super) const TAPS: usize = 9;

/// A transformed weight as [position][block of 16 target channels][source channel], a vector
/// each; the sources are filled up to a multiple of 16 by vectors that are not written.
pub(super) struct Weights {
    lanes: Scratch,
    targets: usize,
    sources: usize,
}

impl Weights {
    /// Transforms a weight `[O, I, 3, 3]`.
    pub(super) fn new(shape: &Convolution, weight: &[f32], direction: Direction) -> Self {
        let (targets, sources) = match direction {
            Direction::Forward => (shape.outputs, shape.inputs),
            Direction::Backward => (shape.inputs, shape.outputs),
        };
        let across = sources.div_ceil(LANES);
        let position = targets.div_ceil(LANES) * across * LANES;
        let mut lanes = Scratch::take(Use::Weights, POSITIONS * position);
        let blocks = Panels::of(&mut lanes, position, (POSITIONS, LANES));
        parallel::for_each(blocks, |task, to| {
            arch::run(Transform {
                weight,
                direction,
                sizes: (targets, sources),
                first: (task / across * LANES, task % across * LANES),
                to,
            });
        });
        Self {
            lanes,
            targets,
            sources,
        }
    }

    /// The source channels of one block of targets at one position.
    #[inline(always)]
    pub(super) fn line(&self, block: usize, position: usize) -> &[Lanes] {
        let line = self.sources.next_multiple_of(LANES);
        let index = position * self.targets.div_ceil(LANES) + block;
        &self.lanes[index * line..][..self.sources]
    }
}

/// Transforms the weights between one block of target channels and one of source channels.
struct Transform<'a> {
    weight: &'a [f32],
    direction: Direction,
    /// The numbers of target and source channels.
    sizes: (usize, usize),
    /// The first channels of the blocks.
    first: (usize, usize),
    /// At every position, the sources of the target block.
    to: Vec<&'a mut [Lanes]>,
}

impl Kernel for Transform<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(mut self, vector: V) {
        let ((targets, sources), (target, first)) = (self.sizes, self.first);
        for source in first..sources.min(first + LANES) {
            // The taps of each target, then each tap of all targets.
            let mut matrix = [Lanes::ZERO; LANES];
            for (lanes, target) in matrix.iter_mut().zip(target..targets) {
                let pair = match self.direction {
                    Direction::Forward => target * sources + source,
                    Direction::Backward => source * targets + target,
                };
                lanes.0[..TAPS].copy_from_slice(&self.weight[pair * TAPS..][..TAPS]);
            }
            vector.transpose(&mut matrix);
            let mut taps = [[0.; LANES]; TAPS];
            for (tap, to) in taps.iter_mut().enumerate() {
                let from = match self.direction {
                    Direction::Forward => &matrix[tap],
                    Direction::Backward => &matrix[TAPS - 1 - tap],
                };
                for (to, &value) in to.iter_mut().zip(&from.0) {
                    *to = f64::from(value);
                }
            }
            let transformed = transform::weight(&taps);
            for (to, transformed) in self.to.iter_mut().zip(&transformed) {
                for (to, &value) in to[source - first].0.iter_mut().zip(transformed) {
                    *to = value as f32;
                }
            }
        }
    }
}
