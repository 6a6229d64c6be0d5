//! The plan against a stand-in for `ir`: a script that records its calls and writes the files
//! that the real one would.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;

use super::data::{Ask, Dataset, Source};
use super::graph::{Graph, Step};
use super::local::{Outcome, Runner};
use super::work::Workplace;

/// A file of the repository, since one just written cannot be run safely by a process of many
/// threads: another thread's child may still hold it open.
const FAKE_IR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/reproduce/fake-ir");

/// A folder with the fake command, and a plan of one training, its analysis and the report.
struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The script finds its own folder by the name under which it was called.
        symlink(FAKE_IR, folder.path().join("ir")).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What the fake does when it trains: `fail`, `forget`, `die`, `interrupt`, `wait`.
    fn behave(&self, behavior: &str) {
        fs::write(self.path("behavior"), behavior).unwrap();
    }

    /// The calls since the last time, each as its command and whether it resumed.
    fn calls(&self) -> Vec<String> {
        let path = self.path("calls");
        let calls = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(path);
        let brief = |call: &str| {
            let command = call.split(' ').next().unwrap_or_default().to_owned();
            match call.ends_with("--resume") {
                true => command + " --resume",
                false => command,
            }
        };
        calls.lines().map(brief).collect()
    }

    fn checkpoint(&self) -> PathBuf {
        self.path("out/run/checkpoint.safetensors")
    }

    fn plan(&self, epochs: u32) -> Graph {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let results = self.path("out/run/results.json");
        let report = self.path("out/report");
        let train = [
            "train",
            "net",
            "--epochs",
            &epochs.to_string(),
            "--out",
            &text(&self.path("out/run")),
        ];
        let analyze = [
            "analyze",
            &text(&self.checkpoint()),
            "--out",
            &text(&results),
        ];
        let draw = [
            "report",
            &text(&self.path("out/run")),
            "--out",
            &text(&report),
        ];
        let step = |name: &str, arguments: &[&str], inputs, output| Step {
            name: name.to_owned(),
            arguments: arguments.iter().map(|&a| a.to_owned()).collect(),
            inputs,
            outputs: vec![output],
            checkpoint: None,
            cost: 1.0,
        };
        let steps = vec![
            Step {
                checkpoint: Some(self.checkpoint()),
                ..step("train net, seed 0", &train, vec![], self.checkpoint())
            },
            step(
                "analyze net, seed 0",
                &analyze,
                vec![self.checkpoint()],
                results.clone(),
            ),
            step(
                "draw the report",
                &draw,
                vec![results],
                report.join("report.html"),
            ),
        ];
        Graph::new(steps, &[]).unwrap()
    }

    fn run_with(&self, graph: &Graph, interrupted: &dyn Fn() -> bool) -> Result<Outcome> {
        let (ir, out) = (self.path("ir"), self.path("out"));
        let workplace = Workplace::new(&ir, &out, None, false)?;
        let all = (0..graph.steps().len()).collect();
        Runner::new(graph, all, &workplace, 2).run(interrupted)
    }

    fn run(&self) -> Result<Outcome> {
        self.run_with(&self.plan(3), &|| false)
    }
}

#[test]
fn a_plan_runs_in_order_and_then_has_nothing_to_do() {
    let bench = Bench::new();
    assert_eq!(bench.run().unwrap(), Outcome::Done);
    assert_eq!(bench.calls(), ["train", "analyze", "report"]);
    let log = fs::read_to_string(bench.path("out/logs/train-net-seed-0.log")).unwrap();
    assert_eq!(log, "output of train\n");
    assert_eq!(bench.run().unwrap(), Outcome::Done);
    assert!(bench.calls().is_empty());
}

#[test]
fn what_is_forgotten_begins_again() {
    let bench = Bench::new();
    bench.run().unwrap();
    bench.calls();
    let (ir, out) = (bench.path("ir"), bench.path("out"));
    let workplace = Workplace::new(&ir, &out, None, false).unwrap();
    let plan = bench.plan(3);
    let done = |step: &Step| workplace.is_done(step);
    assert!(plan.steps().iter().all(done));
    for step in plan.steps() {
        workplace.forget(step).unwrap();
    }
    assert!(!plan.steps().iter().any(done));
    bench.run().unwrap();
    assert_eq!(bench.calls(), ["train", "analyze", "report"]);
}

