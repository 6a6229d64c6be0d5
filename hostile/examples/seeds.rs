//! Writes the seed corpus of every fuzz target into a folder, one folder a target.

use std::fs;
use std::path::Path;

use ir_hostile::{TARGETS, seeds};

#[path = "../../crates/ir-cli/tests/common/mod.rs"]
mod common;
use common::Sample;

fn main() -> std::io::Result<()> {
    let out = std::env::args_os().nth(1).unwrap_or("fuzz/corpus".into());
    let runs = [
        Sample::three_stages("resnet-32", 2, 0),
        Sample::one_stage("single-representation", 3, 1),
    ];
    let mut corpus = TARGETS.map(|(name, _)| (name, seeds::of(name))).to_vec();
    corpus.push(("run_folder", runs.iter().map(Sample::bytes).collect()));
    for (name, seeds) in corpus {
        let folder = Path::new(&out).join(name);
        fs::create_dir_all(&folder)?;
        for (index, seed) in seeds.into_iter().enumerate() {
            fs::write(folder.join(format!("seed-{index}")), seed)?;
        }
    }
    Ok(())
}
