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
//! The parquet crate reads them, after what the pages claim was compared with what is there
//! (`claims`). It still panics on some damaged pages, which is caught (`crate::panics`).

mod claims;
mod columns;
mod header;

use std::fs::File;
use std::ops::Range;
use std::path::Path;

use parquet::basic::Compression;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType, DataType};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use rayon::prelude::*;

use self::columns::Columns;
use super::{MAX_SAMPLES, Probe, Samples, checked_label, image, malformed};
use crate::classes::LabelSet;
use crate::dataset::{IMAGE, SIDE};
use crate::error::{Error, Result};
use crate::panics::caught;

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
    let reader = open(path)?;
    let columns = match Columns::find(reader.metadata().file_metadata()) {
        Ok(columns) => columns,
        Err(reason) => return Ok(Probe::Foreign(reason)),
    };
    check_chunks(path, reader.metadata(), columns)?;
    if let Some((width, height)) = first_size(path, &reader, columns)?
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
    reader: &SerializedFileReader<File>,
    columns: Columns,
) -> Result<Option<(u32, u32)>> {
    if reader.num_row_groups() == 0 {
        return Ok(None);
    }
    let failed = |error: parquet::errors::ParquetError| unreadable(path, 0, error.to_string());
    let group = reader.get_row_group(0).map_err(failed)?;
    let column = group.get_column_reader(columns.image).map_err(failed)?;
    let ColumnReader::ByteArrayColumnReader(mut images) = column else {
        return Ok(None);
    };
    let first = read_column::<ByteArrayType>(path, 0, 1, &mut images)?;
    Ok(first.first().and_then(|bytes| image::size(bytes.data())))
}

/// Decodes all rows.
pub(crate) fn read(path: &Path) -> Result<Samples> {
    let reader = open(path)?;
    let metadata = reader.metadata();
    let columns = Columns::find(metadata.file_metadata())
        .map_err(|found| malformed(path, "columns", "an image and a label", found))?;
    let rows = metadata.file_metadata().num_rows();
    let rows = usize::try_from(rows).unwrap_or(usize::MAX);
    check_rows(path, rows)?;
    check_chunks(path, metadata, columns)?;
    let mut samples = Samples::default();
    for group in 0..reader.num_row_groups() {
        let first = samples.labels.len();
        let group = reader
            .get_row_group(group)
            .map_err(|error| unreadable(path, first, error.to_string()))?;
        read_group(path, group.as_ref(), columns, &mut samples)?;
    }
    if samples.labels.len() != rows {
        let found = format!("{} rows", samples.labels.len());
        return Err(malformed(path, "row groups", format!("{rows} rows"), found));
    }
    Ok(samples)
}

fn open(path: &Path) -> Result<SerializedFileReader<File>> {
    let file = File::open(path).map_err(|source| Error::Read {
        path: path.into(),
        source,
    })?;
    SerializedFileReader::new(file)
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

/// Checks that the needed columns are compressed in a way that can be read and lie within the
/// file, and that their pages claim nothing that cannot be: the parquet crate takes all of this
/// for granted.
fn check_chunks(path: &Path, metadata: &ParquetMetaData, columns: Columns) -> Result<()> {
    let length = length(path)?;
    let mut first = 0;
    for (group, row_group) in metadata.row_groups().iter().enumerate() {
        let rows = rows_of(path, row_group)?;
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
            let bytes = place(chunk).filter(|bytes| bytes.end <= length);
            let Some(bytes) = bytes else {
                let place = format!("row group {group}, column {column}");
                let found = format!(
                    "{} bytes from byte {}",
                    chunk.compressed_size(),
                    chunk.data_page_offset()
                );
                let expected = format!("pages within {length} bytes");
                return Err(malformed(path, place, expected, found));
            };
            claims::check(path, bytes, codec != Compression::UNCOMPRESSED, rows)
                .map_err(|found| unreadable(path, first, found))?;
        }
        first += rows;
    }
    Ok(())
}

/// Where a column's pages are, if they can be anywhere.
fn place(chunk: &ColumnChunkMetaData) -> Option<Range<u64>> {
    let start = chunk.dictionary_page_offset();
    let start = u64::try_from(start.unwrap_or_else(|| chunk.data_page_offset())).ok()?;
    let size = u64::try_from(chunk.compressed_size()).ok()?;
    Some(start..start.checked_add(size)?)
}

/// Decodes one row group behind `samples`, chunk by chunk.
fn read_group(
    path: &Path,
    group: &dyn RowGroupReader,
    columns: Columns,
    samples: &mut Samples,
) -> Result<()> {
    let first = samples.labels.len();
    let column = |index| {
        let reader = group.get_column_reader(index);
        reader.map_err(|error| unreadable(path, first, error.to_string()))
    };
    let another_type = || unreadable(path, first, "a column of another type".into());
    let ColumnReader::ByteArrayColumnReader(mut images) = column(columns.image)? else {
        return Err(another_type());
    };
    let mut labels = column(columns.label)?;
    loop {
        let start = samples.labels.len();
        let encoded = read_column::<ByteArrayType>(path, start, CHUNK, &mut images)?;
        let values: Vec<i64> = match &mut labels {
            ColumnReader::Int32ColumnReader(reader) => read_column(path, start, CHUNK, reader)?
                .into_iter()
                .map(i64::from)
                .collect(),
            ColumnReader::Int64ColumnReader(reader) => read_column(path, start, CHUNK, reader)?,
            _ => return Err(another_type()),
        };
        if encoded.len() != values.len() {
            return Err(malformed(
                path,
                format!("rows from {start}"),
                format!("{} labels", encoded.len()),
                values.len().to_string(),
            ));
        }
        if encoded.is_empty() {
            return Ok(());
        }
        append(path, columns.labels, &encoded, &values, samples)?;
    }
}

/// The next rows of a column, at most `count`, none of them null.
fn read_column<T: DataType>(
    path: &Path,
    start: usize,
    count: usize,
    reader: &mut ColumnReaderImpl<T>,
) -> Result<Vec<T::T>> {
    let mut values = Vec::new();
    let mut levels = Vec::new();
    // After a panic nothing of this is used again.
    let outcome = caught(|| reader.read_records(count, Some(&mut levels), None, &mut values));
    let (rows, present, _) = outcome
        .map_err(|panic| unreadable(path, start, format!("damaged pages ({panic})")))?
        .map_err(|error| unreadable(path, start, error.to_string()))?;
    if present != rows {
        let full = levels.iter().max().copied().unwrap_or(0);
        let null = levels.iter().position(|&level| level < full).unwrap_or(0);
        let place = format!("row {}", start + null);
        return Err(malformed(path, place, "an image and a label", "null"));
    }
    Ok(values)
}

/// Decodes a chunk on all cores behind `samples`.
fn append(
    path: &Path,
    labels: LabelSet,
    encoded: &[ByteArray],
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
            image::decode(path, start + row, bytes.data(), planes).err()
        });
    failure.map_or(Ok(()), Err)
}
