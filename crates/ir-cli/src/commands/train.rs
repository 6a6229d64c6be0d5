//! `ir train`: a run folder with a trained network, its description and its history.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use ir_analysis::Number;
use ir_data::{BatchOptions, Dataset, Loader};
use ir_models::{
    Architecture, Checkpoint, DataDescription, Position, ResNet, Sgd, Trainer, TrainingSettings,
};
use serde::{Deserialize, Serialize};

use crate::arguments::{Device, Train};
use crate::run::{
    Epoch, EpochExit, EpochExits, LearningRate, Optimizer, Parameters, RunInfo, SCHEMA_VERSION,
};
use crate::{data, files, interrupt, machine, network, progress};

/// Images of a batch where nothing is learned.
const EVALUATION_BATCH: usize = 250;

/// Everything that the numbers of a run depend on. A resumed run must agree in all of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Settings {
    architecture: Architecture,
    training: TrainingSettings,
    epochs: usize,
    batch_size: usize,
    seed: u64,
    augmentation: bool,
    train_samples: usize,
    test_samples: usize,
    exits_every: usize,
    exits_samples: usize,
    data_checksum: String,
}

pub(crate) fn run(arguments: &Train) -> Result<ExitCode> {
    if arguments.device == Device::Cuda {
        bail!("--device cuda: this program was built without CUDA; use --device cpu");
    }
    let checkpoint = arguments.out.join("checkpoint.safetensors");
    let resuming = arguments.resume && checkpoint.exists();
    ensure!(
        resuming || !arguments.out.join("run.json").exists() || arguments.resume,
        "{}: holds a run already; go on with it by --resume, or give another --out",
        arguments.out.display()
    );
    let dataset = data::open(&arguments.source)?;
    let settings = settings(arguments, &dataset)?;
    std::fs::create_dir_all(&arguments.out)
        .with_context(|| format!("{}: cannot be made", arguments.out.display()))?;
    interrupt::listen()?;
    let trainer = match resuming {
        true => resume(&checkpoint, &settings)?,
        false => {
            let network = ResNet::initialize(&settings.architecture, settings.seed)?;
            Trainer::new(network, settings.training.clone())?
        }
    };
    files::write_json(
        &arguments.out.join("run.json"),
        &describe(&settings, &dataset)?,
    )?;
    let mut session = Session::new(&arguments.out, checkpoint, settings, &dataset, trainer)?;
    let finished = session.run()?;
    Ok(if finished {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(interrupt::EXIT_STATUS)
    })
}

fn settings(arguments: &Train, dataset: &Dataset) -> Result<Settings> {
    let architecture = network::architecture(&arguments.model, dataset.classes().len())?;
    let recipe = network::recipe(&architecture)?;
    let epochs = arguments.epochs.unwrap_or(recipe.epochs);
    let sgd = Sgd {
        momentum: arguments.momentum,
        weight_decay: arguments.weight_decay,
        ..Sgd::default()
    };
    let schedule = network::schedule(&arguments.schedule, &recipe, epochs)?;
    let first = |asked: Option<usize>, available: usize| asked.unwrap_or(available).min(available);
    Ok(Settings {
        architecture,
        training: TrainingSettings { schedule, sgd },
        epochs,
        batch_size: arguments.batch_size,
        seed: arguments.seed,
        augmentation: !arguments.no_augmentation,
        train_samples: first(arguments.train_samples, dataset.train().len()),
        test_samples: first(arguments.test_samples, dataset.test().len()),
        exits_every: arguments.exits_every,
        exits_samples: arguments.exits_samples,
        data_checksum: data::checksum(dataset),
    })
}

/// Opens the checkpoint of an interrupted run and makes sure that it is this one.
fn resume(path: &Path, settings: &Settings) -> Result<Trainer> {
    let checkpoint = Checkpoint::open(path)?;
    let before = checkpoint.run();
    let now = serde_json::to_value(settings)?;
    if let (Some(before), Some(now)) = (before.as_object(), now.as_object())
        && before != now
    {
        let differs = now
            .iter()
            .find(|(key, value)| before.get(*key) != Some(value));
        let (key, value) = differs.map_or(("settings", &serde_json::Value::Null), |(k, v)| {
            (k.as_str(), v)
        });
        let was = before.get(key).unwrap_or(&serde_json::Value::Null);
        bail!(
            "{}: this run has {key} {was}, and {value} was asked for; go on with the same arguments and data, or \
             start another run with another --out",
            path.display()
        );
    }
    Ok(checkpoint.trainer()?)
}

