//! A safetensors file in memory, its header checked before the rest is read.
//!
//! The file is read and not mapped: what was checked is then what is used, whatever happens to
//! the file meanwhile, and a file that shrinks is an error and not a SIGBUS.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use safetensors::SafeTensors;
use safetensors::tensor::{Metadata, TensorView};

use crate::error::{Error, Result};

/// The longest header that is read. That of the paper's deepest network has 0.6 MB.
const MAX_HEADER: u64 = 16 << 20;

/// The most bytes of tensors that are read: weights and velocities of the largest network that is
/// built.
const MAX_TENSORS: u64 = 8 << 30;

/// Bytes before the header, which are its length.
const LENGTH: u64 = 8;

/// A safetensors file that was read whole.
pub(crate) struct TensorFile {
    path: PathBuf,
    content: Vec<u8>,
}

impl TensorFile {
    /// Reads a file whose header says that it is as long as it is.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let io = |source| unreadable(path, source);
        let mut this = Self {
            path: path.into(),
            content: Vec::new(),
        };
        let metadata = std::fs::metadata(path).map_err(io)?;
        if metadata.is_dir() {
            return Err(this.unusable("it is a folder; name the safetensors file in it".into()));
        }
        // A pipe would be waited for, and a device has no end.
        if !metadata.is_file() {
            return Err(this.unusable("it is no file".into()));
        }
        let mut file = File::open(path).map_err(io)?;
        let length = metadata.len();
        this.read(&mut file, LENGTH.min(length))?;
        let Some(header) = this.content.first_chunk() else {
            return Err(this.foreign(format!("{length} bytes")));
        };
        let header = u64::from_le_bytes(*header);
        if header > MAX_HEADER.min(length - LENGTH) {
            return Err(this.foreign(format!(
                "a header of {header} bytes, expected at most {MAX_HEADER}, in a file of {length}"
            )));
        }
        this.read(&mut file, header)?;
        let tensors: Metadata = serde_json::from_slice(&this.content[LENGTH as usize..])
            .map_err(|error| this.foreign(format!("a header that is none ({error})")))?;
        let announced = tensors.data_len() as u64;
        if announced != length - LENGTH - header {
            return Err(this.foreign(format!(
                "{} bytes of tensors where the header announces {announced}",
                length - LENGTH - header
            )));
        }
        if announced > MAX_TENSORS {
            return Err(this.unusable(format!(
                "expected at most {MAX_TENSORS} bytes of tensors, found {announced}"
            )));
        }
        this.read(&mut file, announced)?;
        Ok(this)
    }

    /// Reads so many bytes behind those that are there. The file was found to be long enough.
    fn read(&mut self, file: &mut File, count: u64) -> Result<()> {
        let expected = self.content.len() as u64 + count;
        let reserved = self.content.try_reserve_exact(count as usize);
        reserved
            .map_err(std::io::Error::from)
            .and_then(|()| file.take(count).read_to_end(&mut self.content))
            .map_err(|source| unreadable(&self.path, source))?;
        if (self.content.len() as u64) < expected {
            return Err(self.unusable(format!(
                "it became shorter while it was read: {} of {expected} bytes are there",
                self.content.len()
            )));
        }
        Ok(())
    }

    /// The header's `__metadata__` and the tensors.
    pub(crate) fn parse(&self) -> Result<(Metadata, SafeTensors<'_>)> {
        let foreign = |error: safetensors::SafeTensorError| self.foreign(error.to_string());
        let (_, metadata) = SafeTensors::read_metadata(&self.content).map_err(foreign)?;
        Ok((
            metadata,
            SafeTensors::deserialize(&self.content).map_err(foreign)?,
        ))
    }

    fn foreign(&self, found: String) -> Error {
        self.unusable(format!("expected a safetensors file, found {found}"))
    }

    pub(crate) fn unusable(&self, reason: String) -> Error {
        Error::NotACheckpoint {
            path: self.path.clone(),
            reason,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn unreadable(path: &Path, source: std::io::Error) -> Error {
    Error::Io {
        path: path.into(),
        action: "reading a checkpoint",
        source,
    }
}

/// Copies an f32 tensor out of the file's content.
pub(crate) fn to_tensor(view: &TensorView<'_>) -> candle_core::Result<Tensor> {
    let bytes = view.data().chunks_exact(4);
    let values: Vec<f32> = bytes
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    Tensor::from_vec(values, view.shape(), &Device::Cpu)
}
