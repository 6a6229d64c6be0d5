//! The weights of a convolution in the memory of a GPU.

use candle_core::{Device, Tensor};
use half::bf16;

use super::backend::Argument;
use super::norm::padded;
use super::{Buffer, Gpu, Precision};
use crate::error::Result;
use crate::input::{self, Input};

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
    /// A copy of a tensor `[O, I, K, K]`.
    ///
    /// # Errors
    /// `Shape`, `DType`, `Device`, and [`Error::Gpu`](crate::Error::Gpu) if there is not as much memory.
    pub fn from_tensor(gpu: &Gpu, tensor: &Tensor, precision: Precision) -> Result<Self> {
        const OP: &str = "Weights::from_tensor";
        let dims = input::dims(OP, "tensor", tensor, "[O, I, K, K]")?;
        let input = Input::new(OP, "tensor", tensor)?;
        let mut values = vec![0f32; length(dims)];
        for (&value, place) in input.values().iter().zip(places(dims)) {
            values[place] = value;
        }
        Ok(match precision {
            Precision::F32 => Self::F32(Buffer::from_slice(gpu, &values)?),
            Precision::Bf16 => {
                let values: Vec<_> = values.into_iter().map(bf16::from_f32).collect();
                Self::Bf16(Buffer::from_slice(gpu, &values)?)
            }
        })
    }

    /// A copy as a tensor `[O, I, K, K]` of the given sizes on the CPU.
    ///
    /// # Errors
    /// `Shape` if the weights are not as many, [`Error::Gpu`](crate::Error::Gpu).
    pub fn to_tensor(&self, dims: [usize; 4]) -> Result<Tensor> {
        if self.len() != length(dims) {
            let expected = format!("sizes of {} weights with their padding", self.len());
            return Err(input::wrong_sizes(
                "Weights::to_tensor",
                "dims",
                &dims,
                expected,
            ));
        }
        let values = match self {
            Self::F32(buffer) => buffer.to_vec()?,
            Self::Bf16(buffer) => buffer.to_vec()?.into_iter().map(bf16::to_f32).collect(),
        };
        let values: Vec<_> = places(dims).map(|place| values[place]).collect();
        Ok(Tensor::from_vec(values, dims.to_vec(), &Device::Cpu)?)
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

/// Where the weights lie on the device, in the order of the tensor.
fn places([outputs, inputs, height, width]: [usize; 4]) -> impl Iterator<Item = usize> {
    let taps = height * width;
    (0..outputs * inputs * taps).map(move |index| {
        let (output, input, tap) = (index / taps / inputs, index / taps % inputs, index % taps);
        (output * taps + tap) * padded(inputs) + input
    })
}
