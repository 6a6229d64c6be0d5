//! The hub's parquet files: one row a sample, the image compressed in a struct column.
//!
//! ```text
//! img | image        struct { bytes: BYTE_ARRAY (PNG or WebP), path: ignored }, or BYTE_ARRAY
//! label              INT32 or INT64; 0 … 9
//! fine_label         INT32 or INT64; 0 … 99   (then the file is CIFAR-100's)
//! ```
//!
//! Columns are found by name and type, others are ignored. Rows are read a few thousand at
//! a time and their images decoded on all cores, so memory is that of the result and of
//! the pages at hand, whatever the size of a row group.
//!
//! The parquet crate reads the footer. Pages are read here: that crate allocates what a page
//! claims to be, and panics on pages that contradict themselves.

mod columns;
mod header;
mod pages;

use std::fs::File;
use std::path::Path;

use parquet::basic::Compression;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use rayon::prelude::*;

use self::columns::Columns;
use self::pages::{Bytes, Column};
use super::{MAX_SAMPLES, Probe, Samples, checked_label, image, malformed};
use crate::classes::LabelSet;
use crate::dataset::{IMAGE, SIDE};
use crate::error::{Error, Result};

/// Rows that are read, then decoded together.
const CHUNK: usize = 2048;

/// No row takes fewer bytes of a file: an image of one colour has about 40 in WebP. Memory is
/// therefore never more than about a hundred times the file's length.
const SMALLEST_ROW: u64 = 32;

/// The first four bytes of every parquet file.
pub(crate) const MAGIC: &[u8; 4] = b"PAR1";

/// Says whether the file holds CIFAR's kind of images: by its columns, by the class names
/// that the hub writes into the footer, and by the size of the first image.
pub(crate) fn probe(path: &Path) -> Result<Probe> {
    let metadata = open(path)?;
    let columns = match Columns::find(metadata.file_metadata()) {
        Ok(columns) => columns,
        Err(reason) => return Ok(Probe::Foreign(reason)),
    };
    check_chunks(path, &metadata, columns)?;
    if let Some((width, height)) = first_size(path, &metadata, columns)?
        && (width, height) != (SIDE as u32, SIDE as u32)
    {
        return Ok(Probe::Foreign(format!(
            "images of {width}×{height} pixels, not 32×32"
        )));
    }
    Ok(Probe::Ours {
        labels: columns.labels,
        split: None,
        parts: 0,
    })
}

/// Width and height of the first image, if it can be told.
fn first_size(
    path: &Path,
    metadata: &ParquetMetaData,
    columns: Columns,
) -> Result<Option<(u32, u32)>> {
    let Some(group) = metadata.row_groups().first() else {
        return Ok(None);
    };
    let rows = rows_of(path, group)?;
    let unreadable = |found| unreadable(path, 0, found);
    let mut images =
        Column::byte_arrays(path, group.column(columns.image), rows).map_err(unreadable)?;
    let first = images.read(1).map_err(unreadable)?;
    Ok(first
        .first()
        .and_then(|bytes| image::size(bytes.as_slice())))
}

/// Decodes all rows.
pub(crate) fn read(path: &Path) -> Result<Samples> {
    let metadata = open(path)?;
    let columns = Columns::find(metadata.file_metadata())
        .map_err(|found| malformed(path, "columns", "an image and a label", found))?;
    let rows = metadata.file_metadata().num_rows();
    let rows = usize::try_from(rows).unwrap_or(usize::MAX);
    check_rows(path, rows)?;
    check_chunks(path, &metadata, columns)?;
    let mut samples = Samples::default();
    for group in metadata.row_groups() {
        read_group(path, group, columns, &mut samples)?;
    }
    if samples.labels.len() != rows {
        let found = format!("{} rows", samples.labels.len());
        return Err(malformed(path, "row groups", format!("{rows} rows"), found));
    }
    Ok(samples)
}

fn open(path: &Path) -> Result<ParquetMetaData> {
    let file = File::open(path).map_err(|source| Error::Read {
        path: path.into(),
        source,
    })?;
    ParquetMetaDataReader::new()
        .parse_and_finish(&file)
        .map_err(|error| malformed(path, "footer", "a complete parquet file", error.to_string()))
}