#[test]
fn a_killed_training_goes_on_from_its_checkpoint() {
    let bench = Bench::new();
    bench.behave("die");
    let error = format!("{:#}", bench.run().unwrap_err());
    assert!(
        error.starts_with("[1/3] train net, seed 0 failed: signal: 9"),
        "{error}"
    );
    assert_eq!(bench.calls(), ["train"]);
    bench.behave("");
    assert_eq!(bench.run().unwrap(), Outcome::Done);
    assert_eq!(bench.calls(), ["train --resume", "analyze", "report"]);
}

#[test]
fn an_interrupted_training_is_no_failure_and_goes_on() {
    let bench = Bench::new();
    bench.behave("interrupt");
    assert_eq!(bench.run().unwrap(), Outcome::Interrupted);
    assert_eq!(bench.calls(), ["train"]);
    bench.behave("");
    bench.run().unwrap();
    assert_eq!(bench.calls(), ["train --resume", "analyze", "report"]);
}

#[test]
fn a_signal_to_the_plan_goes_on_to_its_steps_and_no_other_begins() {
    let bench = Bench::new();
    bench.behave("wait");
    let begun = || bench.checkpoint().exists();
    let outcome = bench.run_with(&bench.plan(3), &begun).unwrap();
    assert_eq!(outcome, Outcome::Interrupted);
    assert_eq!(bench.calls(), ["train"]);
    let outcome = bench.run_with(&bench.plan(3), &|| true).unwrap();
    assert_eq!(outcome, Outcome::Interrupted);
    assert!(bench.calls().is_empty());
}

#[test]
fn another_ir_keeps_the_training_and_repeats_what_takes_minutes() {
    let bench = Bench::new();
    bench.behave("die");
    bench.run().unwrap_err();
    bench.calls();
    fs::write(bench.path("version"), "ir 2").unwrap();
    bench.behave("");
    bench.run().unwrap();
    assert_eq!(bench.calls(), ["train --resume", "analyze", "report"]);
    fs::write(bench.path("version"), "ir 3").unwrap();
    bench.run().unwrap();
    assert_eq!(bench.calls(), ["analyze", "report"]);
}

#[test]
fn a_step_that_another_process_is_at_is_waited_for() {
    let bench = Bench::new();
    fs::create_dir_all(bench.path("out/stamps")).unwrap();
    let lock = File::create(bench.path("out/stamps/train-net-seed-0.lock")).unwrap();
    lock.try_lock().unwrap();
    thread::scope(|scope| {
        let run = scope.spawn(|| bench.run());
        thread::sleep(Duration::from_millis(300));
        assert!(bench.calls().is_empty());
        // What it had done so far.
        fs::create_dir_all(bench.path("out/run")).unwrap();
        fs::write(bench.checkpoint(), "weights").unwrap();
        drop(lock);
        assert_eq!(run.join().unwrap().unwrap(), Outcome::Done);
    });
    assert_eq!(bench.calls(), ["train --resume", "analyze", "report"]);
}

#[test]
fn what_does_not_depend_on_a_failed_step_still_runs() {
    let bench = Bench::new();
    let mut steps = bench.plan(3).steps().to_vec();
    let other = bench.path("out/other.json");
    steps.push(Step {
        name: "analyze another".to_owned(),
        arguments: ["analyze", "x", "--out", other.to_str().unwrap()]
            .map(str::to_owned)
            .into(),
        inputs: vec![],
        outputs: vec![other.clone()],
        checkpoint: None,
        cost: 1.0,
    });
    bench.behave("fail");
    let error = bench
        .run_with(&Graph::new(steps, &[]).unwrap(), &|| false)
        .unwrap_err();
    assert!(
        format!("{error:#}").starts_with("[1/4] train net, seed 0 failed"),
        "{error:#}"
    );
    assert!(other.exists());
    let mut calls = bench.calls();
    calls.sort();
    assert_eq!(calls, ["analyze", "train"]);
}

