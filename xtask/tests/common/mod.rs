//! `cargo xtask reproduce --profile smoke` on a few synthetic images, and what it comes to.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

/// The program under test.
pub(crate) const XTASK: &str = env!("CARGO_BIN_EXE_xtask");

/// The runs of the smoke profile.
pub(crate) const RUNS: [&str; 2] = [
    "resnet-32-cifar10-seed0",
    "single-representation-small-cifar10-seed0",
];

/// The `ir` beside this test, which a test of the whole workspace has built; else it is built now.
pub(crate) fn ir() -> PathBuf {
    let ir = Path::new(XTASK).with_file_name(format!("ir{}", std::env::consts::EXE_SUFFIX));
    if !ir.exists() {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--package", "ir-cli"])
            .status();
        assert!(built.unwrap().success());
    }
    ir
}

/// As many images as the smoke profile needs, in a folder of their own: to draw all 60,000 takes longer
/// than to train on these.
pub(crate) fn images(ir: &Path) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut draw = Command::new(ir);
    draw.args([
        "data",
        "synthesize",
        "--train-samples",
        "256",
        "--test-samples",
        "256",
        "--out",
    ]);
    let drawn = draw.arg(folder.path().join("images")).output().unwrap();
    assert!(drawn.status.success(), "{drawn:?}");
    folder
}

/// The smoke profile on these images into this folder.
pub(crate) fn smoke(ir: &Path, images: &TempDir, out: &Path) -> Command {
    let mut command = Command::new(XTASK);
    command
        .args(["reproduce", "--profile", "smoke", "--ir"])
        .arg(ir);
    command.arg("--data").arg(images.path().join("images"));
    command.arg("--out").arg(out);
    command
}

/// All that a plan has come to in a folder: checkpoints to the byte; results, history and description
/// but for seconds, the number of threads and the folder's own name.
pub(crate) fn outcome(out: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for run in RUNS {
        let folder = out.join("runs").join(run);
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        let mut keep = |name: &str, content| found.insert(format!("{run}/{name}"), content);
        for name in ["checkpoint.safetensors", "best.safetensors"] {
            keep(name, read(name));
        }
        for name in ["results.json", "run.json", "history.jsonl"] {
            let text = String::from_utf8(read(name)).unwrap();
            let text = text.replace(out.to_str().unwrap(), "OUT");
            let values = serde_json::Deserializer::from_str(&text).into_iter();
            let values: Vec<Value> = values.map(|v| without_circumstances(v.unwrap())).collect();
            keep(name, serde_json::to_vec_pretty(&values).unwrap());
        }
    }
    assert!(out.join("report/report.html").exists());
    found
}

/// A document without what tells how it came about and not what it says.
fn without_circumstances(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            let kept = object
                .into_iter()
                .filter(|(key, _)| key != "seconds" && key != "threads");
            kept.map(|(key, value)| match key.as_str() {
                "command" => (key, Value::Array(before_flags_of_the_way(value))),
                _ => (key, without_circumstances(value)),
            })
            .collect()
        }
        Value::Array(values) => values.into_iter().map(without_circumstances).collect(),
        value => value,
    }
}

/// A command up to `--resume` and `--threads`, which come last.
fn before_flags_of_the_way(command: Value) -> Vec<Value> {
    let words = command.as_array().cloned().unwrap_or_default();
    let is_word = |word: &Value| word != "--resume" && word != "--threads";
    words.into_iter().take_while(is_word).collect()
}

/// Fails where two outcomes differ, with the name of the file.
pub(crate) fn assert_same(found: &BTreeMap<String, Vec<u8>>, expected: &BTreeMap<String, Vec<u8>>) {
    let names = |outcome: &BTreeMap<String, Vec<u8>>| outcome.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(expected));
    for (name, content) in found {
        assert!(*content == expected[name], "{name} differs");
    }
}

/// The files below a folder that a killed process has left half written.
pub(crate) fn unfinished(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(unfinished(&path));
        } else if path.to_string_lossy().contains(".unfinished-") {
            found.push(path);
        }
    }
    found
}
