//! `ir train`: a run folder with a trained network, its description and its history.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use indicatif::HumanCount;
use ir_data::Dataset;
use ir_models::{Architecture, NAMES, ResNet, Sgd, Trainer, TrainingSettings};

use crate::arguments::Train;
use crate::checkpoints::Checkpoints;
use crate::engine::Target;
use crate::outcome::Outcome;
use crate::run::{LearningRate, Machine, Optimizer, Parameters, Run, RunInfo, SCHEMA_VERSION};
use crate::training::{EVALUATION_BATCH, MEASURED_BATCH, Settings, Training};
use crate::{
    config, data, files, interrupt, lock, machine, memory, network, output, progress, text,
};

pub(crate) fn run(arguments: &Train, threads: Option<u16>) -> Result<ExitCode> {
    let target = Target::open(arguments.device, arguments.precision)?;
    let out = &arguments.out;
    let held = out.is_dir().then(|| lock::take(out)).transpose()?;
    ensure!(
        arguments.resume || !out.join("run.json").exists(),
        "{}: holds a run already; go on with it by --resume, or give another --out",
        out.display()
    );
    let dataset = data::open(&arguments.source)?;
    let settings = settings(arguments, &dataset)?;
    std::fs::create_dir_all(out).with_context(|| format!("{}: cannot be made", out.display()))?;
    let _held = held.map_or_else(|| lock::take(out), Ok)?;
    interrupt::listen()?;
    let (architecture, batch) = (&settings.architecture, settings.batch_size);
    let evaluated = EVALUATION_BATCH.min(settings.test_samples);
    let measured = match settings.measure_every {
        0 => 0,
        _ => MEASURED_BATCH.min(settings.measure_samples.max(1)),
    };
    if target.gpu().is_none() {
        let needed = memory::of_training(architecture, &dataset, batch, evaluated, measured);
        memory::announce(needed, batch);
    }
    let mut checkpoints = Checkpoints::new(out, arguments.keep);
    checkpoints.remove_unfinished()?;
    let restored = match arguments.resume {
        true => checkpoints.restore(&settings)?,
        false => {
            // With its arguments still there, what is left is a run's whose description was removed.
            if !out.join(config::NAME).exists() {
                checkpoints.require_none()?;
            }
            None
        }
    };
    let trainer = match restored {
        Some(trainer) => trainer,
        None => {
            let network = ResNet::initialize(&settings.architecture, settings.seed)?;
            Trainer::new(network, settings.training.clone())?
        }
    };
    let machine = machine::describe(&target);
    if trainer.position().step > 0 {
        tell_of_another_device(out, &machine);
    }
    let description = describe(&settings, &dataset, machine)?;
    let effective = Train {
        epochs: Some(settings.epochs),
        ..arguments.clone()
    };
    let mut training = Training::new(out, checkpoints, settings, &dataset, &target, trainer)?;
    if !arguments.resume {
        training.clear()?;
    }
    config::write(&effective, threads)?;
    // Only now is everything checked: a folder with a description holds a run.
    files::write_json(&out.join("run.json"), &description)?;
    let interrupted = training.run()?;
    if arguments.json {
        output::json(&Outcome::of(&Run::read_training(out)?))?;
    }
    Ok(interrupted.map_or(ExitCode::SUCCESS, ExitCode::from))
}

/// Says so where a run goes on elsewhere than it was. Settings and data are compared with those of its checkpoint; where it
/// computes is free, and shows in how numbers are rounded.
fn tell_of_another_device(out: &Path, machine: &Machine) {
    let Ok(run) = Run::read_training(out) else {
        return;
    };
    let (before, now) = (run.info.machine.device(), machine.device());
    if before != now {
        progress::say(&format!(
            "going on on {now} with a run that was on {before}: the same images in the same order, rounded otherwise"
        ));
    }
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
        measure_every: arguments.measure_every,
        measure_samples: arguments.measure_samples,
        data_checksum: data::checksum(dataset),
    })
}

/// The content of run.json.
fn describe(settings: &Settings, dataset: &Dataset, machine: Machine) -> Result<RunInfo> {
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
        machine,
        version: env!("CARGO_PKG_VERSION").into(),
        command: text::command_line(),
        data_checksum: settings.data_checksum.clone(),
    })
}

/// What is smaller here than in the paper, a clause each.
fn scaled_down(settings: &Settings, dataset: &Dataset) -> Result<Vec<String>> {
    let recipe = network::recipe(&settings.architecture)?;
    let name = &settings.architecture.name;
    let count = |n: usize| HumanCount(n as u64);
    let mut clauses = Vec::new();
    match Architecture::named(name, dataset.classes().len()) {
        Ok(paper) if paper == settings.architecture && NAMES.contains(&name.as_str()) => {}
        _ => clauses.push(format!(
            "{name} is not a network of the paper ({} blocks, {} trainable parameters)",
            settings.architecture.blocks().len(),
            count(settings.architecture.parameters().trainable)
        )),
    }
    let (ours, papers) = (settings.epochs, recipe.epochs);
    if ours < papers {
        let epochs = if ours == 1 { "epoch" } else { "epochs" };
        clauses.push(format!("{ours} {epochs} instead of {papers}"));
    }
    let images = settings.train_samples;
    if images < 50_000 {
        clauses.push(format!(
            "{} training images instead of 50,000",
            count(images)
        ));
    }
    let images = settings.test_samples;
    if images < 10_000 {
        clauses.push(format!("{} test images instead of 10,000", count(images)));
    }
    Ok(clauses)
}