/// The content of run.json.
fn describe(settings: &Settings, dataset: &Dataset) -> Result<RunInfo> {
    let normalization = dataset.normalization();
    let schedule = settings.training.schedule.pieces.iter();
    let rate = |piece: &ir_models::Piece| LearningRate {
        from_epoch: piece.from_epoch,
        learning_rate: piece.learning_rate,
    };
    let parameters = settings.architecture.parameters();
    Ok(RunInfo {
        schema_version: SCHEMA_VERSION,
        model: settings.architecture.name.clone(),
        dataset: dataset.name().into(),
        synthetic: dataset.format() == ir_data::Format::Synthetic
            || dataset.name().starts_with("synthetic"),
        classes: dataset.classes().len(),
        seed: settings.seed,
        epochs: settings.epochs,
        batch_size: settings.batch_size,
        optimizer: Optimizer {
            learning_rate: schedule.map(rate).collect(),
            momentum: settings.training.sgd.momentum,
            weight_decay: settings.training.sgd.weight_decay,
        },
        augmentation: settings
            .augmentation
            .then(|| "horizontal flip, translation by up to 4 pixels".into()),
        normalization: crate::run::Normalization {
            mean: normalization.mean.to_vec(),
            std: normalization.std.to_vec(),
        },
        train_samples: settings.train_samples,
        test_samples: settings.test_samples,
        parameters: Parameters {
            all: parameters.all,
            trainable: parameters.trainable,
        },
        scaled_down: scaled_down(settings, dataset)?,
        machine: machine::describe(),
        version: env!("CARGO_PKG_VERSION").into(),
        command: std::env::args().collect(),
        data_checksum: settings.data_checksum.clone(),
    })
}

/// What is smaller here than in the paper, a clause each.
fn scaled_down(settings: &Settings, dataset: &Dataset) -> Result<Vec<String>> {
    let recipe = network::recipe(&settings.architecture)?;
    let name = &settings.architecture.name;
    let mut clauses = Vec::new();
    match Architecture::named(name, dataset.classes().len()) {
        Ok(paper) if paper == settings.architecture => {}
        _ => clauses.push(format!(
            "{name} is not a network of the paper ({} blocks, {} trainable parameters)",
            settings.architecture.blocks().len(),
            settings.architecture.parameters().trainable
        )),
    }
    if settings.epochs < recipe.epochs {
        clauses.push(format!(
            "{} epochs instead of {}",
            settings.epochs, recipe.epochs
        ));
    }
    if settings.train_samples < 50_000 {
        clauses.push(format!(
            "{} training images instead of 50,000",
            settings.train_samples
        ));
    }
    Ok(clauses)
}

/// A run under way.
struct Session<'a> {
    folder: &'a Path,
    checkpoint: PathBuf,
    settings: Settings,
    data: DataDescription,
    trainer: Trainer,
    training: Loader,
    test: Loader,
    exits: [Loader; 2],
    history: Vec<Epoch>,
}

impl<'a> Session<'a> {
    fn new(
        folder: &'a Path,
        checkpoint: PathBuf,
        settings: Settings,
        dataset: &Dataset,
        trainer: Trainer,
    ) -> Result<Self> {
        let normalization = dataset.normalization();
        let options = BatchOptions {
            augment: settings.augmentation,
            samples: Some(settings.train_samples),
            ..BatchOptions::training(settings.batch_size, settings.seed, normalization)
        };
        let evaluation = |split, samples| {
            data::evaluation(split, Some(samples), EVALUATION_BATCH, normalization)
        };
        let exits = settings.exits_samples.max(1);
        let mut history = crate::run::read_history(&folder.join("history.jsonl"))?;
        // What a run that was killed recorded after its last checkpoint happens again.
        let position = *trainer.position();
        history.retain(|epoch| position.step > 0 && epoch.epoch <= position.epoch);
        Ok(Self {
            folder,
            checkpoint,
            training: Loader::new(dataset.train().clone(), options)?,
            test: evaluation(dataset.test(), settings.test_samples)?,
            exits: [
                evaluation(dataset.train(), exits)?,
                evaluation(dataset.test(), exits)?,
            ],
            data: DataDescription {
                dataset: Some(dataset.name().into()),
                normalization: Some(ir_models::Normalization {
                    mean: normalization.mean,
                    std: normalization.std,
                }),
            },
            settings,
            trainer,
            history,
        })
    }

