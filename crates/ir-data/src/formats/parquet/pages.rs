//! The values of one column, page by page.
//!
//! Everything that a page claims is compared with what is there before anything is allocated: a
//! page lies within its column, decompresses to no more than [`EXPANSION`] times its size, and has
//! no more values than rows are still expected. Values are views into their page, so that a
//! dictionary entry that is referred to a million times is held once.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Take};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::vec;

use parquet::basic::Compression;
use parquet::file::metadata::ColumnChunkMetaData;

use super::header::{Kind, PageHeader, RLE};

/// What is said to be found in place of what the format asks for.
pub(super) type Found<T> = Result<T, String>;

/// Snappy's longest copy is 64 bytes for three, so no page decompresses to more than this times
/// its size.
const EXPANSION: usize = 22;

/// Numbers that the format gives to encodings.
const PLAIN: i32 = 0;
const PLAIN_DICTIONARY: i32 = 2;
const RLE_DICTIONARY: i32 = 8;

/// A value of variable length: a part of its page.
#[derive(Debug, Clone)]
pub(super) struct Bytes {
    page: Arc<Vec<u8>>,
    range: Range<usize>,
}

impl Bytes {
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.page[self.range.clone()]
    }
}

/// Decodes so many values that stand one behind the other in a page, from a place on.
type Plain<T> = fn(&Arc<Vec<u8>>, usize, usize) -> Found<Vec<T>>;

/// One column of one row group, under way.
pub(super) struct Column<T> {
    source: BufReader<Take<File>>,
    compressed: bool,
    /// The level at which a value is there.
    level: i16,
    plain: Plain<T>,
    dictionary: Option<Vec<T>>,
    /// Values of the present page that were not handed out yet.
    pending: vec::IntoIter<T>,
    /// Rows in pages that were decoded.
    decoded: usize,
    /// Rows of the row group.
    rows: usize,
}

impl Column<Bytes> {
    /// The byte strings of a column of so many rows.
    pub(super) fn byte_arrays(
        path: &Path,
        chunk: &ColumnChunkMetaData,
        rows: usize,
    ) -> Found<Self> {
        Self::new(path, chunk, rows, byte_arrays)
    }
}

impl Column<i64> {
    /// The integers of a column of so many rows.
    pub(super) fn integers(path: &Path, chunk: &ColumnChunkMetaData, rows: usize) -> Found<Self> {
        let plain = match chunk.column_type() {
            parquet::basic::Type::INT32 => int32s,
            _ => int64s,
        };
        Self::new(path, chunk, rows, plain)
    }
}

/// Where a column's pages begin and how many bytes they are.
pub(super) fn place(chunk: &ColumnChunkMetaData) -> (i64, i64) {
    let start = chunk
        .dictionary_page_offset()
        .unwrap_or_else(|| chunk.data_page_offset());
    (start, chunk.compressed_size())
}

