//! Run folders that are broken or hostile, and networks on data that they were not trained on.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

mod common;
use common::Sample;

fn ir(folder: &Path, line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ir"))
        .current_dir(folder)
        .args(line.split_whitespace())
        .env_remove("IR_DATA")
        .env("HOME", folder)
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .expect("ir starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// Runs a command that must succeed; gives what it says on standard error.
fn well(folder: &Path, line: &str) -> String {
    let output = ir(folder, line);
    let said = text(&output.stderr);
    assert!(output.status.success(), "ir {line}: {said}");
    said
}

/// Changes a value in one of a run folder's files.
fn edit(file: &Path, pointer: &str, value: Value) {
    let content = fs::read(file).expect("a file");
    let mut document: Value = serde_json::from_slice(&content).expect("JSON");
    *document.pointer_mut(pointer).expect(pointer) = value;
    fs::write(file, document.to_string()).expect("a file");
}

/// What is done to a sound run folder, and a part of what is said about it.
type Case = (fn(&Path), &'static str);

const CASES: [Case; 16] = [
    (
        |run| fs::write(run.join("run.json"), "{").expect("a file"),
        "run/run.json: not a run's description: EOF while parsing",
    ),
    (
        |run| fs::write(run.join("run.json"), b"\xff").expect("a file"),
        "run/run.json: cannot be read: stream did not contain valid UTF-8",
    ),
    (
        |run| fs::write(run.join("run.json"), "[".repeat(100_000)).expect("a file"),
        "run/run.json: not a run's description: ",
    ),
    (
        |run| sparse(&run.join("run.json")),
        "run/run.json: cannot be read: it is longer than 67108864 bytes",
    ),
    (
        |run| {
            fs::remove_file(run.join("results.json")).expect("a file");
            fs::create_dir(run.join("results.json")).expect("a folder");
        },
        "run/results.json: cannot be read: it is no file",
    ),
    (
        |run| edit(&run.join("run.json"), "/schema_version", json!(99)),
        "run/run.json: schema_version is 99, and this program reads up to 1",
    ),
    (
        |run| edit(&run.join("run.json"), "/seed", json!(-1)),
        "run/run.json: not a run's description: invalid value: integer `-1`, expected u64",
    ),
    (
        |run| edit(&run.join("run.json"), "/epochs", json!(1e300)),
        "run/run.json: not a run's description: invalid type: floating point `1e+300`, expected usize",
    ),
    (
        |run| fs::write(run.join("history.jsonl"), "\n").expect("a file"),
        "run/history.jsonl: line 1: not an epoch: EOF while parsing",
    ),
    (
        |run| {
            edit(
                &run.join("results.json"),
                "/stages/1/last_block",
                json!(u64::MAX),
            );
        },
        "run/results.json: stages[1]: expected stage 1 from block 2 on, found stage 1 from block 2 to 18446744073709551615",
    ),
    (
        |run| {
            edit(
                &run.join("results.json"),
                "/stages/2/last_block",
                json!(1_000_000_000_000u64),
            );
        },
        "run/results.json: splits.\"test\".blocks: expected 1000000000001, as the stages have, found 6",
    ),
    (
        |run| {
            edit(
                &run.join("results.json"),
                "/splits/train/blocks/3/block",
                json!(4),
            );
        },
        "run/results.json: splits.\"train\".blocks[3]: expected block 3 of stage 1, found block 4 of stage 1",
    ),
    (
        |run| {
            edit(
                &run.join("results.json"),
                "/splits/test/exits/1/after_block",
                json!(0),
            );
        },
        "run/results.json: splits.\"test\".exits: block 0 is not in the last stage",
    ),
    (
        |run| {
            edit(
                &run.join("results.json"),
                "/splits/test/taylor/0/block",
                json!(1),
            );
        },
        "run/results.json: splits.\"test\".taylor: block 1 is not in the last stage",
    ),
    (
        |run| {
            edit(
                &run.join("results.json"),
                "/splits/test/unroll/0/steps/2/step",
                json!(7),
            );
        },
        "run/results.json: splits.\"test\".unroll: expected step 2, found step 7",
    ),
    (
        |run| {
            edit(
                &run.join("results.json"),
                "/network",
                json!("resnet-\u{1b}[31m110"),
            );
        },
        "run/results.json: network is \"resnet-\\u{1b}[31m110\"",
    ),
];

/// A file of a terabyte without content.
fn sparse(path: &Path) {
    let file = fs::File::create(path).expect("a file");
    file.set_len(1 << 40).expect("a length");
}

#[test]
fn a_broken_run_folder_is_one_sentence() {
    for (index, (damage, expected)) in CASES.iter().enumerate() {
        let folder = tempfile::tempdir().expect("a folder");
        let run = folder.path().join("run");
        Sample::three_stages("resnet-32", 2, 0).write(&run);
        damage(&run);
        let output = ir(folder.path(), "report run --out report");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "case {index}: {said}");
        assert_eq!(said.lines().count(), 1, "case {index}: {said}");
        assert!(said.contains(expected), "case {index}: {said}");
        let is_plain = !said.trim_end().chars().any(char::is_control);
        assert!(is_plain, "case {index}: {said:?}");
        assert!(!folder.path().join("report").exists(), "case {index}");
    }
}

/// All files below a folder, relative to it.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => folders.push(path),
                false => {
                    let path = path.strip_prefix(folder).expect("below it");
                    found.insert(path.to_path_buf());
                }
            }
        }
    }
    found
}

