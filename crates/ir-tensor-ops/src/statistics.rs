//! Batch statistics of the channels of an activation.

use candle_core::{CpuStorage, InplaceOp1, Layout, Tensor};
use rayon::prelude::*;

use crate::arch::{self, Kernel};
use crate::error::{Error, Result};
use crate::input::{self, Input};
use crate::planes::{self, Moments};

/// Mean and biased variance of every channel of an [N, C, H, W] tensor.
///
/// Each plane's moments are taken in two passes of f32 sums (see the error bounds in the
/// tests) and merged over the images in f64, in order of the images.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelStatistics {
    /// μ_c, the mean over N, H and W; one value per channel.
    pub mean: Vec<f32>,
    /// σ²_c = mean of (x − μ_c)² over N, H and W: divided by the count, not by count − 1.
    pub variance: Vec<f32>,
    /// The number of values per channel, N·H·W.
    pub count: usize,
}

impl ChannelStatistics {
    /// The statistics of x `[N, C, H, W]`.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::DType`] or [`Error::Device`] if x is not such a tensor of f32
    /// on the CPU.
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use ir_tensor_ops::ChannelStatistics;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let x = Tensor::new(&[1f32, 3., 10., 10.], &Device::Cpu)?.reshape((1, 2, 1, 2))?;
    /// let statistics = ChannelStatistics::of(&x)?;
    /// assert_eq!(statistics.mean, [2., 10.]);
    /// assert_eq!(statistics.variance, [1., 0.]);
    /// assert_eq!(statistics.count, 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn of(x: &Tensor) -> Result<Self> {
        const OP: &str = "ChannelStatistics::of";
        let [_, channels, height, width] = input::dims(OP, "x", x, "[N, C, H, W]")?;
        let x = Input::new(OP, "x", x)?;
        let values = x.values();
        let plane = height * width;
        let moments = values
            .par_chunks(channels * plane)
            .map(|image| image_moments(image, plane))
            .collect::<Vec<_>>();
        Ok(Self::merge(&moments, plane))
    }

    /// The statistics of a batch from the moments of each image's planes, all of `plane` values.
    pub(crate) fn merge(images: &[Vec<Moments>], plane: usize) -> Self {
        let channels = images.first().map_or(0, Vec::len);
        let (mean, variance) = (0..channels)
            .map(|channel| {
                let of_channel = || images.iter().map(|image| image[channel]);
                let count = images.len() as f64;
                let mean = of_channel().map(|moments| moments.mean).sum::<f64>() / count;
                let squares: f64 = of_channel()
                    .map(|m| m.squares + plane as f64 * (m.mean - mean).powi(2))
                    .sum();
                (mean as f32, (squares / (count * plane as f64)) as f32)
            })
            .unzip();
        Self {
            mean,
            variance,
            count: images.len() * plane,
        }
    }

    /// Moves the running statistics `[C]` towards these, in place:
    ///
    /// running ← (1 − momentum) · running + momentum · batch,
    ///
    /// where the batch's variance is the unbiased one, σ² · count / (count − 1), as PyTorch
    /// does it (with a count of 1, where PyTorch refuses, the biased one is taken).
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::DType`] or [`Error::Device`] if a tensor is not `[C]` of f32
    /// on the CPU; [`Error::Setting`] if momentum is not in 0..=1.
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use ir_tensor_ops::ChannelStatistics;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let batch = ChannelStatistics { mean: vec![4.], variance: vec![1.], count: 2 };
    /// let mean = Tensor::new(&[0f32], &Device::Cpu)?;
    /// let variance = Tensor::new(&[1f32], &Device::Cpu)?;
    /// batch.update_running(&mean, &variance, 0.5)?;
    /// assert_eq!(mean.to_vec1::<f32>()?, [2.]);
    /// assert_eq!(variance.to_vec1::<f32>()?, [1.5]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn update_running(
        &self,
        running_mean: &Tensor,
        running_var: &Tensor,
        momentum: f64,
    ) -> Result<()> {
        const OP: &str = "ChannelStatistics::update_running";
        if !(0. ..=1.).contains(&momentum) {
            return Err(Error::Setting {
                op: OP,
                name: "momentum",
                expected: "a number from 0 to 1".into(),
                found: momentum,
            });
        }
        let count = self.count as f64;
        let unbiased = if self.count > 1 {
            count / (count - 1.)
        } else {
            1.
        };
        let targets = [
            ("running_mean", running_mean, &self.mean, 1.),
            ("running_var", running_var, &self.variance, unbiased),
        ];
        for (argument, running, batch, _) in &targets {
            input::check(OP, argument, running, candle_core::DType::F32)?;
            input::check_shape(OP, argument, running, &[batch.len()])?;
        }
        for (_, running, batch, factor) in targets {
            let batch = batch
                .iter()
                .map(|&value| f64::from(value) * factor)
                .collect();
            running.inplace_op1(&Approach { batch, momentum })?;
        }
        Ok(())
    }
}

/// The moments of every plane of one image.
pub(crate) fn image_moments(image: &[f32], plane: usize) -> Vec<Moments> {
    arch::run(ImageMoments { image, plane })
}

struct ImageMoments<'a> {
    image: &'a [f32],
    plane: usize,
}

impl Kernel for ImageMoments<'_> {
    type Output = Vec<Moments>;

    #[inline(always)]
    fn run<V: arch::Vector>(self, _vector: V) -> Vec<Moments> {
        let mut moments = Vec::with_capacity(self.image.len() / self.plane);
        for plane in self.image.chunks_exact(self.plane) {
            moments.push(planes::moments(plane));
        }
        moments
    }
}

/// running ← (1 − momentum) · running + momentum · batch, in f64, rounded once.
struct Approach {
    batch: Vec<f64>,
    momentum: f64,
}

impl InplaceOp1 for Approach {
    fn name(&self) -> &'static str {
        "update_running"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let CpuStorage::F32(values) = storage else {
            return Err(candle_core::Error::msg("update_running: expected f32"));
        };
        let stride = layout.stride()[0];
        for (index, batch) in self.batch.iter().enumerate() {
            let running = &mut values[layout.start_offset() + index * stride];
            let moved = (1. - self.momentum) * f64::from(*running) + self.momentum * batch;
            *running = moved as f32;
        }
        Ok(())
    }
}
