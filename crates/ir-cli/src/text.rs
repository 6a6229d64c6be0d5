//! Text of a bounded size: read from files, printed on terminals.

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

/// How this program was started; what is no Unicode in it is replaced.
pub(crate) fn command_line() -> Vec<String> {
    let lossy = |argument: std::ffi::OsString| argument.to_string_lossy().into_owned();
    std::env::args_os().map(lossy).collect()
}

/// The longest sentence on the terminal, in characters.
const LONGEST_PRINTED: usize = 4000;

/// A sentence without control characters, of which terminals take orders: names in it may come
/// from a file. The end of one that is too long is left out.
pub(crate) fn printable(sentence: &str) -> String {
    let characters = sentence.chars().take(LONGEST_PRINTED);
    let plain = |character: char| match character {
        character if character.is_control() => '\u{fffd}',
        character => character,
    };
    characters.map(plain).collect()
}
