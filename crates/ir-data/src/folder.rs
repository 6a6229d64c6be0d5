//! A folder with a data set in it, whatever its files are called.
//!
//! What a file is, is read from its content:
//!
//! | content | taken as |
//! |---|---|
//! | begins with `PAR1`, has an image and a label column | the hub's parquet; `fine_label` makes it CIFAR-100's |
//! | a pickle of a dictionary with `data` and `labels` or `fine_labels` | a python batch |
//! | a whole number of records of 3,073 or 3,074 bytes with labels in range | a binary batch of CIFAR-10 or CIFAR-100 |
//!
//! Which split it holds is read from the content where that says so (`batch_label` of the
//! python batches), else from its name or its folder's (`train`, `data_batch`; `test`,
//! `valid`, `val`); no format but the python batches says it in its content. A damaged
//! parquet file, or one of the archives' names with other content (a truncated
//! `data_batch_3.bin`), is an error; any other foreign file is passed over.
//!
//! Where one data set is there in several formats, parquet goes before binary before python.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::classes::LabelSet;
use crate::dataset::{Dataset, Format, Split};
use crate::error::{Error, Result};
use crate::formats::{Probe, Samples, SplitName, binary, malformed, parquet, python, read_small};
use crate::synthetic;

/// How many folders deep files are looked for below the one that was named.
const DEPTH: usize = 2;
/// The most entries that are looked at.
const MAX_ENTRIES: usize = 10_000;

/// A file that holds samples.
#[derive(Debug, Clone)]
struct Found {
    path: PathBuf,
    format: Format,
    labels: LabelSet,
    split: SplitName,
    /// Of how many files the split is, as far as this one tells; 0 if it does not.
    parts: usize,
}

/// Reads the data set in `folder`; only one of `wanted` if that is given, and then none of drawn
/// images, whose files differ from CIFAR's in nothing but the class names beside them.
///
/// # Errors
/// [`Error::NoData`] if there is none; [`Error::Ambiguous`] if there is more than one, or
/// one split in two places; whatever is wrong with a file.
pub(crate) fn open(folder: &Path, wanted: Option<LabelSet>) -> Result<Dataset> {
    let mut notes = Vec::new();
    let mut found = search(folder, &mut notes)?;
    if let Some(wanted) = wanted {
        found.retain(|file| file.labels == wanted && drawn_beside(&file.path, wanted).is_none());
    }
    let Some(first) = found.iter().min_by_key(|file| file.format) else {
        return Err(Error::NoData {
            folder: folder.into(),
            notes,
        });
    };
    if let Some(other) = found.iter().find(|file| file.labels != first.labels) {
        let mut names = [
            first.labels.name().to_string(),
            other.labels.name().to_string(),
        ];
        names.sort();
        return Err(Error::Ambiguous {
            folder: folder.into(),
            found: names.into(),
        });
    }
    let (format, labels) = (first.format, first.labels);
    found.retain(|file| file.format == format);
    let train = split_files(folder, &found, SplitName::Train, &notes)?;
    let test = split_files(folder, &found, SplitName::Test, &notes)?;
    load(labels, format, &train, &test)
}

/// The files of one split in the order of their names.
fn split_files(
    folder: &Path,
    found: &[Found],
    split: SplitName,
    notes: &[String],
) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = found
        .iter()
        .filter(|file| file.split == split)
        .map(|file| file.path.clone())
        .collect();
    files.sort();
    let Some(first) = files.first() else {
        return Err(Error::MissingSplit {
            folder: folder.into(),
            missing: split.name(),
            notes: notes.to_vec(),
        });
    };
    if let Some(other) = files.iter().find(|file| file.parent() != first.parent()) {
        let place = |file: &Path| format!("a {} split in {}", split.name(), file.display());
        return Err(Error::Ambiguous {
            folder: folder.into(),
            found: vec![place(first), place(other)],
        });
    }
    match missing_part(&files, announced(found, split)) {
        Some(part) => Err(Error::MissingPart {
            folder: folder.into(),
            part,
        }),
        None => Ok(files),
    }
}

