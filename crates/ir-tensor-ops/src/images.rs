//! The two layouts of a batch of images, and the way from one to the other.
//!
//! Candle's tensors are planar: `[N, C, H, W]`. The kernels work on blocked images: 16
//! channels at a time, [block of 16 channels][pixel][16 channels], so that a vector holds the
//! channels of a pixel and sums per channel need no shuffling. The lanes of channels that do
//! not exist, in the last block, hold zeros.
//!
//! Either can be an operand of every kernel. Planar images are turned around one at a time, by
//! the thread that works on them, while they are in its cache; tensors pay for that, the
//! activations of a training pass are blocked from the start.

use crate::arch::{LANES, Lanes, Vector};
use crate::blocks;
use crate::parallel::{Pieces, Split};

/// The sizes of one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) channels: usize,
    /// H·W.
    pub(crate) plane: usize,
}

impl Extent {
    /// The blocks of 16 channels.
    pub(crate) fn blocks(self) -> usize {
        self.channels.div_ceil(LANES)
    }

    /// The vectors of a blocked image.
    pub(crate) fn vectors(self) -> usize {
        self.blocks() * self.plane
    }

    /// The numbers of a planar image.
    pub(crate) fn numbers(self) -> usize {
        self.channels * self.plane
    }
}

/// A batch of images to read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Images<'a> {
    Planar(&'a [f32]),
    Blocked(&'a [Lanes]),
}

impl<'a> Images<'a> {
    /// The vectors of scratch memory that [`Images::blocked`] needs for `images` images.
    pub(crate) fn room(self, extent: Extent, images: usize) -> usize {
        match self {
            Self::Planar(_) => images * extent.vectors(),
            Self::Blocked(_) => 0,
        }
    }

    /// Some images of the batch, blocked: as they are, or turned around into `scratch`.
    #[inline(always)]
    pub(crate) fn blocked<'s, V: Vector>(
        self,
        vector: V,
        extent: Extent,
        range: std::ops::Range<usize>,
        scratch: &'s mut [Lanes],
    ) -> &'s [Lanes]
    where
        'a: 's,
    {
        match self {
            Self::Blocked(images) => {
                &images[range.start * extent.vectors()..range.end * extent.vectors()]
            }
            Self::Planar(images) => {
                let images = &images[range.start * extent.numbers()..range.end * extent.numbers()];
                let targets = scratch.chunks_exact_mut(extent.vectors());
                for (image, to) in images.chunks_exact(extent.numbers()).zip(targets) {
                    to_blocks(vector, extent, image, to);
                }
                &scratch[..range.len() * extent.vectors()]
            }
        }
    }
}

/// A batch of images to write.
#[derive(Debug)]
pub(crate) enum ImagesMut<'a> {
    Planar(&'a mut [f32]),
    Blocked(&'a mut [Lanes]),
}

impl<'a> ImagesMut<'a> {
    /// The images in groups of `images`, one for each task.
    pub(crate) fn groups(self, extent: Extent, images: usize) -> Groups<'a> {
        match self {
            Self::Planar(values) => Groups::Planar(Pieces::of(values, images * extent.numbers())),
            Self::Blocked(values) => Groups::Blocked(Pieces::of(values, images * extent.vectors())),
        }
    }

    /// The number of images.
    pub(crate) fn count(&self, extent: Extent) -> usize {
        match self {
            Self::Planar(values) => values.len() / extent.numbers(),
            Self::Blocked(values) => values.len() / extent.vectors(),
        }
    }

    /// The vectors of scratch memory that [`ImagesMut::blocked`] needs.
    pub(crate) fn room(&self, extent: Extent) -> usize {
        match self {
            Self::Planar(_) => self.count(extent) * extent.vectors(),
            Self::Blocked(_) => 0,
        }
    }

    /// Where the kernel writes blocked images: the images themselves, or scratch memory that
    /// [`ImagesMut::finish`] turns around.
    #[inline(always)]
    pub(crate) fn blocked<'s>(&'s mut self, scratch: &'s mut [Lanes]) -> &'s mut [Lanes] {
        match self {
            Self::Planar(_) => scratch,
            Self::Blocked(images) => images,
        }
    }

    /// As [`ImagesMut::blocked`], with what the images hold already.
    #[inline(always)]
    pub(crate) fn loaded<'s, V: Vector>(
        &'s mut self,
        vector: V,
        extent: Extent,
        scratch: &'s mut [Lanes],
    ) -> &'s mut [Lanes] {
        match self {
            Self::Planar(images) => {
                let targets = scratch.chunks_exact_mut(extent.vectors());
                for (image, to) in images.chunks_exact(extent.numbers()).zip(targets) {
                    to_blocks(vector, extent, image, to);
                }
                scratch
            }
            Self::Blocked(images) => images,
        }
    }

    /// Puts what the kernel wrote into scratch memory where it belongs.
    #[inline(always)]
    pub(crate) fn finish<V: Vector>(self, vector: V, extent: Extent, scratch: &[Lanes]) {
        if let Self::Planar(images) = self {
            let sources = scratch.chunks_exact(extent.vectors());
            for (image, from) in images.chunks_exact_mut(extent.numbers()).zip(sources) {
                to_planes(vector, extent, from, image);
            }
        }
    }
}