#[test]
fn no_name_in_a_file_becomes_part_of_a_path() {
    let folder = tempfile::tempdir().expect("a folder");
    let inner = folder.path().join("a/b/c");
    let run = inner.join("run");
    Sample::three_stages("resnet-32", 2, 0).write(&run);
    for (file, pointer) in [
        ("run.json", "/model"),
        ("run.json", "/dataset"),
        ("results.json", "/network"),
        ("results.json", "/dataset"),
    ] {
        edit(&run.join(file), pointer, json!("../../evil<script>"));
    }
    let network = json!({ "name": "../../evil", "classes": 10, "stem_channels": 2, "head_pooling": 32,
        "stages": [{ "blocks": 1, "channels": 2 }] });
    fs::write(inner.join("evil.json"), network.to_string()).expect("a file");
    well(&inner, "report run --out report");
    well(&inner, "init evil.json --out network");
    well(
        &inner,
        "data synthesize --train-samples 20 --test-samples 10 --out images",
    );
    well(
        &inner,
        "train evil.json --data images --batch-size 10 --epochs 1 --schedule 0:0.05 --out trained",
    );
    let outside: Vec<PathBuf> = files(folder.path())
        .into_iter()
        .filter(|path| !path.starts_with("a/b/c"))
        .collect();
    assert_eq!(outside, Vec::<PathBuf>::new());
    let evil: Vec<PathBuf> = files(&inner)
        .into_iter()
        .filter(|path| path.to_string_lossy().contains("evil") && path != Path::new("evil.json"))
        .collect();
    assert_eq!(evil, Vec::<PathBuf>::new());
    let page = fs::read_to_string(inner.join("report/report.html")).expect("a page");
    assert!(page.contains("evil&lt;script&gt;") && !page.contains("evil<script>"));
}

#[test]
fn other_data_than_the_network_was_trained_on_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let network = json!({ "name": "tiny", "classes": 10, "stem_channels": 2, "head_pooling": 32,
        "stages": [{ "blocks": 1, "channels": 2 }] });
    fs::write(folder.join("tiny.json"), network.to_string()).expect("a file");
    for (name, seed) in [("images", 0), ("others", 1)] {
        let draw = format!(
            "data synthesize --train-samples 20 --test-samples 10 --seed {seed} --out {name}"
        );
        well(folder, &draw);
    }
    well(
        folder,
        "train tiny.json --data images --batch-size 10 --epochs 1 --schedule 0:0.05 --out run",
    );
    let analyze = "analyze run/checkpoint.safetensors --measures ratio --data";
    let said = well(folder, &format!("{analyze} images"));
    assert!(!said.contains("warning"), "{said}");
    let said = well(folder, &format!("{analyze} others"));
    assert!(
        said.contains("warning: the network was trained on synthetic10 (sha256 train "),
        "{said}"
    );
}
