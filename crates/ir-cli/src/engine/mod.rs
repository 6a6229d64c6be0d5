//! What computes: this processor, or a GPU.

use std::ops::ControlFlow;

use anyhow::Result;
use candle_core::Tensor;
use ir_data::Loader;
use ir_models::{Position, ResNet, ResidualNetwork, StepReport, Trainer, TrainingPass};

use crate::arguments::{Device, Precision};
use crate::data;

#[cfg(any(feature = "cuda", test))]
mod gpu;

/// Where to compute, and in what.
#[derive(Debug)]
pub(crate) enum Target {
    /// The processor, in f32.
    Cpu,
    #[cfg(any(feature = "cuda", test))]
    Gpu(gpu::Target),
}

/// Hears of a step, and may ask to stop.
pub(crate) type AfterStep<'a> = dyn FnMut(&StepReport) -> ControlFlow<()> + 'a;

/// A training under way.
pub(crate) trait Engine {
    /// How far it is.
    fn position(&self) -> Position;

    /// The rest of the epoch under way, in the batches of `images`; `None` if `after_step` stopped it before its end.
    ///
    /// # Errors
    /// A loss or a weight that is not finite, with the weights as they were before that step.
    fn epoch(
        &mut self,
        images: &Loader,
        after_step: &mut AfterStep<'_>,
    ) -> Result<Option<Position>>;

    /// All of it as it is now, as checkpoints hold it.
    ///
    /// # Errors
    /// What a GPU reports.
    fn trainer(&mut self) -> Result<&Trainer>;

    /// One batch forward and backward with batch statistics, as a step begins.
    ///
    /// # Errors
    /// A batch that no step takes; what a GPU reports.
    fn training_pass(&mut self, images: &Tensor, labels: &Tensor) -> Result<TrainingPass>;

    /// The network as it is now, where it is evaluated fastest.
    ///
    /// # Errors
    /// What a GPU reports.
    fn network(&mut self) -> Result<&dyn ResidualNetwork>;
}

impl Target {
    /// What `--device` and `--precision` ask for.
    ///
    /// # Errors
    /// There is no GPU that can be used, or the program cannot use any.
    pub(crate) fn open(device: Device, precision: Precision) -> Result<Self> {
        match device {
            Device::Cpu => Ok(Self::Cpu),
            #[cfg(feature = "cuda")]
            Device::Cuda => Ok(Self::Gpu(gpu::Target::open(precision)?)),
            #[cfg(not(feature = "cuda"))]
            Device::Cuda => anyhow::bail!(
                "--device cuda: this program was built without CUDA, and so cannot compute in {precision} on a GPU; \
                 build one that can by `cargo build --release --package ir-cli --features cuda`, or use --device cpu"
            ),
        }
    }

    /// Goes on with a training, whose batches will be those of `images`.
    ///
    /// # Errors
    /// A GPU has not as much memory.
    pub(crate) fn train(&self, trainer: Trainer, images: &Loader) -> Result<Box<dyn Engine>> {
        #[cfg(any(feature = "cuda", test))]
        if let Self::Gpu(target) = self {
            return target.train(trainer, images);
        }
        let _ = images;
        Ok(Box::new(trainer))
    }

    /// A network on the GPU, if there is one in use.
    ///
    /// # Errors
    /// It has not as much memory.
    pub(crate) fn network(&self, network: &ResNet) -> Result<Option<Box<dyn ResidualNetwork>>> {
        #[cfg(any(feature = "cuda", test))]
        if let Self::Gpu(target) = self {
            return target.network(network).map(Some);
        }
        let _ = network;
        Ok(None)
    }

    /// Where the images that its networks read lie best.
    pub(crate) fn device(&self) -> candle_core::Device {
        match self {
            Self::Cpu => candle_core::Device::Cpu,
            #[cfg(any(feature = "cuda", test))]
            Self::Gpu(target) => target.device(),
        }
    }

    /// The GPU's name, and what numbers are stored as there.
    pub(crate) fn gpu(&self) -> Option<(String, &'static str)> {
        match self {
            Self::Cpu => None,
            #[cfg(any(feature = "cuda", test))]
            Self::Gpu(target) => Some(target.describe()),
        }
    }
}

impl Engine for Trainer {
    fn position(&self) -> Position {
        *self.position()
    }

    fn epoch(
        &mut self,
        images: &Loader,
        after_step: &mut AfterStep<'_>,
    ) -> Result<Option<Position>> {
        let Position { epoch, batches, .. } = *self.position();
        let batches = images.epoch_from(epoch as u64, batches).map(data::pair);
        Ok(self.epoch(batches, after_step)?)
    }

    fn trainer(&mut self) -> Result<&Trainer> {
        Ok(self)
    }

    fn training_pass(&mut self, images: &Tensor, labels: &Tensor) -> Result<TrainingPass> {
        Ok((*self).network().training_pass(images, labels)?)
    }

    fn network(&mut self) -> Result<&dyn ResidualNetwork> {
        Ok((*self).network())
    }
}
