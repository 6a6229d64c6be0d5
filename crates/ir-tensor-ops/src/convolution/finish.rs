//! What is done with the result of a convolution while it is in the cache.

use std::ops::Range;

use crate::arch::{Lanes, Vector};
use crate::blocks::{self, Sums};
use crate::images::Images;
use crate::norm::Norm;

/// What is done with every result, an image of the target side of the convolution.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Finish<'a> {
    /// Nothing more.
    Plain,
    /// A residual is added; then each image's moments are taken, if they are wanted.
    Forward {
        residual: Option<Images<'a>>,
        moments: bool,
    },
    /// The result is a gradient of relu(norm(x)): it is set to 0 where that is 0, and summed.
    Backward { x: Images<'a>, norm: &'a Norm },
}

impl<'a> Finish<'a> {
    /// The images that are read beside the results.
    pub(crate) fn operand(&self) -> Option<Images<'a>> {
        match *self {
            Self::Plain => None,
            Self::Forward { residual, .. } => residual,
            Self::Backward { x, .. } => Some(x),
        }
    }

    /// Whether the operand is to be added before the result is written.
    #[inline(always)]
    pub(crate) fn adds(&self) -> bool {
        matches!(self, Self::Forward { .. })
    }

    /// Finishes the rows of one block of an image that were just written (`written`, a range of
    /// its pixels). The rows of an image come in order, and the last ones complete its sums.
    #[inline(always)]
    pub(crate) fn rows<V: Vector>(
        &self,
        vector: V,
        block: usize,
        operand: Option<&[Lanes]>,
        pixels: &mut [Lanes],
        written: Range<usize>,
        sums: &mut Sums,
    ) {
        match *self {
            Self::Plain | Self::Forward { moments: false, .. } => {}
            Self::Forward { .. } => {
                let shift = pixels[0];
                let end = written.end;
                blocks::add_powers(vector, &shift, &pixels[written], sums);
                if end == pixels.len() {
                    *sums = blocks::moments(sums, &shift, end);
                }
            }
            Self::Backward { norm, .. } => {
                let x = &operand.unwrap_or_default()[written.clone()];
                let affine = &norm.affine()[block];
                blocks::mask_and_sum(vector, affine, true, x, &mut pixels[written], sums);
            }
        }
    }
}
