//! Numbers in the memory of a GPU.

use std::marker::PhantomData;
use std::sync::Arc;

use candle_core::{CpuStorage, Device, Storage, Tensor};

use super::Gpu;
use super::backend::{Address, Allocation, Argument};
use crate::error::{Error, Result};
use crate::input;

/// What a [`Buffer`] can hold.
pub trait Element: bytemuck::Pod {}

impl Element for f32 {}
impl Element for f64 {}
impl Element for half::bf16 {}
impl Element for u8 {}
impl Element for u32 {}
impl Element for i32 {}

/// A row of numbers in the memory of a GPU. Clones are the same memory.
///
/// ```
/// # #[cfg(feature = "emulation")]
/// # fn main() -> ir_tensor_ops::Result<()> {
/// use ir_tensor_ops::gpu::{Buffer, Gpu};
///
/// let gpu = Gpu::emulated()?;
/// let buffer = Buffer::zeros(&gpu, 2)?;
/// buffer.write(&[3u32, 4])?;
/// assert_eq!((buffer.len(), buffer.to_vec()?), (2, vec![3, 4]));
/// assert!(buffer.write(&[3]).is_err());
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "emulation"))]
/// # fn main() {}
/// ```
#[derive(Debug, Clone)]
pub struct Buffer<T> {
    gpu: Gpu,
    allocation: Arc<Allocation>,
    /// Where it begins, in numbers from the beginning of the allocation.
    start: usize,
    length: usize,
    element: PhantomData<T>,
}

impl<T: Element> Buffer<T> {
    /// Room for `length` numbers that may hold anything.
    ///
    /// # Errors
    /// [`Error::Gpu`](crate::Error::Gpu) if there is not as much memory, or while operations are recorded or asked for beside others.
    pub fn new(gpu: &Gpu, length: usize) -> Result<Self> {
        gpu.in_turn("taking memory")?;
        let allocation = gpu.backend().allocate(length * size_of::<T>())?;
        Ok(Self {
            gpu: gpu.clone(),
            allocation: Arc::new(allocation),
            start: 0,
            length,
            element: PhantomData,
        })
    }

    /// As many zeros.
    ///
    /// # Errors
    /// As [`Buffer::new`].
    pub fn zeros(gpu: &Gpu, length: usize) -> Result<Self> {
        Self::from_slice(gpu, &vec![T::zeroed(); length])
    }

    /// A copy of numbers of the host.
    ///
    /// # Errors
    /// As [`Buffer::new`].
    pub fn from_slice(gpu: &Gpu, values: &[T]) -> Result<Self> {
        let buffer = Self::new(gpu, values.len())?;
        buffer.write(values)?;
        Ok(buffer)
    }

    /// The memory of a tensor of T, to be read only; `None` if the tensor does not lie on this device.
    pub(super) fn borrowed(gpu: &Gpu, tensor: &Tensor) -> Result<Option<Self>> {
        let memory = gpu.backend().borrow(tensor)?;
        Ok(memory.map(|memory| Self {
            gpu: gpu.clone(),
            allocation: Arc::new(memory),
            start: 0,
            length: tensor.elem_count(),
            element: PhantomData,
        }))
    }

    /// How many numbers it holds.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Its device.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The numbers `range.start .. range.end` of it, in the same memory.
    ///
    /// # Errors
    /// `Shape` if it does not have them.
    pub fn slice(&self, range: std::ops::Range<usize>) -> Result<Self> {
        if range.start > range.end || range.end > self.length {
            let expected = format!("at least {} numbers", range.end);
            return Err(input::wrong_sizes(
                "Buffer::slice",
                "buffer",
                &[self.length],
                expected,
            ));
        }
        Ok(Self {
            start: self.start + range.start,
            length: range.len(),
            ..self.clone()
        })
    }

