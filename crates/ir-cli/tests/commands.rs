//! The commands from end to end on a few synthetic images and a network of one block a stage.

#![expect(
    clippy::unwrap_used,
    reason = "what tests share fails by panicking, as they do"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

const TINY: &str = r#"{ "name": "tiny", "classes": 10, "stem_channels": 4,
    "stages": [{ "blocks": 2, "channels": 4 },
               { "blocks": 2, "channels": 8, "entrance": { "transition": { "stride": 2 } } }] }"#;

/// A fresh folder with a few images and the tiny network in it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::write(place.path("tiny.json"), TINY).unwrap();
        place.ok("data synthesize --train-samples 96 --test-samples 40 --out images");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ir"));
        command
            .current_dir(self.0.path())
            .args(line.split_whitespace());
        for variable in ["IR_DATA", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME"] {
            command.env_remove(variable);
        }
        command
            .env("HOME", self.0.path())
            .env("HF_HUB_OFFLINE", "1");
        command
    }

    fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// What the command prints; it must succeed.
    fn ok(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(
            output.status.success(),
            "ir {line}: {}",
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    /// The one sentence of a command that must fail.
    fn complaint(&self, line: &str) -> String {
        let output = self.run(line);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "ir {line}: {said}");
        assert_eq!(text(&output.stdout), "", "ir {line}");
        let complaints: Vec<&str> = said
            .lines()
            .filter(|line| line.starts_with("ir: "))
            .collect();
        assert_eq!(complaints.len(), 1, "ir {line}: {said}");
        let causes = complaints[0].matches("(os error").count();
        assert!(causes < 2, "a cause is said twice: {said}");
        complaints[0].to_owned()
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

const TRAIN: &str = "train tiny.json --data images --batch-size 16 --epochs 3 --schedule 0:0.05 --measure-samples 20";

#[test]
fn models_have_the_papers_parameters() {
    let place = Place(tempfile::tempdir().unwrap());
    let models = json(&place.ok("models --json"));
    let count = |name: &str, dataset: &str, which: &str| {
        let models = models.as_array().unwrap();
        let model = models.iter().find(|model| model["name"] == name).unwrap();
        model["parameters"][dataset][which].as_u64().unwrap()
    };
    for (name, all) in [
        ("resnet-110", 1_742_762),
        ("single-representation", 1_829_210),
        ("avg-pooling", 12_201_310),
        ("wide", 45_732_842),
    ] {
        assert_eq!(count(name, "cifar10", "all"), all, "{name}");
    }
    for (name, cifar10, cifar100) in [
        ("resnet-32", 467_946, 473_796),
        ("resnet-38", 565_386, 571_236),
        ("resnet-56", 857_706, 863_556),
        ("resnet-110", 1_734_666, 1_740_516),
        ("resnet-110-ubn", 570_762, 576_612),
        ("resnet-146-ubn", 573_450, 579_300),
        ("resnet-182-ubn", 576_138, 581_988),
    ] {
        assert_eq!(count(name, "cifar10", "trainable"), cifar10, "{name}");
        assert_eq!(count(name, "cifar100", "trainable"), cifar100, "{name}");
    }
}

#[test]
fn from_images_to_a_report() {
    let place = Place::new();
    place.ok(&format!("{TRAIN} --out run"));
    let run = json(&text(&place.bytes("run/run.json")));
    assert_eq!(
        (run["model"].as_str(), run["dataset"].as_str()),
        (Some("tiny"), Some("synthetic10"))
    );
    assert_eq!(run["synthetic"], true);
    let history = text(&place.bytes("run/history.jsonl"));
    let epochs: Vec<u64> = history
        .lines()
        .map(|line| json(line)["epoch"].as_u64().unwrap())
        .collect();
    assert_eq!(epochs, [0, 1, 2, 3]);

    let table = place.ok("analyze run/checkpoint.safetensors --data images --out run/results.json");
    assert!(
        table.contains("tiny on synthetic10 test: 40 samples"),
        "{table}"
    );
    let results = json(&text(&place.bytes("run/results.json")));
    for split in ["train", "test"] {
        assert_eq!(
            results["splits"][split]["blocks"].as_array().unwrap().len(),
            4
        );
        assert_eq!(
            results["splits"][split]["exits"].as_array().unwrap().len(),
            3
        );
    }
    assert_eq!(results["splits"]["train"]["samples"], 96);
    assert_eq!(results["splits"]["test"]["blocks"][2]["transition"], true);

    place.ok("report run --out report");
    let page = text(&place.bytes("report/report.html"));
    assert!(page.to_lowercase().contains("synthetic"));
}

#[test]
fn analyze_prints_one_document_and_nothing_else() {
    let place = Place::new();
    place.ok("init tiny.json --seed 3 --out network");
    let line =
        "analyze network --data images --split test --samples 16 --measures ratio,drop --json";
    let first = place.run(line);
    assert_eq!(text(&first.stderr), "");
    let results = json(&text(&first.stdout));
    assert!(results["splits"].get("train").is_none());
    let block = &results["splits"]["test"]["blocks"][0];
    assert!(block["l2_ratio"].is_number() && block["drop_accuracy"].is_number());
    assert!(block["cosine"].is_null());

    // The first samples are the same whatever the batch.
    let again = json(&place.ok(&format!("{line} --batch-size 5")));
    assert_eq!(
        again["splits"]["test"]["accuracy"],
        results["splits"]["test"]["accuracy"]
    );
}

/// The network that comes with the program, on drawn images and, where `IR_DATA` says that they are, on those that it knows.
#[test]
fn analyze_has_a_network_of_its_own() {
    let place = Place::new();
    let line = "analyze --split test --samples 200 --measures ratio --json --data";
    let results = json(&place.ok(&format!("{line} images")));
    assert_eq!(results["network"], "resnet-32");
    assert_eq!(results["provenance"]["trained_on"], "cifar10");
    let Some(data) = std::env::var_os("IR_DATA") else {
        return;
    };
    let mut command = place.command(&format!("{line} cifar10"));
    command.env("IR_DATA", std::path::absolute(data).unwrap());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let results = json(&text(&output.stdout));
    let accuracy = &results["splits"]["test"]["accuracy"];
    // 92.4 % of all 10,000.
    assert!(accuracy.as_f64().unwrap() > 0.88, "{accuracy}");
}

#[test]
fn analyze_prints_a_table_of_each_measure_that_was_asked_for() {
    let place = Place::new();
    place.ok("init tiny.json --out network");
    let columns = |measures: &str| {
        let line = "analyze network --data images --split test --samples 16 --measures";
        place.ok(&format!("{line} {measures}"))
    };
    let all = [
        "exit cosine",
        "dropped",
        "exits of the last stage",
        "applied again",
        "predicted change",
        "blocks deleted",
        "blocks swapped",
        "single paths",
        "end of the stage",
        "linear readouts",
    ];
    for (measures, expected) in [
        ("exit-cosine", &all[..1]),
        ("drop", &all[1..2]),
        ("exits", &all[2..3]),
        ("unroll", &all[3..4]),
        ("taylor", &all[4..5]),
        ("paper", &all[..5]),
        ("delete", &all[5..6]),
        ("reorder", &all[6..7]),
        ("paths", &all[7..8]),
        ("estimation", &all[8..9]),
        ("readouts", &all[9..]),
        ("all", &all[..]),
    ] {
        let table = columns(measures);
        for column in all {
            let asked = expected.contains(&column);
            assert_eq!(
                table.contains(column),
                asked,
                "{measures}, {column}: {table}"
            );
        }
    }
}

#[cfg(unix)]
#[test]
fn a_reader_that_has_gone_is_no_failure() {
    let place = Place(tempfile::tempdir().unwrap());
    for line in ["models", "models --json"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = place.command(line).stdout(writer).output().unwrap();
        let said = text(&output.stderr);
        assert!(output.status.success(), "ir {line}: {said}");
        assert_eq!(said, "", "ir {line}");
    }
}

#[test]
fn results_are_the_same_bytes_on_any_number_of_threads() {
    let place = Place::new();
    place.ok(&format!("{TRAIN} --out one --threads 1"));
    place.ok(&format!("{TRAIN} --out three --threads 3"));
    assert_eq!(
        place.bytes("one/checkpoint.safetensors"),
        place.bytes("three/checkpoint.safetensors")
    );
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_goes_on_to_the_same_bytes() {
    let place = Place::new();
    let train = TRAIN.replace("--epochs 3", "--epochs 60");
    place.ok(&format!("{train} --out whole"));

    let mut child = place
        .command(&format!("{train} --out broken"))
        .spawn()
        .unwrap();
    let started = Instant::now();
    while !place.path("broken/checkpoint.safetensors").exists() {
        assert!(started.elapsed() < Duration::from_secs(60), "no checkpoint");
        std::thread::sleep(Duration::from_millis(2));
    }
    let kill = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(kill.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));

    let complaint = place.complaint(&format!("{train} --out broken"));
    assert!(complaint.contains("--resume"), "{complaint}");
    place.ok(&format!("{train} --out broken --resume"));
    assert_eq!(
        place.bytes("whole/checkpoint.safetensors"),
        place.bytes("broken/checkpoint.safetensors")
    );
    // All but the times, which are the machine's.
    let history = |run: &str| {
        let lines = text(&place.bytes(&format!("{run}/history.jsonl")));
        let without_time = |line: &str| {
            let mut epoch = json(line);
            epoch["seconds"] = Value::Null;
            epoch
        };
        lines.lines().map(without_time).collect::<Vec<_>>()
    };
    assert_eq!(history("whole"), history("broken"));
}

#[test]
fn a_run_goes_on_only_as_it_began() {
    let place = Place::new();
    place.ok(&format!("{TRAIN} --out run"));
    let before = place.bytes("run/checkpoint.safetensors");
    let complaint = place.complaint(&format!("{TRAIN} --seed 9 --out run --resume"));
    assert!(
        complaint.contains("seed 0") && complaint.contains('9'),
        "{complaint}"
    );
    assert_eq!(place.bytes("run/checkpoint.safetensors"), before);
}

#[test]
fn wrong_input_gets_one_sentence_and_changes_nothing() {
    let place = Place::new();
    place.ok(&format!("{TRAIN} --out run"));
    place.ok(
        "analyze run/checkpoint.safetensors --data images --out run/results.json --measures ratio",
    );
    let checkpoint = place.bytes("run/checkpoint.safetensors");
    let results = place.bytes("run/results.json");
    fs::write(place.path("file"), "not a folder").unwrap();
    fs::write(place.path("truncated"), &checkpoint[..checkpoint.len() / 2]).unwrap();
    fs::write(place.path("foreign.json"), "{ \"layers\": 3 }").unwrap();
    fs::write(place.path("hundred.json"), TINY.replace("10", "100")).unwrap();
    fs::create_dir(place.path("empty")).unwrap();
    fs::create_dir(place.path("kept")).unwrap();
    fs::write(place.path("kept/best.safetensors"), &checkpoint).unwrap();
    copy_folder(&place.path("images"), &place.path("short"));
    let batch = place.path("short/data_batch_1.bin");
    let content = fs::read(&batch).unwrap();
    fs::write(&batch, &content[..content.len() - 100]).unwrap();
    copy_folder(&place.path("images"), &place.path("incomplete"));
    fs::remove_file(place.path("incomplete/data_batch_3.bin")).unwrap();
    copy_folder(&place.path("images"), &place.path("mislabelled"));
    let mut content = fs::read(place.path("images/test_batch.bin")).unwrap();
    content[3073] = 11;
    fs::write(place.path("mislabelled/test_batch.bin"), content).unwrap();

    let analyze = "analyze run/checkpoint.safetensors --out run/results.json --data";
    for (line, reason) in [
        (format!("{analyze} nowhere"), "nowhere"),
        (format!("{analyze} empty"), "empty"),
        (format!("{analyze} short"), "data_batch_1.bin"),
        (format!("{analyze} incomplete"), "data_batch_3 is missing"),
        (format!("{analyze} mislabelled"), "test_batch.bin"),
        (format!("{analyze} cifar10"), "ir data fetch cifar10"),
        ("analyze missing --data images".into(), "missing"),
        ("analyze truncated --data images".into(), "truncated"),
        (
            "analyze images/test_batch.bin --data images".into(),
            "not a usable checkpoint",
        ),
        (format!("{analyze} images --unroll-scale often"), "often"),
        (
            "analyze run/checkpoint.safetensors --data images --out file/results.json".into(),
            "file/results.json",
        ),
        (
            "analyze run/checkpoint.safetensors --data images --out run/checkpoint.safetensors"
                .into(),
            "no results.json",
        ),
        (
            "analyze run/checkpoint.safetensors --data images --out run/run.json".into(),
            "no results.json",
        ),
        (
            "analyze run/checkpoint.safetensors --data images --out empty".into(),
            "it is there and is no file",
        ),
        (
            "init tiny.json --out run/checkpoint.safetensors".into(),
            "exists already",
        ),
        (
            "train tiny.json --data images --out kept".into(),
            "kept/best.safetensors: a checkpoint that is not of a run there",
        ),
        (
            "train resnet-7 --data images --out other".into(),
            "resnet-32",
        ),
        (
            "train foreign.json --data images --out other".into(),
            "foreign.json",
        ),
        ("train hundred.json --data images --out other".into(), "100"),
        (
            "train tiny.json --data images --out other --schedule 3:0.1".into(),
            "--schedule",
        ),
        (
            "train tiny.json --data images --out other --batch-size 4000".into(),
            "4000",
        ),
        ("train tiny.json --data images --out file".into(), "file"),
        (
            "train tiny.json --data images --out other --device cuda".into(),
            "--device cpu",
        ),
        ("init tiny.json --out file/network".into(), "file/network"),
        ("report nowhere --out report".into(), "nowhere"),
        (
            "analyze nothing.safetensors --data images".into(),
            "nothing.safetensors: no such file or folder; give a checkpoint",
        ),
    ] {
        let complaint = place.complaint(&line);
        assert!(complaint.contains(reason), "ir {line}: {complaint}");
    }
    assert_eq!(place.bytes("run/checkpoint.safetensors"), checkpoint);
    assert_eq!(place.bytes("run/results.json"), results);
    assert_eq!(place.bytes("kept/best.safetensors"), checkpoint);
    assert!(
        !place.path("other/run.json").exists(),
        "no run began, and the next command may begin one"
    );
}

#[cfg(unix)]
#[test]
fn a_path_need_not_be_unicode() {
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new();
    let name = std::ffi::OsStr::from_bytes(b"bad\xff");
    let made = place
        .command("init tiny.json --json --out")
        .arg(name)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", text(&made.stderr));
    assert_eq!(json(&text(&made.stdout))["file"], "bad\u{fffd}");
    let analysed = place
        .command("analyze --data images --measures ratio --samples 2 --json")
        .arg(name)
        .output()
        .unwrap();
    assert!(analysed.status.success(), "{}", text(&analysed.stderr));
}

#[test]
fn a_diverging_run_stops_with_the_last_good_checkpoint() {
    let place = Place::new();
    let diverge = TRAIN.replace("0:0.05", "0:0.05,1:1e30");
    let complaint = place.complaint(&format!("{diverge} --out run"));
    assert!(complaint.contains("the loss is"), "{complaint}");
    assert!(
        complaint.contains("checkpoint.safetensors is the last good checkpoint"),
        "{complaint}"
    );
    place.ok("analyze run --data images --measures ratio");
}

#[test]
fn wrong_usage_is_status_2() {
    let place = Place(tempfile::tempdir().unwrap());
    for line in [
        "train",
        "analyze x --data y --measures hope",
        "models --xml",
        "train resnet-32 --data y --out z --precision bf16",
        "train resnet-32 --data y --out z --device cuda --precision f16",
        "--threads 0 models",
        "train tiny.json --data images --out run --keep 0",
        "train tiny.json --data images --out run --momentum nan",
        "train tiny.json --data images --out run --weight-decay -1",
        "analyze x --data y --unroll-steps 1000000000000000",
    ] {
        assert_eq!(place.run(line).status.code(), Some(2), "ir {line}");
    }
}

#[test]
fn every_command_shows_an_example() {
    let place = Place(tempfile::tempdir().unwrap());
    for command in [
        "models",
        "data",
        "data info",
        "data fetch",
        "data synthesize",
        "init",
        "train",
        "analyze",
        "report",
        "compare",
        "watch",
        "export",
        "completions",
        "man",
    ] {
        let help = place.ok(&format!("{command} --help"));
        assert!(help.contains(&format!("Example: ir {command}")), "{help}");
    }
}

#[test]
fn colours_are_for_terminals_and_nobody_who_asks_for_none() {
    let place = Place::new();
    let said = |variable: &str, value: &str| {
        let mut command = place.command("train tiny.json --data nowhere --out run");
        text(&command.env(variable, value).output().unwrap().stderr)
    };
    assert!(!said("UNSET", "").contains('\u{1b}'), "stderr is a pipe");
    assert!(said("CLICOLOR_FORCE", "1").contains("\u{1b}[1m\u{1b}[31mir:"));
    let mut command = place.command("train tiny.json --data nowhere --out run");
    command.env("CLICOLOR_FORCE", "1").env("NO_COLOR", "1");
    let said = text(&command.output().unwrap().stderr);
    assert!(!said.contains('\u{1b}'), "{said}");
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
