//! `ir analyze`: every measure of a checkpoint, as results.json and as a table.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use candle_core::Device;
use ir_analysis::results::{Results, SCHEMA_VERSION, Split};
use ir_analysis::{Measure, Options, Readouts, ReferenceExit, UnrollScale};
use ir_models::ResidualNetwork;
use ir_models::import::Strictness;
use serde_json::json;

use crate::arguments::{Analyze, Precision, Reference, SplitName};
use crate::commands::tables;
use crate::engine::Target;
use crate::images::Images;
use crate::memory::Footprint;
use crate::subject::{Source, Subject};
use crate::{data, files, machine, memory, output, progress, text};

/// Candidates for the factor of the unrolled branch, from a full step to next to nothing.
const SCALES: [f64; 8] = [1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005];

pub(crate) fn run(arguments: &Analyze) -> Result<ExitCode> {
    let started = Instant::now();
    let target = Target::open(arguments.device, Precision::F32)?;
    if let Some(path) = &arguments.out {
        refuse_to_replace(path)?;
        files::remove_unfinished(path)?;
    }
    let strictness = match arguments.import.allow_unexpected {
        true => Strictness::AllowUnexpected,
        false => Strictness::Strict,
    };
    let subject = match &arguments.network {
        Some(network) => Subject::open(network, arguments.source.offline, strictness)?,
        None => Subject::built_in()?,
    };
    let on_a_gpu = on_a_gpu(&target, &subject)?;
    let images = Images::open(arguments, &subject)?;
    warn_of_other_data(&subject, &images);
    let analysis = Analysis {
        arguments,
        batch_size: batch_size(arguments, &subject, &images)?,
        network: on_a_gpu.as_deref().unwrap_or(subject.network()),
        device: target.device(),
        images: &images,
    };
    let options = analysis.options()?;
    let mut splits = BTreeMap::new();
    for split in analysis.splits()? {
        splits.insert(split.name().to_owned(), analysis.split(split, &options)?);
    }
    let mut results = Results {
        schema_version: SCHEMA_VERSION,
        network: subject.name.clone(),
        dataset: images.name(),
        stages: analysis.stages()?,
        splits,
        provenance: serde_json::Value::Null,
    };
    let checkpoint = subject.checkpoint();
    results.provenance = json!({
        "command": text::command_line(),
        "version": env!("CARGO_PKG_VERSION"),
        "seed": checkpoint.and_then(|checkpoint| checkpoint.run().get("seed")),
        "data_checksum": images.checksum(),
        "normalization": images.normalization(),
        "trained_on": checkpoint.and_then(|checkpoint| checkpoint.data().dataset.as_ref()),
        "epochs_trained": checkpoint
            .and_then(|checkpoint| checkpoint.position())
            .map(|position| position.epoch),
        "machine": machine::describe(&target),
        "seconds": started.elapsed().as_secs_f64(),
    });
    if subject.imported().is_some() {
        results.provenance["import"] = subject.provenance();
    }
    if let Some(path) = &arguments.out {
        files::write_json(path, &results)?;
    }
    match arguments.json {
        true => output::json(&results)?,
        false => write!(std::io::stdout().lock(), "{}", tables::of(&results))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The subject's network on the GPU, if there is one in use.
fn on_a_gpu(target: &Target, subject: &Subject) -> Result<Option<Box<dyn ResidualNetwork>>> {
    if matches!(target, Target::Cpu) {
        return Ok(None);
    }
    match &subject.source {
        Source::Ours { network, .. } => target.network(network),
        Source::Imported(imported) => {
            let network = imported.network.to_device(&target.device())?;
            Ok(Some(Box::new(network)))
        }
    }
}

/// Results replace earlier results and nothing else: a checkpoint named by mistake stays.
fn refuse_to_replace(path: &Path) -> Result<()> {
    let Ok(there) = std::fs::metadata(path) else {
        return Ok(());
    };
    ensure!(
        there.is_file(),
        "--out {}: it is there and is no file; give another name, or --json for the terminal or a pipe",
        path.display()
    );
    let text = text::read(path).unwrap_or_default();
    let content = serde_json::from_str::<serde_json::Value>(&text);
    let are_results = content.is_ok_and(|content| {
        ["schema_version", "splits"]
            .iter()
            .all(|key| content.get(key).is_some())
    });
    ensure!(
        are_results || there.len() == 0,
        "--out {}: the file is there and is no results.json; give another",
        path.display()
    );
    Ok(())
}

/// Says so where the data is not what the network was trained on, as far as its checkpoint knows.
fn warn_of_other_data(subject: &Subject, images: &Images) {
    let Some(checkpoint) = subject.checkpoint() else {
        return;
    };
    let trained = checkpoint.run().get("data_checksum");
    let Some(trained) = trained.and_then(serde_json::Value::as_str) else {
        return;
    };
    let found = images.checksum();
    if trained != found {
        let name = checkpoint.data().dataset.as_deref().unwrap_or("other data");
        progress::say(&format!(
            "warning: the network was trained on {name} ({trained}), and this is {} ({found})",
            images.name()
        ));
    }
}

/// Images in a batch, as asked for or as memory allows; says what that takes.
fn batch_size(arguments: &Analyze, subject: &Subject, images: &Images) -> Result<usize> {
    let splits = [SplitName::Train, SplitName::Test];
    let largest = splits.iter().filter_map(|&split| images.len(split)).max();
    let largest = largest.unwrap_or(1);
    let samples = arguments.samples.unwrap_or(largest).min(largest);
    let measures = arguments.measures.iter();
    let measures = measures.flat_map(|some| some.0.iter().copied()).collect();
    let footprint = Footprint::of_analysis(subject, images, &measures, samples);
    let default = || match subject.imported() {
        Some(_) => footprint.default_batch(BATCH),
        None => BATCH,
    };
    let asked = arguments.batch_size.unwrap_or_else(default);
    let largest = asked.min(samples.max(1));
    let batch = match arguments.memory_limit {
        Some(limit) => footprint.batch_within(limit, largest)?,
        None => asked,
    };
    if !arguments.json {
        let images = batch.min(largest);
        memory::announce(footprint.of_batch(images), images);
    }
    Ok(batch)
}

/// Images in a batch where nothing says otherwise.
const BATCH: usize = 100;

/// What is analysed, on what.
struct Analysis<'a> {
    arguments: &'a Analyze,
    batch_size: usize,
    /// The network, where it computes.
    network: &'a dyn ResidualNetwork,
    device: Device,
    images: &'a Images,
}

impl Analysis<'_> {
    /// The splits that are asked for and there.
    fn splits(&self) -> Result<Vec<SplitName>> {
        let asked = |split: &SplitName| self.arguments.split.is_none_or(|asked| asked == *split);
        let there = |split: &SplitName| self.images.len(*split).is_some();
        let splits: Vec<_> = [SplitName::Train, SplitName::Test]
            .into_iter()
            .filter(|split| asked(split) && there(split))
            .collect();
        ensure!(
            !splits.is_empty(),
            "{}: it has no such split",
            self.arguments.source.data
        );
        Ok(splits)
    }

    fn batches(&self, split: SplitName) -> Result<ir_data::Batches> {
        let samples = self.arguments.samples;
        self.images.batches(split, samples, self.batch_size)
    }

    fn options(&self) -> Result<Options> {
        let mut options = Options {
            reference: match self.arguments.reference_exit {
                Reference::First => ReferenceExit::FirstShown,
                Reference::Final => ReferenceExit::Final,
            },
            unroll_steps: self.arguments.unroll_steps,
            draws: self.arguments.draws,
            draw_seed: self.arguments.draw_seed,
            ..Options::default()
        };
        let measures = self.arguments.measures.iter();
        options.measures = measures.flat_map(|some| some.0.iter().copied()).collect();
        let last_is_transition = self.network.blocks().pop();
        let last_is_transition = last_is_transition.is_some_and(|block| block.transition);
        let mut measures = self.arguments.measures.iter();
        let named = measures.any(|some| some.0 == [Measure::Unroll]);
        if last_is_transition && !named && options.measures.contains(&Measure::Unroll) {
            // A network of someone else's may have one block a stage.
            progress::say("the last block changes the shape of h, so that it cannot be unrolled");
            options.measures.remove(&Measure::Unroll);
        }
        if options.measures.contains(&Measure::Unroll) {
            options.unroll_scales = vec![UnrollScale::UNSCALED];
            options.unroll_scales.extend(self.unroll_scale()?);
        }
        if options.measures.contains(&Measure::Readouts) {
            options.readouts = Some(self.readouts()?);
        }
        Ok(options)
    }

    /// Trained on the training split whatever split is measured.
    fn readouts(&self) -> Result<Readouts> {
        ensure!(
            self.images.len(SplitName::Train).is_some(),
            "{}: readouts are trained on a training split, and it has none; leave `readouts` out of \
             --measures",
            self.arguments.source.data
        );
        let spinner = progress::spinner("training the linear readouts on the training split");
        let batches = data::pairs(self.batches(SplitName::Train)?, &self.device);
        let readouts = ir_analysis::fit_readouts(self.network, batches)?;
        spinner.finish_and_clear();
        Ok(readouts)
    }

    /// The scale that is asked for; none where it would be chosen on a split that is not there.
    fn unroll_scale(&self) -> Result<Option<UnrollScale>> {
        let text = &self.arguments.unroll_scale;
        if text != "auto" {
            return match text.parse::<f64>() {
                Ok(factor) if factor.is_finite() => Ok(Some(UnrollScale::fixed(factor))),
                _ => bail!("--unroll-scale {text}: expected a number or `auto`"),
            };
        }
        if self.images.len(SplitName::Train).is_none() {
            progress::say(
                "no training split to choose the scale of the unrolled block on: it is unrolled unscaled only",
            );
            return Ok(None);
        }
        let spinner =
            progress::spinner("choosing the scale of the unrolled block on the training split");
        let batches = data::pairs(self.batches(SplitName::Train)?, &self.device);
        let choice =
            ir_analysis::choose_scale(self.network, batches, &SCALES, self.arguments.unroll_steps)?;
        spinner.finish_and_clear();
        Ok(Some(choice.scale))
    }

    fn split(&self, split: SplitName, options: &Options) -> Result<Split> {
        let batches = self.batches(split)?;
        let bar = progress::bar(batches.remaining(), format!("analysing {}", split.name()));
        let (network, batches) = (self.network, data::pairs(batches, &self.device));
        let found = ir_analysis::analyze_split(network, batches, options, &mut |progress| {
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
        let split = self.splits()?[0];
        let first = self.images.batches(split, Some(1), 1)?.next().transpose()?;
        let Some(first) = first else {
            return Ok(Vec::new());
        };
        let image = first.images.to_device(&self.device)?;
        Ok(ir_analysis::stages(self.network, &image)?)
    }
}
