//! A safetensors file, read under a memory map: the one place of this crate with unsafe code.
//!
//! The map is there only while a file is opened. The header is compared with the file's length,
//! metadata and tensors are copied out, the length is compared again, and the map is dropped.
//! Everything else, the checksum among it, is looked at in the copy: what was checked is what is
//! used, whatever becomes of the file.
//!
//! # What is not guaranteed
//!
//! A process that truncates the file while it is mapped takes pages from under the map, and
//! reading one of these ends this process with SIGBUS; that cannot be excluded, since files have
//! no lock that others must respect. One that overwrites the file in place meanwhile can make the
//! copy half old and half new, which the checksum finds. This program never does either: it
//! writes a new file and renames it over the name, which leaves a mapped one as it was.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use memmap2::Mmap;
use safetensors::tensor::Metadata;
use safetensors::{Dtype, SafeTensors};

use crate::error::{Error, Result};

/// The longest header that is read. That of the paper's deepest network has 0.6 MB.
const MAX_HEADER: u64 = 16 << 20;

/// The most bytes of tensors that are read: weights and velocities of the largest network that is
/// built.
const MAX_TENSORS: usize = 8 << 30;

/// The content of a safetensors file.
pub(crate) struct TensorFile {
    path: PathBuf,
    /// The header's `__metadata__`.
    pub(crate) metadata: HashMap<String, String>,
    pub(crate) tensors: BTreeMap<String, Stored>,
}

/// A tensor as it stands in a file.
pub(crate) struct Stored {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// Its values, little endian.
    pub(crate) content: Vec<u8>,
}

impl TensorFile {
    /// Reads a file whose header says that it is as long as it is.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Mapping::new(path)?.copy()
    }

    /// Reads what would stand in a file; messages call it `name`.
    pub(crate) fn from_bytes(name: &Path, bytes: &[u8]) -> Result<Self> {
        Bytes { path: name, bytes }.copy()
    }

    /// The header's `__metadata__` alone.
    pub(crate) fn metadata_of(path: &Path) -> Result<HashMap<String, String>> {
        let mapping = Mapping::new(path)?;
        let (header, _) = mapping.bytes().check()?;
        Ok(header.metadata().clone().unwrap_or_default())
    }

    pub(crate) fn unusable(&self, reason: String) -> Error {
        unusable(&self.path, reason)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Stored {
    /// An f32 tensor of these values.
    pub(crate) fn to_tensor(&self) -> candle_core::Result<Tensor> {
        let bytes = self.content.chunks_exact(4);
        let values: Vec<f32> = bytes
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        Tensor::from_vec(values, self.shape.as_slice(), &Device::Cpu)
    }
}

/// A file under a memory map.
struct Mapping<'a> {
    path: &'a Path,
    file: File,
    map: Mmap,
}

impl<'a> Mapping<'a> {
    fn new(path: &'a Path) -> Result<Self> {
        let io = |source| unreadable(path, source);
        let metadata = std::fs::metadata(path).map_err(io)?;
        if metadata.is_dir() {
            let reason = "it is a folder; name the safetensors file in it";
            return Err(unusable(path, reason.into()));
        }
        // A pipe would be waited for, and a device has no end.
        if !metadata.is_file() {
            return Err(unusable(path, "it is no file".into()));
        }
        let file = File::open(path).map_err(io)?;
        // SAFETY: the map is only read, and dropped when the file has been copied. Who truncates or
        // overwrites the file in place meanwhile breaks it, as the module's documentation says;
        // checkpoints are replaced by renaming a whole new file over the name, which leaves a
        // mapped one as it was.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Ok(Self { path, file, map })
    }

    fn bytes(&self) -> Bytes<'_> {
        Bytes {
            path: self.path,
            bytes: &self.map,
        }
    }

    /// Copies the content, if header and file agree and the file stays as long as it was.
    fn copy(self) -> Result<TensorFile> {
        let content = self.bytes().copy()?;
        let metadata = self.file.metadata();
        let metadata = metadata.map_err(|source| unreadable(self.path, source))?;
        let (before, after) = (self.map.len() as u64, metadata.len());
        if before != after {
            return Err(content.unusable(format!(
                "it changed while it was read, from {before} bytes to {after}; try again"
            )));
        }
        Ok(content)
    }
}

/// The bytes of a safetensors file.
struct Bytes<'a> {
    /// For messages.
    path: &'a Path,
    bytes: &'a [u8],
}

