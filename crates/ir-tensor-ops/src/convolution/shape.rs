//! The sizes of one convolution.

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::images::Extent;
use crate::input;

/// The sizes of a convolution of x `[batch, inputs, height, width]` with a weight
/// `[outputs, inputs, kernel, kernel]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Convolution {
    pub(crate) batch: usize,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) padding: usize,
    pub(crate) out_height: usize,
    pub(crate) out_width: usize,
}

impl Convolution {
    /// Checks the arguments of the operation `op`; `x` are the dimensions of x.
    pub(crate) fn new(
        op: &'static str,
        x: &[usize],
        weight: &Tensor,
        stride: usize,
        padding: usize,
    ) -> Result<Self> {
        let [batch, inputs, height, width] = input::sizes(op, "x", x, "[N, C, H, W]")?;
        let [outputs, _, kernel, _] = input::dims(op, "weight", weight, "[O, I, K, K]")?;
        if weight.dims() != [outputs, inputs, kernel, kernel] || !matches!(kernel, 1 | 3) {
            let expected =
                format!("[O, {inputs}, K, K] with K = 1 or 3, for x of {inputs} channels");
            return Err(input::wrong_shape(op, "weight", weight, expected));
        }
        let x = [batch, inputs, height, width];
        Self::of_sizes(op, x, outputs, kernel, stride, padding)
    }

    /// As [`Convolution::new`], for a weight `[outputs, C, kernel, kernel]`.
    pub(crate) fn of_sizes(
        op: &'static str,
        x: [usize; 4],
        outputs: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> Result<Self> {
        let [batch, inputs, height, width] = x;
        let setting = |name, found: usize, expected: String| Error::Setting {
            op,
            name,
            expected,
            found: found as f64,
        };
        if !matches!(kernel, 1 | 3) {
            return Err(setting("kernel", kernel, "1 or 3".into()));
        }
        if !matches!(stride, 1 | 2) {
            return Err(setting("stride", stride, "1 or 2".into()));
        }
        if padding >= kernel {
            let expected = format!("at most {} for a {kernel}x{kernel} kernel", kernel - 1);
            return Err(setting("padding", padding, expected));
        }
        if height + 2 * padding < kernel || width + 2 * padding < kernel {
            let expected = format!("height and width of at least {}", kernel - 2 * padding);
            return Err(input::wrong_sizes(op, "x", &x, expected));
        }
        let out = |size: usize| (size + 2 * padding - kernel) / stride + 1;
        Ok(Self {
            batch,
            inputs,
            outputs,
            height,
            width,
            kernel,
            stride,
            padding,
            out_height: out(height),
            out_width: out(width),
        })
    }

    /// The sizes of an image of x.
    pub(crate) fn source(&self) -> Extent {
        Extent {
            channels: self.inputs,
            plane: self.height * self.width,
        }
    }

    /// The sizes of an image of the result.
    pub(crate) fn target(&self) -> Extent {
        Extent {
            channels: self.outputs,
            plane: self.out_height * self.out_width,
        }
    }

    /// The shape of x.
    pub(crate) fn input_shape(&self) -> [usize; 4] {
        [self.batch, self.inputs, self.height, self.width]
    }

    /// The shape of the weight.
    pub(crate) fn weight_shape(&self) -> [usize; 4] {
        [self.outputs, self.inputs, self.kernel, self.kernel]
    }

    /// The shape of the result.
    pub(crate) fn output_shape(&self) -> [usize; 4] {
        [self.batch, self.outputs, self.out_height, self.out_width]
    }
}
