//! A plan: the `ir` commands of a profile, each with the files it reads and writes.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::cost;
use super::data::Source;
use super::graph::{Graph, Step};
use super::profiles::{Model, Profile, Training};
use super::shell;

/// What a profile does.
pub(super) struct Plan {
    /// The steps; the last one draws the report.
    pub(super) graph: Graph,
    /// What the last step writes and a person opens.
    pub(super) report: PathBuf,
}

impl Plan {
    /// The plan of a profile on these images, writing under `out`.
    ///
    /// # Errors
    /// The steps are no graph, see [`Graph::new`].
    pub(super) fn new(profile: &Profile, source: &Source, out: &Path) -> Result<Self> {
        let mut steps = Vec::new();
        let mut runs = Vec::new();
        let mut data = Vec::new();
        for training in profile.trainings {
            if let Model::File(_, path) = training.model {
                data.push(path.into());
            }
            for &seed in training.seeds {
                let run = Run::new(training, seed, source, out);
                steps.push(run.train(training));
                if run.trained {
                    steps.push(run.analyze(training, profile.analyzed_images));
                }
                runs.push(run);
            }
        }
        let report = out.join("report");
        steps.push(report_step(&runs, &report));
        Ok(Self {
            graph: Graph::new(steps, &data)?,
            report: report.join("report.html"),
        })
    }

    /// These steps of the plan as lines for a shell.
    pub(super) fn to_shell(&self, ir: &Path, build: bool, chosen: &BTreeSet<usize>) -> String {
        let mut text = String::new();
        if build {
            text.push_str("cargo build --release --package ir-cli\n");
        }
        let steps = self.graph.steps();
        for &index in chosen {
            let step = &steps[index];
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "\n# [{}/{}] {}\n{}{}{}\n",
                index + 1,
                steps.len(),
                step.name,
                comment("reads", &step.inputs),
                comment("writes", &step.outputs),
                shell::line(ir, &step.arguments)
            );
        }
        text
    }
}

fn comment(verb: &str, paths: &[PathBuf]) -> String {
    let lines = paths
        .iter()
        .map(|path| format!("#   {verb} {}\n", path.display()));
    lines.collect()
}

// What `ir` leaves in the folder of a run.
const CHECKPOINT: &str = "checkpoint.safetensors";
const SETTINGS: &str = "run.json";
const HISTORY: &str = "history.jsonl";
const RESULTS: &str = "results.json";

/// One training and what is done with it.
struct Run {
    /// Network, images and seed, for people.
    title: String,
    /// Where the run lives.
    folder: PathBuf,
    seed: u64,
    data: String,
    /// Whether it has an epoch at all; what has none is only measured as it begins.
    trained: bool,
}

