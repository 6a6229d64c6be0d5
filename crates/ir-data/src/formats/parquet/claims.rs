//! What a column's pages claim, compared with what is there.
//!
//! The parquet crate allocates the decompressed size of a page, and the entries of a dictionary,
//! as their header claims them. This goes from header to header beforehand, reading no page.

use std::fs::File;
use std::io::{BufReader, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use super::header::{Found, Kind, PageHeader};

/// Snappy's longest copy is 64 bytes for three, so no page decompresses to more than this times
/// its size.
const EXPANSION: usize = 22;

/// Numbers that the format gives to encodings.
const PLAIN: i32 = 0;
const PLAIN_DICTIONARY: i32 = 2;
const RLE_DICTIONARY: i32 = 8;

/// Checks the pages in a part of a file, which hold so many rows of one column.
pub(super) fn check(
    path: &Path,
    bytes: Range<u64>,
    is_compressed: bool,
    mut rows: usize,
) -> Found<()> {
    let failed = |error: std::io::Error| error.to_string();
    let mut source = BufReader::new(File::open(path).map_err(failed)?);
    source.seek(SeekFrom::Start(bytes.start)).map_err(failed)?;
    let mut has_dictionary = false;
    while source.stream_position().map_err(failed)? < bytes.end {
        let header = PageHeader::read(&mut source)?;
        let place = source.stream_position().map_err(failed)?;
        check_size(&header, bytes.end.saturating_sub(place), is_compressed)?;
        let (values, encoding) = (header.values, header.encoding);
        if values > rows {
            return Err(format!("a page of {values} values for {rows} rows"));
        }
        match (header.kind, encoding) {
            (Kind::Other, _) | (Kind::Data, PLAIN) => {}
            (Kind::Dictionary, PLAIN | PLAIN_DICTIONARY) if !has_dictionary => {
                has_dictionary = true;
            }
            (Kind::Dictionary, PLAIN | PLAIN_DICTIONARY) => {
                return Err("a second dictionary".into());
            }
            (Kind::Dictionary, _) => return Err(format!("a dictionary in encoding {encoding}")),
            (Kind::Data, PLAIN_DICTIONARY | RLE_DICTIONARY) if has_dictionary => {}
            (Kind::Data, PLAIN_DICTIONARY | RLE_DICTIONARY) => {
                return Err("references without a dictionary".into());
            }
            (Kind::Data, _) => {
                return Err(format!(
                    "encoding {encoding} instead of plain or dictionary"
                ));
            }
        }
        if header.kind == Kind::Data {
            rows -= values;
        }
        let length = i64::try_from(header.compressed).unwrap_or(i64::MAX);
        source.seek_relative(length).map_err(failed)?;
    }
    Ok(())
}

fn check_size(header: &PageHeader, left: u64, is_compressed: bool) -> Found<()> {
    let (compressed, uncompressed) = (header.compressed, header.uncompressed);
    if compressed as u64 > left {
        return Err(format!(
            "a page of {compressed} bytes with {left} bytes left"
        ));
    }
    let most = match is_compressed {
        true => compressed.saturating_mul(EXPANSION),
        false => compressed,
    };
    if uncompressed > most {
        return Err(format!(
            "a page of {compressed} bytes that claims to be {uncompressed} uncompressed"
        ));
    }
    Ok(())
}
