//! Broken images, each in a sound parquet file.

use std::path::Path;

use image::{DynamicImage, GrayImage, ImageFormat};
use ir_hostile::seeds::{self, Pages};

use super::{case, put};
use crate::Case;

/// Height and width of the images that decompress to much: 9 MB.
const LARGE: u32 = 3000;

pub(crate) const CASES: &[Case] = &[
    case(
        "image, not one",
        |to| image(to, b"GIF89a, but not really"),
        &[
            "train.parquet: image of sample 0: expected an opaque PNG or WebP image of 8 bits a channel",
        ],
    ),
    case(
        "PNG, cut in the middle",
        |to| image(to, &seeds::images()[0][..200]),
        &["train.parquet: image of sample 0: expected an opaque PNG or WebP image"],
    ),
    case(
        "PNG, 3,000 pixels high and wide",
        |to| image(to, &large()),
        &["train.parquet (images of 3000×3000 pixels, not 32×32)"],
    ),
    case(
        "PNG, 2 thousand million pixels high and wide",
        |to| image(to, &with_size(&seeds::images()[0], 0x7fff_ffff)),
        &["train.parquet: "],
    ),
    case(
        "PNG, a profile that decompresses to 9 MB",
        |to| image(to, &with_profile(&seeds::images()[0], &large())),
        &["nothing: it was taken"],
    ),
    case(
        "PNG, a chunk of 4 GiB",
        |to| {
            let mut file = seeds::images()[0].clone();
            file[33..37].fill(0xff);
            image(to, &file);
        },
        &["train.parquet: image of sample 0: expected an opaque PNG"],
    ),
    case(
        "PNG, 16 bits a channel",
        |to| {
            let deep = DynamicImage::new_rgb16(32, 32);
            image(to, &seeds::encode(&deep, ImageFormat::Png));
        },
        &[
            "image of sample 0: expected an opaque PNG or WebP image of 8 bits a channel, found one with transparency or more bits",
        ],
    ),
    case(
        "WebP, 16,383 pixels high and wide",
        |to| image(to, &webp(b"VP8L", 9, b"\x2f\xfe\xbf\xff\x0f\0\0\0\0")),
        &["train.parquet (images of 16383×16383 pixels, not 32×32)"],
    ),
    case(
        "WebP, a chunk of 4 GiB",
        |to| image(to, &webp(b"VP8L", u32::MAX, b"\x2f\x1f\xc0\x07\0\0\0\0\0")),
        &["train.parquet: image of sample 0: expected an opaque PNG or WebP image"],
    ),
    case(
        "WebP, a profile of 4 GiB",
        |to| {
            let mut body = b"\x20\0\0\0\x1f\0\0\x1f\0\0ICCP".to_vec();
            body.extend([0xff; 4]);
            image(to, &webp(b"VP8X", 10, &body));
        },
        &["train.parquet: image of sample 0: expected an opaque PNG or WebP image"],
    ),
];

fn image(folder: &Path, content: &[u8]) {
    let file = seeds::parquet_of(&[content], &[3], Pages::default());
    put(folder, "train.parquet", file);
    put(folder, "test.parquet", seeds::sound_parquet());
}

fn large() -> Vec<u8> {
    let black = DynamicImage::ImageLuma8(GrayImage::new(LARGE, LARGE));
    seeds::encode(&black, ImageFormat::Png)
}

/// The image with another height and width in its header.
fn with_size(png: &[u8], side: u32) -> Vec<u8> {
    let mut header = png[16..29].to_vec();
    header[..4].copy_from_slice(&side.to_be_bytes());
    header[4..8].copy_from_slice(&side.to_be_bytes());
    [&png[..8], &chunk(b"IHDR", &header), &png[33..]].concat()
}

/// The image with a colour profile that is the compressed pixels of another.
fn with_profile(png: &[u8], other: &[u8]) -> Vec<u8> {
    let mut profile = b"profile\0\0".to_vec();
    let mut rest = &other[33..];
    while let [a, b, c, d, name @ ..] = rest {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        if name.starts_with(b"IDAT") {
            profile.extend(&name[4..4 + length]);
        }
        rest = &name[4 + length + 4..];
    }
    [&png[..33], &chunk(b"iCCP", &profile), &png[33..]].concat()
}

fn chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let named = [name.as_slice(), content].concat();
    let mut sum = u32::MAX;
    for &byte in &named {
        sum ^= u32::from(byte);
        for _ in 0..8 {
            sum = (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg());
        }
    }
    let length = (content.len() as u32).to_be_bytes();
    [length.as_slice(), &named, &(!sum).to_be_bytes()].concat()
}

fn webp(name: &[u8; 4], size: u32, content: &[u8]) -> Vec<u8> {
    let length = (12 + content.len() as u32).to_le_bytes();
    [
        b"RIFF",
        length.as_slice(),
        b"WEBP",
        name,
        &size.to_le_bytes(),
        content,
    ]
    .concat()
}
