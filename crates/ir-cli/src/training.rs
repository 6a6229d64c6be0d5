//! A training run under way: epochs, history, checkpoints.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use candle_core::Device;
use ir_analysis::results::Split;
use ir_analysis::{Measure, Number, Options};
use ir_data::{BatchOptions, Dataset, Loader};
use ir_models::{Architecture, DataDescription, Position, Trainer, TrainingSettings};
use serde::{Deserialize, Serialize};

use crate::checkpoints::Checkpoints;
use crate::engine::{Engine, Target};
use crate::run::{Columns, Epoch, GradientNormRatio};
use crate::{data, files, interrupt, progress};

/// Images of a batch where nothing is learned.
pub(crate) const EVALUATION_BATCH: usize = 250;

/// Images of a batch of which every block is measured, which takes more memory for each.
pub(crate) const MEASURED_BATCH: usize = 50;

/// Everything that the numbers of a run depend on. A resumed run must agree in all of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) architecture: Architecture,
    pub(crate) training: TrainingSettings,
    pub(crate) epochs: usize,
    pub(crate) batch_size: usize,
    pub(crate) seed: u64,
    pub(crate) augmentation: bool,
    pub(crate) train_samples: usize,
    pub(crate) test_samples: usize,
    pub(crate) measure_every: usize,
    pub(crate) measure_samples: usize,
    pub(crate) data_checksum: String,
}

