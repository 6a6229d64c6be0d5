//! The header of a page, in Thrift's compact protocol.
//!
//! Read here because the parquet crate keeps its own reader of page headers to itself, and
//! allocates what a header claims before it has looked at a byte of the page.

use std::io::{self, Read};

/// How deep structures may be nested; a page header's statistics are two deep.
const DEPTH: usize = 8;

/// What is said to be found in place of what the format asks for.
pub(super) type Found<T> = Result<T, String>;

/// What a page holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Values, in either version of the format.
    Data,
    /// The values that data pages refer to.
    Dictionary,
    /// Nothing that is needed here.
    Other,
}

/// A page's header, with sizes that are not negative and otherwise not checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageHeader {
    pub(super) kind: Kind,
    /// Bytes of the page when decompressed.
    pub(super) uncompressed: usize,
    /// Bytes of the page in the file, without this header.
    pub(super) compressed: usize,
    /// Number of values, nulls included.
    pub(super) values: usize,
    /// By the number that the format gives it.
    pub(super) encoding: i32,
}

impl PageHeader {
    /// Reads a header from where it begins.
    pub(super) fn read(source: &mut impl Read) -> Found<Self> {
        let mut thrift = Thrift { source };
        let (mut kind, mut uncompressed, mut compressed) = (None, None, None);
        let (mut data, mut dictionary, mut v2) =
            (Numbers::default(), Numbers::default(), Numbers::default());
        thrift.fields(|thrift, id, wire| {
            match id {
                1 => kind = Some(thrift.int(wire)?),
                2 => uncompressed = Some(thrift.int(wire)?),
                3 => compressed = Some(thrift.int(wire)?),
                5 => data = thrift.numbers(wire)?,
                7 => dictionary = thrift.numbers(wire)?,
                8 => v2 = thrift.numbers(wire)?,
                _ => thrift.skip(wire, DEPTH)?,
            }
            Ok(())
        })?;
        let (kind, values, encoding) = match kind {
            Some(0) => (Kind::Data, data.get(1)?, data.get(2)?),
            Some(2) => (Kind::Dictionary, dictionary.get(1)?, dictionary.get(2)?),
            Some(3) => (Kind::Data, v2.get(1)?, v2.get(4)?),
            Some(_) => (Kind::Other, 0, 0),
            None => return Err("a page header without a type".into()),
        };
        Ok(Self {
            kind,
            uncompressed: size(uncompressed)?,
            compressed: size(compressed)?,
            values: size(Some(values))?,
            encoding,
        })
    }
}

fn size(number: Option<i32>) -> Found<usize> {
    let number = number.ok_or("a page header without a size")?;
    usize::try_from(number).map_err(|_| format!("a size of {number}"))
}

/// The integers of a structure, by their field's number up to 4.
#[derive(Default)]
struct Numbers([Option<i32>; 5]);

impl Numbers {
    fn get(&self, id: usize) -> Found<i32> {
        self.0[id].ok_or_else(|| format!("a page header without its field {id}"))
    }
}

struct Thrift<'a, R> {
    source: &'a mut R,
}

