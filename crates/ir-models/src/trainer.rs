//! The training loop: any source of batches, any number of epochs, a callback after each step.

use std::ops::ControlFlow;

use candle_core::Tensor;
use ir_tensor_ops::together;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::finite;
use crate::optimizer::Sgd;
use crate::pass::TrainingPass;
use crate::resnet::ResNet;
use crate::schedule::Schedule;

/// What training does, apart from the data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingSettings {
    /// Learning rate by epoch.
    pub schedule: Schedule,
    /// The optimiser.
    pub sgd: Sgd,
}

/// How far training is, and the sums of the epoch that is under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Epochs done.
    pub epoch: usize,
    /// Steps done, over all epochs.
    pub step: u64,
    /// Batches done in the epoch under way: a resumed run skips as many.
    pub batches: usize,
    /// Samples seen in the epoch under way.
    pub samples: usize,
    /// Sum of their losses in nats, each at its own step.
    pub loss_sum: f64,
    /// How many of them were classified correctly, each at its own step.
    pub correct: usize,
}

impl Position {
    /// Mean loss over the epoch so far; `None` before its first batch.
    pub fn loss(&self) -> Option<f64> {
        (self.samples > 0).then(|| self.loss_sum / self.samples as f64)
    }

    /// Accuracy over the epoch so far, 0 to 1; `None` before its first batch.
    pub fn accuracy(&self) -> Option<f64> {
        (self.samples > 0).then(|| self.correct as f64 / self.samples as f64)
    }
}

/// Trains a [`ResNet`] in place.
///
/// ```
/// use std::ops::ControlFlow;
/// use candle_core::{DType, Device, Tensor};
/// use ir_models::{Architecture, ResNet, Schedule, Sgd, Trainer, TrainingSettings};
///
/// let architecture = Architecture::from_json(r#"{
///     "name": "tiny", "classes": 2, "image": [3, 8, 8], "stem_channels": 4,
///     "stages": [{ "blocks": 1, "channels": 4 }]
/// }"#)?;
/// let settings = TrainingSettings { schedule: Schedule::constant(0.1), sgd: Sgd::default() };
/// let mut trainer = Trainer::new(ResNet::initialize(&architecture, 0)?, settings)?;
/// let images = Tensor::ones((2, 3, 8, 8), DType::F32, &Device::Cpu)?;
/// let labels = Tensor::new(&[0u32, 0], &Device::Cpu)?;
/// let batches = (0..3).map(|_| Ok::<_, std::io::Error>((images.clone(), labels.clone())));
/// let mut losses = Vec::new();
/// let epoch = trainer.epoch(batches, |step| {
///     losses.push(step.loss);
///     ControlFlow::Continue(())
/// })?;
/// assert!(losses[2] < losses[0]);
/// assert_eq!(epoch.unwrap().samples, 6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Trainer {
    network: ResNet,
    settings: TrainingSettings,
    /// The velocity of each trainable tensor, in checkpoint order.
    velocities: Vec<Option<Tensor>>,
    position: Position,
}

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Mean loss of its batch in nats, before the update.
    pub loss: f64,
    /// Samples of its batch classified correctly, before the update.
    pub correct: usize,
    /// Samples in its batch.
    pub samples: usize,
    /// The learning rate that it used.
    pub learning_rate: f64,
    /// Where training is after it.
    pub position: Position,
}

impl Trainer {
    /// Starts training a network from rest.
    ///
    /// # Errors
    /// Whatever Candle reports.
    pub fn new(network: ResNet, settings: TrainingSettings) -> Result<Self> {
        let velocities = network
            .tensors()
            .map(|(spec, tensor)| {
                spec.kind
                    .is_trainable()
                    .then(|| tensor.zeros_like())
                    .transpose()
            })
            .collect::<candle_core::Result<_>>()?;
        Ok(Self {
            network,
            settings,
            velocities,
            position: Position::default(),
        })
    }

    /// Goes on from a position with the velocities of then, in checkpoint order, `None` for
    /// tensors that are not trained.
    pub(crate) fn resume(
        network: ResNet,
        settings: TrainingSettings,
        velocities: Vec<Option<Tensor>>,
        position: Position,
    ) -> Self {
        Self {
            network,
            settings,
            velocities,
            position,
        }
    }

    /// The network as it is now; training changes its weights in place.
    pub fn network(&self) -> &ResNet {
        &self.network
    }

    /// What training does.
    pub fn settings(&self) -> &TrainingSettings {
        &self.settings
    }

    /// How far it is.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// The velocity of each trainable tensor, with the tensor's name.
    pub fn velocities(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        let named = self.network.layout.specs.iter().zip(&self.velocities);
        named.filter_map(|(spec, velocity)| Some((spec.name.as_str(), velocity.as_ref()?)))
    }