/// A run under way.
pub(crate) struct Training<'a> {
    folder: &'a Path,
    checkpoints: Checkpoints,
    settings: Settings,
    data: DataDescription,
    engine: Box<dyn Engine>,
    /// Where the engine reads images best.
    device: Device,
    images: Loader,
    test: Loader,
    /// A fixed part of each split, on which blocks and exits are measured.
    measured: [(&'static str, Loader); 2],
    /// The first images of the training split, one batch.
    first_batch: Loader,
    history: Vec<Epoch>,
    columns: Columns,
}

impl<'a> Training<'a> {
    pub(crate) fn new(
        folder: &'a Path,
        checkpoints: Checkpoints,
        settings: Settings,
        dataset: &Dataset,
        target: &Target,
        trainer: Trainer,
    ) -> Result<Self> {
        let normalization = dataset.normalization();
        let options = BatchOptions {
            augment: settings.augmentation,
            samples: Some(settings.train_samples),
            ..BatchOptions::training(settings.batch_size, settings.seed, normalization)
        };
        let fixed =
            |split, samples, batch| data::evaluation(split, Some(samples), batch, normalization);
        let measured = |split| fixed(split, settings.measure_samples.max(1), MEASURED_BATCH);
        let mut history = crate::run::read_history(&folder.join("history.jsonl"))?;
        // What a run that was killed recorded after its last checkpoint happens again.
        let position = *trainer.position();
        let mut columns = Columns::read(folder)?;
        if position.step == 0 {
            (history, columns) = (Vec::new(), Columns::default());
        }
        history.retain(|epoch| epoch.epoch <= position.epoch);
        columns.keep_until(position.epoch);
        let images = Loader::new(dataset.train().clone(), options)?;
        Ok(Self {
            folder,
            checkpoints,
            engine: target.train(trainer, &images)?,
            device: target.device(),
            images,
            test: fixed(dataset.test(), settings.test_samples, EVALUATION_BATCH)?,
            measured: [
                ("train", measured(dataset.train())?),
                ("test", measured(dataset.test())?),
            ],
            first_batch: fixed(dataset.train(), settings.batch_size, settings.batch_size)?,
            data: DataDescription {
                dataset: Some(dataset.name().into()),
                normalization: Some(ir_models::Normalization {
                    mean: normalization.mean,
                    std: normalization.std,
                }),
            },
            settings,
            history,
            columns,
        })
    }

    /// Makes room for a run that begins: checkpoints of an earlier one go.
    pub(crate) fn clear(&self) -> Result<()> {
        self.checkpoints.clear()
    }

    /// Trains to the last epoch. If somebody asks to stop before, gives the exit status for them.
    ///
    /// # Errors
    /// What stopped it, with what is left of the run.
    pub(crate) fn run(&mut self) -> Result<Option<u8>> {
        let outcome = self.run_to_the_end();
        outcome.with_context(|| format!("training stopped; {}", self.checkpoints.last_good()))
    }

    fn run_to_the_end(&mut self) -> Result<Option<u8>> {
        if self.history.is_empty() {
            let started = Instant::now();
            self.record(None, started)?;
        }
        if self.engine.position().batches == 0 {
            // What was killed between a checkpoint and this begins with it.
            self.keep_best()?;
        }
        if self.settings.epochs == 0 {
            self.save()?;
        }
        while self.engine.position().epoch < self.settings.epochs {
            let started = Instant::now();
            if let Some(sums) = self.epoch()? {
                self.record(Some(&sums), started)?;
            }
            self.save()?;
            if let Some(status) = interrupt::requested() {
                progress::say(
                    "interrupted; the checkpoint is written, go on with the same command and --resume",
                );
                return Ok(Some(status));
            }
        }
        Ok(None)
    }

    /// The rest of the epoch under way; `None` if somebody asked to stop before its end.
    fn epoch(&mut self) -> Result<Option<Position>> {
        let position = self.engine.position();
        let label = format!("epoch {}/{}", position.epoch + 1, self.settings.epochs);
        let bar = progress::bar(self.images.batches(), label);
        bar.set_position(position.batches as u64);
        let outcome = self.engine.epoch(&self.images, &mut |step| {
            bar.inc(1);
            let (loss, accuracy) = (step.position.loss(), step.position.accuracy());
            let (loss, accuracy) = (loss.unwrap_or(f64::NAN), accuracy.unwrap_or(f64::NAN));
            bar.set_message(format!(
                "loss {loss:.3}, accuracy {:.1} %",
                100.0 * accuracy
            ));
            match interrupt::requested() {
                Some(_) => ControlFlow::Break(()),
                None => ControlFlow::Continue(()),
            }
        });
        bar.finish_and_clear();
        outcome
    }

    /// Evaluates the network as it is now and appends to the history.
    fn record(&mut self, sums: Option<&Position>, started: Instant) -> Result<()> {
        let position = self.engine.position();
        let every = self.settings.measure_every;
        let last = position.epoch == self.settings.epochs;
        let gradient_norm_ratio = if every > 0 && (position.epoch.is_multiple_of(every) || last) {
            Some(self.measure(position.epoch)?)
        } else {
            None
        };
        let network = self.engine.network()?;
        let test = data::pairs(self.test.epoch(0), &self.device);
        let test = ir_analysis::evaluate(network, test)?;
        let schedule = &self.settings.training.schedule;
        let epoch = Epoch {
            epoch: position.epoch,
            step: position.step,
            learning_rate: schedule.learning_rate(position.epoch.saturating_sub(1)),
            seconds: started.elapsed().as_secs_f64(),
            train_loss: sums.and_then(Position::loss).map(Number),
            train_accuracy: sums.and_then(Position::accuracy),
            test_loss: Number(test.loss),
            test_accuracy: test.accuracy,
            gradient_norm_ratio,
        };
        self.announce(&epoch);
        self.history.push(epoch);
        let mut lines = Vec::new();
        for epoch in &self.history {
            serde_json::to_writer(&mut lines, epoch)?;
            lines.push(b'\n');
        }
        files::write(&self.folder.join("history.jsonl"), &lines)
    }

    /// Measures blocks and exits on the fixed part of each split and appends to the columns.
    fn measure(&mut self, epoch: usize) -> Result<GradientNormRatio> {
        let measures = [
            Measure::Cosine,
            Measure::ExitCosine,
            Measure::Ratio,
            Measure::Exits,
        ];
        let options = Options {
            measures: measures.into(),
            ..Options::default()
        };
        let mut ratios = [None, None];
        let norms = self.batch_norms()?;
        for (ratio, (name, images)) in ratios.iter_mut().zip(&self.measured) {
            let batches = data::pairs(images.epoch(0), &self.device);
            let network = self.engine.network()?;
            let split = ir_analysis::analyze_split(network, batches, &options, &mut |_| ())?;
            let norms = match *name {
                "train" => norms.as_slice(),
                _ => &[],
            };
            self.columns.add(epoch, name, &split, norms);
            *ratio = gradient_norm_ratio(&split);
        }
        self.columns.write(self.folder)?;
        let [train, test] = ratios;
        Ok(GradientNormRatio { train, test })
    }

    /// The norms of h_j in a pass that normalises by the batch: the first images of the training
    /// split, as many as a step takes.
    fn batch_norms(&mut self) -> Result<Vec<f64>> {
        let Some(batch) = self.first_batch.epoch(0).next() else {
            return Ok(Vec::new());
        };
        let (images, labels) = data::pair(batch)?;
        let pass = self.engine.training_pass(&images, &labels)?;
        Ok(pass.representation_norms())
    }

    /// One line an epoch on stderr.
    fn announce(&self, epoch: &Epoch) {
        let (name, epochs) = (&self.settings.architecture.name, self.settings.epochs);
        let trained = match (epoch.train_loss, epoch.train_accuracy) {
            (Some(Number(loss)), Some(accuracy)) => format!(
                " · rate {} · train loss {loss:.3}, accuracy {:.1} %",
                epoch.learning_rate,
                100.0 * accuracy
            ),
            _ => String::new(),
        };
        progress::say(&format!(
            "{name} epoch {:>3}/{epochs}{trained} · test loss {:.3}, accuracy {:.1} % · {:.1} s",
            epoch.epoch,
            epoch.test_loss.0,
            100.0 * epoch.test_accuracy,
            epoch.seconds
        ));
    }

    /// Writes a checkpoint; at the end of an epoch that is the best so far, as that too.
    fn save(&mut self) -> Result<()> {
        let run = serde_json::to_value(&self.settings)?;
        let trainer = self.engine.trainer()?;
        self.checkpoints.save(trainer, &self.data, run)?;
        match trainer.position().batches {
            0 => self.keep_best(),
            _ => Ok(()),
        }
    }

    /// Keeps the last checkpoint as the best one if its test accuracy is above all earlier ones.
    fn keep_best(&self) -> Result<()> {
        let trained = || self.history.iter().filter(|epoch| epoch.epoch > 0);
        let accuracies = trained().map(|epoch| epoch.test_accuracy);
        let highest = accuracies.fold(f64::NEG_INFINITY, f64::max);
        let best = trained().find(|epoch| epoch.test_accuracy >= highest);
        if best.is_some_and(|best| best.epoch == self.engine.position().epoch) {
            self.checkpoints.keep_as_best()?;
        }
        Ok(())
    }
}

/// ‖∂L/∂h_1‖ / ‖∂L/∂h_k‖ with h_k behind the first block of the last stage.
fn gradient_norm_ratio(split: &Split) -> Option<Number> {
    let last_stage = split.blocks.last()?.stage;
    let start = split
        .blocks
        .iter()
        .position(|block| block.stage == last_stage)?;
    let norm = |block: usize| split.blocks.get(block)?.grad_norm.map(f64::from);
    let ratio = norm(1)? / norm(start + 1)?;
    (start > 0).then_some(Number(ratio))
}
