//! Training runs that are stopped, killed, short of room or met by damaged files, through the real
//! command.
#![cfg(unix)]
#![expect(
    clippy::unwrap_used,
    reason = "what tests share fails by panicking, as they do"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const TINY: &str = r#"{ "name": "tiny", "classes": 10, "stem_channels": 4,
    "stages": [{ "blocks": 1, "channels": 4 },
               { "blocks": 2, "channels": 8, "entrance": { "transition": { "stride": 2 } } }] }"#;

const TRAIN: &str = "train tiny.json --data images --batch-size 16 --epochs 4 --schedule 0:0.05 \
                     --measure-every 2 --measure-samples 8 --threads 1";

/// A fresh folder with a few images and the tiny network in it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        // In memory where there is such a folder: these tests flush thousands of files.
        let memory = tempfile::tempdir_in("/dev/shm");
        let place = Self(memory.or_else(|_| tempfile::tempdir()).unwrap());
        fs::write(place.path("tiny.json"), TINY).unwrap();
        place.ok("data synthesize --train-samples 48 --test-samples 20 --out images");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ir"));
        command
            .current_dir(self.0.path())
            .args(line.split_whitespace())
            .env_remove("IR_DATA");
        command
    }

    fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// What the command says on stderr; it must succeed.
    fn ok(&self, line: &str) -> String {
        let output = self.run(line);
        let said = text(&output.stderr);
        assert!(output.status.success(), "ir {line}: {said}");
        said
    }

    /// What the command says on stderr; it must fail.
    fn fails(&self, line: &str) -> String {
        let output = self.run(line);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "ir {line}: {said}");
        said
    }

    /// The files of a folder by name, but for the lock.
    fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name != ".lock").collect();
        names.sort();
        names
    }

    /// What a run comes to, without the times and the command line.
    fn outcome(&self, folder: &str) -> ([Vec<u8>; 4], Vec<Value>) {
        let history = text(&self.bytes(&format!("{folder}/history.jsonl")));
        let without_time = |line: &str| {
            let mut epoch: Value = serde_json::from_str(line).unwrap();
            epoch["seconds"] = Value::Null;
            epoch
        };
        let files = [
            "checkpoint.safetensors",
            "best.safetensors",
            "blocks.csv",
            "exits.csv",
        ];
        (
            files.map(|file| self.bytes(&format!("{folder}/{file}"))),
            history.lines().map(without_time).collect(),
        )
    }

    /// A run that would take minutes, begun or gone on with, with a checkpoint written and its ears
    /// open.
    fn endless(&self, folder: &str) -> Running {
        self.endless_by(Command::new(env!("CARGO_BIN_EXE_ir")), folder)
    }

    /// The same by a program that becomes ours.
    fn endless_by(&self, mut program: Command, folder: &str) -> Running {
        let line = TRAIN.replace("--epochs 4", "--epochs 100000");
        // The description is written when all is set up, signals among it.
        let _ = fs::remove_file(self.path(folder).join("run.json"));
        let command = self.command(&format!("{line} --out {folder} --resume"));
        let command = program
            .args(command.get_args())
            .current_dir(self.0.path())
            .env_remove("IR_DATA");
        let running = Running(command.stderr(Stdio::null()).spawn().unwrap());
        let started = Instant::now();
        for file in ["run.json", "checkpoint.safetensors"] {
            while !self.path(folder).join(file).exists() {
                assert!(started.elapsed() < Duration::from_secs(60), "no {file}");
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        running
    }
}

/// A process that does not outlive its test.
struct Running(Child);

impl Running {
    fn signal(&self, name: &str) {
        let id = self.0.id().to_string();
        let sent = Command::new("kill").args([name, &id]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn flip_a_bit(path: &Path) {
    let mut content = fs::read(path).unwrap();
    let last = content.len() - 5;
    content[last] ^= 4;
    // Under a new file: what is hard linked to the old one stays whole.
    fs::remove_file(path).unwrap();
    fs::write(path, content).unwrap();
}

#[test]
fn the_last_checkpoints_and_the_best_are_kept() {
    let place = Place::new();
    // Of three steps each, four epochs end at steps 3, 6, 9 and 12.
    for (keep, earlier) in [(1, &[][..]), (2, &[9][..]), (3, &[6, 9])] {
        let folder = format!("keep{keep}");
        place.ok(&format!("{TRAIN} --keep {keep} --out {folder}"));
        let mut expected: Vec<String> = ["best.safetensors", "checkpoint.safetensors"]
            .map(String::from)
            .into();
        expected.extend(
            earlier
                .iter()
                .map(|s| format!("checkpoint-{s:09}.safetensors")),
        );
        let others = [
            "blocks.csv",
            "config.toml",
            "exits.csv",
            "history.jsonl",
            "run.json",
        ];
        expected.extend(others.map(String::from));
        expected.sort();
        assert_eq!(place.names(&folder), expected);
    }
    // The best is what the run had written at the epoch with the highest test accuracy.
    let ([_, best, ..], history) = place.outcome("keep1");
    let accuracy = |epoch: &Value| epoch["test_accuracy"].as_f64().unwrap();
    let highest = history[1..].iter().map(accuracy).fold(0.0, f64::max);
    let epoch = history[1..]
        .iter()
        .position(|e| accuracy(e) == highest)
        .unwrap()
        + 1;
    let longest = 4;
    place.ok(&format!("{TRAIN} --keep {longest} --out all"));
    let name = match epoch {
        4 => "all/checkpoint.safetensors".into(),
        _ => format!("all/checkpoint-{:09}.safetensors", 3 * epoch),
    };
    assert!(best == place.bytes(&name), "epoch {epoch}");
}

#[test]
fn a_damaged_checkpoint_is_passed_over_with_a_warning() {
    let place = Place::new();
    place.ok(&format!("{TRAIN} --keep 3 --out run"));
    let whole = place.outcome("run");
    let resume = format!("{TRAIN} --keep 3 --out run --resume");

    // One bit of the newest; then the newest torn and one bit of the one before.
    flip_a_bit(&place.path("run/checkpoint.safetensors"));
    let said = place.ok(&resume);
    let warning = said.lines().find(|line| line.starts_with("warning: "));
    let warning = warning.unwrap_or_else(|| panic!("{said}"));
    assert!(warning.contains("run/checkpoint.safetensors"), "{said}");
    assert!(warning.contains("checksum"), "{said}");
    assert!(
        said.contains("going on from run/checkpoint-000000009"),
        "{said}"
    );
    assert!(whole == place.outcome("run"));

    let newest = place.bytes("run/checkpoint.safetensors");
    fs::remove_file(place.path("run/checkpoint.safetensors")).unwrap();
    let torn = &newest[..newest.len() / 2];
    fs::write(place.path("run/checkpoint.safetensors"), torn).unwrap();
    flip_a_bit(&place.path("run/checkpoint-000000009.safetensors"));
    let said = place.ok(&resume);
    assert_eq!(said.matches("warning: ").count(), 2, "{said}");
    assert!(
        said.contains("going on from run/checkpoint-000000006"),
        "{said}"
    );
    assert!(whole == place.outcome("run"));

    // With none left that is whole the run neither goes on nor begins again by itself.
    for name in place.names("run") {
        if name.ends_with(".safetensors") {
            flip_a_bit(&place.path("run").join(name));
        }
    }
    let said = place.fails(&resume);
    assert!(said.contains("no checkpoint in it can be used"), "{said}");
}

#[test]
fn a_run_that_begins_does_not_take_an_earlier_ones_checkpoints_for_its_own() {
    let place = Place::new();
    place.ok(&format!("{TRAIN} --out run"));
    fs::remove_file(place.path("run/run.json")).unwrap();
    fs::remove_file(place.path("run/history.jsonl")).unwrap();
    let other = TRAIN.replace("--epochs 4", "--epochs 1 --seed 7");
    place.ok(&format!("{other} --out run"));
    place.ok(&format!("{other} --out alone"));
    assert_eq!(place.names("run"), place.names("alone"));
    assert!(place.outcome("run") == place.outcome("alone"));
}

#[test]
fn a_run_goes_on_only_with_its_own_data() {
    let place = Place::new();
    place.ok(&format!("{TRAIN} --out run"));
    let before = place.outcome("run");
    let mut images = place.bytes("images/data_batch_1.bin");
    images[100] ^= 1;
    fs::write(place.path("images/data_batch_1.bin"), images).unwrap();
    let said = place.fails(&format!("{TRAIN} --out run --resume"));
    assert!(
        said.contains("the images of --data are not those"),
        "{said}"
    );
    assert!(before == place.outcome("run"));
}

#[test]
fn the_first_signal_writes_a_checkpoint_and_the_second_ends_the_process() {
    let place = Place::new();
    for (signal, status) in [("-INT", 130), ("-TERM", 143)] {
        let folder = format!("run{status}");
        let mut running = place.endless(&folder);
        running.signal(signal);
        assert_eq!(running.0.wait().unwrap().code(), Some(status));
        // A second signal on the heels of the first leaves the checkpoint whole.
        let mut again = place.endless(&folder);
        again.signal(signal);
        again.signal(signal);
        assert_eq!(again.0.wait().unwrap().code(), Some(status));
        place.ok(&format!(
            "analyze {folder}/checkpoint.safetensors --data images --measures ratio --split test"
        ));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_that_goes_ends_a_run_unless_it_was_told_to_stay() {
    let place = Place::new();
    let env = |option: &str| {
        let mut command = Command::new("env");
        command.args([option, env!("CARGO_BIN_EXE_ir")]);
        command
    };
    let mut running = place.endless_by(env("--default-signal=HUP"), "run");
    running.signal("-HUP");
    assert_eq!(running.0.wait().unwrap().code(), Some(129));
    // As `nohup` does.
    let mut running = place.endless_by(env("--ignore-signal=HUP"), "run");
    running.signal("-HUP");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(running.0.try_wait().unwrap(), None);
    running.signal("-TERM");
    assert_eq!(running.0.wait().unwrap().code(), Some(143));
}

#[test]
fn a_second_run_in_a_folder_is_refused_and_a_dead_ones_lock_is_taken_over() {
    let place = Place::new();
    let running = place.endless("run");
    let id = running.0.id();
    for resume in ["", " --resume"] {
        let said = place.fails(&format!("{TRAIN} --out run{resume}"));
        assert!(said.contains(&format!("process {id} on ")), "{said}");
        assert!(said.contains("ago"), "{said}");
    }
    running.signal("-KILL");
    drop(running);
    assert!(place.path("run/.lock").exists());
    let mut next = place.endless("run");
    next.signal("-TERM");
    assert_eq!(next.0.wait().unwrap().code(), Some(143));
}

#[test]
fn an_unrolling_that_explodes_is_infinite_in_results_and_figures() {
    let place = Place::new();
    place.ok(&format!("{TRAIN} --out run"));
    place.ok(
        "analyze run/checkpoint.safetensors --data images --unroll-scale 1e38 --unroll-steps 4 \
         --out run/results.json",
    );
    let results: Value = serde_json::from_slice(&place.bytes("run/results.json")).unwrap();
    let unrolls = results["splits"]["test"]["unroll"].as_array().unwrap();
    let exploded = unrolls
        .iter()
        .find(|unroll| unroll["scale"] == 1e38)
        .unwrap();
    // What overflows is infinite; what is computed from infinities has no value any more.
    let steps = &exploded["steps"];
    assert_eq!(steps[1]["h_norm"], "inf");
    assert_eq!(steps[4]["h_norm"], "nan");
    assert!(steps[1]["groups"]["all"]["loss"].is_string());
    assert!(steps[4]["cosine"].is_null() && steps[4]["undefined"]["cosine"] == 20);
    place.ok("report run --out report");
    let page = text(&place.bytes("report/report.html"));
    assert!(page.contains("not finite from step"), "fig. 7 says so");
    let figure = text(&place.bytes("report/figures/fig7.svg"));
    // A loss that is infinite is marked ∞, one that has no value ×.
    assert!(figure.contains(['∞', '×']) && !figure.contains("NaN"));
}

#[test]
fn a_class_that_never_occurs_does_not_stand_in_the_way() {
    let place = Place::new();
    place.ok("data synthesize --train-samples 10 --test-samples 3 --out few");
    let line = TRAIN.replace("--data images --batch-size 16", "--data few --batch-size 1");
    place.ok(&format!("{line} --out run"));
    let line = "analyze run/checkpoint.safetensors --data few --out run/results.json";
    place.ok(&format!("{line} --unroll-steps 2"));
    place.ok("report run --out report");
}

#[test]
fn memory_is_estimated_and_a_limit_makes_the_batch_smaller() {
    let place = Place::new();
    let said = place.ok(&format!("{TRAIN} --out run"));
    assert!(
        said.contains("of memory needed, at 16 images a batch"),
        "{said}"
    );
    let line = "analyze run/checkpoint.safetensors --data images --measures ratio";
    let batch = |limit: &str| -> usize {
        let said = place.ok(&format!("{line}{limit}"));
        let (_, rest) = said.split_once("needed, at ").unwrap();
        rest.split_once(' ').unwrap().0.parse().unwrap()
    };
    assert_eq!(batch(""), 48, "all there are");
    let (small, large) = (
        batch(" --memory-limit 20MiB"),
        batch(" --memory-limit 30MiB"),
    );
    assert!(
        1 < small && small < large && large <= 48,
        "{small}, {large}"
    );
    let said = place.fails(&format!("{line} --memory-limit 1MiB"));
    assert!(said.contains("images one at a time"), "{said}");
}

/// A real full disk, where this system lets a test mount one.
#[cfg(target_os = "linux")]
#[test]
fn a_small_disk_that_is_full_leaves_a_run_that_goes_on() {
    let place = Place::new();
    place.ok(&format!("{TRAIN} --out whole"));
    let ir = env!("CARGO_BIN_EXE_ir");
    let line = TRAIN.replace("--data images", "--data ../images");
    let train = format!("{ir} {}", line.replace("tiny.json", "../tiny.json"));
    let size = place.bytes("whole/checkpoint.safetensors").len();
    // Room for the description, the history and one checkpoint and a half, besides what fills it.
    let script = format!(
        "mkdir disk && mount -t tmpfs -o size=1m none disk && cd disk || exit 77
         head -c $((1048576 - {size} * 3 / 2 - 16384)) /dev/zero > filler
         {train} --out run 2> full; status=$?
         [ $status = 1 ] || exit 1
         {ir} analyze run/checkpoint.safetensors --data ../images --measures ratio || exit 2
         rm filler
         {train} --out run --resume 2>&1 || exit 3
         cat full; cp run/checkpoint.safetensors ../resumed"
    );
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]);
    let Ok(output) = command.current_dir(place.0.path()).output() else {
        return;
    };
    if !place.path("disk").exists() || output.status.code() == Some(77) {
        return;
    }
    let said = text(&output.stdout);
    assert!(
        output.status.success(),
        "{:?} {said} {}",
        output.status,
        text(&output.stderr)
    );
    assert!(said.contains("the disk is full: it takes"), "{said}");
    assert!(place.bytes("resumed") == place.bytes("whole/checkpoint.safetensors"));
}

/// After a fault at any call that writes, the folder holds either no run yet or one that goes on
/// to the same bytes.
#[cfg(debug_assertions)]
fn survives_every_fault(fault: &str) {
    let place = Place::new();
    let line = TRAIN.replace("--epochs 4", "--epochs 2");
    place.ok(&format!("{line} --out whole"));
    let whole = place.outcome("whole");
    let (mut faults, mut undisturbed) = (0, 0);
    for call in 1.. {
        let mut command = place.command(&format!("{line} --out run"));
        let output = command.env("IR_FAULT", format!("{fault}:{call}"));
        let output = output.output().unwrap();
        if output.status.success() {
            // Where no hard link can be made there is a copy: that fault is none. Two in a row
            // are past the last call.
            undisturbed += 1;
            if undisturbed == 2 {
                break;
            }
        } else {
            (faults, undisturbed) = (faults + 1, 0);
        }
        let said = text(&output.stderr);
        if fault == "full" && !output.status.success() {
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(said.contains("the disk is full: it takes "), "{said}");
        }
        for name in place.names("run") {
            if name == "run.json" {
                serde_json::from_slice::<Value>(&place.bytes("run/run.json")).unwrap();
            }
            if name.ends_with(".safetensors") && !name.starts_with('.') {
                place.ok(&format!(
                    "analyze run/{name} --data images --measures ratio --split test"
                ));
            }
        }
        let said = place.ok(&format!("{line} --out run --resume"));
        assert!(!said.contains("warning"), "call {call}: {said}");
        assert!(whole == place.outcome("run"), "call {call}");
        let unfinished = place.names("run");
        let unfinished: Vec<_> = unfinished.iter().filter(|n| n.starts_with('.')).collect();
        assert!(unfinished.is_empty(), "call {call}: {unfinished:?}");
        fs::remove_dir_all(place.path("run")).unwrap();
    }
    // Three lines of history, the description and two checkpoints take five calls each.
    assert!(faults >= 30, "{faults}");
}

#[cfg(debug_assertions)]
#[test]
fn a_disk_that_is_full_at_any_write_leaves_earlier_results_and_reports() {
    let place = Place::new();
    place.ok(&format!("{TRAIN} --out run"));
    let analyze = "analyze run/checkpoint.safetensors --data images --unroll-steps 2 --out";
    place.ok(&format!("{analyze} run/results.json"));
    place.ok("report run --out report");
    let pages = || {
        let mut names = place.names("report/figures");
        names = names.iter().map(|name| format!("figures/{name}")).collect();
        names.push("report.html".into());
        names.push("claims.json".into());
        let content = |name: String| (place.bytes(&format!("report/{name}")), name);
        names.into_iter().map(content).collect::<Vec<_>>()
    };
    let (results, report) = (place.bytes("run/results.json"), pages());
    // A file is made, written and flushed before it takes its name; of a report all files are.
    for (line, calls) in [
        (format!("{analyze} run/results.json"), vec![1, 2, 3, 4]),
        ("report run --out report".into(), vec![1, 2, 3, 10, 20, 30]),
    ] {
        for call in calls {
            let mut command = place.command(&line);
            let output = command.env("IR_FAULT", format!("full:{call}")).output();
            let output = output.unwrap();
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "ir {line}: {said}");
            assert!(said.contains("the disk is full: it takes "), "{said}");
            assert!(results == place.bytes("run/results.json"), "call {call}");
            assert!(report == pages(), "call {call}");
        }
    }
}

#[cfg(debug_assertions)]
#[test]
fn a_disk_that_is_full_at_any_write_leaves_a_run_that_goes_on() {
    survives_every_fault("full");
}

#[cfg(debug_assertions)]
#[test]
fn a_process_that_dies_at_any_write_leaves_a_run_that_goes_on() {
    survives_every_fault("abort");
}
