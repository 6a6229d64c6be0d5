//! The weight as the products read it: G w Gᵀ of every pair of channels.

use super::transform::{self, POSITIONS};
use crate::arch::{self, Kernel, LANES, Lanes, Vector};
use crate::convolution::pack::Direction;
use crate::convolution::shape::Convolution;
use crate::parallel::{self, Pieces};
use crate::scratch::{Scratch, Use};

/// The taps of a 3 × 3 kernel.
pub(super) const TAPS: usize = 9;

/// A transformed weight as [block of 16 target channels][position][source channel], a vector
/// each.
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
        let block = POSITIONS * sources;
        let mut lanes = Scratch::take(Use::Weights, targets.div_ceil(LANES) * block);
        parallel::for_each(Pieces::of(&mut lanes, block), |index, to| {
            let first = index * LANES;
            arch::run(Transform {
                weight,
                direction,
                targets,
                channels: first..targets.min(first + LANES),
                sources,
                to,
            });
        });
        Self { lanes, sources }
    }

    /// The source channels of one block of targets at one position.
    #[inline(always)]
    pub(super) fn line(&self, block: usize, position: usize) -> &[Lanes] {
        &self.lanes[(block * POSITIONS + position) * self.sources..][..self.sources]
    }
}

/// Transforms the weights of one block of target channels.
struct Transform<'a> {
    weight: &'a [f32],
    direction: Direction,
    targets: usize,
    channels: std::ops::Range<usize>,
    sources: usize,
    to: &'a mut [Lanes],
}

impl Kernel for Transform<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _vector: V) {
        for source in 0..self.sources {
            let mut taps = [[0.; LANES]; TAPS];
            for (lane, target) in self.channels.clone().enumerate() {
                for (tap, lanes) in taps.iter_mut().enumerate() {
                    let at = match self.direction {
                        Direction::Forward => (target * self.sources + source) * TAPS + tap,
                        Direction::Backward => {
                            (source * self.targets + target) * TAPS + TAPS - 1 - tap
                        }
                    };
                    lanes[lane] = f64::from(self.weight[at]);
                }
            }
            let transformed = transform::weight(&taps);
            let to = self.to[source..].iter_mut().step_by(self.sources);
            for (to, transformed) in to.zip(&transformed) {
                for (to, &value) in to.0.iter_mut().zip(transformed) {
                    *to = value as f32;
                }
            }
        }
    }
}
