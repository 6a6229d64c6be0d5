//! CIFAR's binary batches: records without a header.
//!
//! ```text
//! CIFAR-10    label (1 byte, 0 … 9)                                    3,072 bytes of pixels
//! CIFAR-100   coarse label (1 byte, 0 … 19)   label (1 byte, 0 … 99)   3,072 bytes of pixels
//! ```
//!
//! Pixels are three planes, red, green, blue, each 32 rows of 32. Nothing in a file says
//! what it is, so it counts as a batch if its length is a whole number of records and every
//! label in it is one. The split is told by the name alone; a batch of 10,000 records is one of
//! five, as in the original archive.

use std::path::Path;

use super::{MAX_SAMPLES, Probe, Samples, checked_label, malformed, read_whole};
use crate::classes::LabelSet;
use crate::dataset::IMAGE;
use crate::error::Result;

/// Number of coarse classes of CIFAR-100.
const COARSE: u8 = 20;

/// Records of each of the batches that the train split of CIFAR-10 comes in.
const WHOLE_BATCH: usize = 10_000;

/// Number of these batches.
const WHOLE_BATCHES: usize = 5;

/// The two kinds of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    labels: LabelSet,
    /// Bytes before the pixels; the last of them is the label.
    header: usize,
}

const LAYOUTS: [Layout; 2] = [
    Layout {
        labels: LabelSet::Cifar10,
        header: 1,
    },
    Layout {
        labels: LabelSet::Cifar100,
        header: 2,
    },
];

impl Layout {
    fn record(self) -> usize {
        self.header + IMAGE
    }

    /// Whether `length` bytes are a whole number of records.
    fn divides(self, length: u64) -> bool {
        length > 0 && length.is_multiple_of(self.record() as u64)
    }

    /// Whether every label of the file is one.
    fn fits(self, content: &[u8]) -> bool {
        content.chunks_exact(self.record()).all(|record| {
            let coarse = self.header == 1 || record[0] < COARSE;
            coarse && usize::from(record[self.header - 1]) < self.labels.classes().len()
        })
    }
}

/// Whether a file of this length can be a batch at all.
pub(crate) fn is_possible(length: u64) -> bool {
    LAYOUTS.iter().any(|layout| layout.divides(length))
}

/// Says whether the file is a whole number of records with labels in range.
pub(crate) fn probe(path: &Path) -> Result<Probe> {
    let content = read_whole(path)?;
    let fitting: Vec<_> = candidates(&content)
        .filter(|layout| layout.fits(&content))
        .collect();
    Ok(match fitting.as_slice() {
        [layout] => Probe::Ours {
            labels: layout.labels,
            split: None,
            parts: match content.len() / layout.record() {
                WHOLE_BATCH => WHOLE_BATCHES,
                _ => 0,
            },
        },
        [] => Probe::Foreign(describe(&content)),
        _ => Probe::Foreign("it can be read as CIFAR-10 and as CIFAR-100".into()),
    })
}

/// Copies all records.
pub(crate) fn read(path: &Path, labels: LabelSet) -> Result<Samples> {
    let content = read_whole(path)?;
    let layout = candidates(&content)
        .find(|layout| layout.labels == labels)
        .ok_or_else(|| {
            malformed(
                path,
                "file size",
                "a whole number of records",
                describe(&content),
            )
        })?;
    let count = content.len() / layout.record();
    if count > MAX_SAMPLES {
        return Err(malformed(
            path,
            "number of records",
            format!("at most {MAX_SAMPLES}"),
            count.to_string(),
        ));
    }
    let mut samples = Samples {
        images: Vec::with_capacity(count * IMAGE),
        labels: Vec::with_capacity(count),
    };
    for (sample, record) in content.chunks_exact(layout.record()).enumerate() {
        let label = i64::from(record[layout.header - 1]);
        samples
            .labels
            .push(checked_label(path, sample, label, labels)?);
        samples.images.extend_from_slice(&record[layout.header..]);
    }
    Ok(samples)
}

fn candidates(content: &[u8]) -> impl Iterator<Item = Layout> {
    let length = content.len() as u64;
    LAYOUTS
        .into_iter()
        .filter(move |layout| layout.divides(length))
}

/// Why a file is no batch, with the first label that is none.
fn describe(content: &[u8]) -> String {
    let Some(layout) = candidates(content).next() else {
        return format!(
            "{} bytes, not a whole number of records of 3,073 or 3,074 bytes",
            content.len()
        );
    };
    let sample = content
        .chunks_exact(layout.record())
        .position(|record| !layout.fits(record))
        .unwrap_or(0);
    let record = &content[sample * layout.record()..];
    format!("label {} in record {sample}", record[layout.header - 1])
}
