//! The weight as the products read it: G w Gᵀ of every pair of channels.

use super::transform::{self, POSITIONS};
use crate::arch::{self, Kernel, LANES, Lanes, Vector};
use crate::convolution::pack::Direction;
use crate::convolution::shape::Convolution;
use crate::parallel::{self, Pieces};
use crate::scratch::{Scratch, Use};

/// The taps of a 3 × 3 kernel.
pub(super) const TAPS: usize = 9;

/// A transformed weight as [block of 16 target channels][block of 16 source channels][position]
/// [source channel], a vector each; the vectors of sources that do not exist are not written.
pub(super) struct Weights {
    lanes: Scratch,
    sources: usize,
}

impl Weights {
    /// Transforms a weight `[O, I, 3, 3]`.
    pub(super) fn new(shape: &Convolution, weight: &[f32], direction: Direction) -> Self {
        let (targets, sources) = match direction {
            Direction::Forward => (shape.outputs, shape.inputs),
            Direction::Backward => (shape.inputs, shape.outputs),
        };
        let groups = sources.div_ceil(LANES);
        let tasks = targets.div_ceil(LANES) * groups;
        let mut lanes = Scratch::take(Use::Weights, tasks * POSITIONS * LANES);
        parallel::for_each(Pieces::of(&mut lanes, POSITIONS * LANES), |task, to| {
            arch::run(Transform {
                weight,
                direction,
                sizes: (targets, sources),
                first: (task / groups * LANES, task % groups * LANES),
                to,
            });
        });
        Self { lanes, sources }
    }

    /// The source channels of one block at one position.
    #[inline(always)]
    pub(super) fn line(&self, target: usize, source: usize, position: usize) -> &[Lanes] {
        let block = target * self.sources.div_ceil(LANES) + source;
        let channels = LANES.min(self.sources - source * LANES);
        &self.lanes[(block * POSITIONS + position) * LANES..][..channels]
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
    to: &'a mut [Lanes],
}

impl Kernel for Transform<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, vector: V) {
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
            let to = self.to[source - first..].iter_mut().step_by(LANES);
            for (to, transformed) in to.zip(&transform::weight(&taps)) {
                for (to, &value) in to.0.iter_mut().zip(transformed) {
                    *to = value as f32;
                }
            }
        }
    }
}