/// Images to write, cut into groups.
pub(crate) enum Groups<'a> {
    Planar(Pieces<'a, f32>),
    Blocked(Pieces<'a, Lanes>),
}

// SAFETY: the parts are those of one set of pieces.
unsafe impl<'a> Split for Groups<'a> {
    type Part = ImagesMut<'a>;

    fn parts(&self) -> usize {
        match self {
            Self::Planar(pieces) => pieces.parts(),
            Self::Blocked(pieces) => pieces.parts(),
        }
    }

    unsafe fn part(&self, index: usize) -> ImagesMut<'a> {
        // SAFETY: as the caller promises.
        unsafe {
            match self {
                Self::Planar(pieces) => ImagesMut::Planar(pieces.part(index)),
                Self::Blocked(pieces) => ImagesMut::Blocked(pieces.part(index)),
            }
        }
    }
}

/// Turns a planar image into a blocked one, 16 channels × 16 pixels at a time.
#[inline(always)]
pub(crate) fn to_blocks<V: Vector>(vector: V, extent: Extent, from: &[f32], to: &mut [Lanes]) {
    let plane = extent.plane;
    let blocks = to.chunks_exact_mut(plane);
    for (planes, to) in from.chunks(LANES * plane).zip(blocks) {
        for (step, to) in to.chunks_mut(LANES).enumerate() {
            let start = step * LANES;
            let mut matrix = [Lanes::ZERO; LANES];
            for (lanes, plane) in matrix.iter_mut().zip(planes.chunks_exact(plane)) {
                match plane[start..].first_chunk() {
                    Some(&all) => lanes.0 = all,
                    None => lanes.0[..to.len()].copy_from_slice(&plane[start..]),
                }
            }
            vector.transpose(&mut matrix);
            blocks::copy(vector, &matrix, to);
        }
    }
}

/// Turns a blocked image into a planar one.
#[inline(always)]
fn to_planes<V: Vector>(vector: V, extent: Extent, from: &[Lanes], to: &mut [f32]) {
    let plane = extent.plane;
    let blocks = from.chunks_exact(plane);
    for (planes, from) in to.chunks_mut(LANES * plane).zip(blocks) {
        for (step, from) in from.chunks(LANES).enumerate() {
            let start = step * LANES;
            let mut matrix = [Lanes::ZERO; LANES];
            blocks::copy(vector, from, &mut matrix);
            vector.transpose(&mut matrix);
            for (lanes, plane) in matrix.iter().zip(planes.chunks_exact_mut(plane)) {
                match plane[start..].first_chunk_mut() {
                    Some(to) => *to = lanes.0,
                    None => plane[start..].copy_from_slice(&lanes.0[..from.len()]),
                }
            }
        }
    }
}
