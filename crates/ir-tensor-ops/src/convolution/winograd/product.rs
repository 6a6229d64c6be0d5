//! The products: at every position, tiles [tile][source] × weights [source][target].
//!
//! A step is 16 to 24 vectors of sums: 2 or 3 blocks of 16 target channels × 8 tiles, or one
//! block × 16 tiles. Each transformed input is broadcast once and meets the weights of the
//! blocks, which stay in registers. Narrow instruction sets take one block × 4 tiles.

use super::tiling::{GROUP, Tiles};
use super::transform::POSITIONS;
use crate::arch::{Lanes, Vector, unrolled};
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
                block,
            };
            block += match targets.blocks - block {
                _ if !V::WIDE => product.run::<V, 1, 4>(vector, weights, position, to),
                1 => product.run::<V, 1, 16>(vector, weights, position, to),
                3 => product.run::<V, 3, 8>(vector, weights, position, to),
                _ => product.run::<V, 2, 8>(vector, weights, position, to),
            };
        }
    }
}

/// The product at one position, from one block of targets on.
struct Product<'a> {
    tiles: usize,
    from: &'a [Lanes],
    sources: Tiles,
    targets: Tiles,
    block: usize,
}

impl Product<'_> {
    /// `BLOCKS` blocks of all tiles, `TILES` at a time; gives `BLOCKS`.
    #[inline(always)]
    fn run<V: Vector, const BLOCKS: usize, const TILES: usize>(
        &self,
        vector: V,
        weights: &Weights,
        position: usize,
        to: &mut [Lanes],
    ) -> usize {
        for tile in (0..self.tiles).step_by(TILES) {
            let from = &self.from[tile / GROUP * self.sources.blocks * GROUP..];
            let from = &from[..self.sources.blocks * GROUP];
            let sums = self.sum::<V, BLOCKS, TILES>(vector, weights, position, from, tile % GROUP);
            for (b, sums) in sums.iter().enumerate() {
                let to = &mut to[self.targets.at(tile, self.block + b)..][..TILES];
                for (to, &sum) in to.iter_mut().zip(sums) {
                    vector.store(sum, to);
                }
            }
        }
        BLOCKS
    }

    /// Σ over the source channels, for `TILES` tiles of a group.
    #[inline(always)]
    fn sum<V: Vector, const BLOCKS: usize, const TILES: usize>(
        &self,
        vector: V,
        weights: &Weights,
        position: usize,
        group: &[Lanes],
        first: usize,
    ) -> [[V::Register; TILES]; BLOCKS] {
        let mut sums = [[vector.splat(0.); TILES]; BLOCKS];
        for (block, tiles) in group.as_chunks::<GROUP>().0.iter().enumerate() {
            let Some(tiles) = tiles[first..].first_chunk::<TILES>() else {
                break;
            };
            let mut lines: [&[Lanes]; BLOCKS] = [&[]; BLOCKS];
            for (b, line) in lines.iter_mut().enumerate() {
                *line = weights.line(self.block + b, block, position);
            }
            for channel in 0..lines[0].len() {
                let mut taps = [vector.splat(0.); BLOCKS];
                for (register, line) in taps.iter_mut().zip(&lines) {
                    *register = vector.load(&line[channel]);
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
}
