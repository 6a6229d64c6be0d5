//! The training loop on a GPU.

use std::ops::ControlFlow;

use candle_core::Tensor;
use ir_tensor_ops::gpu::{
    Descent, EpochOrder, Gpu, Graph, KernelTime, Precision, Progress, ResidentImages, StepState,
    Stopped,
};

use super::memory::Pass;
use super::weights::DeviceWeights;
use crate::error::{Error, Result};
use crate::pass::{RUNNING_MOMENTUM, TrainingPass};
use crate::trainer::{self, Position, StepReport};

/// Steps that are asked for before somebody looks at what they came to.
const STEPS_AHEAD: usize = 16;

/// The training images in the memory of a GPU, and how epochs go through them.
#[derive(Debug)]
pub struct TrainingImages {
    /// All images of the split.
    pub images: ResidentImages,
    /// The samples of the epoch under way.
    pub order: EpochOrder,
    /// How many samples an epoch has; the last ones that fill no batch are left out.
    pub samples: usize,
    /// Images of a step.
    pub batch_size: usize,
}

/// Trains a [`ResNet`](crate::ResNet) on a GPU.
///
/// It begins where a [`crate::Trainer`] is, and brings it up to date when it is asked to. `f32` gives the numbers of the CPU
/// up to rounding; `bf16` stores activations and the weights that convolutions read as bfloat16, and keeps parameters,
/// velocities, gradients and statistics in f32.
///
/// ```
/// # #[cfg(feature = "emulation")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::ops::ControlFlow;
/// use ir_models::{Architecture, ResNet, Schedule, Sgd, Trainer, TrainingSettings, gpu};
/// use ir_tensor_ops::gpu::{EpochOrder, Gpu, Precision, ResidentImages};
///
/// let architecture = Architecture::from_json(r#"{
///     "name": "tiny", "classes": 2, "image": [3, 8, 8], "stem_channels": 4,
///     "stages": [{ "blocks": 1, "channels": 4 }]
/// }"#)?;
/// let settings = TrainingSettings { schedule: Schedule::constant(0.1), sgd: Sgd::default() };
/// let trainer = Trainer::new(ResNet::initialize(&architecture, 0)?, settings)?;
/// let gpu = Gpu::emulated()?;
/// // Two images, one black, one white.
/// let bytes = [[0; 3 * 64], [255; 3 * 64]].concat();
/// let lookup: Vec<f32> = (0..3 * 256).map(|i| (i % 256) as f32 / 128.0 - 1.0).collect();
/// let images = gpu::TrainingImages {
///     images: ResidentImages::new(&gpu, &bytes, &[0, 1], &lookup, 8)?,
///     order: EpochOrder::new(&gpu, 2, 2, 0)?,
///     samples: 2,
///     batch_size: 2,
/// };
/// let mut trainer = gpu::Trainer::new(&gpu, trainer, images, Precision::F32)?;
/// for _ in 0..3 {
///     trainer.epoch(&[0, 1], &[0, 0], |_| ControlFlow::Continue(()))?;
/// }
/// let on_the_cpu = trainer.updated()?;
/// assert_eq!(on_the_cpu.position().epoch, 3);
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "emulation"))]
/// # fn main() {}
/// ```
#[derive(Debug)]
pub struct Trainer {
    gpu: Gpu,
    trainer: trainer::Trainer,
    weights: DeviceWeights,
    images: TrainingImages,
    pass: Pass,
    state: StepState,
    /// A whole step.
    step: Graph,
    /// Whether the device is ahead of `trainer`'s tensors.
    ahead: bool,
}

impl Trainer {
    /// Takes the weights and the velocities to the device and records a step.
    ///
    /// # Errors
    /// Images of another size than the network's, no batch in an epoch, not enough memory.
    pub fn new(
        gpu: &Gpu,
        trainer: trainer::Trainer,
        images: TrainingImages,
        precision: Precision,
    ) -> Result<Self> {
        let network = trainer.network();
        let (architecture, layout) = (network.architecture(), &network.layout);
        let sgd = trainer.settings().sgd;
        let weights = DeviceWeights::new(gpu, layout, &sgd, precision)?;
        weights.write(trainer.tensors())?;
        let batch = images.batch_size;
        let batches = images.samples / batch.max(1);
        let state = StepState::new(gpu, batches)?;
        let pass = Pass::new(gpu, architecture, layout, &weights, batch, precision)?;
        let descent = Descent {
            momentum: sgd.momentum as f32,
            weight_decay: sgd.weight_decay as f32,
            decayed: weights.arena.decayed,
        };
        let whole_step = || -> Result<()> {
            images
                .images
                .take(&images.order, &state, &pass.images, &pass.labels)?;
            pass.run(&weights)?;
            state.total(batch, &pass.losses)?;
            pass.check(&state)?;
            weights.parameters.descend(descent, &state)?;
            pass.take_in_statistics(&weights, &state, RUNNING_MOMENTUM)?;
            Ok(state.advance()?)
        };
        // Once as it is, without effect: kernels are loaded at their first use, which cannot be recorded.
        state.stop()?;
        whole_step()?;
        let step = gpu.record(whole_step)?;
        Ok(Self {
            gpu: gpu.clone(),
            trainer,
            weights,
            images,
            pass,
            state,
            step,
            ahead: false,
        })
    }

