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
//!
//! A run is an epoch as `ir train` has it: it begins with the order of the samples on its way to the device, every step
//! takes its images from those that lie there, and it ends when the host knows what the last step came to.

#![allow(clippy::print_stdout, reason = "it prints a table")]

use std::ops::ControlFlow;
use std::time::Instant;

use ir_benches::compare::{Differences, compare};
use ir_benches::worker::{Result, Steps, serve};
use ir_data::{BatchOptions, IMAGE, Loader, Normalization, Split};
use ir_models::{Architecture, ResNet, Schedule, Sgd, Trainer, TrainingSettings, gpu};
use ir_tensor_ops::gpu::{Gpu, Precision};
use ir_tensor_ops::random;
use rand::RngCore;
use serde::Deserialize;

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

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => serve_runs(),
        ["compare", network, batch, precision] => compare_passes(network, batch, precision),
        _ => Err("expected nothing, or: compare NETWORK BATCH f32|bf16".into()),
    }
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
        Run::new(&gpu, &task)
    })
}

/// A training on images without order.
struct Run {
    trainer: gpu::Trainer,
    images: Loader,
}

impl Run {
    fn new(gpu: &Gpu, task: &Task) -> Result<Self> {
        let samples = task.batch * task.steps;
        let mut bytes = vec![0; samples * IMAGE];
        random::stream(1, 0, 0, 0).fill_bytes(&mut bytes);
        let labels = (0..samples).map(|sample| (sample % CLASSES) as u8);
        let split = Split::new(bytes, labels.collect())?;
        let normalization = Normalization {
            mean: [0.5; 3],
            std: [0.25; 3],
        };
        let options = BatchOptions::training(task.batch, 0, normalization);
        let images = Loader::new(split, options)?;
        let network = ResNet::initialize(&Architecture::named(&task.network, CLASSES)?, 0)?;
        // So small a rate that the loss stays finite however often a batch is seen.
        let settings = TrainingSettings {
            schedule: Schedule::constant(1e-6),
            sgd: Sgd::default(),
        };
        let trainer = Trainer::new(network, settings)?;
        let resident = gpu::TrainingImages {
            images: images.resident_images(gpu)?,
            order: images.resident_order(gpu)?,
            samples: images.samples(),
            batch_size: task.batch,
        };
        let precision = match task.precision {
            Type::F32 => Precision::F32,
            Type::Bf16 => Precision::Bf16,
        };
        let trainer = gpu::Trainer::new(gpu, trainer, resident, precision)?;
        Ok(Self { trainer, images })
    }
}

impl Steps for Run {
    fn instruction_set(&self) -> String {
        self.trainer.gpu().name()
    }

    fn step(&mut self) -> Result<f64> {
        let start = Instant::now();
        let epoch = self.trainer.position().epoch;
        let (samples, changes) = self.images.resident_epoch(epoch as u64);
        let finished = self
            .trainer
            .epoch(&samples, &changes, |_| ControlFlow::Continue(()))?;
        finished.ok_or("the epoch did not end")?;
        Ok(1e3 * start.elapsed().as_secs_f64() / self.images.batches() as f64)
    }

    fn kernels(&self) -> Result<Vec<(String, f64)>> {
        let kernels = self.trainer.step_times()?.into_iter();
        Ok(kernels
            .map(|time| (time.kernel, time.milliseconds))
            .collect())
    }
}
