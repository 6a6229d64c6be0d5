//! One compressed image, PNG or WebP, to channel planes.

use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageReader, ImageResult, Limits};

use super::malformed;
use crate::dataset::{IMAGE, PLANE, SIDE};
use crate::error::{Error, Result};

/// What a decoder may allocate for one image. A 32×32 image needs a few kilobytes.
const MAX_ALLOCATION: u64 = 1 << 20;

/// Width and height of an image, if its header can be read.
pub(crate) fn size(bytes: &[u8]) -> Option<(u32, u32)> {
    Some(decoder(bytes).ok()?.dimensions())
}

/// A decoder that has read the header and is held to [`MAX_ALLOCATION`].
fn decoder(bytes: &[u8]) -> ImageResult<impl ImageDecoder + '_> {
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_ALLOCATION);
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    reader.limits(limits);
    reader.into_decoder()
}

/// Decodes the image of `sample` in `file` into `planes`, `[3, 32, 32]`.
///
/// The format is found from the first bytes. Greyscale, palette and opaque RGBA images are
/// taken too: optimisers turn RGB into them without loss.
pub(crate) fn decode(file: &Path, sample: usize, bytes: &[u8], planes: &mut [u8]) -> Result<()> {
    debug_assert_eq!(planes.len(), IMAGE);
    let failed = |problem: &dyn std::fmt::Display| {
        malformed(
            file,
            format!("image of sample {sample}"),
            "an opaque PNG or WebP image of 8 bits a channel",
            problem.to_string(),
        )
    };
    let decoder = decoder(bytes).map_err(|error| failed(&error))?;
    let (width, height) = decoder.dimensions();
    if (width, height) != (SIDE as u32, SIDE as u32) {
        return Err(Error::ImageSize {
            file: file.into(),
            sample,
            width,
            height,
        });
    }
    let image = DynamicImage::from_decoder(decoder).map_err(|error| failed(&error))?;
    let rgb = rgb_bytes(image).map_err(|found| failed(&found))?;
    for (pixel, values) in rgb.chunks_exact(3).enumerate() {
        for (channel, &value) in values.iter().enumerate() {
            planes[channel * PLANE + pixel] = value;
        }
    }
    Ok(())
}

/// The pixels as RGB, 8 bits a channel, if that loses nothing.
fn rgb_bytes(image: DynamicImage) -> std::result::Result<Vec<u8>, &'static str> {
    match image {
        DynamicImage::ImageRgb8(rgb) => Ok(rgb.into_raw()),
        DynamicImage::ImageLuma8(_) => Ok(image.into_rgb8().into_raw()),
        DynamicImage::ImageRgba8(ref rgba) if rgba.pixels().all(|pixel| pixel[3] == 255) => {
            Ok(image.into_rgb8().into_raw())
        }
        _ => Err("one with transparency or more bits"),
    }
}
