//! `ir analyze`: every measure of a checkpoint, as results.json and as a table.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use ir_analysis::results::{Results, SCHEMA_VERSION, Split};
use ir_analysis::{Measure, Options, ReferenceExit, UnrollScale};
use ir_data::{Dataset, Loader, Normalization};
use ir_models::{Architecture, Checkpoint, ResNet};
use serde_json::json;

use crate::arguments::{Analyze, Reference, SplitName};
use crate::commands::tables;
use crate::{data, files, machine, memory, output, progress};

/// Candidates for the factor of the unrolled branch, from a full step to next to nothing.
const SCALES: [f64; 8] = [1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005];

pub(crate) fn run(arguments: &Analyze) -> Result<ExitCode> {
    let started = Instant::now();
    if let Some(path) = &arguments.out {
        refuse_to_replace(path)?;
    }
    let checkpoint = Checkpoint::open(&arguments.checkpoint)?;
    let dataset = data::open(&arguments.source)?;
    let (found, expected) = (dataset.classes().len(), checkpoint.architecture().classes);
    ensure!(
        found == expected,
        "{}: its network has {expected} classes and {} has {found}; give the data that it was trained on",
        arguments.checkpoint.display(),
        dataset.name()
    );
    warn_of_other_data(&checkpoint, &dataset);
    let batch_size = batch_size(arguments, checkpoint.architecture(), &dataset)?;
    let analysis = Analysis {
        arguments,
        batch_size,
        network: checkpoint.network()?,
        normalization: normalization(&checkpoint, &dataset),
        dataset: &dataset,
    };
    let options = analysis.options()?;
    let mut splits = BTreeMap::new();
    for (name, split) in [("train", SplitName::Train), ("test", SplitName::Test)] {
        if arguments.split.is_none_or(|asked| asked == split) {
            splits.insert(name.to_owned(), analysis.split(name, split, &options)?);
        }
    }
    let mut results = Results {
        schema_version: SCHEMA_VERSION,
        network: checkpoint.architecture().name.clone(),
        dataset: dataset.name().into(),
        stages: analysis.stages()?,
        splits,
        provenance: serde_json::Value::Null,
    };
    results.provenance = json!({
        "command": std::env::args().collect::<Vec<_>>(),
        "version": env!("CARGO_PKG_VERSION"),
        "seed": checkpoint.run().get("seed"),
        "data_checksum": data::checksum(&dataset),
        "normalization": analysis.normalization,
        "trained_on": checkpoint.data().dataset,
        "epochs_trained": checkpoint.position().map(|position| position.epoch),
        "machine": machine::describe(),
        "seconds": started.elapsed().as_secs_f64(),
    });
    if let Some(path) = &arguments.out {
        files::write_json(path, &results)?;
    }
    match arguments.json {
        true => output::json(&results)?,
        false => write!(std::io::stdout().lock(), "{}", tables::of(&results))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Results replace earlier results and nothing else: a checkpoint named by mistake stays.
fn refuse_to_replace(path: &Path) -> Result<()> {
    let Ok(mut file) = std::fs::File::open(path) else {
        return Ok(());
    };
    let mut first = [0];
    let is_json = matches!(file.read(&mut first), Ok(0)) || first == *b"{";
    ensure!(
        is_json,
        "--out {}: the file is there and is no results.json; give another",
        path.display()
    );
    Ok(())
}

/// Says so where the data is not what the network was trained on, as far as its checkpoint knows.
fn warn_of_other_data(checkpoint: &Checkpoint, dataset: &Dataset) {
    let trained = checkpoint.run().get("data_checksum");
    let Some(trained) = trained.and_then(serde_json::Value::as_str) else {
        return;
    };
    let found = data::checksum(dataset);
    if trained != found {
        let name = checkpoint.data().dataset.as_deref().unwrap_or("other data");
        progress::say(&format!(
            "warning: the network was trained on {name} ({trained}), and this is {} ({found})",
            dataset.name()
        ));
    }
}

/// Images in a batch, as asked for or as memory allows; says what that takes.
fn batch_size(
    arguments: &Analyze,
    architecture: &Architecture,
    dataset: &Dataset,
) -> Result<usize> {
    let largest = dataset.train().len().max(dataset.test().len());
    let samples = arguments.samples.unwrap_or(largest).min(largest);
    let asked = arguments.batch_size.min(samples.max(1));
    let batch = match arguments.memory_limit {
        Some(limit) => memory::batch_within(limit, asked, architecture, dataset)?,
        None => arguments.batch_size,
    };
    if !arguments.json {
        let images = batch.min(asked);
        memory::announce(memory::of_analysis(architecture, dataset, images), images);
    }
    Ok(batch)
}

/// How the network's images were normalised; where its checkpoint does not say, as the data's
/// own training split asks for.
fn normalization(checkpoint: &Checkpoint, dataset: &Dataset) -> Normalization {
    match checkpoint.data().normalization {
        Some(ir_models::Normalization { mean, std }) => Normalization { mean, std },
        None => dataset.normalization(),
    }
}

/// What is analysed, on what.
struct Analysis<'a> {
    arguments: &'a Analyze,
    batch_size: usize,
    network: ResNet,
    normalization: Normalization,
    dataset: &'a Dataset,
}

impl Analysis<'_> {
    fn loader(&self, split: SplitName) -> Result<Loader> {
        let split = match split {
            SplitName::Train => self.dataset.train(),
            SplitName::Test => self.dataset.test(),
        };
        data::evaluation(
            split,
            self.arguments.samples,
            self.batch_size,
            self.normalization,
        )
    }

    fn options(&self) -> Result<Options> {
        let mut options = Options {
            reference: match self.arguments.reference_exit {
                Reference::First => ReferenceExit::FirstShown,
                Reference::Final => ReferenceExit::Final,
            },
            unroll_steps: self.arguments.unroll_steps,
            ..Options::default()
        };
        if !self.arguments.measures.is_empty() {
            options.measures = self.arguments.measures.iter().copied().collect();
        }
        if options.measures.contains(&Measure::Unroll) {
            options.unroll_scales = vec![UnrollScale::UNSCALED, self.unroll_scale()?];
        }
        Ok(options)
    }

    fn unroll_scale(&self) -> Result<UnrollScale> {
        let text = &self.arguments.unroll_scale;
        if text != "auto" {
            return match text.parse::<f64>() {
                Ok(factor) if factor.is_finite() => Ok(UnrollScale::fixed(factor)),
                _ => bail!("--unroll-scale {text}: expected a number or `auto`"),
            };
        }
        let spinner =
            progress::spinner("choosing the scale of the unrolled block on the training split");
        let loader = self.loader(SplitName::Train)?;
        let batches = loader.epoch(0).map(data::pair);
        let choice = ir_analysis::choose_scale(
            &self.network,
            batches,
            &SCALES,
            self.arguments.unroll_steps,
        )?;
        spinner.finish_and_clear();
        Ok(choice.scale)
    }

    fn split(&self, name: &str, split: SplitName, options: &Options) -> Result<Split> {
        let loader = self.loader(split)?;
        let bar = progress::bar(loader.batches(), format!("analysing {name}"));
        let batches = loader.epoch(0).map(data::pair);
        let found = ir_analysis::analyze_split(&self.network, batches, options, &mut |progress| {
            bar.inc(1);
            bar.set_message(format!(
                "loss {:.3}, accuracy {:.1} %",
                progress.loss,
                100.0 * progress.accuracy
            ));
        })?;
        bar.finish_and_clear();
        Ok(found)
    }

    fn stages(&self) -> Result<Vec<ir_analysis::results::Stage>> {
        let images = data::evaluation(self.dataset.test(), Some(1), 1, self.normalization)?;
        let batch = images.epoch(0).next().transpose()?;
        let images = batch.map(|batch| batch.images);
        let Some(images) = images else {
            return Ok(Vec::new());
        };
        Ok(ir_analysis::stages(&self.network, &images)?)
    }
}
