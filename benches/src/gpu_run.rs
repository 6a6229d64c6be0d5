//! A network that is trained on a GPU, to be measured: an epoch as `ir train` has it.

use std::ops::ControlFlow;
use std::time::Instant;

use ir_data::{BatchOptions, IMAGE, Loader, Normalization, Split};
use ir_models::{Architecture, ResNet, Schedule, Sgd, Trainer, TrainingSettings, gpu};
use ir_tensor_ops::gpu::{Gpu, Precision};
use ir_tensor_ops::random;
use rand::RngCore;

use crate::worker::{Result, Steps};

const CLASSES: usize = 10;

/// A training on images without order. An epoch begins with the order of the samples on its way to the device, every step takes its
/// images from those that lie there, and it ends when the host knows what the last step came to.
pub struct Run {
    trainer: gpu::Trainer,
    images: Loader,
}

impl Run {
    /// Of a network by its name, whose epoch has so many steps.
    ///
    /// # Errors
    /// If there is no such network, or no room for it.
    pub fn new(
        gpu: &Gpu,
        network: &str,
        batch: usize,
        steps: usize,
        precision: Precision,
    ) -> Result<Self> {
        let samples = batch * steps;
        let mut bytes = vec![0; samples * IMAGE];
        random::stream(1, 0, 0, 0).fill_bytes(&mut bytes);
        let labels = (0..samples).map(|sample| (sample % CLASSES) as u8);
        let split = Split::new(bytes, labels.collect())?;
        let normalization = Normalization {
            mean: [0.5; 3],
            std: [0.25; 3],
        };
        let options = BatchOptions::training(batch, 0, normalization);
        let images = Loader::new(split, options)?;
        let network = ResNet::initialize(&Architecture::named(network, CLASSES)?, 0)?;
        // So small a rate that the loss stays finite however often a batch is seen.
        let settings = TrainingSettings {
            schedule: Schedule::constant(1e-6),
            sgd: Sgd::default(),
        };
        let trainer = Trainer::new(network, settings)?;
        let resident = gpu::TrainingImages {
            images: images.resident_images(gpu)?,
            order: images.resident_order(gpu)?,
            samples: images.samples(),
            batch_size: batch,
        };
        let trainer = gpu::Trainer::new(gpu, trainer, resident, precision)?;
        Ok(Self { trainer, images })
    }
}

impl Steps for Run {
    fn instruction_set(&self) -> String {
        self.trainer.gpu().name()
    }

    /// An epoch; gives the milliseconds of a step.
    fn step(&mut self) -> Result<f64> {
        let start = Instant::now();
        let epoch = self.trainer.position().epoch;
        let (samples, changes) = self.images.resident_epoch(epoch as u64);
        let finished = self
            .trainer
            .epoch(&samples, &changes, |_| ControlFlow::Continue(()))?;
        finished.ok_or("the epoch did not end")?;
        Ok(1e3 * start.elapsed().as_secs_f64() / self.images.batches() as f64)
    }

    fn kernels(&self) -> Result<Vec<(String, f64)>> {
        let kernels = self.trainer.step_times()?.into_iter();
        Ok(kernels
            .map(|time| (time.kernel, time.milliseconds))
            .collect())
    }
}
