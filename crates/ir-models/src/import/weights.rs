//! Tensors by name, read from whatever file holds them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use safetensors::Dtype;

use super::problem::ImportProblem;
use super::torch_file;
use crate::error::{Error, Result};
use crate::mapped::{Stored, TensorFile};

/// What networks that were wrapped for several devices have before all of their names.
const WRAPPER: &str = "module.";

/// Tensors by name.
///
/// ```
/// use std::collections::BTreeMap;
/// use candle_core::{DType, Device, Tensor};
/// use ir_models::import::Weights;
///
/// let zero = Tensor::zeros(10, DType::F32, &Device::Cpu)?;
/// let weights = Weights::new(BTreeMap::from([("module.fc.bias".to_owned(), zero)]));
/// assert_eq!(weights.shapes()["fc.bias"], [10]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Weights {
    tensors: BTreeMap<String, Tensor>,
}

impl Weights {
    /// Tensors from anywhere. Where all names begin with `module.`, as those of a network that
    /// PyTorch had spread over several devices, that is taken off.
    pub fn new(tensors: BTreeMap<String, Tensor>) -> Self {
        let wrapped = tensors.keys().all(|name| name.starts_with(WRAPPER));
        let name = |name: String| match name.strip_prefix(WRAPPER) {
            Some(rest) if wrapped => rest.to_owned(),
            _ => name,
        };
        let tensors = tensors.into_iter();
        Self {
            tensors: tensors.map(|(key, tensor)| (name(key), tensor)).collect(),
        }
    }

    /// Whether a file is one of PyTorch's, by its first bytes.
    pub fn is_torch_file(path: &Path) -> bool {
        let mut head = Vec::new();
        let read = File::open(path).and_then(|file| file.take(9).read_to_end(&mut head));
        // A zip archive; a pickle of protocol 2 or later, as PyTorch wrote them before version 1.6. The eight bytes of a
        // safetensors file that say how long its header is may look like either, but then the header begins.
        let pickle = matches!(head[..], [0x80, 2..=5, ..]);
        let torch = head.starts_with(b"PK") || pickle;
        read.is_ok() && torch && head.get(8) != Some(&b'{')
    }

    /// Reads a safetensors file, under a memory map as long as that takes, or one of PyTorch's: of
    /// its zip format, without running the pickle in it.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::NotACheckpoint`], [`Error::Import`] for what is no such file, or for a
    /// tensor of a type that no weights have.
    pub fn open(path: &Path) -> Result<Self> {
        if Self::is_torch_file(path) {
            let tensors = torch_file::read(path);
            return Ok(Self::new(
                tensors.map_err(|problem| Error::import(path, problem))?,
            ));
        }
        let file = TensorFile::open(path)?;
        let tensors = file.tensors.iter().map(|(name, stored)| {
            let tensor = read(name, stored).map_err(|problem| Error::import(path, problem))?;
            Ok((name.clone(), tensor))
        });
        Ok(Self::new(tensors.collect::<Result<_>>()?))
    }

    /// The shape of every tensor.
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let tensors = self.tensors.iter();
        tensors
            .map(|(name, tensor)| (name.clone(), tensor.dims().to_vec()))
            .collect()
    }

    /// A tensor by its name.
    ///
    /// # Errors
    /// [`ImportProblem::Mismatch`] if it is not there.
    pub fn get(&self, name: &str) -> Result<&Tensor, ImportProblem> {
        let missing = || super::TensorReport::only(name.into(), None, &[]).into();
        self.tensors.get(name).ok_or_else(missing)
    }

    /// The values of a vector.
    pub(super) fn values(&self, name: &str) -> Result<Vec<f64>, ImportProblem> {
        Ok(self.get(name)?.to_dtype(DType::F64)?.to_vec1()?)
    }
}

fn read(name: &str, stored: &Stored) -> Result<Tensor, ImportProblem> {
    let dtype = match stored.dtype {
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::I64 => DType::I64,
        other => {
            return Err(ImportProblem::Values {
                tensor: name.into(),
                reason: format!("expected floating-point numbers, found {other:?}"),
            });
        }
    };
    let (content, shape) = (&stored.content, stored.shape.as_slice());
    Ok(Tensor::from_raw_buffer(
        content,
        dtype,
        shape,
        &Device::Cpu,
    )?)
}
