//! Our side of `cargo xtask bench`: one network, one step at a time, told line by line ([`ir_benches::worker`]).
//!
//! ```text
//! {"network": "resnet-32", "batch": 128, "mode": "train", "threads": 4}
//!     what is measured; "network" is a name or an architecture
//! ```

use std::time::Instant;

use candle_core::Tensor;
use ir_benches::worker::{Result, Steps, serve};
use ir_benches::{Failure, labels, normal};
use ir_models::{Architecture, ResNet, ResidualNetwork, Schedule, Sgd, Trainer, TrainingSettings};
use serde::Deserialize;

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

fn main() -> std::result::Result<(), Failure> {
    ir_tensor_ops::keep_freed_memory();
    Ok(serve(prepare)?)
}

/// A step that is taken again and again.
struct Step(Box<dyn FnMut() -> Result<()>>);

impl Steps for Step {
    fn instruction_set(&self) -> String {
        ir_tensor_ops::instruction_set().into()
    }

    fn step(&mut self) -> Result<f64> {
        let start = Instant::now();
        (self.0)()?;
        Ok(1e3 * start.elapsed().as_secs_f64())
    }
}

/// The step that a task asks for. The learning rate is so small that the loss stays finite
/// however often the batch is seen.
fn prepare(task: Task) -> Result<Step> {
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
    match task.mode {
        Mode::Train => training_step(network, images, labels(task.batch, CLASSES as u32)?),
        Mode::Evaluate => Ok(Step(Box::new(move || {
            network.logits(&images)?;
            Ok(())
        }))),
    }
}

fn training_step(network: ResNet, images: Tensor, labels: Tensor) -> Result<Step> {
    let settings = TrainingSettings {
        schedule: Schedule::constant(1e-6),
        sgd: Sgd::default(),
    };
    let mut trainer = Trainer::new(network, settings)?;
    Ok(Step(Box::new(move || {
        trainer.step(&images, &labels)?;
        Ok(())
    })))
}
