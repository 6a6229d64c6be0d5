//! The operations of this crate on tensors of a GPU: what `explicit` and `per_sample` do there.
//!
//! The public functions check shapes and settings, and come here ([`gpu_of`]) if their first tensor lies on a GPU.
//! A tensor is read where it lies; a result becomes a tensor beside its arguments. Everything is f32, and sums
//! are added in an order that depends on the shapes alone.

pub(crate) mod classifier;
pub(crate) mod convolution;
pub(crate) mod elementwise;
pub(crate) mod norm;
pub(crate) mod per_sample;
pub(crate) mod pool;

#[cfg(feature = "emulation")]
use std::cell::RefCell;

use candle_core::{DType, Device, Shape, Tensor};

use super::{Buffer, Gpu, Map, Precision, map};
use crate::error::Result;
use crate::input::{self, Input, Output};

/// The GPU that operations on a tensor run on, if it is not the CPU.
pub(crate) fn gpu_of(tensor: &Tensor) -> Result<Option<Gpu>> {
    match tensor.device() {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => super::cuda::gpu_of(device).map(Some),
        #[cfg(feature = "emulation")]
        Device::Cpu => Ok(STAND_IN.with_borrow(Clone::clone)),
        _ => Ok(None),
    }
}

#[cfg(feature = "emulation")]
thread_local! {
    /// What the operations on tensors of the CPU run on instead.
    static STAND_IN: RefCell<Option<Gpu>> = const { RefCell::new(None) };
}

#[cfg(feature = "emulation")]
impl Gpu {
    /// Carries out `work` with this GPU in place of the CPU: the operations of this crate that it asks for on this
    /// thread, on tensors of the CPU, run here, and their tensors are copied to and fro. So the operations on
    /// tensors of a GPU are tested in the emulation.
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use ir_tensor_ops::{gpu::Gpu, per_sample};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let x = Tensor::new(&[[3f32, 4.]], &Device::Cpu)?;
    /// let squares = Gpu::emulated()?.in_place_of_the_cpu(|| per_sample::squared_norm(&x))?;
    /// assert_eq!(squares, [25.]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn in_place_of_the_cpu<R>(&self, work: impl FnOnce() -> R) -> R {
        /// Puts back what was there, also after a panic.
        struct Before(Option<Gpu>);
        impl Drop for Before {
            fn drop(&mut self) {
                STAND_IN.set(self.0.take());
            }
        }
        let _before = Before(STAND_IN.replace(Some(self.clone())));
        work()
    }
}

/// The numbers of an f32 tensor: where they lie on this GPU, or a copy of what lies on the CPU.
pub(super) fn numbers(
    gpu: &Gpu,
    op: &'static str,
    argument: &'static str,
    tensor: &Tensor,
) -> Result<Buffer<f32>> {
    input::check_dtype(op, argument, tensor, DType::F32)?;
    // The kernels count in 31 bits, in steps of a whole grid.
    if tensor.elem_count() > 1 << 30 {
        let expected = "at most 2³⁰ numbers".into();
        return Err(input::wrong_shape(op, argument, tensor, expected));
    }
    match Buffer::borrowed(gpu, tensor)? {
        Some(buffer) => Ok(buffer),
        None => Buffer::from_slice(gpu, &Input::new(op, argument, tensor)?.values()),
    }
}

/// One call of an operation, whose tensors all lie on one device.
struct Call<'a> {
    gpu: &'a Gpu,
    op: &'static str,
    device: &'a Device,
}

impl<'a> Call<'a> {
    /// That of an operation on `x` and others.
    fn new(gpu: &'a Gpu, op: &'static str, x: &'a Tensor) -> Self {
        let device = x.device();
        Self { gpu, op, device }
    }

    /// The numbers of an argument.
    fn numbers(&self, argument: &'static str, tensor: &Tensor) -> Result<Buffer<f32>> {
        input::check_device(self.op, argument, tensor, self.device)?;
        numbers(self.gpu, self.op, argument, tensor)
    }

    /// The numbers of an argument of this shape.
    fn shaped(
        &self,
        argument: &'static str,
        tensor: &Tensor,
        shape: &[usize],
    ) -> Result<Buffer<f32>> {
        input::check_shape(self.op, argument, tensor, shape)?;
        self.numbers(argument, tensor)
    }

    /// An argument `[N, C, H, W]` as a map.
    fn map(&self, argument: &'static str, tensor: &Tensor) -> Result<Map> {
        input::check_device(self.op, argument, tensor, self.device)?;
        input::check_dtype(self.op, argument, tensor, DType::F32)?;
        Map::from_tensor(self.gpu, tensor, Precision::F32)
    }

    /// Room for a result `[N, C, H, W]`.
    fn new_map(&self, dims: [usize; 4]) -> Result<Map> {
        Map::new(self.gpu, dims, Precision::F32)
    }

    /// A map as a result.
    fn map_output(&self, map: &Map) -> Result<Output> {
        self.output(map.to_buffer()?, &map.dims())
    }

    /// The labels of a batch, each below `classes`.
    fn labels(&self, labels: &Tensor, batch: usize, classes: usize) -> Result<Buffer<u32>> {
        let values = input::labels(self.op, labels, self.device, batch, classes)?;
        match Buffer::borrowed(self.gpu, labels)? {
            Some(buffer) => Ok(buffer),
            None => Buffer::from_slice(self.gpu, &values),
        }
    }

    /// A number per channel with its padding.
    fn padded(&self, channels: &Buffer<f32>) -> Result<Buffer<f32>> {
        let padded = self.room(channels.len().next_multiple_of(map::GROUP))?;
        let ends = [channels.into(), (&padded).into()];
        let dims = [1, channels.len(), 1, 1];
        // SAFETY: one place with as many channels, and room for them with their padding.
        unsafe { map::reorder(self.gpu, "to_map", Precision::F32, &ends, dims)? };
        Ok(padded)
    }

    /// Room for as many numbers of a result.
    fn room(&self, length: usize) -> Result<Buffer<f32>> {
        Buffer::new(self.gpu, length)
    }

    /// A result, from numbers that nothing else uses.
    fn output(&self, values: Buffer<f32>, shape: impl Into<Shape>) -> Result<Output> {
        Output::of_buffer(values, self.device, shape)
    }

    /// As [`Call::output`], as a tensor.
    fn tensor(&self, values: Buffer<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
        self.output(values, shape)?.tensor()
    }
}