#[test]
fn a_checkpoint_of_other_settings_is_not_resumed() {
    let bench = Bench::new();
    bench.behave("die");
    bench.run().unwrap_err();
    bench.calls();
    bench.behave("fail");
    bench.run_with(&bench.plan(5), &|| false).unwrap_err();
    assert_eq!(bench.calls(), ["train"]);
    assert!(
        !bench.checkpoint().exists(),
        "the other checkpoint is still there"
    );
}

#[test]
fn a_failure_names_the_step_the_log_and_the_command() {
    let bench = Bench::new();
    bench.behave("fail");
    let error = format!("{:#}", bench.run().unwrap_err());
    assert!(
        error.starts_with("[1/3] train net, seed 0 failed: exit status: 1"),
        "{error}"
    );
    assert!(error.contains("out/logs/train-net-seed-0.log"), "{error}");
    assert!(error.contains("ir train net --epochs 3"), "{error}");
    assert_eq!(bench.calls(), ["train"]);
}

#[test]
fn a_step_that_leaves_no_output_fails() {
    let bench = Bench::new();
    bench.behave("forget");
    let error = format!("{:#}", bench.run().unwrap_err());
    assert!(error.contains("ended well but left no"), "{error}");
}

#[test]
fn a_lost_or_changed_file_repeats_only_what_depends_on_it() {
    let bench = Bench::new();
    bench.run().unwrap();
    bench.calls();
    fs::remove_file(bench.path("out/report/report.html")).unwrap();
    bench.run().unwrap();
    assert_eq!(bench.calls(), ["report"]);
    fs::write(bench.checkpoint(), "trained by hand for longer").unwrap();
    bench.run().unwrap();
    assert_eq!(bench.calls(), ["analyze", "report"]);
    // Only the content counts, so that a folder may be copied.
    fs::write(bench.checkpoint(), "trained by hand for longer").unwrap();
    bench.run().unwrap();
    assert!(bench.calls().is_empty());
}

#[test]
fn a_command_that_is_not_there_is_named() {
    let bench = Bench::new();
    fs::remove_file(bench.path("ir")).unwrap();
    let error = format!("{:#}", bench.run().unwrap_err());
    assert!(error.contains("/ir could not be started"), "{error}");
}

/// What `Ask` finds out when `ir data info` and `ir data fetch` end with these codes.
fn ask(info: &str, fetch: &str, data: Option<&str>, synthetic_will_do: bool) -> Result<Source> {
    let bench = Bench::new();
    fs::write(bench.path("info"), info).unwrap();
    fs::write(bench.path("fetch"), fetch).unwrap();
    let ask = Ask {
        ir: &bench.path("ir"),
        offline: false,
    };
    ask.find(data, &[Dataset::Cifar10].into(), synthetic_will_do)
}

#[test]
fn real_images_are_taken_where_they_are_or_can_be_had() {
    assert_eq!(ask("0", "1", None, true).unwrap(), Source::Named);
    assert_eq!(ask("1", "0", None, true).unwrap(), Source::Named);
    let folder = ask("0", "1", Some("images"), true).unwrap();
    assert_eq!(folder, Source::Folder("images".to_owned()));
}

#[test]
fn synthetic_images_stand_in_only_where_the_profile_allows_it() {
    let source = ask("1", "1", None, true).unwrap();
    assert!(matches!(source, Source::Synthetic(Some(_))));
    assert_eq!(
        source.to_string(),
        "data: synthetic images, because cifar10 could not be fetched, and \
         `ir data info cifar10 --offline` says: data_batch_1.bin is damaged"
    );
    assert!(ask("1", "1", None, false).is_err());
    let error = ask("1", "0", Some("images"), true).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no cifar10 in images: data_batch_1.bin is damaged"
    );
    assert_eq!(
        ask("1", "1", Some("synthetic"), false).unwrap(),
        Source::Synthetic(None)
    );
}
