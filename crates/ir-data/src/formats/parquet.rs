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
//! one chunk, whatever the size of a row group.

mod columns;

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use parquet::basic::Compression;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType, DataType};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use rayon::prelude::*;

use self::columns::Columns;
use super::{MAX_SAMPLES, Probe, Samples, checked_label, image, malformed};
use crate::classes::LabelSet;
use crate::dataset::{IMAGE, SIDE};
use crate::error::{Error, Result};

/// Rows that are read, then decoded together.
const CHUNK: usize = 2048;

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
    let failed = |error| failed(path, &Samples::default(), error);
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
    let metadata = reader.metadata().file_metadata();
    let columns = Columns::find(metadata)
        .map_err(|found| malformed(path, "columns", "an image and a label", found))?;
    let rows = usize::try_from(metadata.num_rows()).unwrap_or(usize::MAX);
    if rows > MAX_SAMPLES {
        return Err(too_many(path, rows));
    }
    check_chunks(path, reader.metadata(), columns)?;
    let mut samples = Samples::default();
    for group in 0..reader.num_row_groups() {
        let group = reader
            .get_row_group(group)
            .map_err(|error| failed(path, &samples, error))?;
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

fn failed(path: &Path, samples: &Samples, error: impl std::fmt::Display) -> Error {
    malformed(
        path,
        format!("at or after row {}", samples.labels.len()),
        "readable pages",
        error.to_string(),
    )
}

fn too_many(path: &Path, found: usize) -> Error {
    malformed(
        path,
        "number of rows",
        format!("at most {MAX_SAMPLES}"),
        found.to_string(),
    )
}

/// Checks that the needed columns are compressed in a way that can be read and lie within
/// the file, which the parquet crate takes for granted.
fn check_chunks(path: &Path, metadata: &ParquetMetaData, columns: Columns) -> Result<()> {
    let length = std::fs::metadata(path)
        .map_err(|source| Error::Read {
            path: path.into(),
            source,
        })?
        .len();
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
            let start = chunk
                .dictionary_page_offset()
                .unwrap_or_else(|| chunk.data_page_offset());
            let size = chunk.compressed_size();
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
    group: &dyn RowGroupReader,
    columns: Columns,
    samples: &mut Samples,
) -> Result<()> {
    let column = |index| {
        group
            .get_column_reader(index)
            .map_err(|error| failed(path, samples, error))
    };
    let ColumnReader::ByteArrayColumnReader(mut images) = column(columns.image)? else {
        return Err(failed(path, samples, "a column of another type"));
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
            _ => return Err(failed(path, samples, "a column of another type")),
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
    // The parquet crate panics on some damaged pages (a dictionary that is missing, a run
    // that ends early); the reader is not used after that.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        reader.read_records(count, Some(&mut levels), None, &mut values)
    }));
    let unreadable = |found: String| {
        let place = format!("rows from {start}");
        malformed(path, place, "readable pages", found)
    };
    let (rows, present, _) = outcome
        .map_err(|_| unreadable("pages that contradict themselves".into()))?
        .map_err(|error| unreadable(error.to_string()))?;
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
    if start + encoded.len() > MAX_SAMPLES {
        return Err(too_many(path, start + encoded.len()));
    }
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
