//! Average pooling.

use std::ops::Range;

use candle_core::Tensor;

use crate::dispatch::on_gpu;
use crate::error::{Error, Result};
use crate::input::{self, Input, Output};
use crate::parallel;

/// The sizes of one pooling.
pub(crate) struct Pooling {
    kernel: usize,
    width: usize,
    pub(crate) plane: usize,
    out_width: usize,
    pub(crate) out_plane: usize,
    pub(crate) out_shape: [usize; 4],
}

impl Pooling {
    pub(crate) fn new(op: &'static str, dims: [usize; 4], kernel: usize) -> Result<Self> {
        let [batch, channels, height, width] = dims;
        if kernel == 0 || kernel > height.min(width) {
            return Err(Error::Setting {
                op,
                name: "kernel",
                expected: format!("1..={}, the smaller of H and W", height.min(width)),
                found: kernel as f64,
            });
        }
        let (out_height, out_width) = (height / kernel, width / kernel);
        Ok(Self {
            kernel,
            width,
            plane: height * width,
            out_width,
            out_plane: out_height * out_width,
            out_shape: [batch, channels, out_height, out_width],
        })
    }

    /// What a value of a window counts for in its mean.
    pub(crate) fn scale(&self) -> f32 {
        1. / (self.kernel * self.kernel) as f32
    }

    /// The indices of the window that belongs to an output, a line of it at a time.
    #[inline(always)]
    pub(crate) fn lines(&self, output: usize) -> impl Iterator<Item = Range<usize>> {
        let (y, x) = (output / self.out_width, output % self.out_width);
        let (kernel, width) = (self.kernel, self.width);
        let corner = y * kernel * width + x * kernel;
        (0..kernel).map(move |line| {
            let start = corner + line * width;
            start..start + kernel
        })
    }
}

/// The mean over windows of kernel × kernel, side by side.
///
/// # Shapes
/// x `[N, C, H, W]`; the result `[N, C, ⌊H / kernel⌋, ⌊W / kernel⌋]`: rows and columns that do
/// not fill a window are left out, as in PyTorch.
///
/// # Errors
/// `Shape`, `DType`, `Device` for x; `Setting` if kernel is 0 or larger than H or W.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use ir_tensor_ops::explicit;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let x = Tensor::new(&[1f32, 2., 9., 3., 6., 9.], &Device::Cpu)?.reshape((1, 1, 2, 3))?;
/// let y = explicit::avg_pool2d(&x, 2)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [3.]);
/// # Ok(())
/// # }
/// ```
pub fn avg_pool2d(x: &Tensor, kernel: usize) -> Result<Tensor> {
    avg_pool2d_output(x, kernel)?.tensor()
}

/// [`avg_pool2d`], not yet a tensor.
pub(crate) fn avg_pool2d_output(x: &Tensor, kernel: usize) -> Result<Output> {
    const OP: &str = "avg_pool2d";
    let dims = input::dims(OP, "x", x, "[N, C, H, W]")?;
    let [batch, channels, ..]: [usize; 4] = dims;
    let pooling = Pooling::new(OP, dims, kernel)?;
    on_gpu!(x, pool::avg_pool2d(OP, x, kernel, pooling.out_shape));
    let x = Input::new(OP, "x", x)?;
    let x = x.values();
    let x: &[f32] = &x;
    let scale = pooling.scale();
    let length = batch * channels * pooling.out_plane;
    let y = parallel::pieces(length, channels * pooling.out_plane, |image, y| {
        for (channel, y) in y.chunks_exact_mut(pooling.out_plane).enumerate() {
            let plane = &x[(image * channels + channel) * pooling.plane..][..pooling.plane];
            for (output, y) in y.iter_mut().enumerate() {
                *y = pooling
                    .lines(output)
                    .flatten()
                    .map(|index| plane[index])
                    .sum::<f32>()
                    * scale;
            }
        }
    });
    Ok(Output::new(y, &pooling.out_shape))
}

/// The gradient of x under [`avg_pool2d`], from ∂L/∂y: each window's gradient divided evenly
/// among its members, 0 outside all windows. `x_shape` is the shape of x.
///
/// # Errors
/// As [`avg_pool2d`], and `Shape` if `grad_output` does not have the result's shape.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use ir_tensor_ops::explicit;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let gradient = Tensor::new(&[8f32], &Device::Cpu)?.reshape((1, 1, 1, 1))?;
/// let dx = explicit::avg_pool2d_backward(&[1, 1, 2, 3], 2, &gradient)?;
/// assert_eq!(dx.flatten_all()?.to_vec1::<f32>()?, [2., 2., 0., 2., 2., 0.]);
/// # Ok(())
/// # }
/// ```
pub fn avg_pool2d_backward(
    x_shape: &[usize],
    kernel: usize,
    grad_output: &Tensor,
) -> Result<Tensor> {
    const OP: &str = "avg_pool2d_backward";
    let dims = match <[usize; 4]>::try_from(x_shape) {
        Ok(dims) if !dims.contains(&0) => dims,
        _ => {
            return Err(Error::Shape {
                op: OP,
                argument: "x_shape",
                expected: "[N, C, H, W], no dimension 0".into(),
                found: x_shape.to_vec(),
            });
        }
    };
    let [batch, channels, ..] = dims;
    let pooling = Pooling::new(OP, dims, kernel)?;
    input::check_shape(OP, "grad_output", grad_output, &pooling.out_shape)?;
    on_gpu!(
        grad_output,
        pool::avg_pool2d_backward(OP, dims, kernel, grad_output)
    );
    let gradient = Input::shaped(OP, "grad_output", grad_output, &pooling.out_shape)?;
    let gradient = gradient.values();
    let gradient: &[f32] = &gradient;
    let scale = pooling.scale();
    let length = batch * channels * pooling.plane;
    let dx = parallel::pieces(length, channels * pooling.plane, |image, dx| {
        for (channel, dx) in dx.chunks_exact_mut(pooling.plane).enumerate() {
            let start = (image * channels + channel) * pooling.out_plane;
            for (output, g) in gradient[start..start + pooling.out_plane]
                .iter()
                .enumerate()
            {
                for index in pooling.lines(output).flatten() {
                    dx[index] = g * scale;
                }
            }
        }
    });
    input::output(dx, x_shape)
}
