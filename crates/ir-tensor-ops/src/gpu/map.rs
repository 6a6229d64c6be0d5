//! Activations in the memory of a GPU.

use candle_core::{Device, Tensor};
use half::bf16;

use super::backend::Argument;
use super::{Buffer, Gpu, tensors};
use crate::error::Result;
use crate::input::{self, Output};

/// What the numbers of activations and weights are stored as; sums are in f32 either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Precision {
    /// f32: 24 bits of significand. Convolutions multiply in f32, not in TF32.
    F32,
    /// bfloat16: 8 bits of significand, on tensor cores.
    Bf16,
}

impl Precision {
    /// `f32` or `bf16`, as kernels, flags and files call it.
    ///
    /// ```
    /// # #[cfg(any(feature = "cuda", feature = "emulation"))]
    /// assert_eq!(ir_tensor_ops::gpu::Precision::Bf16.name(), "bf16");
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

/// The numbers of a map in their type.
#[derive(Debug, Clone)]
enum Numbers {
    F32(Buffer<f32>),
    Bf16(Buffer<bf16>),
}

/// Channels come in groups of this many; behind the last one stand zeros.
pub(super) const GROUP: usize = 16;

/// An activation `[N, C, H, W]` in the memory of a GPU: the channels of a place lie side by side, padded with
/// zeros to a multiple of 16. Clones are the same memory.
///
/// ```
/// # #[cfg(feature = "emulation")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use candle_core::{Device, Tensor};
/// use ir_tensor_ops::gpu::{Gpu, Map, Precision};
///
/// let gpu = Gpu::emulated()?;
/// let x = Tensor::new(&[1f32, 2., 3., 4.], &Device::Cpu)?.reshape((1, 2, 1, 2))?;
/// let map = Map::from_tensor(&gpu, &x, Precision::F32)?;
/// assert_eq!(map.dims(), [1, 2, 1, 2]);
/// assert_eq!(map.to_tensor()?.flatten_all()?.to_vec1::<f32>()?, [1., 2., 3., 4.]);
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "emulation"))]
/// # fn main() {}
/// ```
#[derive(Debug, Clone)]
pub struct Map {
    numbers: Numbers,
    dims: [usize; 4],
}

impl Map {
    /// One whose numbers may be anything.
    ///
    /// # Errors
    /// `Shape` for a dimension 0 and for 2³¹ numbers or more, [`Error::Gpu`](crate::Error::Gpu) if there is not
    /// as much memory.
    pub fn new(gpu: &Gpu, dims: [usize; 4], precision: Precision) -> Result<Self> {
        const OP: &str = "Map::new";
        let dims = input::sizes(OP, "dims", &dims, "[N, C, H, W]")?;
        let length = size(dims);
        if length > i32::MAX as usize {
            return Err(input::wrong_sizes(
                OP,
                "dims",
                &dims,
                "fewer than 2³¹ numbers".into(),
            ));
        }
        let numbers = match precision {
            Precision::F32 => Numbers::F32(Buffer::new(gpu, length)?),
            Precision::Bf16 => Numbers::Bf16(Buffer::new(gpu, length)?),
        };
        Ok(Self { numbers, dims })
    }

    /// A copy of a tensor `[N, C, H, W]` of f32, which lies on this GPU or the CPU.
    ///
    /// # Errors
    /// `Shape`, `DType` or `Device`, and those of [`Map::new`].
    pub fn from_tensor(gpu: &Gpu, tensor: &Tensor, precision: Precision) -> Result<Self> {
        let dims = input::dims("Map::from_tensor", "tensor", tensor, "[N, C, H, W]")?;
        let map = Self::new(gpu, dims, precision)?;
        map.write(tensor)?;
        Ok(map)
    }

    /// Overwrites it with a tensor `[N, C, H, W]` of f32, which lies on this GPU or the CPU.
    ///
    /// # Errors
    /// `Shape` for other dimensions than its own, `DType` or `Device`, [`Error::Gpu`](crate::Error::Gpu).
    pub fn write(&self, tensor: &Tensor) -> Result<()> {
        const OP: &str = "Map::write";
        let dims = input::dims(OP, "tensor", tensor, "[N, C, H, W]")?;
        if dims != self.dims {
            let expected = format!("{:?}", self.dims);
            return Err(input::wrong_sizes(OP, "tensor", &dims, expected));
        }
        let values = tensors::numbers(self.gpu(), OP, "tensor", tensor)?;
        self.reorder("to_map", &[(&values).into(), self.argument()])
    }

