//! Text files of a bounded size.

use std::fs::{self, File};
use std::io::{Error, Read, Result};
use std::path::Path;

/// The largest text that is read. Results of a thousand blocks have 2 MB.
const LONGEST: u64 = 64 << 20;

/// The text of a file.
///
/// # Errors
/// It cannot be read, is no UTF-8, no file (a pipe would be waited for, a device has no end), or
/// longer than any that this program writes.
pub(crate) fn read(path: &Path) -> Result<String> {
    if !fs::metadata(path)?.is_file() {
        return Err(Error::other("it is no file"));
    }
    let mut text = String::new();
    let mut start = File::open(path)?.take(LONGEST + 1);
    start.read_to_string(&mut text)?;
    if text.len() as u64 > LONGEST {
        return Err(Error::other(format!("it is longer than {LONGEST} bytes")));
    }
    Ok(text)
}
