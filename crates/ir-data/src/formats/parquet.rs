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

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use parquet::basic::{Compression, Type};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType, DataType};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};
use rayon::prelude::*;

use super::{MAX_SAMPLES, Probe, Samples, checked_label, image, malformed};
use crate::classes::LabelSet;
use crate::dataset::IMAGE;
use crate::error::{Error, Result};

/// Rows that are read, then decoded together.
const CHUNK: usize = 2048;

/// The first four bytes of every parquet file.
pub(crate) const MAGIC: &[u8; 4] = b"PAR1";

/// Where the needed columns stand.
#[derive(Debug, Clone, Copy)]
struct Columns {
    image: usize,
    label: usize,
    labels: LabelSet,
}

/// Says whether the file has the columns of an image data set.
pub(crate) fn probe(path: &Path) -> Result<Probe> {
    let reader = open(path)?;
    let schema = reader.metadata().file_metadata().schema_descr();
    Ok(match find_columns(schema) {
        Some(columns) => Probe::Ours {
            labels: columns.labels,
            split: None,
        },
        None => Probe::Foreign(foreign(schema)),
    })
}

/// Decodes all rows.
pub(crate) fn read(path: &Path) -> Result<Samples> {
    let reader = open(path)?;
    let metadata = reader.metadata().file_metadata();
    let columns = find_columns(metadata.schema_descr()).ok_or_else(|| {
        let found = foreign(metadata.schema_descr());
        malformed(path, "columns", "an image and a label", found)
    })?;
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

fn find_columns(schema: &SchemaDescriptor) -> Option<Columns> {
    let find = |wanted: &dyn Fn(&ColumnDescriptor) -> bool| {
        schema
            .columns()
            .iter()
            .position(|column| column.max_rep_level() == 0 && wanted(column))
    };
    let is_integer =
        |column: &ColumnDescriptor| matches!(column.physical_type(), Type::INT32 | Type::INT64);
    let named = |name: &'static str| {
        find(&move |column| is_integer(column) && column.path().parts() == [name])
    };
    let image = find(&|column| {
        column.physical_type() == Type::BYTE_ARRAY && is_image(column.path().parts())
    })?;
    let (label, labels) = match (named("fine_label"), named("label")) {
        (Some(label), _) => (label, LabelSet::Cifar100),
        (None, Some(label)) => (label, LabelSet::Cifar10),
        (None, None) => return None,
    };
    Some(Columns {
        image,
        label,
        labels,
    })
}

fn is_image(path: &[String]) -> bool {
    match path {
        [name] => name == "img" || name == "image",
        [name, field] => (name == "img" || name == "image") && field == "bytes",
        _ => false,
    }
}

fn foreign(schema: &SchemaDescriptor) -> String {
    let columns: Vec<_> = schema
        .columns()
        .iter()
        .take(8)
        .map(|column| format!("{} {}", column.path().string(), column.physical_type()))
        .collect();
    format!(
        "the columns {}, and not img.bytes BYTE_ARRAY with label or fine_label INT64",
        columns.join(", ")
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
            let place = format!("row group {group}, column {}", chunk.column_path().string());
            let codec = chunk.compression();
            if !matches!(codec, Compression::UNCOMPRESSED | Compression::SNAPPY) {
                let found = format!("{codec}; write the file anew with one of these");
                return Err(malformed(path, place, "no or snappy compression", found));
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
        let encoded = read_column::<ByteArrayType>(path, start, &mut images)?;
        let values: Vec<i64> = match &mut labels {
            ColumnReader::Int32ColumnReader(reader) => read_column(path, start, reader)?
                .into_iter()
                .map(i64::from)
                .collect(),
            ColumnReader::Int64ColumnReader(reader) => read_column(path, start, reader)?,
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

/// The next rows of a column, at most [`CHUNK`], none of them null.
fn read_column<T: DataType>(
    path: &Path,
    start: usize,
    reader: &mut ColumnReaderImpl<T>,
) -> Result<Vec<T::T>> {
    let mut values = Vec::new();
    let mut levels = Vec::new();
    // The parquet crate panics on some damaged pages (a dictionary that is missing, a run
    // that ends early); the reader is not used after that.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        reader.read_records(CHUNK, Some(&mut levels), None, &mut values)
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
