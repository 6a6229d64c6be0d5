//! Writing a data set in the layout of CIFAR's binary batches.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::dataset::{Dataset, Split};
use crate::error::{Error, Result};

/// The list of class names beside the batches of CIFAR-10.
pub(crate) const NAMES_10: &str = "batches.meta.txt";
/// The list of class names beside the batches of CIFAR-100.
pub(crate) const NAMES_100: &str = "fine_label_names.txt";

/// Number of files that the train split of CIFAR-10 is spread over.
const TRAIN_BATCHES: usize = 5;
/// Fine classes in a coarse one.
const FINE_IN_COARSE: u8 = 5;

/// Writes a data set of 10 or 100 classes as CIFAR's binary batches into a new folder.
///
/// The layout is that of the original archives: `data_batch_1.bin` to `data_batch_5.bin`,
/// `test_batch.bin` and `batches.meta.txt`, or `train.bin`, `test.bin` and
/// `fine_label_names.txt`. The coarse label of CIFAR-100's records, which this crate does
/// not keep, is written as label / 5. Everything is written to a temporary folder beside
/// `folder` that takes its name when complete. Gives the files.
///
/// ```
/// use ir_data::{Dataset, Locations, synthetic, write_binary};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let drawn = synthetic::dataset(synthetic::Classes::Ten, 0, 50, 10)?;
/// let parent = tempfile::tempdir()?;
/// let folder = parent.path().join("synthetic10");
/// write_binary(&drawn, &folder)?;
/// let read = Dataset::open(&folder.to_string_lossy(), &Locations::from_env())?;
/// assert_eq!(read.name(), "synthetic10");
/// assert_eq!(read.train().checksum(), drawn.train().checksum());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::OutputExists`] if the folder is there and not empty; [`Error::Write`] if it
/// cannot be written; [`Error::Count`] if there are neither 10 nor 100 classes.
pub fn write_binary(dataset: &Dataset, folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| Error::Write { path, source }
    };
    if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::OutputExists {
            path: folder.into(),
        });
    }
    let parts = parts(dataset)?;
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(failed(parent))?;
    let unfinished = tempfile::Builder::new()
        .prefix(".unfinished-")
        .tempdir_in(parent)
        .map_err(failed(folder))?;
    let mut files = Vec::new();
    for (name, content) in parts {
        write_file(&unfinished.path().join(&name), &content)
            .map_err(failed(&folder.join(&name)))?;
        files.push(folder.join(name));
    }
    // Renaming replaces a folder only if it is empty.
    fs::rename(unfinished.path(), folder).map_err(failed(folder))?;
    Ok(files)
}

fn write_file(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut file = fs::File::create_new(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// The files' names and contents.
fn parts(dataset: &Dataset) -> Result<Vec<(String, Vec<u8>)>> {
    let names = (dataset.classes().join("\n") + "\n").into_bytes();
    let train = dataset.train();
    match dataset.classes().len() {
        10 => {
            let size = train.len().div_ceil(TRAIN_BATCHES);
            let mut parts = vec![(NAMES_10.into(), names)];
            for (batch, start) in (0..train.len()).step_by(size).enumerate() {
                let end = (start + size).min(train.len());
                let name = format!("data_batch_{}.bin", batch + 1);
                parts.push((name, records(train, start..end, false)));
            }
            let test = records(dataset.test(), 0..dataset.test().len(), false);
            parts.push(("test_batch.bin".into(), test));
            Ok(parts)
        }
        100 => Ok(vec![
            (NAMES_100.into(), names),
            ("train.bin".into(), records(train, 0..train.len(), true)),
            (
                "test.bin".into(),
                records(dataset.test(), 0..dataset.test().len(), true),
            ),
        ]),
        found => Err(Error::Count {
            what: "classes (or 100)",
            expected: 10,
            found,
        }),
    }
}

fn records(split: &Split, samples: std::ops::Range<usize>, coarse: bool) -> Vec<u8> {
    let mut records = Vec::new();
    for sample in samples {
        let label = split.labels()[sample];
        if coarse {
            records.push(label / FINE_IN_COARSE);
        }
        records.push(label);
        records.extend_from_slice(split.image(sample));
    }
    records
}
