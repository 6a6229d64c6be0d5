//! Our side of `cargo xtask bench`: one network, one step at a time, told line by line.
//!
//! Reads one JSON document a line and answers each with one line, as `benches/peers/pytorch.py`
//! does:
//!
//! ```text
//! {"network": "resnet-32", "batch": 128, "mode": "train", "threads": 4}
//!     what is measured; "network" is a name or an architecture
//! {"warm_up": 1, "steps": 3}
//!     runs so many steps untimed, then so many timed
//! ```
//!
//! Between two lines it sleeps: rayon's threads wait without turning.

use std::error::Error;
use std::io::{BufRead, Write};
use std::time::Instant;

use candle_core::Tensor;
use ir_benches::{labels, normal, peak_memory_mib};
use ir_models::{Architecture, ResNet, ResidualNetwork, Schedule, Sgd, Trainer, TrainingSettings};
use serde::{Deserialize, Serialize};

const CLASSES: usize = 10;

/// The first line.
#[derive(Deserialize)]
struct Task {
    network: Network,
    batch: usize,
    mode: Mode,
    threads: usize,
}

/// A network of the paper by name, or any other.
#[derive(Deserialize)]
#[serde(untagged)]
enum Network {
    Named(String),
    Described(Architecture),
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum Mode {
    Train,
    Evaluate,
}

/// The answer to the first line.
#[derive(Serialize)]
struct Ready {
    version: &'static str,
    instruction_set: &'static str,
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
}

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    ir_tensor_ops::keep_freed_memory();
    let mut lines = std::io::stdin().lock().lines();
    let task = lines.next().ok_or("no task on stdin")??;
    let mut step = prepare(serde_json::from_str(&task)?)?;
    answer(&Ready {
        version: env!("CARGO_PKG_VERSION"),
        instruction_set: ir_tensor_ops::instruction_set(),
        peak_memory_mib: peak_memory_mib(),
    })?;
    for line in lines {
        answer(&measure(&mut step, &serde_json::from_str(&line?)?)?)?;
    }
    Ok(())
}

/// The step that a task asks for. The learning rate is so small that the loss stays finite
/// however often the batch is seen.
fn prepare(task: Task) -> Result<Box<dyn FnMut() -> Result<()>>> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(task.threads)
        .build_global()?;
    let architecture = match task.network {
        Network::Named(name) => Architecture::named(&name, CLASSES)?,
        Network::Described(architecture) => architecture,
    };
    let network = ResNet::initialize(&architecture, 0)?;
    let [channels, height, width] = architecture.image;
    let images = normal(1, (task.batch, channels, height, width))?;
    Ok(match task.mode {
        Mode::Train => training_step(network, images, labels(task.batch, CLASSES as u32)?)?,
        Mode::Evaluate => Box::new(move || {
            network.logits(&images)?;
            Ok(())
        }),
    })
}

fn training_step(
    network: ResNet,
    images: Tensor,
    labels: Tensor,
) -> Result<Box<dyn FnMut() -> Result<()>>> {
    let settings = TrainingSettings {
        schedule: Schedule::constant(1e-6),
        sgd: Sgd::default(),
    };
    let mut trainer = Trainer::new(network, settings)?;
    Ok(Box::new(move || {
        trainer.step(&images, &labels)?;
        Ok(())
    }))
}

/// Milliseconds of each timed step.
fn measure(step: &mut impl FnMut() -> Result<()>, request: &Request) -> Result<Answer> {
    for _ in 0..request.warm_up {
        step()?;
    }
    let mut timed = || -> Result<f64> {
        let start = Instant::now();
        step()?;
        Ok(1e3 * start.elapsed().as_secs_f64())
    };
    let milliseconds = (0..request.steps).map(|_| timed()).collect::<Result<_>>()?;
    Ok(Answer {
        milliseconds,
        peak_memory_mib: peak_memory_mib(),
    })
}

fn answer(document: &impl Serialize) -> Result<()> {
    let mut output = std::io::stdout().lock();
    serde_json::to_writer(&mut output, document)?;
    output.write_all(b"\n")?;
    Ok(output.flush()?)
}
