//! Batch statistics of the channels of an activation.

use candle_core::{CpuStorage, InplaceOp1, Layout, Tensor};

use crate::arch::{self, Kernel, LANES, Lanes, Vector};
use crate::blocks::{self, Sums};
use crate::dispatch::on_gpu;
use crate::error::{Error, Result};
use crate::images::{Extent, Images};
use crate::input::{self, Input};
use crate::parallel::{self, Pieces};
use crate::scratch::{Scratch, Use};

/// Mean and biased variance of every channel of an [N, C, H, W] tensor.
///
/// The moments of each image are taken in f32 around one of its values (see the error bounds
/// in the tests) and merged over the images in f64, in order of the images.
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
        let [batch, channels, height, width] = input::dims(OP, "x", x, "[N, C, H, W]")?;
        let plane = height * width;
        on_gpu!(x, norm::statistics(OP, x, [batch, channels, plane]));
        let x = Input::new(OP, "x", x)?;
        let extent = Extent { channels, plane };
        Ok(Self::of_images(Images::Planar(&x.values()), extent, batch))
    }

    /// The statistics of `batch` images.
    pub(crate) fn of_images(images: Images<'_>, extent: Extent, batch: usize) -> Self {
        let mut moments = vec![Sums::ZERO; batch * extent.blocks()];
        parallel::for_each(
            Pieces::of(&mut moments, extent.blocks()),
            |image, moments| {
                arch::run(ImageMoments {
                    images,
                    extent,
                    image,
                    moments,
                });
            },
        );
        Self::merge(&moments, extent)
    }

    /// The statistics of a batch from the moments of each image's blocks.
    pub(crate) fn merge(images: &[Sums], extent: Extent) -> Self {
        let blocks = extent.blocks();
        let count = (images.len() / blocks) as f64;
        let mut totals = vec![Sums::ZERO; blocks];
        for image in images.chunks_exact(blocks) {
            for (total, moments) in totals.iter_mut().zip(image) {
                for lane in 0..LANES {
                    total.first[lane] += moments.first[lane] / count;
                }
            }
        }
        for image in images.chunks_exact(blocks) {
            for (total, moments) in totals.iter_mut().zip(image) {
                for lane in 0..LANES {
                    let apart = moments.first[lane] - total.first[lane];
                    total.second[lane] +=
                        moments.second[lane] + extent.plane as f64 * apart * apart;
                }
            }
        }
        let values = count * extent.plane as f64;
        let (mean, variance) = (0..extent.channels)
            .map(|channel| {
                let (total, lane) = (&totals[channel / LANES], channel % LANES);
                (
                    total.first[lane] as f32,
                    (total.second[lane] / values) as f32,
                )
            })
            .unzip();
        Self {
            mean,
            variance,
            count: values as usize,
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
            input::check_dtype(OP, argument, running, candle_core::DType::F32)?;
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

/// The moments of every block of one image.
struct ImageMoments<'a> {
    images: Images<'a>,
    extent: Extent,
    image: usize,
    moments: &'a mut [Sums],
}

impl Kernel for ImageMoments<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, vector: V) {
        let mut scratch = Scratch::take(Use::Unit, self.images.room(self.extent, 1));
        let range = self.image..self.image + 1;
        let image = self
            .images
            .blocked(vector, self.extent, range, &mut scratch);
        let blocks = image.chunks_exact(self.extent.plane);
        for (moments, pixels) in self.moments.iter_mut().zip(blocks) {
            let shift: &Lanes = &pixels[0];
            let mut powers = Sums::ZERO;
            blocks::add_powers(vector, shift, pixels, &mut powers);
            *moments = blocks::moments(&powers, shift, pixels.len());
        }
    }
}

/// running ← (1 − momentum) · running + momentum · batch, in f64, rounded once.
struct Approach {
    batch: Vec<f64>,
    momentum: f64,
}

impl Approach {
    fn approach(&self, values: &mut [f32], layout: &Layout) {
        let stride = layout.stride()[0];
        for (index, batch) in self.batch.iter().enumerate() {
            let running = &mut values[layout.start_offset() + index * stride];
            let moved = (1. - self.momentum) * f64::from(*running) + self.momentum * batch;
            *running = moved as f32;
        }
    }
}

impl InplaceOp1 for Approach {
    fn name(&self) -> &'static str {
        "update_running"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let CpuStorage::F32(values) = storage else {
            return Err(candle_core::Error::msg("update_running: expected f32"));
        };
        self.approach(values, layout);
        Ok(())
    }

    /// Through the CPU: the statistics have come there too.
    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        storage: &mut candle_core::CudaStorage,
        layout: &Layout,
    ) -> candle_core::Result<()> {
        let device = storage.device.clone();
        let memory = storage.as_cuda_slice_mut::<f32>()?;
        let mut values = device.clone_dtoh(memory)?;
        // The copy itself need not have happened yet.
        candle_core::backend::BackendDevice::synchronize(&device)?;
        self.approach(&mut values, layout);
        device.memcpy_htod(&values, memory)
    }
}