/// The number of batches that the files of a split say that there are.
fn announced(found: &[Found], split: SplitName) -> usize {
    let files = found.iter().filter(|file| file.split == split);
    files.map(|file| file.parts).max().unwrap_or(0)
}

/// The first file that is not there of files whose names count: `data_batch_1` up to the number
/// that was announced or the highest that is there, and `00000-of-N` up to N.
fn missing_part(files: &[PathBuf], announced: usize) -> Option<String> {
    let stems: Vec<&str> = files
        .iter()
        .filter_map(|file| file.file_name()?.to_str()?.split('.').next())
        .collect();
    let batch = |stem: &str| stem.strip_prefix("data_batch_")?.parse::<usize>().ok();
    let batches = stems.iter().filter_map(|stem| batch(stem)).max();
    let batches = batches.map_or(0, |highest| highest.max(announced));
    let of = |stem: &str| stem.rsplit_once("-of-")?.1.parse::<usize>().ok();
    let shards = stems.iter().filter_map(|stem| of(stem)).max();
    // Among one name more than there are files one is missing, however high the numbers go.
    let batches = (1..=batches).map(|n| format!("data_batch_{n}"));
    let shards = (0..shards.unwrap_or(0)).map(|n| format!("-{n:05}-of-"));
    let mut batches = batches.take(files.len() + 1);
    let mut shards = shards.take(files.len() + 1);
    batches
        .find(|name| !stems.contains(&name.as_str()))
        .or_else(|| shards.find(|part| !stems.iter().any(|stem| stem.contains(part.as_str()))))
}

fn load(labels: LabelSet, format: Format, train: &[PathBuf], test: &[PathBuf]) -> Result<Dataset> {
    let read_all = |files: &[PathBuf]| -> Result<Split> {
        let mut samples = Samples::default();
        for file in files {
            samples.append(read(file, format, labels)?);
        }
        Split::new(samples.images, samples.labels)
    };
    let (name, classes) = names(labels, train);
    let files = [train, test].concat();
    Dataset::new(
        name,
        classes,
        read_all(train)?,
        read_all(test)?,
        format,
        files,
    )
}

fn read(file: &Path, format: Format, labels: LabelSet) -> Result<Samples> {
    match format {
        Format::Parquet => parquet::read(file),
        Format::Python => python::read(file),
        Format::Binary | Format::Synthetic => binary::read(file, labels),
    }
}

/// The data set's name and classes: CIFAR's, or those of the synthetic set.
fn names(labels: LabelSet, train: &[PathBuf]) -> (&'static str, Vec<String>) {
    if let Some(drawn) = train.first().and_then(|file| drawn_beside(file, labels)) {
        return (drawn.name(), drawn.classes());
    }
    let classes = labels.classes().iter().map(|&class| class.to_owned());
    (labels.name(), classes.collect())
}

/// The synthetic set that a file is of, where the list of class names beside it says so.
fn drawn_beside(file: &Path, labels: LabelSet) -> Option<synthetic::Classes> {
    let (list, drawn) = match labels {
        LabelSet::Cifar10 => (crate::export::NAMES_10, synthetic::Classes::Ten),
        LabelSet::Cifar100 => (crate::export::NAMES_100, synthetic::Classes::Hundred),
    };
    let text = read_small(&file.parent()?.join(list))?;
    text.split_whitespace().eq(drawn.classes()).then_some(drawn)
}

