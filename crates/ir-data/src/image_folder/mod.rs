//! A folder of image files, one sub-folder a class.
//!
//! ```text
//! FOLDER/{class}/**/*.jpg                  one split
//! FOLDER/{train,val}/{class}/**/*.jpg      two
//! ```
//!
//! Images stay on the disk: a batch is read, decoded and scaled when its turn comes, all of its
//! images in parallel.

mod batches;
mod classes;
mod prepare;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
pub use prepare::{Fit, Interpolation, Preparation};

/// Names of files that are images, by what follows the last dot.
const EXTENSIONS: [&str; 4] = ["jpg", "jpeg", "png", "webp"];

/// Names of folders that hold a split.
const TRAIN: [&str; 2] = ["train", "training"];
const TEST: [&str; 5] = ["test", "testing", "val", "valid", "validation"];

/// How many folders deep images are looked for below the one of their class.
const DEPTH: usize = 3;

/// The most images that are taken; ImageNet has 1.3 million.
const MAX_IMAGES: usize = 20_000_000;

/// The image files of a folder, by class.
///
/// ```
/// use ir_data::ImageFolder;
///
/// let folder = tempfile::tempdir()?;
/// for class in ["cat", "dog"] {
///     std::fs::create_dir(folder.path().join(class))?;
///     std::fs::write(folder.path().join(class).join("1.png"), "no image")?;
/// }
/// let images = ImageFolder::open(folder.path())?;
/// assert_eq!(images.classes(), ["cat", "dog"]);
/// // One split, which is the test split.
/// assert!(images.train().is_none());
/// assert_eq!(images.test().map(|split| split.len()), Some(2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFolder {
    root: PathBuf,
    classes: Vec<String>,
    train: Option<ImageSplit>,
    test: Option<ImageSplit>,
}

/// The images of one split: the first of every class in order of classes, then the second of every
/// class, and so on, so that the first N samples are of as many classes as can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSplit {
    files: Vec<PathBuf>,
    labels: Vec<u32>,
    /// Bytes of all files.
    bytes: u64,
    checksum: String,
}

impl ImageFolder {
    /// Looks for images; reads none.
    ///
    /// A class is a folder with images in it, up to three folders deep; classes are in order of
    /// their names. What does not end in `.jpg`, `.jpeg`, `.png` or `.webp` is passed over.
    ///
    /// # Errors
    /// [`Error::NoImages`] if there is none, [`Error::EmptyClass`] for a class without any;
    /// [`Error::Read`].
    pub fn open(root: &Path) -> Result<Self> {
        let inner = folders(root)?;
        let named = |names: &[&str]| {
            let is = |path: &&PathBuf| names.contains(&name(path).to_lowercase().as_str());
            inner.iter().find(is)
        };
        let (train, test) = (named(&TRAIN), named(&TEST));
        let is_split = |path: &PathBuf| Some(path) == train || Some(path) == test;
        let (train, test) = match inner.iter().all(is_split) {
            true => (train.map(PathBuf::as_path), test.map(PathBuf::as_path)),
            false => (None, Some(root)),
        };
        let mut classes = BTreeSet::new();
        for split in train.iter().chain(&test) {
            classes.extend(folders(split)?.iter().map(|folder| name(folder)));
        }
        let classes: Vec<String> = classes.into_iter().collect();
        let read = |folder: Option<&Path>| {
            let split = |folder| ImageSplit::read(root, folder, &classes);
            folder.map(split).transpose()
        };
        let (train, test) = (read(train)?, read(test)?);
        if classes.is_empty() {
            return Err(Error::NoImages {
                folder: root.into(),
            });
        }
        Ok(Self {
            root: root.into(),
            classes,
            train,
            test,
        })
    }

