//! A plan: the `ir` commands of a profile in order, each with the files it reads and writes.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::data::Source;
use super::profiles::{Model, Profile, Training};
use super::shell;

/// The steps of a profile.
pub(super) struct Plan {
    /// In the order in which they run.
    pub(super) steps: Vec<Step>,
    /// What the last step writes and a person opens.
    pub(super) report: PathBuf,
}

/// One `ir` command.
#[derive(Debug, Clone)]
pub(super) struct Step {
    /// What it does, for people; unique in the plan.
    pub(super) name: String,
    /// The arguments of `ir`.
    pub(super) arguments: Vec<String>,
    /// The files it reads, besides the images.
    pub(super) inputs: Vec<PathBuf>,
    /// The files it leaves; it is done when all are there.
    pub(super) outputs: Vec<PathBuf>,
    /// The checkpoint from which `--resume` goes on, for a step that takes `--resume`.
    pub(super) checkpoint: Option<PathBuf>,
}

impl Plan {
    /// The plan of a profile on these images, writing under `out`.
    pub(super) fn new(profile: &Profile, source: &Source, out: &Path) -> Self {
        let mut steps = Vec::new();
        let mut runs = Vec::new();
        for training in profile.trainings {
            for &seed in training.seeds {
                let run = Run::new(training, seed, source, out);
                steps.push(run.train(training));
                steps.push(run.analyze(profile.analyzed_images));
                runs.push(run);
            }
        }
        let report = out.join("report");
        steps.push(report_step(&runs, &report));
        Self {
            steps,
            report: report.join("report.html"),
        }
    }

    /// The plan as lines for a shell.
    pub(super) fn to_shell(&self, ir: &Path, build: bool) -> String {
        let mut text = String::new();
        if build {
            text.push_str("cargo build --release --package ir-cli\n");
        }
        for (index, step) in self.steps.iter().enumerate() {
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "\n# [{}/{}] {}\n{}{}{}\n",
                index + 1,
                self.steps.len(),
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
        }
    }

    fn analyze(&self, images: Option<usize>) -> Step {
        let mut arguments = vec!["analyze".to_owned(), text(&self.file(CHECKPOINT))];
        arguments.extend(["--data".to_owned(), self.data.clone()]);
        if let Some(images) = images {
            arguments.extend(["--samples".to_owned(), images.to_string()]);
        }
        arguments.extend(["--out".to_owned(), text(&self.file(RESULTS))]);
        Step {
            name: format!("analyze {}", self.title),
            arguments,
            inputs: vec![self.file(CHECKPOINT)],
            outputs: vec![self.file(RESULTS)],
            checkpoint: None,
        }
    }
}

fn report_step(runs: &[Run], report: &Path) -> Step {
    let read = |run: &Run| [SETTINGS, HISTORY, RESULTS].map(|name| run.file(name));
    let mut arguments = vec!["report".to_owned()];
    arguments.extend(runs.iter().map(|run| text(&run.folder)));
    arguments.extend(["--out".to_owned(), text(report)]);
    Step {
        name: "draw the report".to_owned(),
        arguments,
        inputs: runs.iter().flat_map(read).collect(),
        outputs: vec![report.join("report.html")],
        checkpoint: None,
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::profiles::{self, Name};
    use super::*;

    #[test]
    fn the_smoke_plan_prints_as_shell_lines() {
        let source = Source::before_looking(Some("synthetic"));
        let plan = Plan::new(profiles::of(Name::Smoke), &source, Path::new("out"));
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
        assert_eq!(plan.to_shell(Path::new("ir"), true), expected);
    }

    #[test]
    fn every_input_is_written_by_an_earlier_step_or_stands_in_the_repository() {
        for name in [Name::Smoke, Name::Quick, Name::Standard, Name::Paper] {
            let plan = Plan::new(profiles::of(name), &Source::Named, Path::new("out"));
            let mut written = Vec::new();
            for step in &plan.steps {
                for input in &step.inputs {
                    assert!(
                        written.contains(input) || input.starts_with("xtask/plans"),
                        "{}: {}",
                        step.name,
                        input.display()
                    );
                }
                for output in &step.outputs {
                    assert!(
                        !written.contains(output),
                        "{} is written twice",
                        output.display()
                    );
                    written.push(output.clone());
                }
            }
            assert!(written.contains(&plan.report));
        }
    }
}
