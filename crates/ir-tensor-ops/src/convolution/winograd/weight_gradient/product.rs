//! The products of the weight gradient.
//!
//! At every position, 8 or 16 input channels × 16 to 48 output channels of sums stay in
//! registers while the kernel runs over tiles. Narrow instruction sets take 4 × 16.

use crate::arch::{LANES, Lanes, Vector, unrolled};
use crate::convolution::winograd::tiling::{GROUP, Tiles};

/// Some transformed tiles, in units that follow one another.
pub(super) struct Chunk<'a> {
    /// All tiles, and those of a unit; the last unit may have fewer.
    pub(super) tiles: usize,
    pub(super) unit_tiles: usize,
    pub(super) inputs: Tiles,
    pub(super) v: &'a [Lanes],
    pub(super) outputs: Tiles,
    pub(super) d: &'a [Lanes],
}

impl Chunk<'_> {
    /// Adds v ⊗ d of all tiles to the sums of one position, or puts it there if they are fresh.
    #[inline(always)]
    pub(super) fn add<V: Vector>(
        &self,
        vector: V,
        position: usize,
        fresh: bool,
        sums: &mut [Lanes],
    ) {
        let mut product = Product {
            chunk: self,
            v: &self.v[position * self.inputs.position..],
            d: &self.d[position * self.outputs.position..],
            fresh,
            sums,
        };
        let mut block = 0;
        while block < self.outputs.blocks {
            block += match self.outputs.blocks - block {
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
    chunk: &'a Chunk<'a>,
    /// From this position of the first unit on.
    v: &'a [Lanes],
    d: &'a [Lanes],
    fresh: bool,
    sums: &'a mut [Lanes],
}

impl Product<'_> {
    /// `BLOCKS` blocks of outputs with all inputs, `CHANNELS` at a time; gives `BLOCKS`.
    #[inline(always)]
    fn run<V: Vector, const BLOCKS: usize, const CHANNELS: usize>(
        &mut self,
        vector: V,
        first: usize,
    ) -> usize {
        let line = self.chunk.inputs.blocks * LANES;
        for input in (0..line).step_by(CHANNELS) {
            let sums = self.sum::<V, BLOCKS, CHANNELS>(vector, input, first);
            for (b, sums) in sums.iter().enumerate() {
                let to = &mut self.sums[(first + b) * line + input..][..CHANNELS];
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
        let Chunk {
            tiles,
            unit_tiles,
            inputs,
            outputs,
            ..
        } = *self.chunk;
        let mut sums = [[vector.splat(0.); CHANNELS]; BLOCKS];
        for unit in 0..tiles.div_ceil(unit_tiles) {
            let in_unit = unit_tiles.min(tiles - unit * unit_tiles);
            let v = &self.v[unit * inputs.size()..];
            let d = &self.d[unit * outputs.size()..];
            for start in (0..in_unit).step_by(GROUP) {
                let tiles = GROUP.min(in_unit - start);
                let v = &v[inputs.at(start, input / LANES)..][..tiles];
                let mut lines: [&[Lanes]; BLOCKS] = [&[]; BLOCKS];
                for (b, line) in lines.iter_mut().enumerate() {
                    *line = &d[outputs.at(start, first + b)..][..tiles];
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
        }
        sums
    }
}
