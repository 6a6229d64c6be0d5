//! How many images a second does each of the paper's networks evaluate, and how many does it
//! train on?
//!
//! `forward` is the evaluation of a batch (running statistics, no gradients); `training-step` is
//! one optimiser step on it: forward with batch statistics, all gradients, momentum, update.
//! Time per element is time per image.

use std::hint::black_box;
use std::time::Duration;

use candle_core::Tensor;
use criterion::{
    BenchmarkGroup, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
    measurement::WallTime,
};
use ir_benches::{labels, uniform};
use ir_models::{Architecture, ResNet, ResidualNetwork, Schedule, Sgd, Trainer, TrainingSettings};

const CLASSES: u32 = 10;

/// The networks, and a batch that each gets through within a few seconds on four cores.
const NETWORKS: [(&str, usize); 7] = [
    ("resnet-32", 128),
    ("resnet-38", 128),
    ("resnet-56", 128),
    ("resnet-110", 128),
    ("single-representation", 32),
    ("avg-pooling", 16),
    ("wide", 8),
];

fn networks(criterion: &mut Criterion) {
    for (name, batch) in NETWORKS {
        let mut group = criterion.benchmark_group(format!("{name}/batch-{batch}"));
        group
            .throughput(Throughput::Elements(batch as u64))
            .sampling_mode(SamplingMode::Flat)
            .sample_size(10)
            .warm_up_time(Duration::from_secs(1))
            .measurement_time(Duration::from_secs(5));
        let images = uniform(1, (batch, 3, 32, 32)).expect("a batch fits in memory");
        let labels = labels(batch, CLASSES).expect("a batch fits in memory");
        let network = Architecture::named(name, CLASSES as usize)
            .and_then(|architecture| ResNet::initialize(&architecture, 0))
            .expect("a network of the paper can be built");
        forward(&mut group, &network, &images);
        training_step(&mut group, network, &images, &labels);
        group.finish();
    }
}

fn forward(group: &mut BenchmarkGroup<'_, WallTime>, network: &ResNet, images: &Tensor) {
    group.bench_function("forward", |bencher| {
        bencher.iter(|| network.logits(black_box(images)).expect("shapes fit"));
    });
}

/// The learning rate is so small that the loss stays finite however long the benchmark runs.
fn training_step(
    group: &mut BenchmarkGroup<'_, WallTime>,
    network: ResNet,
    images: &Tensor,
    labels: &Tensor,
) {
    let settings = TrainingSettings {
        schedule: Schedule::constant(1e-6),
        sgd: Sgd::default(),
    };
    let mut trainer = Trainer::new(network, settings).expect("a network can be trained");
    group.bench_function("training-step", |bencher| {
        bencher.iter(|| {
            trainer
                .step(black_box(images), labels)
                .expect("the loss is finite")
        });
    });
}

criterion_group!(benches, networks);
criterion_main!(benches);