    /// How far training is.
    pub fn position(&self) -> &Position {
        self.trainer.position()
    }

    /// What training does.
    pub fn settings(&self) -> &trainer::TrainingSettings {
        self.trainer.settings()
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The trainer of the CPU, with the weights, the velocities and the statistics as they are on the device now.
    ///
    /// # Errors
    /// What the device reports.
    pub fn updated(&mut self) -> Result<&trainer::Trainer> {
        if self.ahead {
            let specs = &self.trainer.network().layout.specs;
            let tensors = self.weights.read(specs)?;
            self.trainer.overwrite(tensors)?;
            self.ahead = false;
        }
        Ok(&self.trainer)
    }

    /// How long each kernel of the last step took, if steps are recorded with times
    /// ([`Gpu::time_recordings`](ir_tensor_ops::gpu::Gpu::time_recordings)).
    ///
    /// # Errors
    /// What the device reports.
    pub fn step_times(&self) -> Result<Vec<KernelTime>> {
        Ok(self.step.times()?)
    }

    /// One batch forward and backward with batch statistics, on the device and in its precision; changes nothing. As
    /// [`ResNet::training_pass`](crate::ResNet::training_pass), except that there are as many images as a step takes and
    /// that a label which is no class makes the loss NaN.
    ///
    /// # Errors
    /// Another shape or number of images, or of labels; what the device reports.
    pub fn training_pass(&mut self, images: &Tensor, labels: &Tensor) -> Result<TrainingPass> {
        self.pass.images.write(images)?;
        self.pass.labels.write(&labels.to_vec1::<u32>()?)?;
        self.pass.run(&self.weights)?;
        self.pass.found(&self.weights)
    }

    /// The rest of an epoch: a step on each batch. `samples` are the indices of all samples of the epoch in order, and
    /// `changes` what happens to each ([`EpochOrder::change`]). As [`crate::Trainer::epoch`], except that `after_step`
    /// hears of steps some time after they were taken: when it breaks off, up to 15 more have been.
    ///
    /// # Errors
    /// [`Error::NonFiniteLoss`] and [`Error::NonFiniteStep`], with the weights as they were before that step; samples
    /// that are not there.
    pub fn epoch(
        &mut self,
        samples: &[u32],
        changes: &[u32],
        mut after_step: impl FnMut(&StepReport) -> ControlFlow<()>,
    ) -> Result<Option<Position>> {
        let position = *self.trainer.position();
        let learning_rate = self
            .trainer
            .settings()
            .schedule
            .learning_rate(position.epoch);
        let batches = self.images.samples / self.images.batch_size;
        if position.batches >= batches {
            // It was broken off after its last batch.
            return Ok(Some(self.trainer.finish_epoch()));
        }
        self.images.order.write(samples, changes)?;
        self.weights
            .parameters
            .rate
            .write(&[learning_rate as f32])?;
        self.state.begin(position.batches)?;
        let mut done = position.batches;
        self.ahead = true;
        while done < batches {
            let ahead = STEPS_AHEAD.min(batches - done);
            for _ in 0..ahead {
                self.step.launch()?;
            }
            let progress = self.state.progress(done)?;
            done = progress.done;
            let flow = self.report(&progress, learning_rate, &mut after_step);
            if let Some((stopped, loss)) = progress.stopped {
                return Err(self.not_finite(stopped, loss)?);
            }
            if flow.is_break() && done < batches {
                return Ok(None);
            }
        }
        Ok(Some(self.trainer.finish_epoch()))
    }

    /// Counts the steps, and tells of them.
    fn report(
        &mut self,
        progress: &Progress,
        learning_rate: f64,
        after_step: &mut impl FnMut(&StepReport) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut flow = ControlFlow::Continue(());
        for &(loss, correct) in &progress.batches {
            let samples = self.images.batch_size;
            let report = self.trainer.count(loss, correct, samples, learning_rate);
            if after_step(&report).is_break() {
                flow = ControlFlow::Break(());
            }
        }
        flow
    }

    /// What was not finite. Steps after the one that stopped were the same one again, without effect, so that its pass is
    /// still there to be looked at.
    fn not_finite(&mut self, stopped: Stopped, loss: f64) -> Result<Error> {
        let pass = self.pass.found(&self.weights)?;
        let checked = self.updated()?.check(&pass);
        let Position { step, epoch, .. } = *self.trainer.position();
        Ok(match (checked, stopped) {
            (Err(named), _) => named,
            (Ok(()), Stopped::Loss) => Error::NonFiniteLoss {
                loss,
                step,
                epoch,
                origin: None,
            },
            // At the edge of f32 the device may round beyond it, and the CPU not.
            (Ok(()), Stopped::Statistics | Stopped::Update) => Error::NonFiniteStep {
                quantity: match stopped {
                    Stopped::Statistics => "batch statistics",
                    _ => "updated value",
                },
                tensor: "some tensor".into(),
                loss,
                step,
                epoch,
            },
        })
    }
}