impl Run {
    fn new(training: &Training, seed: u64, source: &Source, out: &Path) -> Self {
        let (Model::Named(network) | Model::File(network, _)) = training.model;
        let images = source.label(training.dataset);
        Self {
            title: format!("{network} on {images}, seed {seed}"),
            folder: out
                .join("runs")
                .join(format!("{network}-{images}-seed{seed}")),
            seed,
            data: source.argument(training.dataset),
            trained: training.epochs > 0,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn train(&self, training: &Training) -> Step {
        let (model, inputs) = match training.model {
            Model::Named(name) => (name, vec![]),
            Model::File(_, path) => (path, vec![path.into()]),
        };
        let mut arguments = vec!["train".to_owned(), model.to_owned()];
        let mut option = |flag: &str, value: String| arguments.extend([flag.to_owned(), value]);
        option("--data", self.data.clone());
        option("--out", text(&self.folder));
        option("--epochs", training.epochs.to_string());
        option("--batch-size", training.batch_size.to_string());
        option("--seed", self.seed.to_string());
        option("--schedule", training.schedule.name().to_owned());
        if let Some(images) = training.train_images {
            option("--train-samples", images.to_string());
        }
        if let Some(images) = training.test_images {
            option("--test-samples", images.to_string());
        }
        option("--measure-every", training.measure_every.to_string());
        Step {
            name: format!("train {}", self.title),
            arguments,
            inputs,
            outputs: [CHECKPOINT, SETTINGS, HISTORY]
                .map(|name| self.file(name))
                .into(),
            checkpoint: Some(self.file(CHECKPOINT)),
            cost: cost::training(training),
        }
    }

    fn analyze(&self, training: &Training, images: Option<usize>) -> Step {
        let mut arguments = vec!["analyze".to_owned(), text(&self.file(CHECKPOINT))];
        arguments.extend(["--data".to_owned(), self.data.clone()]);
        if let Some(images) = images {
            arguments.extend(["--samples".to_owned(), images.to_string()]);
        }
        if training.neighbours {
            // Single paths cost many backward passes for each draw.
            arguments.extend(["--measures", "all", "--draws", "2"].map(String::from));
        }
        arguments.extend(["--out".to_owned(), text(&self.file(RESULTS))]);
        Step {
            name: format!("analyze {}", self.title),
            arguments,
            inputs: vec![self.file(CHECKPOINT)],
            outputs: vec![self.file(RESULTS)],
            checkpoint: None,
            cost: cost::analysis(training, images),
        }
    }
}

fn report_step(runs: &[Run], report: &Path) -> Step {
    let read = |run: &Run| {
        let results = run.trained.then_some(RESULTS);
        let names = [SETTINGS, HISTORY].into_iter().chain(results);
        names.map(|name| run.file(name)).collect::<Vec<_>>()
    };
    let mut arguments = vec!["report".to_owned()];
    arguments.extend(runs.iter().map(|run| text(&run.folder)));
    arguments.extend(["--out".to_owned(), text(report)]);
    Step {
        name: "draw the report".to_owned(),
        arguments,
        inputs: runs.iter().flat_map(read).collect(),
        outputs: vec![report.join("report.html")],
        checkpoint: None,
        cost: 1.0,
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::super::profiles::{self, Name};
    use super::*;

    #[test]
    fn the_smoke_plan_prints_as_shell_lines() {
        let source = Source::before_looking(Some("synthetic"));
        let plan = Plan::new(profiles::of(Name::Smoke), &source, Path::new("out")).unwrap();
        let run = "out/runs/resnet-32-synthetic10-seed0";
        let small = "out/runs/single-representation-small-synthetic10-seed0";
        let file = "xtask/plans/single-representation-small.json";
        let expected = format!(
            "cargo build --release --package ir-cli

# [1/5] train resnet-32 on synthetic10, seed 0
#   writes {run}/checkpoint.safetensors
#   writes {run}/run.json
#   writes {run}/history.jsonl
ir train resnet-32 --data synthetic10 --out {run} --epochs 1 --batch-size 128 --seed 0 --schedule scaled --train-samples 256 --test-samples 256 --measure-every 1

# [2/5] analyze resnet-32 on synthetic10, seed 0
#   reads {run}/checkpoint.safetensors
#   writes {run}/results.json
ir analyze {run}/checkpoint.safetensors --data synthetic10 --samples 64 --out {run}/results.json

# [3/5] train single-representation-small on synthetic10, seed 0
#   reads {file}
#   writes {small}/checkpoint.safetensors
#   writes {small}/run.json
#   writes {small}/history.jsonl
ir train {file} --data synthetic10 --out {small} --epochs 1 --batch-size 128 --seed 0 --schedule scaled --train-samples 256 --test-samples 256 --measure-every 1

# [4/5] analyze single-representation-small on synthetic10, seed 0
#   reads {small}/checkpoint.safetensors
#   writes {small}/results.json
ir analyze {small}/checkpoint.safetensors --data synthetic10 --samples 64 --out {small}/results.json

# [5/5] draw the report
#   reads {run}/run.json
#   reads {run}/history.jsonl
#   reads {run}/results.json
#   reads {small}/run.json
#   reads {small}/history.jsonl
#   reads {small}/results.json
#   writes out/report/report.html
ir report {run} {small} --out out/report
"
        );
        let all = (0..plan.graph.steps().len()).collect();
        assert_eq!(plan.to_shell(Path::new("ir"), true, &all), expected);
    }

    #[test]
    fn every_profile_is_a_graph_that_ends_in_the_report() {
        for &name in Name::value_variants() {
            let plan = Plan::new(profiles::of(name), &Source::Named, Path::new("out")).unwrap();
            let last = plan.graph.steps().last().unwrap();
            assert!(last.outputs.contains(&plan.report));
            let runs: usize = profiles::of(name)
                .trainings
                .iter()
                .map(|t| t.seeds.len())
                .sum();
            assert_eq!(plan.graph.chains().len(), runs);
        }
    }
}
