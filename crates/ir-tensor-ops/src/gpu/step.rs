//! The end of a training step on a GPU: what the batch came to, and stochastic gradient descent.

use half::bf16;

use super::backend::Argument;
use super::norm::at_least;
use super::{Buffer, Gpu, Losses};
use crate::error::Result;

/// How far an epoch is, and what its steps came to. A step that meets a number that is not finite changes nothing, and
/// neither does any step after it.
#[derive(Debug, Clone)]
pub struct StepState {
    /// Batches done; whether a loss, statistics, an update were not finite.
    state: Buffer<i32>,
    /// Mean loss and number of correct samples of the last batch.
    totals: Buffer<f64>,
    /// The totals of every batch of the epoch.
    report: Buffer<f64>,
}

/// Why steps stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// The loss was not finite.
    Loss,
    /// The mean or the variance of a batch norm's input was not.
    Statistics,
    /// A parameter or a velocity would not have been.
    Update,
}

/// What steps came to.
#[derive(Debug, Clone)]
pub struct Progress {
    /// Batches of the epoch done.
    pub done: usize,
    /// Mean loss and number of correct samples of each batch from the one asked for on.
    pub batches: Vec<(f64, usize)>,
    /// Why no more were, with the loss of the batch at which it stopped.
    pub stopped: Option<(Stopped, f64)>,
}

impl StepState {
    /// For epochs of up to as many batches.
    ///
    /// # Errors
    /// [`Error::Gpu`](crate::Error::Gpu) if there is not as much memory.
    pub fn new(gpu: &Gpu, batches: usize) -> Result<Self> {
        Ok(Self {
            state: Buffer::zeros(gpu, 4)?,
            totals: Buffer::zeros(gpu, 2)?,
            report: Buffer::zeros(gpu, 2 * batches.max(1))?,
        })
    }

    /// Begins an epoch of which `done` batches are done.
    ///
    /// # Errors
    /// `Shape` if it has no more batches than that.
    pub fn begin(&self, done: usize) -> Result<()> {
        at_least("StepState::begin", "report", &self.report, 2 * (done + 1))?;
        self.state.write(&[done as i32, 0, 0, 0])
    }

    /// Lets no step change anything until an epoch begins.
    ///
    /// # Errors
    /// [`Error::Gpu`](crate::Error::Gpu).
    pub fn stop(&self) -> Result<()> {
        self.state.write(&[0, 1, 0, 0])
    }

    /// Waits for all steps so far, and says what they came to from batch `from` on.
    ///
    /// # Errors
    /// [`Error::Gpu`](crate::Error::Gpu).
    pub fn progress(&self, from: usize) -> Result<Progress> {
        let state = self.state.to_vec()?;
        let done = state[0] as usize;
        let batches = self.report.slice(2 * from.min(done)..2 * done)?.to_vec()?;
        let batches = batches.chunks_exact(2);
        let reasons = [Stopped::Loss, Stopped::Statistics, Stopped::Update];
        let stopped = reasons.into_iter().zip(&state[1..]);
        let stopped = stopped
            .filter(|&(_, &found)| found != 0)
            .map(|(why, _)| why);
        let loss = self.totals.to_vec()?[0];
        Ok(Progress {
            done,
            batches: batches.map(|batch| (batch[0], batch[1] as usize)).collect(),
            stopped: stopped.map(|why| (why, loss)).next(),
        })
    }

    /// The mean loss and the number of correct samples of a batch.
    ///
    /// # Errors
    /// `Shape` for buffers that are too short.
    pub fn total(&self, rows: usize, losses: &Losses) -> Result<()> {
        at_least("StepState::total", "loss", &losses.loss, rows)?;
        at_least("StepState::total", "correct", &losses.correct, rows)?;
        let arguments = [
            (&losses.loss).into(),
            (&losses.correct).into(),
            (rows as i32).into(),
            (&self.totals).into(),
            self.argument(),
        ];
        // SAFETY: the losses have as many rows; the kernel is written for one block of 256 threads.
        unsafe {
            self.gpu()
                .launch("total_loss".into(), [1; 3], [256, 1, 1], 0, arguments)
        }
    }