/// All files below `folder` that hold samples, and notes on those that do not quite.
fn search(folder: &Path, notes: &mut Vec<String>) -> Result<Vec<Found>> {
    let mut files = Vec::new();
    let mut entries = 0;
    collect(folder, folder, DEPTH, &mut entries, &mut files, notes)?;
    files.sort();
    let mut found = Vec::new();
    for path in files {
        let Some((format, probe)) = identify(&path)? else {
            continue;
        };
        match probe {
            Probe::Ours {
                labels,
                split,
                parts,
            } => found.push(Found {
                split: split
                    .or_else(|| split_from_name(folder, &path))
                    .ok_or_else(|| Error::UnknownSplit { file: path.clone() })?,
                path,
                format,
                labels,
                parts,
            }),
            Probe::Foreign(reason) if format != Format::Parquet && is_promised(&path) => {
                return Err(malformed(
                    &path,
                    "content",
                    format!("CIFAR's {format}"),
                    reason,
                ));
            }
            Probe::Foreign(reason) => notes.push(format!("{} ({reason})", path.display())),
        }
    }
    Ok(found)
}

fn collect(
    root: &Path,
    folder: &Path,
    depth: usize,
    entries: &mut usize,
    files: &mut Vec<PathBuf>,
    notes: &mut Vec<String>,
) -> Result<()> {
    let failed = |source| Error::Read {
        path: folder.into(),
        source,
    };
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        *entries += 1;
        if *entries > MAX_ENTRIES {
            return Err(Error::TooManyEntries {
                folder: root.into(),
                limit: MAX_ENTRIES,
            });
        }
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        // Follows symbolic links, which the hub's cache is made of.
        let path = entry.path();
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => files.push(path),
            Ok(metadata) if metadata.is_dir() && depth > 0 => {
                collect(root, &path, depth - 1, entries, files, notes)?;
            }
            Err(_) if path.is_symlink() => {
                notes.push(format!("{} (a link that leads nowhere)", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Which reader a file is for and what that says; `None` for a file that is for none.
fn identify(path: &Path) -> Result<Option<(Format, Probe)>> {
    let failed = |source| Error::Read {
        path: path.into(),
        source,
    };
    let mut head = Vec::with_capacity(4);
    let file = fs::File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    file.take(4).read_to_end(&mut head).map_err(failed)?;
    if head == parquet::MAGIC {
        return Ok(Some((Format::Parquet, parquet::probe(path)?)));
    }
    if python::is_pickle(&head) {
        return Ok(Some((Format::Python, python::probe(path)?)));
    }
    if binary::is_possible(length) {
        return Ok(Some((Format::Binary, binary::probe(path)?)));
    }
    if !is_promised(path) {
        return Ok(None);
    }
    let is_parquet = path
        .extension()
        .is_some_and(|extension| extension == "parquet");
    let (place, expected) = if is_parquet {
        ("first four bytes", "PAR1, as in every parquet file")
    } else {
        (
            "file size",
            "a whole number of records of 3,073 or 3,074 bytes",
        )
    };
    let found = format!("{length} bytes that begin with `{}`", head.escape_ascii());
    Err(malformed(path, place, expected, found))
}

/// Whether a file has a name that CIFAR's files have, so that it must not be passed over.
fn is_promised(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.strip_suffix(".bin").unwrap_or(&name);
    let is_batch = stem
        .strip_prefix("data_batch_")
        .is_some_and(|number| number.parse::<u32>().is_ok());
    name.ends_with(".parquet") || is_batch || matches!(stem, "test_batch" | "train" | "test")
}

/// The split that a file's name gives, or else the name of a folder on the way to it.
fn split_from_name(folder: &Path, path: &Path) -> Option<SplitName> {
    let inside = path.strip_prefix(folder).unwrap_or(path);
    inside.iter().rev().find_map(|part| {
        let part = part.to_string_lossy().to_lowercase();
        if part.starts_with("data_batch") {
            return Some(SplitName::Train);
        }
        let mut words = part.split(|character: char| !character.is_ascii_alphabetic());
        words.find_map(|word| match word {
            "train" | "training" => Some(SplitName::Train),
            "test" | "testing" | "valid" | "validation" | "val" => Some(SplitName::Test),
            _ => None,
        })
    })
}