/// The error that the pages of some rows cannot be read.
fn unreadable(path: &Path, start: usize, found: String) -> Error {
    malformed(
        path,
        format!("rows from {start}"),
        "whole pages of images and labels",
        found,
    )
}

/// Number of rows of a row group, if the file can have so many.
fn rows_of(path: &Path, group: &RowGroupMetaData) -> Result<usize> {
    let rows = usize::try_from(group.num_rows()).unwrap_or(usize::MAX);
    check_rows(path, rows)?;
    Ok(rows)
}

/// Checks that a number of rows is one that a file of this length can have: what it claims is
/// what memory is asked for.
fn check_rows(path: &Path, rows: usize) -> Result<()> {
    let most = (length(path)? / SMALLEST_ROW).min(MAX_SAMPLES as u64);
    if rows as u64 <= most {
        return Ok(());
    }
    let found = rows.to_string();
    Err(malformed(
        path,
        "number of rows",
        format!("at most {most} in a file of this length"),
        found,
    ))
}

fn length(path: &Path) -> Result<u64> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(source) => Err(Error::Read {
            path: path.into(),
            source,
        }),
    }
}

/// Checks that the needed columns are compressed in a way that can be read and lie within
/// the file, which the parquet crate takes for granted.
fn check_chunks(path: &Path, metadata: &ParquetMetaData, columns: Columns) -> Result<()> {
    let length = length(path)?;
    for (group, row_group) in metadata.row_groups().iter().enumerate() {
        for index in [columns.image, columns.label] {
            let chunk = row_group.column(index);
            let column = chunk.column_path().string();
            let codec = chunk.compression();
            if !matches!(codec, Compression::UNCOMPRESSED | Compression::SNAPPY) {
                return Err(Error::Compression {
                    file: path.into(),
                    column,
                    found: codec.to_string(),
                });
            }
            let (start, size) = pages::place(chunk);
            let is_inside = match (u64::try_from(start), u64::try_from(size)) {
                (Ok(start), Ok(size)) => start.checked_add(size).is_some_and(|end| end <= length),
                _ => false,
            };
            if !is_inside {
                let place = format!("row group {group}, column {column}");
                let found = format!("{size} bytes from byte {start}");
                return Err(malformed(
                    path,
                    place,
                    format!("pages within {length} bytes"),
                    found,
                ));
            }
        }
    }
    Ok(())
}

/// Decodes one row group behind `samples`, chunk by chunk.
fn read_group(
    path: &Path,
    group: &RowGroupMetaData,
    columns: Columns,
    samples: &mut Samples,
) -> Result<()> {
    let rows = rows_of(path, group)?;
    let first = samples.labels.len();
    let failed = |found| unreadable(path, first, found);
    let mut images =
        Column::byte_arrays(path, group.column(columns.image), rows).map_err(failed)?;
    let mut labels = Column::integers(path, group.column(columns.label), rows).map_err(failed)?;
    loop {
        let start = samples.labels.len();
        let failed = |found| unreadable(path, start, found);
        let encoded = images.read(CHUNK).map_err(failed)?;
        let values = labels.read(CHUNK).map_err(failed)?;
        if encoded.is_empty() {
            return Ok(());
        }
        append(path, columns.labels, &encoded, &values, samples)?;
    }
}

/// Decodes a chunk on all cores behind `samples`.
fn append(
    path: &Path,
    labels: LabelSet,
    encoded: &[Bytes],
    values: &[i64],
    samples: &mut Samples,
) -> Result<()> {
    let start = samples.labels.len();
    check_rows(path, start + encoded.len())?;
    for (row, &value) in values.iter().enumerate() {
        samples
            .labels
            .push(checked_label(path, start + row, value, labels)?);
    }
    samples.images.resize((start + encoded.len()) * IMAGE, 0);
    // The first failure in row order, so that the message is always the same one.
    let failure = samples.images[start * IMAGE..]
        .par_chunks_exact_mut(IMAGE)
        .zip(encoded)
        .enumerate()
        .find_map_first(|(row, (planes, bytes))| {
            image::decode(path, start + row, bytes.as_slice(), planes).err()
        });
    failure.map_or(Ok(()), Err)
}