    /// Stops if one of the batch statistics is not finite.
    ///
    /// # Errors
    /// [`Error::Gpu`](crate::Error::Gpu).
    pub fn check_statistics(&self, statistics: &Buffer<f32>) -> Result<()> {
        const BAD_STATISTICS: i32 = 2;
        let size = statistics.len();
        let arguments = [
            statistics.into(),
            (size as i32).into(),
            self.argument(),
            BAD_STATISTICS.into(),
        ];
        // SAFETY: the kernel reads as many numbers as there are.
        unsafe {
            self.gpu()
                .launch_for(size, "check_finite".into(), arguments)
        }
    }

    /// Moves running statistics towards those of the batch: number i takes number `from[i]` of the batch's, the
    /// variances times `unbiased[i]`; −1 leaves it.
    ///
    /// # Errors
    /// `Shape` for lengths that do not fit.
    pub fn take_statistics(
        &self,
        [mean, variance]: [&Buffer<f32>; 2],
        [batch_mean, batch_variance]: [&Buffer<f32>; 2],
        sources: &Sources,
        momentum: f64,
    ) -> Result<()> {
        const OP: &str = "StepState::take_statistics";
        let size = sources.from.len();
        for (argument, buffer) in [("mean", mean), ("variance", variance)] {
            at_least(OP, argument, buffer, size)?;
        }
        at_least(OP, "batch_mean", batch_mean, sources.reach)?;
        at_least(OP, "batch_variance", batch_variance, sources.reach)?;
        let arguments = [
            mean.into(),
            variance.into(),
            batch_mean.into(),
            batch_variance.into(),
            (&sources.from).into(),
            (&sources.unbiased).into(),
            (size as i32).into(),
            momentum.into(),
            self.argument(),
        ];
        // SAFETY: all have as many numbers, and no source lies behind the batch's (`Sources::new`).
        unsafe {
            self.gpu()
                .launch_for(size, "take_statistics".into(), arguments)
        }
    }

    /// Writes down what the batch came to, and goes on to the next.
    ///
    /// # Errors
    /// [`Error::Gpu`](crate::Error::Gpu).
    pub fn advance(&self) -> Result<()> {
        let last = (self.report.len() / 2 - 1) as i32;
        let arguments = [
            (&self.totals).into(),
            (&self.report).into(),
            last.into(),
            self.argument(),
        ];
        // SAFETY: the kernel stays within the `last` batches of the report; it is written for one thread.
        unsafe {
            self.gpu()
                .launch("advance".into(), [1; 3], [1; 3], 0, arguments)
        }
    }

    fn gpu(&self) -> &Gpu {
        self.state.gpu()
    }

    pub(super) fn argument(&self) -> Argument {
        (&self.state).into()
    }
}

/// Which batch statistics each running one takes in: for one launch, in which no number is met twice.
#[derive(Debug, Clone)]
pub struct Sources {
    from: Buffer<i32>,
    unbiased: Buffer<f32>,
    /// One more than the largest source.
    reach: usize,
}

impl Sources {
    /// For each running number, the index of the batch's, and n / (n − 1) of the n values that it is of.
    ///
    /// # Errors
    /// [`Error::Gpu`](crate::Error::Gpu) if there is not as much memory.
    pub fn new(gpu: &Gpu, sources: &[Option<(usize, f32)>]) -> Result<Self> {
        let from: Vec<i32> = sources
            .iter()
            .map(|source| source.map_or(-1, |(from, _)| from as i32))
            .collect();
        let unbiased: Vec<f32> = sources
            .iter()
            .map(|source| source.map_or(1., |(_, unbiased)| unbiased))
            .collect();
        Ok(Self {
            from: Buffer::from_slice(gpu, &from)?,
            unbiased: Buffer::from_slice(gpu, &unbiased)?,
            reach: sources
                .iter()
                .flatten()
                .map(|&(from, _)| from + 1)
                .max()
                .unwrap_or(0),
        })
    }
}

