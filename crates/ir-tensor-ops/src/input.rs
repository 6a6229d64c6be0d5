//! Checked, contiguous access to the numbers of a tensor.

use std::ops::{Deref, Range};

use candle_core::op::BackpropOp;
use candle_core::{CpuStorage, DType, Device, DeviceLocation, Shape, Storage, Tensor};

use crate::error::{Error, Result};

/// A tensor that is on the CPU, of dtype f32 and contiguous.
pub(crate) struct Input(Tensor);

impl Input {
    /// Checks device and dtype, and copies the tensor if its strides are not the usual ones.
    pub(crate) fn new(op: &'static str, argument: &'static str, tensor: &Tensor) -> Result<Self> {
        check(op, argument, tensor, DType::F32)?;
        Ok(Self(tensor.contiguous()?))
    }

    /// As [`Input::new`], of exactly the shape `shape`.
    pub(crate) fn shaped(
        op: &'static str,
        argument: &'static str,
        tensor: &Tensor,
        shape: &[usize],
    ) -> Result<Self> {
        check_shape(op, argument, tensor, shape)?;
        Self::new(op, argument, tensor)
    }

    /// The tensor; still part of the graph that its argument was part of.
    pub(crate) fn tensor(&self) -> &Tensor {
        &self.0
    }

    /// The numbers, in row-major order.
    pub(crate) fn values(&self) -> Values<'_> {
        let (storage, layout) = self.0.storage_and_layout();
        let start = layout.start_offset();
        Values {
            storage: Box::new(storage),
            range: start..start + layout.shape().elem_count(),
        }
    }
}

/// The numbers of an [`Input`], locked for reading.
pub(crate) struct Values<'a> {
    storage: Box<dyn Deref<Target = Storage> + 'a>,
    range: Range<usize>,
}

impl Deref for Values<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &**self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.range.clone()],
            _ => unreachable!("an Input is on the CPU and f32"),
        }
    }
}

/// Fails unless the tensor is on the CPU and of the dtype.
pub(crate) fn check(
    op: &'static str,
    argument: &'static str,
    tensor: &Tensor,
    expected: DType,
) -> Result<()> {
    check_device(op, argument, tensor, &Device::Cpu)?;
    check_dtype(op, argument, tensor, expected)
}

/// Fails unless the tensor is on the device.
pub(crate) fn check_device(
    op: &'static str,
    argument: &'static str,
    tensor: &Tensor,
    expected: &Device,
) -> Result<()> {
    if tensor.device().same_device(expected) {
        return Ok(());
    }
    Err(Error::Device {
        op,
        argument,
        expected: device_name(expected),
        found: device_name(tensor.device()),
    })
}

/// What a device is called in messages.
fn device_name(device: &Device) -> String {
    match device.location() {
        DeviceLocation::Cpu => "the CPU".into(),
        DeviceLocation::Cuda { gpu_id } => format!("CUDA device {gpu_id}"),
        DeviceLocation::Metal { gpu_id } => format!("Metal device {gpu_id}"),
    }
}

/// Fails unless the tensor is of the dtype.
pub(crate) fn check_dtype(
    op: &'static str,
    argument: &'static str,
    tensor: &Tensor,
    expected: DType,
) -> Result<()> {
    if tensor.dtype() == expected {
        return Ok(());
    }
    Err(Error::DType {
        op,
        argument,
        expected,
        found: tensor.dtype(),
    })
}

/// Fails unless the tensor has the shape.
pub(crate) fn check_shape(
    op: &'static str,
    argument: &'static str,
    tensor: &Tensor,
    expected: &[usize],
) -> Result<()> {
    if tensor.dims() == expected {
        return Ok(());
    }
    Err(wrong_shape(op, argument, tensor, format!("{expected:?}")))
}

/// The error for a tensor that should have had another shape.
pub(crate) fn wrong_shape(
    op: &'static str,
    argument: &'static str,
    tensor: &Tensor,
    expected: String,
) -> Error {
    wrong_sizes(op, argument, tensor.dims(), expected)
}

