//! From an image file to what a network reads: decoded, scaled, cut, normalised.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use image::imageops::{self, FilterType};
use image::{DynamicImage, ImageReader, Limits, RgbImage};

use crate::augment::Lookup;
use crate::dataset::{CHANNELS, Normalization};
use crate::error::{Error, Result};
use crate::formats::malformed;

/// The largest height or width of an image that is read, in pixels.
const MAX_SIDE: u32 = 1 << 15;

/// What a decoder may allocate for one image: some 170 million pixels.
const MAX_ALLOCATION: u64 = 512 << 20;

/// The largest height or width of a network's input.
const MAX_INPUT: usize = 4096;

/// How an image of any size becomes one of the input's size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fit {
    /// The shorter edge is scaled to the input's size divided by this fraction (rounded down), and
    /// the centre is cut out.
    Crop(f64),
    /// Both edges are scaled to the input's size.
    Exact,
}

/// By which weights an image is scaled. All but `Nearest` average over the pixels that fall
/// together, as PIL does and torchvision with antialiasing. The result is within two levels of 255
/// of PIL's, which rounds between its two passes; where a kernel overshoots black or white, which PIL
/// cuts off between them too, it may be a few more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interpolation {
    /// The nearest pixel.
    Nearest,
    /// A triangle.
    Bilinear,
    /// Cubic with a = −1/2 (Catmull and Rom).
    Bicubic,
    /// Lanczos with three lobes.
    Lanczos,
}

impl Interpolation {
    fn resize(self, image: &RgbImage, width: u32, height: u32) -> RgbImage {
        let filter = match self {
            Self::Nearest => FilterType::Nearest,
            Self::Bilinear => FilterType::Triangle,
            Self::Bicubic => FilterType::CatmullRom,
            Self::Lanczos => FilterType::Lanczos3,
        };
        imageops::resize(image, width, height, filter)
    }
}

/// What is done to every image.
///
/// ```
/// use ir_data::{Fit, Interpolation, Normalization, Preparation};
///
/// // As torchvision evaluates on ImageNet: Resize(256), CenterCrop(224).
/// let preparation = Preparation {
///     size: [224, 224],
///     fit: Fit::Crop(0.875),
///     interpolation: Interpolation::Bilinear,
///     normalization: Normalization { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] },
/// };
/// preparation.validate()?;
/// # Ok::<(), ir_data::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Preparation {
    /// Height and width of the input in pixels.
    pub size: [usize; 2],
    /// How an image is brought to that size.
    pub fit: Fit,
    /// By what weights it is scaled.
    pub interpolation: Interpolation,
    /// Mean and standard deviation per channel.
    pub normalization: Normalization,
}

impl Preparation {
    /// Checks that it can be done.
    ///
    /// # Errors
    /// [`Error::Preparation`] for a size or a fraction out of range, [`Error::Normalization`].
    pub fn validate(&self) -> Result<()> {
        let refuse = |what, expected, found: String| {
            Err(Error::Preparation {
                what,
                expected,
                found,
            })
        };
        if !self.size.iter().all(|size| (1..=MAX_INPUT).contains(size)) {
            let found = format!("{}×{}", self.size[0], self.size[1]);
            return refuse("input size", "1 to 4096 pixels", found);
        }
        if let Fit::Crop(fraction) = self.fit {
            if !(0.1..=1.0).contains(&fraction) {
                return refuse("crop fraction", "0.1 to 1", fraction.to_string());
            }
            if self.size[0] != self.size[1] {
                let found = format!("{}×{}", self.size[0], self.size[1]);
                return refuse("input size", "a square, as the image is cropped", found);
            }
        }
        self.normalization.validate()
    }

    /// Decodes a file and appends the input `[3, H, W]` to `output`.
    pub(super) fn append(&self, file: &Path, lookup: &Lookup, output: &mut Vec<f32>) -> Result<()> {
        let image = self.narrowed(decode(file)?);
        let image = self.scale(image);
        let [height, width] = self.size;
        let pixels = image.as_raw();
        for channel in 0..CHANNELS {
            let values = pixels.iter().skip(channel).step_by(CHANNELS);
            output.extend(values.map(|&value| lookup.value(channel, value)));
        }
        debug_assert_eq!(pixels.len(), CHANNELS * height * width);
        Ok(())
    }

    /// Without the ends of an image that is much longer than wide, which are far outside of what is cut out: scaled as a
    /// whole it would take any amount of memory.
    fn narrowed(&self, image: RgbImage) -> RgbImage {
        // Of 8 lengths of the shorter edge at most one is cut out, and what a kernel reaches over beside it is less than three.
        const MOST: u32 = 8;
        let (width, height) = image.dimensions();
        let short = width.min(height);
        if self.fit == Fit::Exact || width.max(height) / short <= MOST {
            return image;
        }
        // Whole lengths of the shorter edge from both ends, so that the scaled pixels stay where they are.
        let from_an_end = |outer: u32| (outer / short).saturating_sub(MOST) / 2 * short;
        let (x, y) = (from_an_end(width), from_an_end(height));
        imageops::crop_imm(&image, x, y, width - 2 * x, height - 2 * y).to_image()
    }

    /// The image in the input's size.
    fn scale(&self, image: RgbImage) -> RgbImage {
        let [height, width] = self.size.map(|size| size as u32);
        let resize = |image: RgbImage, width, height| match image.dimensions() {
            size if size == (width, height) => image,
            _ => self.interpolation.resize(&image, width, height),
        };
        match self.fit {
            Fit::Exact => resize(image, width, height),
            Fit::Crop(fraction) => {
                let shorter = (f64::from(height) / fraction).floor() as u32;
                let (w, h) = image.dimensions();
                let longer = |long: u32, short: u32| {
                    (u64::from(shorter) * u64::from(long) / u64::from(short)) as u32
                };
                let (w, h) = match w <= h {
                    true => (shorter, longer(h, w)),
                    false => (longer(w, h), shorter),
                };
                let image = resize(image, w, h);
                let offset = |inner: u32, outer: u32| {
                    (f64::from(outer - inner) / 2.0).round_ties_even() as u32
                };
                imageops::crop_imm(&image, offset(width, w), offset(height, h), width, height)
                    .to_image()
            }
        }
    }
}

/// The pixels of a file as RGB, 8 bits a channel. Transparency is left out, as PIL does.
fn decode(file: &Path) -> Result<RgbImage> {
    let failed = |problem: &dyn std::fmt::Display| {
        let expected = "a JPEG, PNG or WebP image of at most 32,768 pixels a side";
        malformed(file, "image", expected, problem.to_string())
    };
    let opened = File::open(file).map_err(|source| Error::Read {
        path: file.into(),
        source,
    })?;
    let reader = ImageReader::new(BufReader::new(opened)).with_guessed_format();
    let mut reader = reader.map_err(|source| Error::Read {
        path: file.into(),
        source,
    })?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_ALLOCATION);
    reader.limits(limits);
    let image: DynamicImage = reader.decode().map_err(|error| failed(&error))?;
    match image.width().min(image.height()) {
        0 => Err(failed(&"one without pixels")),
        _ => Ok(image.into_rgb8()),
    }
}