    /// All tensors of the network, each with its velocity if it is trained.
    #[cfg(any(feature = "cuda", feature = "emulation"))]
    pub(crate) fn tensors(
        &self,
    ) -> impl Iterator<Item = (&crate::TensorSpec, &Tensor, Option<&Tensor>)> {
        let tensors = self.network.tensors().zip(&self.velocities);
        tensors.map(|((spec, tensor), velocity)| (spec, tensor, velocity.as_ref()))
    }

    /// Takes other tensors in place of its own, in the same order.
    #[cfg(any(feature = "cuda", feature = "emulation"))]
    pub(crate) fn overwrite(&mut self, tensors: Vec<(Tensor, Option<Tensor>)>) -> Result<()> {
        let (tensors, velocities): (Vec<_>, Vec<_>) = tensors.into_iter().unzip();
        let mut tensors = tensors.into_iter();
        let architecture = self.network.architecture().clone();
        self.network = ResNet::from_tensors(&architecture, |spec| {
            tensors.next().ok_or_else(|| {
                candle_core::Error::Msg(format!("there is no tensor {}", spec.name)).into()
            })
        })?;
        self.velocities = velocities;
        Ok(())
    }

    /// One step on one batch: `images` `[N, C, H, W]` f32, `labels` `[N]` u32. N may be 1, and not every
    /// class need occur.
    ///
    /// # Errors
    /// [`Error::NonFiniteLoss`] and [`Error::NonFiniteStep`], with the weights as they were before
    /// the step; shapes that do not fit; labels out of range.
    pub fn step(&mut self, images: &Tensor, labels: &Tensor) -> Result<StepReport> {
        together(|| self.step_together(images, labels))
    }

    fn step_together(&mut self, images: &Tensor, labels: &Tensor) -> Result<StepReport> {
        let learning_rate = self.settings.schedule.learning_rate(self.position.epoch);
        let pass = self.network.training_pass(images, labels)?;
        self.check(&pass)?;
        self.network.take_in_statistics(&pass)?;
        for (index, (spec, weight)) in self.network.tensors().enumerate() {
            if let (Some(velocity), Some(gradient)) =
                (&self.velocities[index], &pass.gradients[index])
            {
                self.settings
                    .sgd
                    .update(spec.kind, weight, velocity, gradient, learning_rate)?;
            }
        }
        Ok(self.count(pass.loss, pass.correct, labels.elem_count(), learning_rate))
    }

    /// Refuses a pass whose step would leave a number that is not finite.
    ///
    /// # Errors
    /// [`Error::NonFiniteLoss`], [`Error::NonFiniteStep`].
    pub(crate) fn check(&self, pass: &TrainingPass) -> Result<()> {
        let step = finite::Step {
            network: &self.network,
            pass,
            velocities: &self.velocities,
            sgd: &self.settings.sgd,
            learning_rate: self.settings.schedule.learning_rate(self.position.epoch),
            position: &self.position,
        };
        step.check()
    }

    /// Counts a step that was taken.
    pub(crate) fn count(
        &mut self,
        loss: f64,
        correct: usize,
        samples: usize,
        learning_rate: f64,
    ) -> StepReport {
        let position = &mut self.position;
        position.step += 1;
        position.batches += 1;
        position.samples += samples;
        position.correct += correct;
        position.loss_sum += loss * samples as f64;
        StepReport {
            loss,
            correct,
            samples,
            learning_rate,
            position: *position,
        }
    }

    /// The rest of an epoch: a step on each batch. `batches` is what is left of the epoch that
    /// [`Position::epoch`] names after the [`Position::batches`] already done. `after_step` may
    /// break off; the epoch then stays under way and `None` is returned. Otherwise the sums of
    /// the whole epoch are.
    ///
    /// # Errors
    /// Those of [`Trainer::step`]; [`Error::Batches`] where the source fails.
    pub fn epoch<E>(
        &mut self,
        batches: impl IntoIterator<Item = std::result::Result<(Tensor, Tensor), E>>,
        mut after_step: impl FnMut(&StepReport) -> ControlFlow<()>,
    ) -> Result<Option<Position>>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        for batch in batches {
            let (images, labels) = batch.map_err(|error| Error::Batches(error.into()))?;
            let report = self.step(&images, &labels)?;
            if after_step(&report).is_break() {
                return Ok(None);
            }
        }
        Ok(Some(self.finish_epoch()))
    }

    /// Begins the next epoch; gives the sums of the one that is over.
    pub(crate) fn finish_epoch(&mut self) -> Position {
        let whole = self.position;
        self.position = Position {
            epoch: whole.epoch + 1,
            step: whole.step,
            ..Position::default()
        };
        whole
    }
}