    /// Overwrites it with as many numbers of the host.
    ///
    /// # Errors
    /// `Shape` if they are more or fewer; [`Error::Gpu`](crate::Error::Gpu), also while operations are recorded or asked for beside others.
    pub fn write(&self, values: &[T]) -> Result<()> {
        self.check_length("Buffer::write", "values", values.len())?;
        self.gpu.in_turn("copying to the device")?;
        if values.is_empty() {
            return Ok(());
        }
        let bytes = bytemuck::cast_slice(values);
        // SAFETY: the allocation holds as many numbers from `address` on, and `values` no more.
        unsafe { self.gpu.backend().write(self.address(), bytes) }
    }

    /// Overwrites `values` with the numbers, once all work so far is done.
    ///
    /// # Errors
    /// `Shape` if it has not as many places; [`Error::Gpu`](crate::Error::Gpu), also while operations are recorded or asked for beside others.
    pub fn read(&self, values: &mut [T]) -> Result<()> {
        self.check_length("Buffer::read", "values", values.len())?;
        self.gpu.in_turn("copying from the device")?;
        self.gpu.join()?;
        if values.is_empty() {
            return self.gpu.wait();
        }
        let bytes = bytemuck::cast_slice_mut(values);
        // SAFETY: as in `write`.
        unsafe { self.gpu.backend().read(self.address(), bytes) }
    }

    /// The numbers, once all work so far is done.
    ///
    /// # Errors
    /// [`Error::Gpu`](crate::Error::Gpu).
    pub fn to_vec(&self) -> Result<Vec<T>> {
        let mut values = vec![T::zeroed(); self.length];
        self.read(&mut values)?;
        Ok(values)
    }

    pub(super) fn check_length(
        &self,
        op: &'static str,
        argument: &'static str,
        found: usize,
    ) -> Result<()> {
        if found == self.length {
            return Ok(());
        }
        let expected = format!("[{}]", self.length);
        Err(input::wrong_sizes(op, argument, &[found], expected))
    }

    pub(super) fn address(&self) -> Address {
        self.allocation.address + (self.start * size_of::<T>()) as Address
    }
}

impl Buffer<f32> {
    /// Overwrites every number with one value.
    ///
    /// # Errors
    /// [`Error::Gpu`](crate::Error::Gpu).
    pub fn fill(&self, value: f32) -> Result<()> {
        let arguments = [self.into(), value.into(), (self.length as i32).into()];
        // SAFETY: the kernel writes as many numbers as the buffer has.
        unsafe { self.gpu.launch_for(self.length, "fill".into(), arguments) }
    }

    /// The first numbers of it, without the others.
    pub(super) fn shortened(mut self, length: usize) -> Self {
        self.length = self.length.min(length);
        self
    }

    /// The numbers as the storage of a tensor: a copy for one of the CPU, the memory itself for one of this GPU.
    pub(crate) fn into_storage(self, device: &Device) -> Result<Storage> {
        if !device.is_cpu() && !device.same_device(&self.gpu.device()) {
            return Err(Error::Gpu {
                action: "making a tensor".into(),
                reason:
                    "its memory is on another device; ask for a tensor on the CPU, and move that"
                        .into(),
            });
        }
        let on_the_cpu = device.is_cpu().then(|| self.to_vec()).transpose()?;
        // A clone of the buffer, a part of it or a recording would go on using what the tensor now owns. On the CPU
        // that would do no harm, but there the same is emulated.
        let memory = match Arc::try_unwrap(self.allocation) {
            Ok(memory) if self.start == 0 => memory,
            _ => {
                return Err(Error::Gpu {
                    action: "making a tensor".into(),
                    reason: "the memory is in use elsewhere".into(),
                });
            }
        };
        match on_the_cpu {
            Some(values) => Ok(Storage::Cpu(CpuStorage::F32(values))),
            None => self.gpu.backend().storage_of(memory, self.length),
        }
    }
}

impl<T: Element> From<&Buffer<T>> for Argument {
    fn from(buffer: &Buffer<T>) -> Self {
        Self::address(buffer.address(), &buffer.allocation)
    }
}

/// A null pointer for nothing.
impl<T: Element> From<Option<&Buffer<T>>> for Argument {
    fn from(buffer: Option<&Buffer<T>>) -> Self {
        buffer.map_or_else(Self::null, Self::from)
    }
}