impl<T: Clone> Column<T> {
    fn new(path: &Path, chunk: &ColumnChunkMetaData, rows: usize, plain: Plain<T>) -> Found<Self> {
        let (start, size) = place(chunk);
        let negative = |_| format!("{size} bytes from byte {start}");
        let (start, size) = (
            u64::try_from(start).map_err(negative)?,
            u64::try_from(size).map_err(negative)?,
        );
        let open = || {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(start))?;
            Ok(file)
        };
        let file = open().map_err(|error: std::io::Error| error.to_string())?;
        Ok(Self {
            source: BufReader::new(file.take(size)),
            compressed: chunk.compression() != Compression::UNCOMPRESSED,
            level: chunk.column_descr().max_def_level(),
            plain,
            dictionary: None,
            pending: Vec::new().into_iter(),
            decoded: 0,
            rows,
        })
    }

    /// The next values, at most `count`, fewer only at the end of the row group.
    pub(super) fn read(&mut self, count: usize) -> Found<Vec<T>> {
        let mut values = Vec::new();
        while values.len() < count {
            values.extend(self.pending.by_ref().take(count - values.len()));
            if self.pending.len() == 0 && !self.next_page()? {
                break;
            }
        }
        Ok(values)
    }

    /// Decodes the next page with values; false where all rows were handed out.
    fn next_page(&mut self) -> Found<bool> {
        while self.decoded < self.rows {
            let header = PageHeader::read(&mut self.source)?;
            let content = self.content(&header)?;
            match header.kind {
                Kind::Other => {}
                Kind::Dictionary => self.read_dictionary(&header, content)?,
                Kind::Data | Kind::DataV2 { .. } => {
                    let (values, rows) = (header.values, self.rows - self.decoded);
                    if values > rows {
                        return Err(format!("a page of {values} values for {rows} rows"));
                    }
                    self.pending = self.values(&header, content)?.into_iter();
                    self.decoded += values;
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// The page behind a header, decompressed.
    fn content(&mut self, header: &PageHeader) -> Found<Vec<u8>> {
        let left = self.source.buffer().len() as u64 + self.source.get_ref().limit();
        if header.compressed as u64 > left {
            return Err(format!(
                "a page of {} bytes with {left} bytes left",
                header.compressed
            ));
        }
        let mut page = vec![0; header.compressed];
        self.source
            .read_exact(&mut page)
            .map_err(|error| format!("a page that cannot be read: {error}"))?;
        let levels = match header.kind {
            Kind::DataV2 {
                definition_levels, ..
            } => definition_levels,
            _ => 0,
        };
        let is_compressed = match header.kind {
            Kind::DataV2 { compressed, .. } => self.compressed && compressed,
            _ => self.compressed,
        };
        if !is_compressed {
            return match header.uncompressed == page.len() {
                true => Ok(page),
                false => Err(format!(
                    "a page of {} bytes that is {} uncompressed",
                    page.len(),
                    header.uncompressed
                )),
            };
        }
        decompress(&page, levels, header.uncompressed)
    }

    fn read_dictionary(&mut self, header: &PageHeader, content: Vec<u8>) -> Found<()> {
        if self.dictionary.is_some() {
            return Err("a second dictionary".into());
        }
        if !matches!(header.encoding, PLAIN | PLAIN_DICTIONARY) {
            return Err(format!("a dictionary in encoding {}", header.encoding));
        }
        self.dictionary = Some((self.plain)(&Arc::new(content), 0, header.values)?);
        Ok(())
    }

    /// The values of a data page, none of them null.
    fn values(&self, header: &PageHeader, content: Vec<u8>) -> Found<Vec<T>> {
        let start = self.check_levels(header, &content)?;
        match header.encoding {
            PLAIN => (self.plain)(&Arc::new(content), start, header.values),
            PLAIN_DICTIONARY | RLE_DICTIONARY => {
                let dictionary = self.dictionary.as_deref();
                let dictionary = dictionary.ok_or("references without a dictionary")?;
                let Some((&width, runs)) = content[start..].split_first() else {
                    return Err("a page without its references".into());
                };
                let place = |index: u32| {
                    let value = usize::try_from(index).ok().and_then(|i| dictionary.get(i));
                    value.cloned().ok_or_else(|| {
                        format!("reference {index} to a dictionary of {}", dictionary.len())
                    })
                };
                let indices = unpack(runs, width, header.values)?;
                indices.into_iter().map(place).collect()
            }
            other => Err(format!("encoding {other} instead of plain or dictionary")),
        }
    }

    /// Makes sure that every value is there; gives where the values begin.
    fn check_levels(&self, header: &PageHeader, content: &[u8]) -> Found<usize> {
        let (start, length): (usize, usize) = match header.kind {
            Kind::DataV2 {
                definition_levels, ..
            } => (0, definition_levels),
            _ if self.level == 0 => (0, 0),
            _ => {
                let length = content.first_chunk().ok_or("a page without its levels")?;
                (4, u32::from_le_bytes(*length) as usize)
            }
        };
        let end = start
            .checked_add(length)
            .filter(|&end| end <= content.len());
        let end =
            end.ok_or_else(|| format!("{length} bytes of levels in a page of {}", content.len()))?;
        if self.level == 0 {
            return Ok(end);
        }
        if header.level_encoding != RLE {
            return Err(format!("levels in encoding {}", header.level_encoding));
        }
        let width = i16::BITS - self.level.leading_zeros();
        let levels = unpack(&content[start..end], width as u8, header.values)?;
        let full = u32::from(self.level.unsigned_abs());
        match levels.iter().position(|&level| level != full) {
            Some(place) => Err(format!("null in row {}", self.decoded + place)),
            None => Ok(end),
        }
    }
}

/// A page's levels as they are and its values decompressed.
fn decompress(page: &[u8], levels: usize, uncompressed: usize) -> Found<Vec<u8>> {
    let Some((levels, values)) = page.split_at_checked(levels) else {
        return Err(format!(
            "{levels} bytes of levels in a page of {}",
            page.len()
        ));
    };
    let size = uncompressed.checked_sub(levels.len());
    // The values of a page whose rows are all null are no bytes at all.
    if values.is_empty() && size == Some(0) {
        return Ok(levels.to_vec());
    }
    let announced = snap::raw::decompress_len(values).map_err(|error| error.to_string())?;
    if size != Some(announced) || announced > values.len().saturating_mul(EXPANSION) {
        return Err(format!(
            "{} compressed bytes that announce {announced}, in a page of {uncompressed}",
            values.len()
        ));
    }
    let mut content = vec![0; uncompressed];
    content[..levels.len()].copy_from_slice(levels);
    let decompressed = snap::raw::Decoder::new().decompress(values, &mut content[levels.len()..]);
    match decompressed {
        Ok(count) if count == announced => Ok(content),
        Ok(count) => Err(format!("{count} bytes where {announced} were announced")),
        Err(error) => Err(error.to_string()),
    }
}

/// Byte strings, each behind its length in four bytes.
fn byte_arrays(page: &Arc<Vec<u8>>, start: usize, count: usize) -> Found<Vec<Bytes>> {
    let mut values = Vec::new();
    let mut place = start;
    for index in 0..count {
        let rest = page.get(place..).unwrap_or_default();
        let length = rest
            .first_chunk()
            .map(|length| u32::from_le_bytes(*length) as usize);
        let Some(length) = length.filter(|&length| length <= rest.len() - 4) else {
            return Err(format!("a page that ends within value {index} of {count}"));
        };
        let range = place + 4..place + 4 + length;
        place = range.end;
        values.push(Bytes {
            page: Arc::clone(page),
            range,
        });
    }
    Ok(values)
}

fn int32s(page: &Arc<Vec<u8>>, start: usize, count: usize) -> Found<Vec<i64>> {
    fixed(page, start, count, |bytes| {
        i64::from(i32::from_le_bytes(bytes))
    })
}

fn int64s(page: &Arc<Vec<u8>>, start: usize, count: usize) -> Found<Vec<i64>> {
    fixed(page, start, count, i64::from_le_bytes)
}

fn fixed<const WIDTH: usize>(
    page: &[u8],
    start: usize,
    count: usize,
    number: fn([u8; WIDTH]) -> i64,
) -> Found<Vec<i64>> {
    let (numbers, _) = page.get(start..).unwrap_or_default().as_chunks::<WIDTH>();
    match numbers.get(..count) {
        Some(numbers) => Ok(numbers.iter().map(|&bytes| number(bytes)).collect()),
        None => Err(format!("a page with {} values of {count}", numbers.len())),
    }
}

/// Numbers of `width` bits in runs: a run's head is a varint, even for one number that is
/// repeated head / 2 times, odd for head / 2 groups of eight packed numbers.
fn unpack(mut runs: &[u8], width: u8, count: usize) -> Found<Vec<u32>> {
    if u32::from(width) > u32::BITS {
        return Err(format!("numbers of {width} bits"));
    }
    let width = usize::from(width);
    let mut numbers = Vec::with_capacity(count);
    while numbers.len() < count {
        let head = varint(&mut runs)?;
        let missing = count - numbers.len();
        if head % 2 == 0 {
            let length = usize::try_from(head / 2).unwrap_or(usize::MAX);
            let number = take(&mut runs, width.div_ceil(8))?;
            let number = number
                .iter()
                .rev()
                .fold(0, |all, &byte| all << 8 | u32::from(byte));
            numbers.resize(numbers.len() + length.min(missing), number);
        } else {
            // Writers may leave out what is behind the last number.
            let groups = usize::try_from(head / 2).unwrap_or(usize::MAX);
            let length = groups.saturating_mul(width).min(runs.len());
            let packed = take(&mut runs, length)?;
            let there = groups.saturating_mul(8).min(missing);
            if there.saturating_mul(width) > packed.len() * 8 {
                return Err("a run that ends early".into());
            }
            numbers.extend((0..there).map(|index| bits(packed, index * width, width)));
        }
    }
    Ok(numbers)
}

/// The number of `width` bits from a bit on, least significant bits first.
fn bits(packed: &[u8], start: usize, width: usize) -> u32 {
    let mut window = [0; 8];
    let rest = &packed[start / 8..];
    let length = rest.len().min(window.len());
    window[..length].copy_from_slice(&rest[..length]);
    let mask = (1u64 << width) - 1;
    (u64::from_le_bytes(window) >> (start % 8) & mask) as u32
}

fn varint(bytes: &mut &[u8]) -> Found<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err("a number of more than 64 bits".into())
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Found<&'a [u8]> {
    let taken;
    (taken, *bytes) = bytes
        .split_at_checked(count)
        .ok_or("a run that ends early")?;
    Ok(taken)
}
