//! The weights of a convolution in the memory of a GPU.

use candle_core::{Device, Tensor};
use half::bf16;

use super::backend::Argument;
use super::map::reorder;
use super::norm::padded;
use super::{Buffer, Element, Gpu, Precision, tensors};
use crate::error::Result;
use crate::input::{self, Output};

/// The weights `[O, I, K, K]` of a convolution as its kernels read them: `[O, K, K, I]`, with O and I padded with
/// zeros to a multiple of 16. Clones are the same memory.
///
/// ```
/// # #[cfg(feature = "emulation")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use candle_core::{Device, Tensor};
/// use ir_tensor_ops::gpu::{Gpu, Precision, Weights};
///
/// let gpu = Gpu::emulated()?;
/// let tensor = Tensor::new(&[0.5f32, -2., 3.], &Device::Cpu)?.reshape((3, 1, 1, 1))?;
/// let weights = Weights::from_tensor(&gpu, &tensor, Precision::Bf16)?;
/// assert_eq!(weights.len(), 16 * 16);
/// let back = weights.to_tensor([3, 1, 1, 1])?;
/// assert_eq!(back.flatten_all()?.to_vec1::<f32>()?, [0.5, -2., 3.]);
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "emulation"))]
/// # fn main() {}
/// ```
#[derive(Debug, Clone)]
pub enum Weights {
    /// In f32.
    F32(Buffer<f32>),
    /// In bfloat16.
    Bf16(Buffer<bf16>),
}

impl Weights {
    /// A copy of a tensor `[O, I, K, K]` of f32, which lies on this GPU or the CPU.
    ///
    /// # Errors
    /// `Shape`, `DType`, `Device`, and [`Error::Gpu`](crate::Error::Gpu) if there is not as much memory.
    pub fn from_tensor(gpu: &Gpu, tensor: &Tensor, precision: Precision) -> Result<Self> {
        const OP: &str = "Weights::from_tensor";
        let dims = input::dims(OP, "tensor", tensor, "[O, I, K, K]")?;
        let values = tensors::numbers(gpu, OP, "tensor", tensor)?;
        let weights = match precision {
            Precision::F32 => Self::F32(with_last_zero(gpu, dims)?),
            Precision::Bf16 => Self::Bf16(with_last_zero(gpu, dims)?),
        };
        let ends = [(&values).into(), weights.argument()];
        // SAFETY: O·I·K² numbers of the tensor become O·K²·I of the weights, I with its padding.
        unsafe { reorder(gpu, "to_map", precision, &ends, dims)? };
        Ok(weights)
    }

    /// A copy as a tensor `[O, I, K, K]` of the given sizes on the CPU.
    ///
    /// # Errors
    /// `Shape` if the weights are not as many, [`Error::Gpu`](crate::Error::Gpu).
    pub fn to_tensor(&self, dims: [usize; 4]) -> Result<Tensor> {
        Output::of_buffer(self.to_buffer(dims)?, &Device::Cpu, &dims)?.tensor()
    }

    /// The numbers in the order of a tensor of these dimensions.
    pub(super) fn to_buffer(&self, dims: [usize; 4]) -> Result<Buffer<f32>> {
        if self.len() != length(dims) {
            let expected = format!("sizes of {} weights with their padding", self.len());
            return Err(input::wrong_sizes(
                "Weights::to_tensor",
                "dims",
                &dims,
                expected,
            ));
        }
        let values = Buffer::new(self.gpu(), dims.iter().product())?;
        let ends = [self.argument(), (&values).into()];
        // SAFETY: as in `from_tensor`, the other way round.
        unsafe { reorder(self.gpu(), "from_map", self.precision(), &ends, dims)? };
        Ok(values)
    }

    /// How many numbers they are, with their padding.
    #[allow(clippy::len_without_is_empty, reason = "a convolution has weights")]
    pub fn len(&self) -> usize {
        match self {
            Self::F32(buffer) => buffer.len(),
            Self::Bf16(buffer) => buffer.len(),
        }
    }

    /// What they are stored as.
    pub fn precision(&self) -> Precision {
        match self {
            Self::F32(_) => Precision::F32,
            Self::Bf16(_) => Precision::Bf16,
        }
    }

    fn gpu(&self) -> &Gpu {
        match self {
            Self::F32(buffer) => buffer.gpu(),
            Self::Bf16(buffer) => buffer.gpu(),
        }
    }

    /// Their address, for a kernel.
    pub(super) fn argument(&self) -> Argument {
        match self {
            Self::F32(buffer) => buffer.into(),
            Self::Bf16(buffer) => buffer.into(),
        }
    }
}

/// The numbers of weights `[O, I, K, K]` with their padding.
pub(super) fn length([outputs, inputs, height, width]: [usize; 4]) -> usize {
    padded(outputs) * height * width * padded(inputs)
}

/// Room for weights `[O, K, K, I]`, zeros behind the outputs.
fn with_last_zero<T: Element>(gpu: &Gpu, dims: [usize; 4]) -> Result<Buffer<T>> {
    let buffer = Buffer::new(gpu, length(dims))?;
    let outputs = length(dims) / padded(dims[0]) * dims[0];
    let rest = buffer.slice(outputs..buffer.len())?;
    if !rest.is_empty() {
        rest.write(&vec![T::zeroed(); rest.len()])?;
    }
    Ok(buffer)
}