impl<'a> Bytes<'a> {
    /// Copies the content, if the header announces as much as there is.
    fn copy(&self) -> Result<TensorFile> {
        let (header, tensors) = self.check()?;
        let stored = |(name, view): (&str, safetensors::tensor::TensorView<'_>)| {
            let stored = Stored {
                dtype: view.dtype(),
                shape: view.shape().to_vec(),
                content: view.data().to_vec(),
            };
            (name.to_owned(), stored)
        };
        Ok(TensorFile {
            path: self.path.into(),
            metadata: header.metadata().clone().unwrap_or_default(),
            tensors: tensors.iter().map(stored).collect(),
        })
    }

    /// The header's content and the tensors, if together they are as long as the file.
    fn check(&self) -> Result<(Metadata, SafeTensors<'a>)> {
        let foreign = |found: String| {
            unusable(
                self.path,
                format!("expected a safetensors file, found {found}"),
            )
        };
        let Some((header, rest)) = self.bytes.split_first_chunk() else {
            return Err(foreign(format!("{} bytes", self.bytes.len())));
        };
        let header = u64::from_le_bytes(*header);
        if header > MAX_HEADER {
            return Err(foreign(format!(
                "a header of {header} bytes, expected at most {MAX_HEADER}"
            )));
        }
        if header > rest.len() as u64 {
            return Err(foreign(format!(
                "a header of {header} bytes that ends after {}: the file was cut",
                rest.len()
            )));
        }
        let (header, tensors) = rest.split_at(header as usize);
        // The library checks that tensors follow one another without gaps, and that their shapes,
        // types and places agree.
        let header: Metadata = serde_json::from_slice(header)
            .map_err(|error| foreign(format!("a header that is none ({error})")))?;
        let (announced, found) = (header.data_len(), tensors.len());
        if announced != found {
            return Err(foreign(format!(
                "{found} bytes of tensors where the header announces {announced}"
            )));
        }
        if announced > MAX_TENSORS {
            let reason =
                format!("expected at most {MAX_TENSORS} bytes of tensors, found {announced}");
            return Err(unusable(self.path, reason));
        }
        let tensors = SafeTensors::deserialize(self.bytes);
        let tensors = tensors.map_err(|error| foreign(error.to_string()))?;
        Ok((header, tensors))
    }
}

fn unusable(path: &Path, reason: String) -> Error {
    Error::NotACheckpoint {
        path: path.into(),
        reason,
    }
}

fn unreadable(path: &Path, source: std::io::Error) -> Error {
    Error::Io {
        path: path.into(),
        action: "reading a checkpoint",
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};

    use tempfile::TempDir;

    use super::*;

    /// A file of one tensor of two values.
    fn sound() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, content([7.0, 8.0])).unwrap();
        (folder, path)
    }

    fn content(values: [f32; 2]) -> Vec<u8> {
        let header = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
        let length = (header.len() as u64).to_le_bytes();
        let values = values.map(f32::to_le_bytes).concat();
        [&length, header.as_bytes(), &values].concat()
    }

    fn values(file: &TensorFile) -> Vec<f32> {
        file.tensors["a"].to_tensor().unwrap().to_vec1().unwrap()
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_is_replaced_by_renaming_while_it_is_mapped_is_served_as_it_was() {
        let (folder, path) = sound();
        let mapping = Mapping::new(&path).unwrap();
        let other = folder.path().join("other");
        fs::write(&other, content([1.0, 2.0])).unwrap();
        fs::rename(&other, &path).unwrap();
        assert_eq!(values(&mapping.copy().unwrap()), [7.0, 8.0]);
        assert_eq!(values(&TensorFile::open(&path).unwrap()), [1.0, 2.0]);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_whose_length_changes_while_it_is_mapped_is_an_error() {
        for change in [-1, 1] {
            let (_folder, path) = sound();
            let before = fs::metadata(&path).unwrap().len();
            let after = before.saturating_add_signed(change);
            let mapping = Mapping::new(&path).unwrap();
            // The file keeps its page, so that nothing ends this process.
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            file.set_len(after).unwrap();
            let error = mapping.copy().err().unwrap().to_string();
            let said = format!("from {before} bytes to {after}");
            assert!(error.contains(&said), "{error}");
        }
    }

    #[test]
    fn a_file_that_was_cut_short_is_an_error() {
        let (_folder, path) = sound();
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let error = TensorFile::open(&path).err().unwrap().to_string();
            assert!(
                error.contains("expected a safetensors file, found"),
                "{error}"
            );
        }
    }
}
