//! Broken parquet files.

use std::path::Path;

use ir_hostile::seeds::{self, Pages};
use parquet::file::metadata::ParquetMetaDataReader;

use super::{case, put};
use crate::Case;

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!(
            "../../../crates/ir-data/tests/fixtures/damaged/",
            $name
        ))
        .as_slice()
    };
}

pub(crate) const CASES: &[Case] = &[
    case(
        "parquet, cut in the middle",
        |to| train(to, &seeds::sound_parquet()[..500]),
        &["train.parquet: footer: expected a complete parquet file"],
    ),
    case(
        "parquet, nothing but the magic number",
        |to| train(to, b"PAR1"),
        &["train.parquet: footer: expected a complete parquet file"],
    ),
    case(
        "parquet, a footer of 4 GiB",
        |to| {
            let mut file = seeds::sound_parquet();
            let at = file.len() - 8;
            file[at..at + 4].fill(0xff);
            train(to, &file);
        },
        &["train.parquet: footer: expected a complete parquet file"],
    ),
    case(
        "parquet, other columns",
        |to| train(to, fixture!("columns.parquet")),
        &["train.parquet (the columns text BYTE_ARRAY, label INT64, and not img.bytes BYTE_ARRAY"],
    ),
    case(
        "parquet, labels of another type",
        |to| train(to, fixture!("float_label.parquet")),
        &["train.parquet (the columns", "label DOUBLE, and not"],
    ),
    case(
        "parquet, images of another size",
        |to| train(to, fixture!("all_small.parquet")),
        &["train.parquet (images of 28×28 pixels, not 32×32)"],
    ),
    case(
        "parquet, one image of another size",
        |to| train(to, fixture!("size.parquet")),
        &["train.parquet: sample 1: expected an image of 32×32 pixels, found 28×28"],
    ),
    case(
        "parquet, a label out of range",
        |to| train(to, fixture!("label.parquet")),
        &["train.parquet: sample 1: expected a label from 0 to 9, found 10"],
    ),
    case(
        "parquet, a label that is null",
        |to| train(to, fixture!("null_label.parquet")),
        &["train.parquet: row 1: expected an image and a label, found null"],
    ),
    case(
        "parquet, a compression that is not read",
        |to| train(to, fixture!("zstd.parquet")),
        &["train.parquet: column img.bytes: expected no compression or snappy, found ZSTD"],
    ),
    case(
        "parquet, more rows than its length has room for",
        |to| {
            let (image, dictionary) = (
                &*seeds::images()[0],
                Pages {
                    dictionary: true,
                    ..Pages::default()
                },
            );
            train(to, &seeds::parquet_of(&[image; 500], &[3; 500], dictionary));
        },
        &[
            "train.parquet: number of rows: expected at most",
            "in a file of this length, found 500",
        ],
    ),
    case(
        "parquet, a page that decompresses to 2 GiB",
        |to| page(to, [0, i32::MAX, 100, 1, 0], &[0xff, 0xff, 0xff, 0xff, 7]),
        &["found a page of 100 bytes that claims to be 2147483647 uncompressed"],
    ),
    case(
        "parquet, a page longer than its column",
        |to| page(to, [0, 9, i32::MAX, 1, 0], &[]),
        &[
            "rows from 0: expected whole pages of images and labels, found a page of 2147483647 bytes with",
        ],
    ),
    case(
        "parquet, a page of a negative size",
        |to| page(to, [0, 9, -5, 1, 0], &[]),
        &["found a size of -5"],
    ),
    case(
        "parquet, a page of 2 thousand million values",
        |to| page(to, [0, 0, 0, i32::MAX, 0], &[]),
        &["found a page of 2147483647 values for 1 rows"],
    ),
    case(
        "parquet, an encoding that is not read",
        |to| page(to, [0, 6, 6, 1, 7], &[2, 0, 0, 0, 2, 2]),
        &["found encoding 7 instead of plain or dictionary"],
    ),
    case(
        "parquet, references without a dictionary",
        |to| page(to, [0, 6, 6, 1, 8], &[2, 0, 0, 0, 2, 2]),
        &["found references without a dictionary"],
    ),
    case(
        "parquet, a dictionary of 2 thousand million entries",
        |to| {
            page(to, [2, 0, 0, i32::MAX, 0], &[]);
        },
        &["found a page of 2147483647 values for 1 rows"],
    ),
    case(
        "parquet, levels longer than their page",
        |to| {
            // The page fills its column, so that nothing is wrong but the levels.
            let size = first_column() - HEADER;
            page(to, [0, size, size, 1, 0], &[0xff, 0xff, 0xff, 0xff, 2, 2]);
        },
        &["rows from 0: expected whole pages", "invalid level length"],
    ),
];

fn train(folder: &Path, content: &[u8]) {
    put(folder, "train.parquet", content);
    put(folder, "test.parquet", seeds::sound_parquet());
}

/// Bytes of a header that [`page`] writes for one value, with sizes of two bytes each.
const HEADER: i32 = 19;

/// Bytes of the first column of the sound file.
fn first_column() -> i32 {
    let file = seeds::sound_parquet();
    let (rest, length) = file[..file.len() - 4].split_last_chunk().unwrap();
    let footer = &rest[rest.len() - u32::from_le_bytes(*length) as usize..];
    let metadata = ParquetMetaDataReader::decode_metadata(footer).unwrap();
    metadata.row_group(0).column(0).compressed_size() as i32
}

/// A file whose first page has this header (type, size uncompressed and compressed, number of
/// values, encoding) and begins with `body`; compressed if its two sizes differ.
fn page(folder: &Path, [kind, uncompressed, compressed, values, encoding]: [i32; 5], body: &[u8]) {
    let pages = Pages {
        compressed: uncompressed != compressed,
        ..Pages::default()
    };
    let images = seeds::images();
    let mut file = seeds::parquet_of(&[&images[0]], &[3], pages);
    let mut header = Vec::new();
    for size in [kind, uncompressed, compressed] {
        field(&mut header, size);
    }
    // Field 5 describes a data page, field 7 a dictionary.
    header.push(if kind == 2 { 0x4c } else { 0x2c });
    for number in [values, encoding, 3, 3] {
        field(&mut header, number);
    }
    header.extend([0, 0]);
    header.extend(body);
    file[4..4 + header.len()].copy_from_slice(&header);
    train(folder, &file);
}

/// The next field of a structure, an integer.
fn field(out: &mut Vec<u8>, number: i32) {
    out.push(0x15);
    let mut rest = ((number << 1) ^ (number >> 31)) as u32;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
