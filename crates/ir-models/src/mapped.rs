//! A safetensors file under a memory map: the one place of this crate with unsafe code.
//!
//! The map is there only while [`read`] runs. The header is checked against the file's length
//! first, what is wanted is copied out, the length is compared again, and the map is dropped:
//! whatever becomes of the file later has no effect.
//!
//! # What is not guaranteed
//!
//! A process that truncates the file while it is mapped takes pages from under the map, and
//! reading one of these ends this process with SIGBUS; that cannot be excluded, since files have
//! no lock that others must respect. One that writes into the file meanwhile can make the copied
//! tensors a mixture of old and new. A file that is shorter or longer after copying is an error.
//! This program never does either: it writes a new file and renames it over the name, which
//! leaves a mapped one as it was.

use std::fs::File;
use std::path::Path;

use candle_core::{Device, Tensor};
use memmap2::Mmap;
use safetensors::SafeTensors;
use safetensors::tensor::{Metadata, TensorView};

use crate::error::{Error, Result};

/// The longest header that is read. That of the paper's deepest network has 0.6 MB.
const MAX_HEADER: u64 = 16 << 20;

/// Bytes before the header, which are its length.
const LENGTH: usize = 8;

/// Maps a file, checks its header, and hands the header's content and the tensors to `take`,
/// which copies what it wants.
pub(crate) fn read<T>(
    path: &Path,
    take: impl FnOnce(&Metadata, &SafeTensors<'_>) -> Result<T>,
) -> Result<T> {
    let io = |source| Error::Io {
        path: path.into(),
        action: "reading a checkpoint",
        source,
    };
    let metadata = std::fs::metadata(path).map_err(io)?;
    if metadata.is_dir() {
        let reason = "it is a folder; name the safetensors file in it";
        return Err(unusable(path, reason.into()));
    }
    // A pipe would be waited for.
    if !metadata.is_file() {
        return Err(foreign(path, "no file with a length".into()));
    }
    let file = File::open(path).map_err(io)?;
    // SAFETY: the map is only read, and dropped before this function returns. Who truncates or
    // rewrites the file in place meanwhile breaks it, as the module's documentation says;
    // checkpoints are replaced by renaming a whole new file over the name, which leaves a mapped
    // one as it was.
    let map = unsafe { Mmap::map(&file) }.map_err(io)?;
    let taken = check(path, &map).and_then(|(header, tensors)| take(&header, &tensors));
    let (before, after) = (map.len() as u64, file.metadata().map_err(io)?.len());
    if before != after {
        let reason = format!("it had {before} bytes, and {after} after it was read; try again");
        return Err(unusable(path, reason));
    }
    taken
}

/// The header's content and the tensors of a file that is as long as its header says.
fn check<'a>(path: &Path, content: &'a [u8]) -> Result<(Metadata, SafeTensors<'a>)> {
    let foreign = |found| foreign(path, found);
    let Some((length, rest)) = content.split_first_chunk::<LENGTH>() else {
        return Err(foreign(format!("{} bytes", content.len())));
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER.min(rest.len() as u64) {
        return Err(foreign(format!(
            "a header of {length} bytes, expected at most {MAX_HEADER}, in a file of {}",
            content.len()
        )));
    }
    let (header, tensors) = rest.split_at(length as usize);
    // The library checks that offsets follow one another and that shapes, types and offsets agree.
    let header: Metadata = serde_json::from_slice(header)
        .map_err(|error| foreign(format!("a header that is none ({error})")))?;
    if header.data_len() != tensors.len() {
        return Err(foreign(format!(
            "{} bytes of tensors where the header announces {}",
            tensors.len(),
            header.data_len()
        )));
    }
    let tensors = SafeTensors::deserialize(content).map_err(|error| foreign(error.to_string()))?;
    Ok((header, tensors))
}

fn foreign(path: &Path, found: String) -> Error {
    unusable(path, format!("expected a safetensors file, found {found}"))
}

/// The error that a file cannot be used as a checkpoint.
pub(crate) fn unusable(path: &Path, reason: String) -> Error {
    Error::NotACheckpoint {
        path: path.into(),
        reason,
    }
}

/// Copies an f32 tensor out of the map.
pub(crate) fn to_tensor(view: &TensorView<'_>) -> candle_core::Result<Tensor> {
    let bytes = view.data().chunks_exact(4);
    let values: Vec<f32> = bytes
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    Tensor::from_vec(values, view.shape(), &Device::Cpu)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;

    /// A file of one tensor, 7 and 8.
    fn sound() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, content(7.0, 8.0)).unwrap();
        (folder, path)
    }

    fn content(first: f32, second: f32) -> Vec<u8> {
        let header = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
        let mut content = (header.len() as u64).to_le_bytes().to_vec();
        content.extend(header.as_bytes());
        content.extend([first.to_le_bytes(), second.to_le_bytes()].concat());
        content
    }

    fn values(tensors: &SafeTensors<'_>) -> Result<Vec<f32>> {
        let view = tensors.tensor("a").unwrap();
        Ok(to_tensor(&view)?.to_vec1()?)
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_is_replaced_by_renaming_while_it_is_mapped_is_served_as_it_was() {
        let (folder, path) = sound();
        let other = folder.path().join("other");
        fs::write(&other, content(1.0, 2.0)).unwrap();
        let read_values = read(&path, |_, tensors| {
            fs::rename(&other, &path).unwrap();
            values(tensors)
        });
        assert_eq!(read_values.unwrap(), [7.0, 8.0]);
        let again = read(&path, |_, tensors| values(tensors));
        assert_eq!(again.unwrap(), [1.0, 2.0]);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_whose_length_changes_while_it_is_mapped_is_an_error() {
        for change in [-1, 1] {
            let (_folder, path) = sound();
            let length = content(0.0, 0.0).len() as i64;
            let read_values = read(&path, |_, tensors| {
                let values = values(tensors)?;
                // The page stays, so that nothing ends this process.
                let file = OpenOptions::new().write(true).open(&path).unwrap();
                file.set_len((length + change) as u64).unwrap();
                Ok(values)
            });
            let error = read_values.unwrap_err().to_string();
            let said = format!("it had {length} bytes, and {} after", length + change);
            assert!(error.contains(&said), "{error}");
        }
    }

    #[test]
    fn a_file_that_was_cut_short_is_an_error() {
        let (_folder, path) = sound();
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let error = read(&path, |_, _| Ok(())).unwrap_err().to_string();
            assert!(
                error.contains("expected a safetensors file, found"),
                "{error}"
            );
        }
    }
}