/// The error for dimensions that should have been others.
pub(crate) fn wrong_sizes(
    op: &'static str,
    argument: &'static str,
    found: &[usize],
    expected: String,
) -> Error {
    Error::Shape {
        op,
        argument,
        expected,
        found: found.to_vec(),
    }
}

/// The dimensions of a tensor of rank R, none of them 0; `expected` is the shape in words.
pub(crate) fn dims<const R: usize>(
    op: &'static str,
    argument: &'static str,
    tensor: &Tensor,
    expected: &str,
) -> Result<[usize; R]> {
    sizes(op, argument, tensor.dims(), expected)
}

/// R dimensions, none of them 0.
pub(crate) fn sizes<const R: usize>(
    op: &'static str,
    argument: &'static str,
    found: &[usize],
    expected: &str,
) -> Result<[usize; R]> {
    match <[usize; R]>::try_from(found) {
        Ok(sizes) if !sizes.contains(&0) => Ok(sizes),
        _ => Err(wrong_sizes(
            op,
            argument,
            found,
            format!("{expected}, no dimension 0"),
        )),
    }
}

/// A parameter vector of `length` numbers, copied.
pub(crate) fn vector(
    op: &'static str,
    argument: &'static str,
    tensor: &Tensor,
    length: usize,
) -> Result<Vec<f32>> {
    Ok(Input::shaped(op, argument, tensor, &[length])?
        .values()
        .to_vec())
}

/// As [`vector`], from any device: what the CPU computes with even where it is for a GPU.
pub(crate) fn parameters(
    op: &'static str,
    argument: &'static str,
    tensor: &Tensor,
    length: usize,
) -> Result<Vec<f32>> {
    check_shape(op, argument, tensor, &[length])?;
    check_dtype(op, argument, tensor, DType::F32)?;
    Ok(tensor.to_vec1()?)
}

/// The labels of a batch, each below `classes`, on the device of its logits.
pub(crate) fn labels(
    op: &'static str,
    labels: &Tensor,
    device: &Device,
    batch: usize,
    classes: usize,
) -> Result<Vec<u32>> {
    check_device(op, "labels", labels, device)?;
    check_dtype(op, "labels", labels, DType::U32)?;
    check_shape(op, "labels", labels, &[batch])?;
    let labels = labels.to_vec1::<u32>()?;
    match labels.iter().position(|&label| label as usize >= classes) {
        None => Ok(labels),
        Some(index) => Err(Error::Label {
            op,
            index,
            found: labels[index],
            classes,
        }),
    }
}

/// A tensor on the CPU that takes over `values`.
pub(crate) fn output(values: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Ok(Tensor::from_vec(values, shape.into(), &Device::Cpu)?)
}

/// A result that is not yet a tensor: it becomes a plain one, or a node of a graph.
pub(crate) struct Output {
    pub(crate) storage: Storage,
    pub(crate) shape: Shape,
}

impl Output {
    /// One on the CPU.
    pub(crate) fn new(values: Vec<f32>, shape: impl Into<Shape>) -> Self {
        Self {
            storage: Storage::Cpu(CpuStorage::F32(values)),
            shape: shape.into(),
        }
    }

    /// One on `device`, from numbers on a GPU.
    #[cfg(any(feature = "cuda", feature = "emulation"))]
    pub(crate) fn of_buffer(
        values: crate::gpu::Buffer<f32>,
        device: &Device,
        shape: impl Into<Shape>,
    ) -> Result<Self> {
        Ok(Self {
            storage: values.into_storage(device)?,
            shape: shape.into(),
        })
    }

    /// The result as a tensor without history.
    pub(crate) fn tensor(self) -> Result<Tensor> {
        let history = BackpropOp::none();
        Ok(Tensor::from_storage(
            self.storage,
            self.shape,
            history,
            false,
        ))
    }
}
