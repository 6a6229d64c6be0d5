//! `ir report` on run folders made from formulas.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

mod common;
use common::Sample;

/// A fresh folder of a test, kept after it so that one can look at what was drawn.
fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("report")
        .join(test);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn report(runs: &[&Path], out: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ir"))
        .arg("report")
        .args(runs)
        .arg("--out")
        .arg(out)
        .output()
        .expect("ir starts")
}

#[test]
fn two_seeds_and_another_network() {
    let folder = folder("two-seeds");
    let runs = ["a", "b", "c"].map(|name| folder.join(name));
    Sample::three_stages("resnet-32", 5, 1).write(&runs[0]);
    Sample::three_stages("resnet-32", 5, 2).write(&runs[1]);
    Sample::one_stage("single-representation", 10, 1).write(&runs[2]);
    let out = folder.join("out");
    let output = report(&[&runs[0], &runs[1], &runs[2]], &out);
    assert!(output.status.success(), "{output:?}");
}