    /// A copy as a tensor on the CPU.
    ///
    /// # Errors
    /// [`Error::Gpu`](crate::Error::Gpu).
    pub fn to_tensor(&self) -> Result<Tensor> {
        self.to_tensor_on(&Device::Cpu)
    }

    /// A copy as a tensor on the CPU, or on the Candle device of this GPU, which it then does not leave.
    ///
    /// # Errors
    /// [`Error::Gpu`](crate::Error::Gpu), also for another device.
    pub fn to_tensor_on(&self, device: &Device) -> Result<Tensor> {
        Output::of_buffer(self.to_buffer()?, device, &self.dims)?.tensor()
    }

    /// The numbers in the order of a tensor.
    pub(super) fn to_buffer(&self) -> Result<Buffer<f32>> {
        let values = Buffer::new(self.gpu(), self.dims.iter().product())?;
        self.reorder("from_map", &[self.argument(), (&values).into()])?;
        Ok(values)
    }

    /// N, C, H and W.
    pub fn dims(&self) -> [usize; 4] {
        self.dims
    }

    /// What its numbers are stored as.
    pub fn precision(&self) -> Precision {
        match &self.numbers {
            Numbers::F32(_) => Precision::F32,
            Numbers::Bf16(_) => Precision::Bf16,
        }
    }

    /// Its device.
    pub fn gpu(&self) -> &Gpu {
        match &self.numbers {
            Numbers::F32(buffer) => buffer.gpu(),
            Numbers::Bf16(buffer) => buffer.gpu(),
        }
    }

    /// The first images of it, in the same memory: for a batch that is smaller than usual.
    ///
    /// # Errors
    /// `Shape` if it has fewer.
    pub fn first(&self, images: usize) -> Result<Self> {
        let dims = [images, self.dims[1], self.dims[2], self.dims[3]];
        let numbers = match &self.numbers {
            Numbers::F32(buffer) => Numbers::F32(buffer.slice(0..size(dims))?),
            Numbers::Bf16(buffer) => Numbers::Bf16(buffer.slice(0..size(dims))?),
        };
        Ok(Self { numbers, dims })
    }

    /// Fails unless another map has the dimensions and the precision of this one.
    pub(super) fn check_same(
        &self,
        op: &'static str,
        argument: &'static str,
        other: &Self,
    ) -> Result<()> {
        if other.dims == self.dims && other.precision() == self.precision() {
            return Ok(());
        }
        let expected = format!("{:?} of {}", self.dims, self.precision().name());
        Err(input::wrong_sizes(op, argument, &other.dims, expected))
    }

    /// Channels with their padding.
    pub(super) fn padded_channels(&self) -> usize {
        self.dims[1].next_multiple_of(GROUP)
    }

    /// Its address, for a kernel.
    pub(super) fn argument(&self) -> Argument {
        match &self.numbers {
            Numbers::F32(buffer) => buffer.into(),
            Numbers::Bf16(buffer) => buffer.into(),
        }
    }

    fn reorder(&self, kernel: &str, ends: &[Argument]) -> Result<()> {
        // SAFETY: the tensor has N·C·H·W numbers and the map as many with padding.
        unsafe { reorder(self.gpu(), kernel, self.precision(), ends, self.dims) }
    }
}

/// Starts `to_map` or `from_map` with a tensor of these dimensions and a map.
///
/// # Safety
/// As [`Gpu::launch`]; the ends have as many numbers, those of the map with padded channels.
pub(super) unsafe fn reorder(
    gpu: &Gpu,
    kernel: &str,
    precision: Precision,
    ends: &[Argument],
    dims: [usize; 4],
) -> Result<()> {
    let [images, channels, height, width] = dims;
    let sizes = [
        images,
        channels,
        channels.next_multiple_of(GROUP),
        height * width,
    ];
    let sizes = sizes.map(|size| (size as i32).into());
    let kernel = format!("{kernel}_{}", precision.name());
    // SAFETY: the caller answers for the ends.
    unsafe { gpu.launch_for(size(dims), kernel, [ends, &sizes].concat()) }
}

/// Numbers of a map with its padding.
fn size([images, channels, height, width]: [usize; 4]) -> usize {
    images * channels.next_multiple_of(GROUP) * height * width
}