    /// The folder's own name.
    pub fn name(&self) -> String {
        match std::path::absolute(&self.root) {
            Ok(path) => name(&path),
            Err(_) => name(&self.root),
        }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The names of the classes' folders, in order; a label is a place in this list until
    /// [`relabel`](Self::relabel) says otherwise.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The images in `train`, if there is such a folder.
    pub fn train(&self) -> Option<&ImageSplit> {
        self.train.as_ref()
    }

    /// The images in `test`, `val` or `validation`; all images where nothing is called a split.
    pub fn test(&self) -> Option<&ImageSplit> {
        self.test.as_ref()
    }

    /// The same images with the labels that a network has for these classes: `labels[i]` for the
    /// i-th of [`classes`](Self::classes).
    ///
    /// # Errors
    /// [`Error::Count`] unless every class has a label.
    pub fn relabel(&self, labels: &[u32]) -> Result<Self> {
        if labels.len() != self.classes.len() {
            return Err(Error::Count {
                what: "labels, one for every class",
                expected: self.classes.len(),
                found: labels.len(),
            });
        }
        let relabel = |split: &ImageSplit| ImageSplit {
            labels: split.labels.iter().map(|&l| labels[l as usize]).collect(),
            ..split.clone()
        };
        Ok(Self {
            train: self.train.as_ref().map(relabel),
            test: self.test.as_ref().map(relabel),
            ..self.clone()
        })
    }
}

impl ImageSplit {
    fn read(root: &Path, folder: &Path, classes: &[String]) -> Result<Self> {
        let mut digest = Sha256::new();
        let mut files = Vec::new();
        let mut bytes = 0;
        let mut empty = None;
        for (label, class) in (0..).zip(classes) {
            let place = folder.join(class);
            let mut found = Vec::new();
            if place.is_dir() {
                collect(&place, DEPTH, &mut found)?;
            }
            if found.is_empty() {
                empty = Some(place);
            }
            found.sort();
            for (index, (path, length)) in found.into_iter().enumerate() {
                let inside = path.strip_prefix(root).unwrap_or(&path);
                digest.update(inside.as_os_str().as_encoded_bytes());
                digest.update(length.to_le_bytes());
                bytes += length;
                files.push((index, label, path));
            }
            if files.len() > MAX_IMAGES {
                return Err(Error::TooManyEntries {
                    folder: root.into(),
                    limit: MAX_IMAGES,
                });
            }
        }
        match empty {
            Some(_) if files.is_empty() => {
                return Err(Error::NoImages {
                    folder: folder.into(),
                });
            }
            Some(folder) => return Err(Error::EmptyClass { folder }),
            None => {}
        }
        files.sort_by_key(|&(index, label, _)| (index, label));
        let digest = digest.finalize();
        Ok(Self {
            labels: files.iter().map(|&(_, label, _)| label).collect(),
            files: files.into_iter().map(|(_, _, path)| path).collect(),
            bytes,
            checksum: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there is none; a split that was found has some.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The files in order.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The label of each.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// Bytes of all files together.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// SHA-256 over the names and lengths of all files, not over what is in them, in lower-case
    /// hexadecimal.
    pub fn checksum(&self) -> &str {
        &self.checksum
    }
}

/// The folders in a folder, in order of their names.
fn folders(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    each(folder, |path| {
        if path.is_dir() {
            folders.push(path);
        }
        Ok(())
    })?;
    folders.sort();
    Ok(folders)
}

/// The images below a folder with their lengths.
fn collect(folder: &Path, depth: usize, files: &mut Vec<(PathBuf, u64)>) -> Result<()> {
    each(folder, |path| {
        // Follows symbolic links, of which collections are often made.
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() && is_image(&path) => {
                files.push((path, metadata.len()));
            }
            Ok(metadata) if metadata.is_dir() && depth > 0 => collect(&path, depth - 1, files)?,
            _ => {}
        }
        Ok(())
    })
}

/// Every entry of a folder but those whose names begin with a dot.
fn each(folder: &Path, mut found: impl FnMut(PathBuf) -> Result<()>) -> Result<()> {
    let failed = |source| Error::Read {
        path: folder.into(),
        source,
    };
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            found(entry.path())?;
        }
    }
    Ok(())
}

fn is_image(path: &Path) -> bool {
    let extension = path
        .extension()
        .map(|extension| extension.to_string_lossy());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension.to_lowercase().as_str()))
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
