//! How an image is cut into tiles, and how they lie in memory.
//!
//! A chunk is what is transformed and multiplied at a time: some rows of tiles of one image, or
//! all rows of a few images. It is sized so that its transformed tiles stay in the level 2
//! cache beside the weights that stream past. Transformed tiles lie as
//! [position][group of 16 tiles][block of 16 channels][tile], a vector of 16 channels each, so
//! that the kernels reach a group's tiles at fixed distances from one address. Positions are
//! a cache line further apart than they need: at a power of two they would all compete for
//! the same lines of the cache.

use super::transform::{self, OUTPUTS, POINTS, POSITIONS};
use crate::arch::{LANES, Lanes, Vector};
use crate::blocks::{self, Affine};
use crate::norm::Norm;

/// The tiles of a group.
pub(super) const GROUP: usize = 16;

/// One side of a convolution: images [channels][height][width], and the chunks they come in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tiling {
    pub(super) height: usize,
    pub(super) width: usize,
    /// The tiles of a row.
    pub(super) columns: usize,
    /// The rows of tiles of an image.
    pub(super) rows: usize,
    /// The rows of tiles of an image that a chunk has at most.
    pub(super) strip: usize,
    /// The images of a chunk; 1 if a chunk has not all rows.
    pub(super) images: usize,
}

impl Tiling {
    /// Cuts images that have `channels` channels on both sides together.
    pub(super) fn new(height: usize, width: usize, channels: usize) -> Self {
        const BUDGET: usize = 512 << 10;
        let (rows, columns) = (height.div_ceil(OUTPUTS), width.div_ceil(OUTPUTS));
        let tile = POSITIONS * channels.next_multiple_of(LANES) * size_of::<f32>();
        let tiles = (BUDGET / tile).clamp(GROUP, 4 * GROUP);
        let strip = (tiles / columns).clamp(1, rows);
        let images = (tiles / (rows * columns)).max(1);
        Self {
            height,
            width,
            columns,
            rows,
            strip,
            // A power of two divides the usual batches.
            images: 1 << images.ilog2(),
        }
    }

    /// Cuts a batch into chunks of whole images, of about a group of tiles.
    pub(super) fn whole(height: usize, width: usize) -> Self {
        let (rows, columns) = (height.div_ceil(OUTPUTS), width.div_ceil(OUTPUTS));
        Self {
            height,
            width,
            columns,
            rows,
            strip: rows,
            images: (GROUP / (rows * columns)).max(1),
        }
    }

    /// The numbers of one channel of an image.
    pub(super) fn plane(&self) -> usize {
        self.height * self.width
    }

    /// The tiles of the largest chunk.
    pub(super) fn tiles(&self) -> usize {
        self.images * self.strip * self.columns
    }

    /// The vectors of a strip of one block, with its margins.
    pub(super) fn strip_size(&self) -> usize {
        (OUTPUTS * self.strip + 2) * self.row()
    }

    /// The vectors of a row with its margins.
    fn row(&self) -> usize {
        OUTPUTS * self.columns + 2
    }

    /// The transformed tiles of images with `channels` channels.
    pub(super) fn tiles_of(&self, channels: usize) -> Tiles {
        let blocks = channels.div_ceil(LANES);
        Tiles {
            blocks,
            position: self.tiles().div_ceil(GROUP) * blocks * GROUP + 1,
        }
    }

    /// The rows of tiles of every chunk of an image: its first, and their number.
    pub(super) fn strips(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (rows, strip) = (self.rows, self.strip);
        (0..rows)
            .step_by(strip)
            .map(move |first| (first, strip.min(rows - first)))
    }

    /// Copies rows of tiles of one block of an image, or relu(norm(image)), into `to`, with a
    /// margin of one pixel and what the last tiles stick out written as zeros.
    #[inline(always)]
    fn pack<V: Vector>(
        &self,
        vector: V,
        pixels: &[Lanes],
        norm: Option<&Affine>,
        (first, rows): (usize, usize),
        to: &mut [Lanes],
    ) {
        let (top, width) = (OUTPUTS * first, self.width);
        let lines = to.chunks_exact_mut(self.row()).take(OUTPUTS * rows + 2);
        for (y, line) in lines.enumerate() {
            let y = top + y;
            if !(1..=self.height).contains(&y) {
                line.fill(Lanes::ZERO);
                continue;
            }
            line[0] = Lanes::ZERO;
            line[1 + width..].fill(Lanes::ZERO);
            let from = &pixels[(y - 1) * width..][..width];
            let to = &mut line[1..1 + width];
            match norm {
                Some(norm) => blocks::normalize(vector, norm, true, from, to),
                None => blocks::copy(vector, from, to),
            }
        }
    }

