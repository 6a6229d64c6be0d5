//! The layouts that the kernels read.

use rayon::prelude::*;

use super::shape::Convolution;
use crate::arch::{LANES, Lanes, Vector};
use crate::norm::Norm;

/// The pixels that a tile has in a row.
pub(super) const TILE: usize = 8;

/// How an image [channels][height][width] lies in planes [channels][rows][row] that have the
/// zero padding written out, and `dilation − 1` zeros between its pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Padded {
    pub(super) channels: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) dilation: usize,
    /// The zeros above and to the left.
    pub(super) margin: usize,
    pub(super) rows: usize,
    pub(super) row: usize,
}

impl Padded {
    /// The numbers of one image before packing.
    pub(super) fn image_size(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// The numbers of one padded plane.
    pub(super) fn plane(&self) -> usize {
        self.rows * self.row
    }

    /// Packs one image, or relu(norm(image)), into `to`; channels beyond the image's become
    /// zeros.
    #[inline(always)]
    pub(super) fn pack(&self, image: &[f32], norm: Option<&Norm>, to: &mut [f32]) {
        let source = self.height * self.width;
        for (channel, plane) in to.chunks_exact_mut(self.plane()).enumerate() {
            if channel >= self.channels {
                plane.fill(0.);
                continue;
            }
            let affine = norm.map(|norm| norm.affine()[channel]);
            let from = &image[channel * source..][..source];
            plane.fill(0.);
            let rows = plane[self.margin * self.row..].chunks_mut(self.dilation * self.row);
            for (to, from) in rows.zip(from.chunks_exact(self.width)) {
                let to = &mut to[self.margin..];
                match affine {
                    _ if self.dilation > 1 => {
                        for (&x, y) in from.iter().zip(to.iter_mut().step_by(self.dilation)) {
                            *y = x;
                        }
                    }
                    None => map_row(from, to, |x| x),
                    Some(affine) => map_row(from, to, |x| affine.relu_at(x)),
                }
            }
        }
    }
}

/// y ← f(x), eight numbers at a time: rows are too short for a general vectorised loop, or a
/// call to `memcpy`, each.
#[inline(always)]
fn map_row(from: &[f32], to: &mut [f32], f: impl Fn(f32) -> f32) {
    let (from, from_rest) = from.as_chunks::<TILE>();
    let (to, to_rest) = to[..from.len() * TILE + from_rest.len()].as_chunks_mut::<TILE>();
    for (to, from) in to.iter_mut().zip(from) {
        for (y, &x) in to.iter_mut().zip(from) {
            *y = f(x);
        }
    }
    for (y, &x) in to_rest.iter_mut().zip(from_rest) {
        *y = f(x);
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
    pub(super) lanes: Vec<Lanes>,
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
    let mut lanes = vec![Lanes::ZERO; to.div_ceil(LANES) * block];
    lanes
        .par_chunks_exact_mut(block)
        .enumerate()
        .for_each(|(index, lanes)| {
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

/// How an image [channels][height][width] lies as [block of 16 channels][height][row], a vector
/// per pixel, the width filled up with zeros to a multiple of [`TILE`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Blocked {
    pub(super) channels: usize,
    pub(super) height: usize,
    pub(super) width: usize,
}

impl Blocked {
    /// The vectors of one row.
    pub(super) fn row(&self) -> usize {
        self.width.next_multiple_of(TILE)
    }

    /// The vectors of one block.
    pub(super) fn block(&self) -> usize {
        self.height * self.row()
    }

    /// The vectors of an image.
    pub(super) fn size(&self) -> usize {
        self.channels.div_ceil(LANES) * self.block()
    }

    /// Packs one image, 16 channels × 16 pixels at a time.
    #[inline(always)]
    pub(super) fn pack<V: Vector>(&self, vector: V, image: &[f32], to: &mut [Lanes]) {
        let plane = self.height * self.width;
        if self.row() != self.width {
            to.fill(Lanes::ZERO);
        }
        let blocks = to.chunks_exact_mut(self.block());
        for (planes, to) in image.chunks(LANES * plane).zip(blocks) {
            for start in (0..plane).step_by(LANES) {
                let pixels = LANES.min(plane - start);
                let mut matrix = [Lanes::ZERO; LANES];
                for (lanes, plane) in matrix.iter_mut().zip(planes.chunks_exact(plane)) {
                    match plane[start..].first_chunk() {
                        Some(&all) => lanes.0 = all,
                        None => lanes.0[..pixels].copy_from_slice(&plane[start..]),
                    }
                }
                vector.transpose(&mut matrix);
                if self.row() == self.width {
                    to[start..start + pixels].copy_from_slice(&matrix[..pixels]);
                } else {
                    for (pixel, lanes) in (start..start + pixels).zip(&matrix) {
                        to[pixel / self.width * self.row() + pixel % self.width] = *lanes;
                    }
                }
            }
        }
    }
}
