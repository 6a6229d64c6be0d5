//! What is the same bits from run to run and on any number of threads, as docs/determinism.md says.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

/// A fresh folder with a few images and a small network in it.
fn place() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let network = json!({ "name": "tiny", "classes": 10, "stem_channels": 4,
        "stages": [{ "blocks": 2, "channels": 4 },
                   { "blocks": 2, "channels": 8, "entrance": { "transition": { "stride": 2 } } }] });
    fs::write(folder.path().join("tiny.json"), network.to_string()).expect("a file");
    ir(
        folder.path(),
        "data synthesize --train-samples 96 --test-samples 40 --out images",
    );
    folder
}

fn ir(folder: &Path, line: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_ir"))
        .current_dir(folder)
        .args(line.split_whitespace())
        .env("HOME", folder)
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .expect("ir starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ir {line}: {said}");
}

fn bytes(folder: &Path, name: &str) -> Vec<u8> {
    fs::read(folder.join(name)).expect(name)
}

const TRAIN: &str = "train tiny.json --data images --batch-size 16 --epochs 2 --schedule 0:0.05 \
                     --measure-samples 20";

/// The history without the times, which are the machine's.
fn history(folder: &Path, run: &str) -> Vec<Value> {
    let text = bytes(folder, &format!("{run}/history.jsonl"));
    let text = String::from_utf8(text).expect("UTF-8");
    let epoch = |line: &str| {
        let mut epoch: Value = serde_json::from_str(line).expect("JSON");
        epoch["seconds"] = Value::Null;
        epoch
    };
    text.lines().map(epoch).collect()
}

#[test]
fn training_is_the_same_again_and_on_any_number_of_threads() {
    let place = place();
    let folder = place.path();
    ir(folder, &format!("{TRAIN} --seed 5 --threads 1 --out run-1"));
    for threads in [1, 2, 3, 4] {
        let run = format!("again-{threads}");
        let train = format!("{TRAIN} --seed 5 --threads {threads} --out {run}");
        ir(folder, &train);
        let checkpoint = bytes(folder, &format!("{run}/checkpoint.safetensors"));
        let same = checkpoint == bytes(folder, "run-1/checkpoint.safetensors");
        assert!(same, "{threads} threads");
        let (found, expected) = (history(folder, &run), history(folder, "run-1"));
        assert_eq!(found, expected, "{threads} threads");
    }
    ir(folder, &format!("{TRAIN} --seed 6 --out other"));
    assert!(
        bytes(folder, "other/checkpoint.safetensors")
            != bytes(folder, "run-1/checkpoint.safetensors"),
        "another seed is another run"
    );
}

#[test]
fn an_analysis_is_the_same_on_any_number_of_threads_and_in_any_batches() {
    let place = place();
    let folder = place.path();
    ir(folder, &format!("{TRAIN} --out run"));
    let analyze =
        "analyze run/checkpoint.safetensors --data images --measures all --unroll-steps 3";
    let results = |threads: usize, batch: usize| {
        ir(
            folder,
            &format!("{analyze} --threads {threads} --batch-size {batch} --out results.json"),
        );
        let mut results: Value =
            serde_json::from_slice(&bytes(folder, "results.json")).expect("JSON");
        // The command line, the machine and the time.
        results["provenance"] = Value::Null;
        results
    };
    let alone = results(1, 40);
    for (threads, batch) in [(2, 40), (3, 40), (4, 40), (1, 7), (4, 1)] {
        let same = results(threads, batch) == alone;
        assert!(same, "{threads} threads, batches of {batch}");
    }
}