    /// Trains to the last epoch; false if somebody asked to stop before.
    fn run(&mut self) -> Result<bool> {
        if self.history.is_empty() {
            let started = Instant::now();
            self.record(None, started)?;
        }
        while self.trainer.position().epoch < self.settings.epochs {
            let started = Instant::now();
            let Some(sums) = self.epoch()? else {
                self.save()?;
                writeln!(
                    std::io::stderr(),
                    "interrupted; the checkpoint is written, go on with the same command and --resume"
                )?;
                return Ok(false);
            };
            self.record(Some(&sums), started)?;
            self.save()?;
        }
        Ok(true)
    }

    /// The rest of the epoch under way; `None` if somebody asked to stop before its end.
    fn epoch(&mut self) -> Result<Option<Position>> {
        let position = *self.trainer.position();
        let label = format!("epoch {}/{}", position.epoch + 1, self.settings.epochs);
        let bar = progress::bar(self.training.batches(), label);
        bar.set_position(position.batches as u64);
        let batches = self
            .training
            .epoch_from(position.epoch as u64, position.batches)
            .map(data::pair);
        let outcome = self.trainer.epoch(batches, |step| {
            bar.inc(1);
            let (loss, accuracy) = (step.position.loss(), step.position.accuracy());
            let (loss, accuracy) = (loss.unwrap_or(f64::NAN), accuracy.unwrap_or(f64::NAN));
            bar.set_message(format!(
                "loss {loss:.3}, accuracy {:.1} %",
                100.0 * accuracy
            ));
            if interrupt::requested() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        bar.finish_and_clear();
        outcome.map_err(|error| self.explain(error))
    }

    /// Evaluates the network as it is now and appends to the history.
    fn record(&mut self, sums: Option<&Position>, started: Instant) -> Result<()> {
        let position = *self.trainer.position();
        let network = self.trainer.network();
        let every = self.settings.exits_every;
        let last = position.epoch == self.settings.epochs;
        let exits = if every > 0 && (position.epoch.is_multiple_of(every) || last) {
            let [train, test] = &self.exits;
            let exits = |loader: &Loader| exits(network, loader);
            EpochExits {
                train: exits(train)?,
                test: exits(test)?,
            }
        } else {
            EpochExits::default()
        };
        let test = ir_analysis::evaluate(network, self.test.epoch(0).map(data::pair))?;
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
            exits,
        };
        self.announce(&epoch)?;
        self.history.push(epoch);
        let mut lines = Vec::new();
        for epoch in &self.history {
            serde_json::to_writer(&mut lines, epoch)?;
            lines.push(b'\n');
        }
        files::write(&self.folder.join("history.jsonl"), &lines)
    }

    /// One line an epoch on stderr.
    fn announce(&self, epoch: &Epoch) -> Result<()> {
        let mut err = std::io::stderr().lock();
        write!(
            err,
            "{} epoch {:>3}/{}",
            self.settings.architecture.name, epoch.epoch, self.settings.epochs
        )?;
        if let (Some(loss), Some(accuracy)) = (epoch.train_loss, epoch.train_accuracy) {
            let (rate, loss, accuracy) = (epoch.learning_rate, loss.0, 100.0 * accuracy);
            write!(
                err,
                " · rate {rate} · train loss {loss:.3}, accuracy {accuracy:.1} %"
            )?;
        }
        let (loss, accuracy, seconds) = (
            epoch.test_loss.0,
            100.0 * epoch.test_accuracy,
            epoch.seconds,
        );
        writeln!(
            err,
            " · test loss {loss:.3}, accuracy {accuracy:.1} % · {seconds:.1} s"
        )?;
        Ok(())
    }

    fn save(&self) -> Result<()> {
        let run = serde_json::to_value(&self.settings)?;
        Ok(Checkpoint::save_training(
            &self.checkpoint,
            &self.trainer,
            &self.data,
            run,
        )?)
    }

    /// Adds to an error of training what is left of the run.
    fn explain(&self, error: ir_models::Error) -> anyhow::Error {
        let hint = match self.checkpoint.exists() {
            true => format!("{} is the last good checkpoint", self.checkpoint.display()),
            false => "no checkpoint was written yet".into(),
        };
        anyhow::Error::new(error).context(format!("training stopped; {hint}"))
    }
}

/// The exits of the last stage, as the history has them.
fn exits(network: &ResNet, loader: &Loader) -> Result<Vec<EpochExit>> {
    let found = ir_analysis::exit_accuracies(network, loader.epoch(0).map(data::pair))?;
    let exit = |exit: ir_analysis::ExitEvaluation| EpochExit {
        after_block: exit.after_block,
        accuracy: exit.accuracy,
        loss: exit.loss,
    };
    Ok(found.into_iter().map(exit).collect())
}
