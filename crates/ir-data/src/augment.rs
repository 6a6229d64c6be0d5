//! From bytes to the numbers a network reads: shift, flip, normalise.
//!
//! The order is the usual one (torchvision's `RandomCrop(32, padding=4)`,
//! `RandomHorizontalFlip`, `ToTensor`, `Normalize`): the raw image is padded with zeros,
//! that is with black, and normalised after, so that a padded pixel has the value
//! `(0 − mean) / std` and not 0.

use ir_tensor_ops::random;
use rand::Rng;

use crate::dataset::{CHANNELS, IMAGE, Normalization, PLANE, SIDE};

/// How far an image can be shifted in each direction, in pixels.
pub const PADDING: usize = 4;

/// Names the random numbers of augmentation among all others of a run.
const AUGMENT: u64 = u64::from_le_bytes(*b"augment\0");

/// What is done to one image.
///
/// ```
/// use ir_data::Augmentation;
///
/// let first = Augmentation::random(42, 0, 7);
/// assert_eq!(first, Augmentation::random(42, 0, 7));
/// assert!(first.top <= 8 && first.left <= 8);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Augmentation {
    /// First row of the 32×32 crop within the image padded to 40×40, 0 … 8.
    pub top: usize,
    /// First column of the crop, 0 … 8.
    pub left: usize,
    /// Whether the crop is mirrored, left to right.
    pub flip: bool,
}

impl Augmentation {
    /// Leaves the image as it is.
    pub const NONE: Self = Self {
        top: PADDING,
        left: PADDING,
        flip: false,
    };

    /// The augmentation of a sample in an epoch: every shift equally likely, mirrored with
    /// probability one half; a function of `(seed, epoch, sample)` and of nothing else.
    pub fn random(seed: u64, epoch: u64, sample: u64) -> Self {
        let mut random = random::stream(seed, epoch, sample, AUGMENT);
        Self {
            top: random.random_range(0..=2 * PADDING),
            left: random.random_range(0..=2 * PADDING),
            flip: random.random(),
        }
    }
}

/// Normalised values of all 256 bytes, per channel.
#[derive(Debug, Clone)]
pub(crate) struct Lookup([[f32; 256]; CHANNELS]);

impl Lookup {
    /// `(value / 255 − mean) / std`, computed in f64 and rounded once.
    pub(crate) fn new(normalization: &Normalization) -> Self {
        let mut values = [[0.0; 256]; CHANNELS];
        for (channel, values) in values.iter_mut().enumerate() {
            let (mean, std) = (normalization.mean[channel], normalization.std[channel]);
            for (value, normalized) in values.iter_mut().enumerate() {
                *normalized = ((value as f64 / 255.0 - mean) / std) as f32;
            }
        }
        Self(values)
    }

    /// All of them, channel by channel.
    #[cfg(any(feature = "cuda", feature = "emulation"))]
    pub(crate) fn values(&self) -> Vec<f32> {
        self.0.concat()
    }

    /// A byte of a channel, normalised.
    pub(crate) fn value(&self, channel: usize, value: u8) -> f32 {
        self.0[channel][usize::from(value)]
    }

    /// Appends one image, `[3, 32, 32]`, shifted, flipped and normalised.
    pub(crate) fn append(&self, image: &[u8], augmentation: Augmentation, output: &mut Vec<f32>) {
        debug_assert_eq!(image.len(), IMAGE);
        for (values, plane) in self.0.iter().zip(image.chunks_exact(PLANE)) {
            for row in 0..SIDE {
                let start = output.len();
                let source = (row + augmentation.top)
                    .checked_sub(PADDING)
                    .and_then(|source| plane.get(source * SIDE..(source + 1) * SIDE));
                match source {
                    Some(source) => append_row(values, source, augmentation.left, output),
                    None => output.resize(start + SIDE, values[0]),
                }
                if augmentation.flip {
                    output[start..].reverse();
                }
            }
        }
    }
}

/// Appends one row of pixels, the crop beginning at column `left` of the padded row.
fn append_row(values: &[f32; 256], source: &[u8], left: usize, output: &mut Vec<f32>) {
    let padding_before = PADDING.saturating_sub(left);
    let padding_after = left.saturating_sub(PADDING);
    let end = output.len() + SIDE;
    output.resize(output.len() + padding_before, values[0]);
    let inside = &source[padding_after..SIDE - padding_before];
    output.extend(inside.iter().map(|&value| values[usize::from(value)]));
    output.resize(end, values[0]);
}
