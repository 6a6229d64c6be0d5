//! Training gives the same checkpoint, to the bit, on 1, 2, 3 and 4 threads.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use candle_core::{Device, Tensor};
use ir_models::{
    Architecture, Checkpoint, DataDescription, ResNet, Schedule, Sgd, Trainer, TrainingSettings,
};
use ir_tensor_ops::random;
use rand::Rng;

/// Convolutions of every kind: 3×3 by the Winograd and by the direct algorithm, stride 2, 1×1; sizes
/// that fill no vector and no tile; a shared block, whose gradients are sums over its steps.
const MIXED: &str = r#"{
    "name": "mixed", "classes": 10, "image": [3, 32, 32], "stem_channels": 16,
    "stages": [
        { "blocks": 2, "channels": 16 },
        { "blocks": 3, "channels": 20, "entrance": { "transition": { "stride": 2 } },
          "sharing": { "first": 1, "statistics": "step", "affine": "step", "initial_gamma": 0.1 } },
        { "blocks": 2, "channels": 36, "entrance": { "transition": { "stride": 2 } } }
    ]
}"#;

/// Average pooling between stages, and images of a size that halves to an odd one.
const POOLED: &str = r#"{
    "name": "pooled", "classes": 10, "image": [3, 30, 26], "stem_channels": 10,
    "stages": [
        { "blocks": 1, "channels": 10 },
        { "blocks": 2, "channels": 10, "entrance": "average_pooling" }
    ]
}"#;

/// Many channels on few positions, as in the last stage of the wide network.
const WIDE: &str = r#"{
    "name": "wide-stage", "classes": 10, "image": [3, 8, 8], "stem_channels": 320,
    "stages": [{ "blocks": 1, "channels": 320 }]
}"#;

/// The bytes of the checkpoint after `steps` steps on `threads` threads.
fn trained(folder: &Path, architecture: &str, batch: usize, steps: u64, threads: usize) -> Vec<u8> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap();
    let path = folder.join(format!("{threads}.safetensors"));
    pool.install(|| {
        assert_eq!(rayon::current_num_threads(), threads);
        let architecture = Architecture::from_json(architecture).unwrap();
        let settings = TrainingSettings {
            schedule: Schedule::constant(0.05),
            sgd: Sgd::default(),
        };
        let network = ResNet::initialize(&architecture, 1).unwrap();
        let mut trainer = Trainer::new(network, settings).unwrap();
        for step in 0..steps {
            let (images, labels) = drawn(step, batch, architecture.image);
            trainer.step(&images, &labels).unwrap();
        }
        let data = DataDescription::default();
        Checkpoint::save_training(&path, &trainer, &data, serde_json::Value::Null).unwrap();
    });
    std::fs::read(path).unwrap()
}

/// A batch of noise with labels, a function of the step.
fn drawn(step: u64, batch: usize, [channels, height, width]: [usize; 3]) -> (Tensor, Tensor) {
    let mut stream = random::stream(7, step, 0, 0);
    let count = batch * channels * height * width;
    let images: Vec<f32> = (0..count).map(|_| stream.random_range(-2.0..2.0)).collect();
    let labels: Vec<u32> = (0..batch).map(|_| stream.random_range(0..10)).collect();
    let shape = (batch, channels, height, width);
    (
        Tensor::from_vec(images, shape, &Device::Cpu).unwrap(),
        Tensor::from_vec(labels, batch, &Device::Cpu).unwrap(),
    )
}

/// Batches that no number of threads divides and that fill more than one slot of images.
fn assert_same_on_any_number_of_threads(architecture: &str, batch: usize, steps: u64) {
    let folder = tempfile::tempdir().unwrap();
    let one = trained(folder.path(), architecture, batch, steps, 1);
    for threads in 2..=4 {
        let many = trained(folder.path(), architecture, batch, steps, threads);
        assert!(
            one == many,
            "{threads} threads give another checkpoint than 1"
        );
    }
    let again = trained(folder.path(), architecture, batch, steps, 4);
    assert!(one == again, "a second run gives another checkpoint");
}

/// One after another: threads of several pools would wait for one another's cores.
#[test]
fn checkpoints_are_the_same_on_any_number_of_threads() {
    assert_same_on_any_number_of_threads(MIXED, 19, 20);
    assert_same_on_any_number_of_threads(POOLED, 37, 20);
    assert_same_on_any_number_of_threads(WIDE, 17, 3);
}
