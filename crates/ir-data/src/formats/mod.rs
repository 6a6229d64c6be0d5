//! Readers, one module a format, and what they share.
//!
//! A reader is asked twice: `probe` says from a file's content whether it is the
//! reader's, which label set it uses and which split it holds; `read` decodes it.

pub(crate) mod binary;
pub(crate) mod image;
pub(crate) mod parquet;
pub(crate) mod python;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::classes::LabelSet;
use crate::error::{Error, Result};

/// The largest file that is read whole. CIFAR's largest batch has 155 MB.
const MAX_FILE: u64 = 1 << 30;

/// The most samples of one file or one drawn split: 3 GB of pixels.
pub(crate) const MAX_SAMPLES: usize = 1_000_000;

/// Images and labels as they come out of one file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Samples {
    /// `[N, 3, 32, 32]`.
    pub(crate) images: Vec<u8>,
    /// `[N]`.
    pub(crate) labels: Vec<u8>,
}

impl Samples {
    /// Adds those of another file behind these.
    pub(crate) fn append(&mut self, mut other: Self) {
        if self.labels.is_empty() {
            *self = other;
            return;
        }
        self.images.append(&mut other.images);
        self.labels.append(&mut other.labels);
    }
}

/// What a reader says about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Probe {
    /// It is the reader's.
    Ours {
        /// The label set that its content uses.
        labels: LabelSet,
        /// Which split its content names, where it names one.
        split: Option<SplitName>,
        /// Of how many files the split is, as far as its content tells; 0 if it does not.
        parts: usize,
    },
    /// It is not; the reason is worth telling.
    Foreign(String),
}

/// One of the two splits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SplitName {
    Train,
    Test,
}

impl SplitName {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
        }
    }
}

/// The label as a byte, if it is the index of a class.
pub(crate) fn checked_label(
    file: &Path,
    sample: usize,
    label: i64,
    labels: LabelSet,
) -> Result<u8> {
    let classes = labels.classes().len();
    match u8::try_from(label) {
        Ok(byte) if usize::from(byte) < classes => Ok(byte),
        _ => Err(Error::Label {
            file: file.into(),
            sample,
            label,
            classes,
        }),
    }
}

/// The error that the content of `file` is not what the format asks for.
pub(crate) fn malformed(
    file: &Path,
    place: impl Into<String>,
    expected: impl Into<String>,
    found: impl Into<String>,
) -> Error {
    Error::Malformed {
        file: file.into(),
        place: place.into(),
        expected: expected.into(),
        found: found.into(),
    }
}

/// The beginning of a text that a file gives, as a message can quote it: without control
/// characters, of which terminals take orders.
pub(crate) fn excerpt(text: &str) -> String {
    const LONGEST: usize = 40;
    let mut characters = text.chars();
    let start: String = characters.by_ref().take(LONGEST).collect();
    let more = if characters.next().is_some() {
        "…"
    } else {
        ""
    };
    format!("{}{more}", start.escape_debug())
}

/// The text of a small file beside the data; `None` if it cannot be read or is none.
pub(crate) fn read_small(path: &Path) -> Option<String> {
    const LONGEST: u64 = 1 << 16;
    // A pipe would be waited for.
    if !std::fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    let mut start = File::open(path).ok()?.take(LONGEST + 1);
    let length = start.read_to_string(&mut text).ok()?;
    (length as u64 <= LONGEST).then_some(text)
}

/// The whole file, if it is of a size that a batch file can have.
pub(crate) fn read_whole(path: &Path) -> Result<Vec<u8>> {
    let failed = |source| Error::Read {
        path: path.into(),
        source,
    };
    let mut file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    if length > MAX_FILE {
        return Err(malformed(
            path,
            "file size",
            format!("at most {MAX_FILE} bytes"),
            format!("{length} bytes"),
        ));
    }
    let mut content = Vec::with_capacity(length as usize);
    // A file that grows meanwhile is cut at its first length.
    file.by_ref()
        .take(length)
        .read_to_end(&mut content)
        .map_err(failed)?;
    Ok(content)
}
