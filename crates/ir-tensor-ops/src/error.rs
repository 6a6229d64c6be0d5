//! What can go wrong in an operation, as one structured enum.

use candle_core::DType;

/// The result of every fallible function of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation refused its arguments.
///
/// Every variant names the operation (`op`) and the argument it is about. `?` turns it into a
/// [`candle_core::Error`] in functions that return Candle's result:
///
/// ```
/// use candle_core::{DType, Device, Tensor};
///
/// fn halve(x: &Tensor) -> candle_core::Result<Tensor> {
///     Ok(ir_tensor_ops::avg_pool2d(x, 2)?)
/// }
///
/// let integers = Tensor::zeros((1, 1, 2, 2), DType::U32, &Device::Cpu).unwrap();
/// let message = halve(&integers).unwrap_err().to_string();
/// assert!(message.contains("avg_pool2d: x has dtype u32, expected f32"));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The tensor holds another type of number.
    #[error("{op}: {argument} has dtype {}, expected {}; convert it with Tensor::to_dtype",
        found.as_str(), expected.as_str())]
    DType {
        /// The operation.
        op: &'static str,
        /// The argument.
        argument: &'static str,
        /// The dtype that the operation reads.
        expected: DType,
        /// The dtype of the tensor.
        found: DType,
    },
    /// The tensor is on another device than the operation or its other arguments ask for.
    #[error("{op}: {argument} is on {found}, expected {expected}; move it with Tensor::to_device")]
    Device {
        /// The operation.
        op: &'static str,
        /// The argument.
        argument: &'static str,
        /// The device that would do.
        expected: String,
        /// The device of the tensor.
        found: String,
    },
    /// The tensor has another shape than the operation or its other arguments ask for.
    #[error("{op}: {argument} has shape {found:?}, expected {expected}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// The argument.
        argument: &'static str,
        /// The shapes that would do, in words.
        expected: String,
        /// The shape of the tensor.
        found: Vec<usize>,
    },
    /// A number that is not a tensor (stride, padding, kernel size, epsilon) is out of range.
    #[error("{op}: {name} is {found}, expected {expected}")]
    Setting {
        /// The operation.
        op: &'static str,
        /// The setting.
        name: &'static str,
        /// The values that would do, in words.
        expected: String,
        /// The value given.
        found: f64,
    },
    /// A class label is not the index of a logit.
    #[error("{op}: labels[{index}] is {found}, expected a class below {classes}")]
    Label {
        /// The operation.
        op: &'static str,
        /// The position of the label in the batch.
        index: usize,
        /// The label.
        found: u32,
        /// The number of classes K.
        classes: usize,
    },
    /// A GPU, or its emulation, did not do what it was asked for.
    #[error("{action}: {reason}")]
    Gpu {
        /// What was asked for.
        action: String,
        /// What it, its driver or a library said.
        reason: String,
    },
    /// Candle reported an error.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Candle(error) => error,
            other => candle_core::Error::wrap(other),
        }
    }
}
