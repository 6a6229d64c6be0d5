//! Our side of `cargo xtask bench --device cuda`: one network trained on a GPU, told line by line.
//!
//! Reads one JSON document a line and answers each with one line, as `benches/peers/pytorch_gpu.py` does:
//!
//! ```text
//! {"network": "resnet-110", "batch": 128, "steps": 32, "precision": "bf16", "timed": false}
//!     what is measured: runs of so many steps, with or without the time of each kernel
//! {"warm_up": 1, "steps": 3}
//!     makes so many runs untimed, then so many timed; answered by the milliseconds of a step, the mean over each run,
//!     and the kernels of the last step with their times
//! ```
//!
//! A run is an epoch as `ir train` has it: it begins with the order of the samples on its way to the device, every step
//! takes its images from those that lie there, and it ends when the host knows what the last step came to.

use std::error::Error;
use std::io::{BufRead, Write};
use std::ops::ControlFlow;
use std::time::Instant;

use ir_benches::peak_memory_mib;
use ir_data::{BatchOptions, IMAGE, Loader, Normalization, Split};
use ir_models::{Architecture, ResNet, Schedule, Sgd, Trainer, TrainingSettings, gpu};
use ir_tensor_ops::gpu::{Gpu, Precision};
use ir_tensor_ops::random;
use rand::RngCore;
use serde::{Deserialize, Serialize};

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

/// The answer to the first line.
#[derive(Serialize)]
struct Ready {
    version: &'static str,
    instruction_set: String,
    peak_memory_mib: Option<f64>,
}

/// Every further line.
#[derive(Deserialize)]
struct Request {
    warm_up: usize,
    steps: usize,
}

#[derive(Serialize)]
struct Answer {
    milliseconds: Vec<f64>,
    peak_memory_mib: Option<f64>,
    /// Kernel and milliseconds, in order.
    kernels: Vec<(String, f64)>,
}

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let mut lines = std::io::stdin().lock().lines();
    let task: Task = serde_json::from_str(&lines.next().ok_or("no task on stdin")??)?;
    let gpu = Gpu::open(0)?;
    gpu.time_recordings(task.timed);
    let mut run = Run::new(&gpu, &task)?;
    answer(&Ready {
        version: env!("CARGO_PKG_VERSION"),
        instruction_set: gpu.name(),
        peak_memory_mib: peak_memory_mib(),
    })?;
    for line in lines {
        answer(&run.measure(&serde_json::from_str(&line?)?)?)?;
    }
    Ok(())
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

    /// Milliseconds of a step, the mean over one run.
    fn once(&mut self) -> Result<f64> {
        let start = Instant::now();
        let epoch = self.trainer.position().epoch;
        let (samples, changes) = self.images.resident_epoch(epoch as u64);
        let finished = self
            .trainer
            .epoch(&samples, &changes, |_| ControlFlow::Continue(()))?;
        finished.ok_or("the epoch did not end")?;
        Ok(1e3 * start.elapsed().as_secs_f64() / self.images.batches() as f64)
    }

    fn measure(&mut self, request: &Request) -> Result<Answer> {
        for _ in 0..request.warm_up {
            self.once()?;
        }
        let milliseconds = (0..request.steps)
            .map(|_| self.once())
            .collect::<Result<_>>()?;
        let kernels = self.trainer.step_times()?.into_iter();
        Ok(Answer {
            milliseconds,
            peak_memory_mib: peak_memory_mib(),
            kernels: kernels
                .map(|time| (time.kernel, time.milliseconds))
                .collect(),
        })
    }
}

fn answer(document: &impl Serialize) -> Result<()> {
    let mut output = std::io::stdout().lock();
    serde_json::to_writer(&mut output, document)?;
    output.write_all(b"\n")?;
    Ok(output.flush()?)
}
