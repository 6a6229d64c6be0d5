//! Our side of `cargo xtask bench --curves`: trains, and hands on the batches it trains on.
//!
//! The first line on stdin is a JSON document, [`Task`]; it is answered by one line with the number of steps. Every further
//! line asks for a step and is answered by its loss before the step (f64), its labels (u32 `[N]`)
//! and its images (f32 `[N, 3, 32, 32]`), little endian.

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::PathBuf;

use ir_benches::Failure;
use ir_data::{Batch, BatchOptions, Dataset, Loader, Locations};
use ir_models::{
    Architecture, Checkpoint, DataDescription, ResNet, Schedule, Sgd, Trainer, TrainingSettings,
};
use serde::Deserialize;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What is trained on what.
#[derive(Deserialize)]
struct Task {
    network: String,
    /// A data set by name, as `ir train --data` takes it.
    data: String,
    /// Of the weights, of the order of the images and of their augmentation.
    seed: u64,
    batch: usize,
    learning_rate: f64,
    threads: usize,
    /// Where the weights before the first step are written.
    weights: PathBuf,
}

fn main() -> std::result::Result<(), Failure> {
    let mut lines = std::io::stdin().lock().lines();
    let line = lines.next().ok_or("no task on stdin")??;
    let task: Task = serde_json::from_str(&line)?;
    rayon::ThreadPoolBuilder::new()
        .num_threads(task.threads)
        .build_global()?;
    let dataset = Dataset::open(&task.data, &Locations::from_env())?;
    let options = BatchOptions::training(task.batch, task.seed, dataset.normalization());
    let loader = Loader::new(dataset.train().clone(), options)?;
    let classes = dataset.classes().len();
    let mut trainer = untrained(&task, classes)?;

    let mut output = std::io::stdout().lock();
    writeln!(output, "{{\"steps\":{}}}", loader.batches())?;
    output.flush()?;
    for (request, batch) in lines.zip(loader.epoch(0)) {
        request?;
        let batch = batch?;
        let report = trainer.step(&batch.images, &batch.labels)?;
        output.write_all(&record(report.loss, &batch)?)?;
        output.flush()?;
    }
    Ok(())
}

/// Training from rest; writes the weights.
fn untrained(task: &Task, classes: usize) -> Result<Trainer> {
    let network = ResNet::initialize(&Architecture::named(&task.network, classes)?, task.seed)?;
    Checkpoint::save_network(&task.weights, &network, &DataDescription::default())?;
    let settings = TrainingSettings {
        schedule: Schedule::constant(task.learning_rate),
        sgd: Sgd::default(),
    };
    Ok(Trainer::new(network, settings)?)
}

/// What is handed on of a step.
fn record(loss: f64, batch: &Batch) -> Result<Vec<u8>> {
    let mut bytes = loss.to_le_bytes().to_vec();
    for label in batch.labels.to_vec1::<u32>()? {
        bytes.extend(label.to_le_bytes());
    }
    for value in batch.images.flatten_all()?.to_vec1::<f32>()? {
        bytes.extend(value.to_le_bytes());
    }
    Ok(bytes)
}
