//! The layouts that the kernels read.

use super::shape::Convolution;
use crate::arch::{LANES, Lanes, Vector};
use crate::blocks;
use crate::images::Extent;
use crate::norm::Norm;
use crate::parallel::{self, Pieces};
use crate::scratch::{Scratch, Use};

/// The pixels that a tile has in a row.
pub(super) const TILE: usize = 8;

/// How a blocked image lies with its zero padding written out, [block][rows][row], a vector per
/// pixel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Padded {
    pub(super) channels: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    /// The zeros above and to the left.
    pub(super) margin: usize,
    pub(super) rows: usize,
    pub(super) row: usize,
}

impl Padded {
    /// The sizes before padding.
    pub(super) fn extent(&self) -> Extent {
        Extent {
            channels: self.channels,
            plane: self.height * self.width,
        }
    }

    /// The vectors of one padded block.
    pub(super) fn block(&self) -> usize {
        self.rows * self.row
    }

    /// The vectors of a padded image.
    pub(super) fn size(&self) -> usize {
        self.extent().blocks() * self.block()
    }

    /// Pads one blocked image, or relu(norm(image)).
    #[inline(always)]
    pub(super) fn pack<V: Vector>(
        &self,
        vector: V,
        image: &[Lanes],
        norm: Option<&Norm>,
        to: &mut [Lanes],
    ) {
        let blocks = image.chunks_exact(self.height * self.width);
        let padded = to.chunks_exact_mut(self.block());
        for (block, (pixels, to)) in blocks.zip(padded).enumerate() {
            to.fill(Lanes::ZERO);
            let rows = to[self.margin * self.row..].chunks_mut(self.row);
            for (to, from) in rows.zip(pixels.chunks_exact(self.width)) {
                let to = &mut to[self.margin..];
                match norm {
                    None => blocks::copy(vector, from, to),
                    Some(norm) => {
                        blocks::normalize(vector, &norm.affine()[block], true, from, to);
                    }
                }
            }
        }
    }
}

/// Which way a weight is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// From inputs to outputs.
    Forward,
    /// From outputs to inputs: channels exchanged, taps turned by half a turn.
    Backward,
}

/// A weight as [block of 16 target channels][source channel][tap], a vector each.
pub(super) struct Weights {
    pub(super) lanes: Scratch,
    /// The vectors of one block.
    pub(super) block: usize,
}

/// Packs a weight `[O, I, K, K]`.
pub(super) fn weights(shape: &Convolution, weight: &[f32], direction: Direction) -> Weights {
    let (to, from) = match direction {
        Direction::Forward => (shape.outputs, shape.inputs),
        Direction::Backward => (shape.inputs, shape.outputs),
    };
    let taps = shape.kernel * shape.kernel;
    let block = from * taps;
    let mut lanes = Scratch::take(Use::Weights, to.div_ceil(LANES) * block);
    parallel::for_each(Pieces::of(&mut lanes, block), |index, lanes| {
        lanes.fill(Lanes::ZERO);
        let channels = index * LANES..to.min((index + 1) * LANES);
        for (lane, target) in channels.enumerate() {
            for (source, lanes) in lanes.chunks_exact_mut(taps).enumerate() {
                for (tap, lanes) in lanes.iter_mut().enumerate() {
                    lanes.0[lane] = match direction {
                        Direction::Forward => weight[(target * from + source) * taps + tap],
                        Direction::Backward => {
                            weight[(source * to + target) * taps + taps - 1 - tap]
                        }
                    };
                }
            }
        }
    });
    Weights { lanes, block }
}

/// A vector of one number per channel, as blocks; zeros without one.
pub(super) fn vector(values: Option<&[f32]>, channels: usize) -> Vec<Lanes> {
    let mut lanes = vec![Lanes::ZERO; channels.div_ceil(LANES)];
    for (channel, &value) in values.unwrap_or_default().iter().enumerate() {
        lanes[channel / LANES].0[channel % LANES] = value;
    }
    lanes
}
