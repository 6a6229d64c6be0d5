//! Training and evaluating on a GPU.

use anyhow::Result;
use candle_core::Tensor;
use ir_data::Loader;
use ir_models::{Position, ResNet, ResidualNetwork, Trainer, TrainingPass, gpu};
use ir_tensor_ops::gpu::{Gpu, Precision};

use super::{AfterStep, Engine};

/// A GPU, and what numbers are stored as on it in training.
#[derive(Debug)]
pub(crate) struct Target {
    gpu: Gpu,
    precision: Precision,
}

impl Target {
    /// The first GPU of the machine.
    ///
    /// # Errors
    /// There is none, or the driver cannot use it.
    #[cfg(feature = "cuda")]
    pub(super) fn open(precision: crate::arguments::Precision) -> Result<Self> {
        let gpu = Gpu::open(0).map_err(|error| {
            // Behind the first line stands where in this program it was found, if that was asked for.
            let said = error.to_string();
            let said = said.lines().next().unwrap_or_default();
            anyhow::anyhow!("--device cuda: no GPU can be used here ({said}); use --device cpu")
        })?;
        Ok(Self {
            gpu,
            precision: match precision {
                crate::arguments::Precision::F32 => Precision::F32,
                crate::arguments::Precision::Bf16 => Precision::Bf16,
            },
        })
    }

    pub(super) fn train(&self, trainer: Trainer, images: &Loader) -> Result<Box<dyn Engine>> {
        let images = gpu::TrainingImages {
            images: images.resident_images(&self.gpu)?,
            order: images.resident_order(&self.gpu)?,
            samples: images.samples(),
            batch_size: images.options().batch_size,
        };
        let trainer = gpu::Trainer::new(&self.gpu, trainer, images, self.precision)?;
        let network = None;
        Ok(Box::new(OnGpu { trainer, network }))
    }

    pub(super) fn network(&self, network: &ResNet) -> Result<Box<dyn ResidualNetwork>> {
        Ok(Box::new(gpu::Network::new(&self.gpu, network)?))
    }

    pub(super) fn device(&self) -> candle_core::Device {
        self.gpu.device()
    }

    pub(super) fn describe(&self) -> (String, &'static str) {
        (self.gpu.name(), self.precision.name())
    }
}

/// A training whose weights are on a GPU.
struct OnGpu {
    trainer: gpu::Trainer,
    /// The network with the weights as they are now, once somebody has asked for it.
    network: Option<gpu::Network>,
}

impl Engine for OnGpu {
    fn position(&self) -> Position {
        *self.trainer.position()
    }

    fn epoch(
        &mut self,
        images: &Loader,
        after_step: &mut AfterStep<'_>,
    ) -> Result<Option<Position>> {
        self.network = None;
        let (samples, changes) = images.resident_epoch(self.trainer.position().epoch as u64);
        Ok(self.trainer.epoch(&samples, &changes, after_step)?)
    }

    fn trainer(&mut self) -> Result<&Trainer> {
        Ok(self.trainer.updated()?)
    }

    fn training_pass(&mut self, images: &Tensor, labels: &Tensor) -> Result<TrainingPass> {
        Ok(self.trainer.training_pass(images, labels)?)
    }

    fn network(&mut self) -> Result<&dyn ResidualNetwork> {
        let network = match self.network.take() {
            Some(network) => network,
            None => {
                let gpu = self.trainer.gpu().clone();
                gpu::Network::new(&gpu, self.trainer.updated()?.network())?
            }
        };
        Ok(self.network.insert(network))
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use ir_data::{BatchOptions, synthetic};
    use ir_models::{Architecture, Schedule, Sgd, TrainingSettings};

    use super::*;

    /// An emulated GPU; `None` without a C++ compiler.
    fn target() -> Option<Target> {
        let precision = Precision::F32;
        let gpu = Gpu::emulated().ok()?;
        Some(Target { gpu, precision })
    }

    fn loader() -> Loader {
        let dataset = synthetic::dataset(synthetic::Classes::Ten, 1, 7, 10).unwrap();
        let options = BatchOptions::training(2, 5, dataset.normalization());
        Loader::new(dataset.train().clone(), options).unwrap()
    }

    fn trainer() -> Trainer {
        let architecture = Architecture::from_json(
            r#"{ "name": "tiny", "classes": 10, "image": [3, 32, 32], "stem_channels": 3,
                 "stages": [{ "blocks": 1, "channels": 3 }] }"#,
        );
        let settings = TrainingSettings {
            schedule: Schedule::constant(0.1),
            sgd: Sgd::default(),
        };
        let network = ResNet::initialize(&architecture.unwrap(), 2).unwrap();
        Trainer::new(network, settings).unwrap()
    }

    /// ‖x − y‖ / ‖y‖ over all tensors of two networks.
    fn distance(x: &ResNet, y: &ResNet) -> f64 {
        let values = |network: &ResNet| -> Vec<f32> {
            let values = |tensor: &candle_core::Tensor| tensor.flatten_all()?.to_vec1::<f32>();
            let tensors = network.tensors().map(|(_, tensor)| values(tensor));
            tensors.collect::<Result<Vec<_>, _>>().unwrap().concat()
        };
        let (x, y) = (values(x), values(y));
        let square = |x: f32| f64::from(x) * f64::from(x);
        let apart: f64 = x.iter().zip(&y).map(|(x, y)| square(x - y)).sum();
        (apart / y.into_iter().map(square).sum::<f64>()).sqrt()
    }

    /// Trains for two epochs and evaluates after each.
    fn train(target: &super::super::Target) -> (Position, ResNet, Vec<f32>) {
        let images = loader();
        let mut engine = target.train(trainer(), &images).unwrap();
        let batch = images.epoch(2).next().unwrap().unwrap();
        let mut sums = Position::default();
        let mut logits = Vec::new();
        for epoch in 0..2 {
            assert_eq!(engine.position().epoch, epoch);
            let mut steps = 0;
            let count = &mut |_: &_| {
                steps += 1;
                ControlFlow::Continue(())
            };
            sums = engine.epoch(&images, count).unwrap().unwrap();
            assert_eq!((steps, sums.batches, sums.samples), (3, 3, 6));
            let found = engine.network().unwrap().logits(&batch.images).unwrap();
            logits.extend(found.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        }
        (sums, engine.trainer().unwrap().network().clone(), logits)
    }

    #[test]
    fn an_epoch_on_a_gpu_comes_to_what_one_on_the_processor_does() {
        let Some(target) = target() else { return };
        let (sums, network, logits) = train(&super::super::Target::Gpu(target));
        let (expected, expected_network, expected_logits) = train(&super::super::Target::Cpu);
        assert_eq!(sums.step, expected.step);
        // Six steps in f32, each of sums of a few thousand products: rounding of 2⁻²⁴ adds up to far less.
        let loss = |sums: &Position| sums.loss().unwrap();
        assert!((loss(&sums) / loss(&expected) - 1.0).abs() < 1e-4);
        assert!(distance(&network, &expected_network) < 1e-4);
        for (x, y) in logits.iter().zip(&expected_logits) {
            assert!((x - y).abs() < 1e-3, "{x} and {y}");
        }
    }
}
