//! What a product reads: images, or gradients that are made whole as they are read.

use std::ops::Range;

use crate::arch::{Lanes, Vector};
use crate::blocks::{self, InputGradient};
use crate::images::{Extent, Images};
use crate::parallel::{Pieces, Split};

/// How a gradient of a norm's output becomes one of its input x.
///
/// The rules hold sums over the whole batch, so they are known only when the pass that made
/// the gradient is over; to apply them is left to the next pass, which reads it anyway.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Through<'a> {
    pub(crate) rules: &'a [InputGradient],
    pub(crate) x: &'a [Lanes],
    /// What reaches x on another way.
    pub(crate) added: Option<&'a [Lanes]>,
}

/// The images that a product reads.
#[derive(Debug)]
pub(crate) enum Incoming<'a> {
    /// They are there.
    Whole(Images<'a>),
    /// The task that reads a gradient takes it through a norm first, in place.
    Pending(&'a mut [Lanes], Through<'a>),
}

impl<'a> Incoming<'a> {
    /// The images in groups of `images`, one for each task.
    pub(crate) fn groups(self, extent: Extent, batch: usize, images: usize) -> IncomingGroups<'a> {
        let source = match self {
            Self::Whole(all) => Source::Whole(all),
            Self::Pending(gradient, through) => {
                Source::Pending(Pieces::of(gradient, images * extent.vectors()), through)
            }
        };
        IncomingGroups {
            source,
            extent,
            batch,
            images,
        }
    }

    /// The vectors of scratch memory that a task needs to read `images` of them.
    pub(crate) fn room(&self, extent: Extent, images: usize) -> usize {
        match self {
            Self::Whole(all) => all.room(extent, images),
            Self::Pending(..) => 0,
        }
    }
}

/// Images to read, cut into groups.
pub(crate) struct IncomingGroups<'a> {
    source: Source<Pieces<'a, Lanes>, Images<'a>, Through<'a>>,
    extent: Extent,
    batch: usize,
    images: usize,
}

/// The images of one task, or of all.
enum Source<Gradient, All, Rules> {
    Whole(All),
    Pending(Gradient, Rules),
}

// SAFETY: the parts to write are those of one set of pieces.
unsafe impl<'a> Split for IncomingGroups<'a> {
    type Part = IncomingImages<'a>;

    fn parts(&self) -> usize {
        self.batch.div_ceil(self.images)
    }

    unsafe fn part(&self, index: usize) -> IncomingImages<'a> {
        let first = index * self.images;
        let source = match &self.source {
            Source::Whole(all) => Source::Whole(*all),
            Source::Pending(gradient, through) => {
                // SAFETY: as the caller promises.
                Source::Pending(unsafe { gradient.part(index) }, *through)
            }
        };
        IncomingImages {
            source,
            extent: self.extent,
            range: first..self.batch.min(first + self.images),
        }
    }
}

/// The images that one task reads.
pub(crate) struct IncomingImages<'a> {
    source: Source<&'a mut [Lanes], Images<'a>, Through<'a>>,
    extent: Extent,
    /// Which of the batch they are.
    pub(crate) range: Range<usize>,
}

impl<'a> IncomingImages<'a> {
    /// The images, blocked and whole.
    #[inline(always)]
    pub(crate) fn blocked<'s, V: Vector>(self, vector: V, scratch: &'s mut [Lanes]) -> &'s [Lanes]
    where
        'a: 's,
    {
        let Self {
            source,
            extent,
            range,
        } = self;
        match source {
            Source::Whole(all) => all.blocked(vector, extent, range, scratch),
            Source::Pending(gradient, through) => {
                let first = range.start * extent.vectors();
                for (index, pixels) in gradient.chunks_exact_mut(extent.plane).enumerate() {
                    let rule = &through.rules[index % extent.blocks()];
                    let start = first + index * extent.plane;
                    let x = &through.x[start..start + extent.plane];
                    let added = through
                        .added
                        .map(|added| &added[start..start + extent.plane]);
                    blocks::input_gradient(vector, rule, x, added, pixels);
                }
                gradient
            }
        }
    }
}
