//! The products: at every position, tiles [tile][source] × weights [source][target].
//!
//! A step is 16 to 24 vectors of sums: 2 or 3 blocks of 16 target channels × 8 tiles, or one
//! block × 16 tiles. Each transformed input is broadcast once and meets the weights of the
//! blocks, which stay in registers. Narrow instruction sets take one block × 4 tiles.

use super::tiling::{GROUP, Tiles};
use super::transform::POSITIONS;
use crate::arch::{LANES, Lanes, Vector, unrolled};
use crate::convolution::winograd::weights::Weights;

/// Multiplies `tiles` tiles at every position.
#[inline(always)]
pub(super) fn multiply<V: Vector>(
    vector: V,
    tiles: usize,
    (sources, from): (Tiles, &[Lanes]),
    weights: &Weights,
    (targets, to): (Tiles, &mut [Lanes]),
) {
    for position in 0..POSITIONS {
        let from = &from[position * sources.position..][..sources.position];
        let to = &mut to[position * targets.position..][..targets.position];
        let mut block = 0;
        while block < targets.blocks {
            let product = Product {
                tiles,
                from,
                sources,
                targets,
                weights,
                position,
                block,
            };
            block += product.step(vector, to);
        }
    }
}

/// The product at one position, from one block of targets on.
pub(super) struct Product<'a> {
    pub(super) tiles: usize,
    /// The tiles at this position.
    pub(super) from: &'a [Lanes],
    pub(super) sources: Tiles,
    pub(super) targets: Tiles,
    pub(super) weights: &'a Weights,
    pub(super) position: usize,
    pub(super) block: usize,
}

impl Product<'_> {
    /// As many blocks of targets as fill the registers; gives their number.
    #[inline(always)]
    pub(super) fn step<V: Vector>(&self, vector: V, to: &mut [Lanes]) -> usize {
        match self.targets.blocks - self.block {
            _ if !V::WIDE => self.run::<V, 1, 4>(vector, to),
            1 => self.run::<V, 1, 16>(vector, to),
            3 => self.run::<V, 3, 8>(vector, to),
            _ => self.run::<V, 2, 8>(vector, to),
        }
    }

    /// `BLOCKS` blocks of all tiles, `TILES` at a time; gives `BLOCKS`.
    #[inline(always)]
    fn run<V: Vector, const BLOCKS: usize, const TILES: usize>(
        &self,
        vector: V,
        to: &mut [Lanes],
    ) -> usize {
        let mut lines: [&[Lanes]; BLOCKS] = [&[]; BLOCKS];
        for (b, line) in lines.iter_mut().enumerate() {
            *line = self.weights.line(self.block + b, self.position);
        }
        for tile in (0..self.tiles).step_by(TILES) {
            let from = &self.from[tile / GROUP * self.sources.blocks * GROUP..];
            let from = &from[..self.sources.blocks * GROUP];
            let sums = sum::<V, BLOCKS, TILES>(vector, from, tile % GROUP, &lines);
            for (b, sums) in sums.iter().enumerate() {
                let to = &mut to[self.targets.at(tile, self.block + b)..][..TILES];
                for (to, &sum) in to.iter_mut().zip(sums) {
                    vector.store(sum, to);
                }
            }
        }
        BLOCKS
    }
}

/// Σ over the source channels, for `TILES` tiles of a group.
#[inline(always)]
fn sum<V: Vector, const BLOCKS: usize, const TILES: usize>(
    vector: V,
    group: &[Lanes],
    first: usize,
    lines: &[&[Lanes]; BLOCKS],
) -> [[V::Register; TILES]; BLOCKS] {
    let mut sums = [[vector.splat(0.); TILES]; BLOCKS];
    for (block, tiles) in group.as_chunks::<GROUP>().0.iter().enumerate() {
        let Some(tiles) = tiles[first..].first_chunk::<TILES>() else {
            break;
        };
        let channels = (lines[0].len() - block * LANES).min(LANES);
        let mut weights: [&[Lanes]; BLOCKS] = [&[]; BLOCKS];
        for (weights, line) in weights.iter_mut().zip(lines) {
            *weights = &line[block * LANES..][..channels];
        }
        for channel in 0..channels {
            let mut taps = [vector.splat(0.); BLOCKS];
            for (register, weights) in taps.iter_mut().zip(&weights) {
                *register = vector.load(&weights[channel]);
            }
            unrolled!(tile in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15] below TILES, {
                let value = vector.splat(tiles[tile].0[channel]);
                for (sums, &tap) in sums.iter_mut().zip(&taps) {
                    sums[tile] = vector.multiply_add(value, tap, sums[tile]);
                }
            });
        }
    }
    sums
}