/// All parameters of a network in one row, with what training keeps for each.
#[derive(Debug, Clone)]
pub struct Parameters {
    /// The parameters themselves, in f32.
    pub weights: Buffer<f32>,
    /// As many, for momentum.
    pub velocities: Buffer<f32>,
    /// As many, which a backward pass writes.
    pub gradients: Buffer<f32>,
    /// The parameters once more as bfloat16, where operations read them so.
    pub copy: Option<Buffer<bf16>>,
    /// The learning rate.
    pub rate: Buffer<f32>,
}

/// Stochastic gradient descent: v ← momentum · v + (gradient + decay · w), w ← w − rate · v.
#[derive(Debug, Clone, Copy)]
pub struct Descent {
    /// Factor on the velocity.
    pub momentum: f32,
    /// Factor on the parameters.
    pub weight_decay: f32,
    /// How many parameters decay: the first ones.
    pub decayed: usize,
}

impl Parameters {
    /// As many zeros.
    ///
    /// # Errors
    /// [`Error::Gpu`](crate::Error::Gpu) if there is not as much memory.
    pub fn new(gpu: &Gpu, size: usize, with_copy: bool) -> Result<Self> {
        let copy = with_copy.then(|| Buffer::zeros(gpu, size)).transpose()?;
        Ok(Self {
            weights: Buffer::zeros(gpu, size)?,
            velocities: Buffer::zeros(gpu, size)?,
            gradients: Buffer::zeros(gpu, size)?,
            copy,
            rate: Buffer::zeros(gpu, 1)?,
        })
    }

    /// Brings the copy up to date with weights that were written.
    ///
    /// # Errors
    /// `Shape` for lengths that do not fit.
    pub fn refresh_copy(&self) -> Result<()> {
        let Some(copy) = &self.copy else {
            return Ok(());
        };
        let size = self.check("Parameters::refresh_copy")?;
        let arguments = [(&self.weights).into(), copy.into(), (size as i32).into()];
        let gpu = self.weights.gpu();
        // SAFETY: the copy is as long.
        unsafe { gpu.launch_for(size, "copy_as_bf16".into(), arguments) }
    }

    /// Moves all parameters by their gradients, unless `state` has stopped or one of them would not be finite, which
    /// stops it.
    ///
    /// # Errors
    /// `Shape` for lengths that do not fit.
    pub fn descend(&self, descent: Descent, state: &StepState) -> Result<()> {
        let size = self.check("Parameters::descend")?;
        let [weights, velocities, gradients] =
            [&self.weights, &self.velocities, &self.gradients].map(Argument::from);
        let settings: [Argument; 5] = [
            (size as i32).into(),
            (descent.decayed as i32).into(),
            descent.momentum.into(),
            descent.weight_decay.into(),
            (&self.rate).into(),
        ];
        let ends = [weights, velocities, gradients];
        let state = [state.argument()];
        let gpu = self.weights.gpu();
        let check = [&ends[..], &settings, &state].concat();
        // SAFETY: all are as long; the copy, where there is one, too.
        unsafe { gpu.launch_for(size, "check_update".into(), check)? };
        let copy = [self.copy.as_ref().into()];
        let update = [&ends[..], &copy, &settings, &state].concat();
        // SAFETY: likewise.
        unsafe { gpu.launch_for(size, "update".into(), update) }
    }

    fn check(&self, op: &'static str) -> Result<usize> {
        let size = self.weights.len();
        self.weights
            .check_length(op, "velocities", self.velocities.len())?;
        self.weights
            .check_length(op, "gradients", self.gradients.len())?;
        if let Some(copy) = &self.copy {
            self.weights.check_length(op, "copy", copy.len())?;
        }
        at_least(op, "rate", &self.rate, 1)?;
        Ok(size)
    }
}