    /// Bᵀ x B of the tiles of a chunk of blocked images, of x or relu(norm(x)).
    #[inline(always)]
    pub(super) fn transform_inputs<V: Vector>(
        &self,
        vector: V,
        images: &[Lanes],
        channels: usize,
        norm: Option<&Norm>,
        strips: (usize, usize),
        strip: &mut [Lanes],
        to: &mut [Lanes],
    ) {
        self.transform::<V, true>(vector, images, channels, norm, strips, strip, to);
    }

    /// A ∂y Aᵀ of the tiles of a chunk of blocked images.
    #[inline(always)]
    pub(super) fn transform_gradients<V: Vector>(
        &self,
        vector: V,
        images: &[Lanes],
        channels: usize,
        strips: (usize, usize),
        strip: &mut [Lanes],
        to: &mut [Lanes],
    ) {
        self.transform::<V, false>(vector, images, channels, None, strips, strip, to);
    }

    /// Either of them.
    #[inline(always)]
    fn transform<V: Vector, const INPUTS: bool>(
        &self,
        vector: V,
        images: &[Lanes],
        channels: usize,
        norm: Option<&Norm>,
        (first, rows): (usize, usize),
        strip: &mut [Lanes],
        to: &mut [Lanes],
    ) {
        let tiles = self.tiles_of(channels);
        let images = images.chunks_exact(tiles.blocks * self.plane());
        for (image, pixels) in images.enumerate() {
            for (block, pixels) in pixels.chunks_exact(self.plane()).enumerate() {
                let norm = norm.map(|norm| &norm.affine()[block]);
                self.pack(vector, pixels, norm, (first, rows), strip);
                for row in 0..rows {
                    for column in 0..self.columns {
                        let tile = (image * rows + row) * self.columns + column;
                        let corner = OUTPUTS * (row * self.row() + column);
                        let to = &mut to[tiles.at(tile, block)..];
                        if INPUTS {
                            let pixels = &strip[corner..];
                            transform_input(vector, pixels, self.row(), to, tiles.position);
                        } else {
                            let pixels = &strip[corner + self.row() + 1..];
                            transform_gradient(vector, pixels, self.row(), to, tiles.position);
                        }
                    }
                }
            }
        }
    }
}

/// A y Aᵀ of one tile.
#[inline(always)]
fn transform_gradient<V: Vector>(
    vector: V,
    pixels: &[Lanes],
    row: usize,
    to: &mut [Lanes],
    position: usize,
) {
    let mut columns = [[vector.splat(0.); POINTS]; OUTPUTS];
    for (x, to) in columns.iter_mut().enumerate() {
        let mut column = [vector.splat(0.); OUTPUTS];
        for (y, register) in column.iter_mut().enumerate() {
            *register = vector.load(&pixels[y * row + x]);
        }
        *to = transform::output_adjoint(vector, column);
    }
    for y in 0..POINTS {
        let mut line = [vector.splat(0.); OUTPUTS];
        for (register, column) in line.iter_mut().zip(&columns) {
            *register = column[y];
        }
        for (x, &value) in transform::output_adjoint(vector, line).iter().enumerate() {
            vector.store(value, &mut to[(y * POINTS + x) * position]);
        }
    }
}

/// Bᵀ x B of one tile.
#[inline(always)]
fn transform_input<V: Vector>(
    vector: V,
    pixels: &[Lanes],
    row: usize,
    to: &mut [Lanes],
    position: usize,
) {
    let mut columns = [[vector.splat(0.); POINTS]; POINTS];
    for x in 0..POINTS {
        let mut column = [vector.splat(0.); POINTS];
        for (y, register) in column.iter_mut().enumerate() {
            *register = vector.load(&pixels[y * row + x]);
        }
        columns[x] = transform::input(vector, column);
    }
    for y in 0..POINTS {
        let mut line = [vector.splat(0.); POINTS];
        for (register, column) in line.iter_mut().zip(&columns) {
            *register = column[y];
        }
        for (x, &value) in transform::input(vector, line).iter().enumerate() {
            vector.store(value, &mut to[(y * POINTS + x) * position]);
        }
    }
}

/// Where transformed tiles lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tiles {
    /// The blocks of 16 channels.
    pub(super) blocks: usize,
    /// The vectors from one position to the next.
    pub(super) position: usize,
}

impl Tiles {
    /// The vectors of all tiles.
    pub(super) fn size(&self) -> usize {
        POSITIONS * self.position
    }

    /// The place of a block of a tile within a position.
    #[inline(always)]
    pub(super) fn at(&self, tile: usize, block: usize) -> usize {
        (tile / GROUP * self.blocks + block) * GROUP + tile % GROUP
    }
}
