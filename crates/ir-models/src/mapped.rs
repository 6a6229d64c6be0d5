//! A safetensors file under a memory map: the one place of this crate with unsafe code.

use std::fs::File;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use memmap2::Mmap;
use safetensors::SafeTensors;
use safetensors::tensor::{Metadata, TensorView};

use crate::error::{Error, Result};

/// An open safetensors file. Its header is checked when it is opened; a tensor's bytes are read
/// when they are asked for.
pub(crate) struct MappedFile {
    path: PathBuf,
    map: Mmap,
}

impl MappedFile {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let io = |action| {
            move |source| Error::Io {
                path: path.into(),
                action,
                source,
            }
        };
        let file = File::open(path).map_err(io("opening a checkpoint"))?;
        let metadata = file.metadata().map_err(io("opening a checkpoint"))?;
        if metadata.is_dir() {
            return Err(Error::NotACheckpoint {
                path: path.into(),
                reason: "it is a folder; name the safetensors file in it".into(),
            });
        }
        // SAFETY: the map is only read. Checkpoints are replaced by renaming a whole new file over
        // the name, which leaves a mapped one as it was; who truncates or rewrites a mapped file in
        // place breaks the map, as README and the documentation of `Checkpoint::open` say.
        let map = unsafe { Mmap::map(&file) }.map_err(io("mapping a checkpoint into memory"))?;
        Ok(Self {
            path: path.into(),
            map,
        })
    }

    /// The header's `__metadata__` and the tensors.
    pub(crate) fn parse(&self) -> Result<(Metadata, SafeTensors<'_>)> {
        let foreign = |error| self.unusable(format!("{error}; expected a safetensors file"));
        let (_, metadata) = SafeTensors::read_metadata(&self.map).map_err(foreign)?;
        Ok((
            metadata,
            SafeTensors::deserialize(&self.map).map_err(foreign)?,
        ))
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

/// Copies an f32 tensor out of the map.
pub(crate) fn to_tensor(view: &TensorView<'_>) -> candle_core::Result<Tensor> {
    let bytes = view.data().chunks_exact(4);
    let values: Vec<f32> = bytes
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    Tensor::from_vec(values, view.shape(), &Device::Cpu)
}