impl<R: Read> Thrift<'_, R> {
    /// Hands each field of a structure, as its number and type, to `visit`, which reads it.
    fn fields(&mut self, mut visit: impl FnMut(&mut Self, i16, u8) -> Found<()>) -> Found<()> {
        let mut id = 0i16;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Ok(());
            }
            id = match head >> 4 {
                0 => i16::try_from(self.zigzag()?).map_err(|_| "a field out of range")?,
                delta => id
                    .checked_add(i16::from(delta))
                    .ok_or("a field out of range")?,
            };
            visit(self, id, head & 0x0f)?;
        }
    }

    /// The integers among a structure's fields.
    fn numbers(&mut self, wire: u8) -> Found<Numbers> {
        if wire != 12 {
            return Err(format!("a page header with type {wire} for a structure"));
        }
        let mut numbers = Numbers::default();
        self.fields(|thrift, id, wire| {
            let place = usize::try_from(id)
                .ok()
                .and_then(|id| numbers.0.get_mut(id));
            match (place, wire) {
                (Some(place), 5) => *place = Some(thrift.int(wire)?),
                _ => thrift.skip(wire, DEPTH)?,
            }
            Ok(())
        })?;
        Ok(numbers)
    }

    fn int(&mut self, wire: u8) -> Found<i32> {
        if wire != 5 {
            return Err(format!("a page header with type {wire} for a number"));
        }
        i32::try_from(self.zigzag()?).map_err(|_| "a number of more than 32 bits".into())
    }

    fn zigzag(&mut self) -> Found<i64> {
        let number = self.varint()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    fn varint(&mut self) -> Found<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err("a number of more than 64 bits".into())
    }

    fn byte(&mut self) -> Found<u8> {
        let mut byte = [0];
        match self.source.read_exact(&mut byte) {
            Ok(()) => Ok(byte[0]),
            Err(error) => Err(format!("a page header that cannot be read: {error}")),
        }
    }

    fn skip_bytes(&mut self, count: u64) -> Found<()> {
        match io::copy(&mut self.source.by_ref().take(count), &mut io::sink()) {
            Ok(skipped) if skipped == count => Ok(()),
            Ok(_) => Err("a page header that ends early".into()),
            Err(error) => Err(format!("a page header that cannot be read: {error}")),
        }
    }

    /// Passes over a value; a flag stands in its field's type.
    fn skip(&mut self, wire: u8, depth: usize) -> Found<()> {
        let Some(below) = depth.checked_sub(1) else {
            return Err("a page header nested too deep".into());
        };
        match wire {
            1 | 2 => Ok(()),
            3 => self.skip_bytes(1),
            4..=6 => self.varint().map(drop),
            7 => self.skip_bytes(8),
            8 => {
                let count = self.varint()?;
                self.skip_bytes(count)
            }
            9 | 10 => {
                let head = self.byte()?;
                let count = match head >> 4 {
                    15 => self.varint()?,
                    count => u64::from(count),
                };
                // In a list a flag is a byte; every element takes one at least, so that a false
                // count ends with the file.
                for _ in 0..count {
                    match head & 0x0f {
                        1 | 2 => self.skip_bytes(1)?,
                        wire => self.skip(wire, below)?,
                    }
                }
                Ok(())
            }
            12 => self.fields(|thrift, _, wire| thrift.skip(wire, below)),
            other => Err(format!("a page header with type {other}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_with_its_statistics_passed_over() {
        // Type 0, 100 bytes uncompressed, 60 compressed; 7 values, plain, levels RLE twice,
        // statistics with a text of three bytes.
        let bytes = [
            0x15, 0, 0x15, 0xc8, 1, 0x15, 120, 0x2c, 0x15, 14, 0x15, 0, 0x15, 6, 0x15, 6, 0x1c,
            0x58, 3, b'a', b'b', b'c', 0, 0, 0,
        ];
        let header = PageHeader::read(&mut bytes.as_slice()).unwrap();
        let expected = PageHeader {
            kind: Kind::Data,
            uncompressed: 100,
            compressed: 60,
            values: 7,
            encoding: 0,
        };
        assert_eq!(header, expected);
        for length in 0..bytes.len() {
            assert!(PageHeader::read(&mut &bytes[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_list_of_nothing_much_and_deep_nesting_end() {
        // A list of 2⁶³ structures, with nothing behind.
        let mut list = vec![0x99, 0xfc];
        list.extend([0xff; 8]);
        list.push(0x7f);
        assert!(PageHeader::read(&mut list.as_slice()).is_err());
        let deep = [0x9c; 1000];
        let error = PageHeader::read(&mut deep.as_slice()).unwrap_err();
        assert!(error.contains("too deep"), "{error}");
    }
}
