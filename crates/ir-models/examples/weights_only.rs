//! Takes the network out of the checkpoint of a training run, half as large without the velocities:
//!
//! ```text
//! cargo run --release --package ir-models --example weights_only -- RUN/checkpoint.safetensors resnet-32.safetensors
//! ```

use std::path::Path;

use ir_models::Checkpoint;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, to] = arguments.as_slice() else {
        return Err("expected two paths: a checkpoint, and the file to write".into());
    };
    let checkpoint = Checkpoint::open(Path::new(from))?;
    Checkpoint::save_network(Path::new(to), &checkpoint.network()?, checkpoint.data())?;
    Ok(())
}
