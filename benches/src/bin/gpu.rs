//! Our side of `cargo xtask bench --device cuda`: one network trained on a GPU, told line by line
//! ([`ir_benches::worker`]).
//!
//! ```text
//! {"network": "resnet-110", "batch": 128, "steps": 32, "precision": "bf16", "timed": false}
//!     what is measured: runs of so many steps, with or without the time of each kernel
//! ```
//!
//! What the protocol calls a step is a run: answered are the milliseconds of a step, the mean over each run, and the kernels of
//! the last step with their times.
//!
//! Called as `gpu compare NETWORK BATCH f32|bf16`, it takes one training pass there and one on the CPU instead and prints how far they are
//! apart ([`ir_benches::compare`]); too far is an error.

#![allow(clippy::print_stdout, reason = "it prints a table")]

use ir_benches::Failure;
use ir_benches::compare::{Differences, compare};
use ir_benches::gpu_run::Run;
use ir_benches::worker::{Result, serve};
use ir_models::Architecture;
use ir_tensor_ops::gpu::{Gpu, Precision};
use serde::Deserialize;

/// Of the networks that are compared.
const CLASSES: usize = 10;

/// The first line.
#[derive(Deserialize)]
struct Task {
    network: String,
    batch: usize,
    steps: usize,
    precision: Type,
    timed: bool,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum Type {
    F32,
    Bf16,
}

fn main() -> std::result::Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => serve_runs()?,
        ["compare", network, batch, precision] => compare_passes(network, batch, precision)?,
        _ => return Err("expected nothing, or: compare NETWORK BATCH f32|bf16".into()),
    }
    Ok(())
}

fn compare_passes(network: &str, batch: &str, precision: &str) -> Result<()> {
    let precision = match precision {
        "f32" => Precision::F32,
        "bf16" => Precision::Bf16,
        other => return Err(format!("{other} is no precision, expected f32 or bf16").into()),
    };
    let architecture = Architecture::named(network, CLASSES)?;
    let found = compare(&Gpu::open(0)?, &architecture, batch.parse()?, precision)?;
    println!("{}\n{}", Differences::HEADER, found.row());
    match found.exceeded()[..] {
        [] => Ok(()),
        ref exceeded => Err(exceeded.join("; ").into()),
    }
}

fn serve_runs() -> Result<()> {
    serve(|task: Task| {
        let gpu = Gpu::open(0)?;
        gpu.time_recordings(task.timed);
        let precision = match task.precision {
            Type::F32 => Precision::F32,
            Type::Bf16 => Precision::Bf16,
        };
        Run::new(&gpu, &task.network, task.batch, task.steps, precision)
    })
}
