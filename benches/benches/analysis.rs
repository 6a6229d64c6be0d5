//! What do the measures cost beside the passes that they cannot do without?
//!
//! - `forward-and-input-gradient`: the parts of the network in turn, and ∂L/∂h_0;
//! - `trace`: the same pass with every h_j, F_j and ∂L/∂h_j kept, and all measures of every
//!   block but the drops taken;
//! - `evaluation`: the plain way to the logits;
//! - `forward-and-drops`: a pass that keeps every h_j, and the network without each of its L blocks in turn.
//!
//! Time per element is time per image.

use std::hint::black_box;
use std::time::Duration;

use candle_core::Tensor;
use criterion::{
    BenchmarkGroup, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
    measurement::WallTime,
};
use ir_analysis::{Measure, Options, analyze_split};
use ir_benches::{labels, uniform};
use ir_models::{Architecture, ResNet, ResidualNetwork};

const NETWORKS: [(&str, usize); 2] = [("resnet-32", 128), ("resnet-110", 128)];

fn analysis(criterion: &mut Criterion) {
    ir_tensor_ops::keep_freed_memory();
    for (name, batch) in NETWORKS {
        let mut group = criterion.benchmark_group(format!("{name}/batch-{batch}"));
        group
            .throughput(Throughput::Elements(batch as u64))
            .sampling_mode(SamplingMode::Flat)
            .sample_size(10)
            .warm_up_time(Duration::from_secs(1))
            .measurement_time(Duration::from_secs(5));
        let images = uniform(1, (batch, 3, 32, 32)).expect("a batch fits in memory");
        let labels = labels(batch, 10).expect("a batch fits in memory");
        let network = Architecture::named(name, 10)
            .and_then(|architecture| ResNet::initialize(&architecture, 0))
            .expect("a network of the paper can be built");
        group.bench_function("forward-and-input-gradient", |bencher| {
            bencher.iter(|| {
                ir_tensor_ops::together(|| input_gradient(&network, black_box(&images), &labels))
            });
        });
        let measures = [
            Measure::Cosine,
            Measure::ExitCosine,
            Measure::Ratio,
            Measure::Exits,
            Measure::Taylor,
        ];
        measure(&mut group, "trace", &network, &images, &labels, &measures);
        group.bench_function("evaluation", |bencher| {
            bencher.iter(|| network.logits(black_box(&images)).expect("shapes fit"));
        });
        let measures = [Measure::Drop];
        measure(
            &mut group,
            "forward-and-drops",
            &network,
            &images,
            &labels,
            &measures,
        );
        group.finish();
    }
}

/// The gradient of each block in turn, by the network's explicit rules.
fn input_gradient(network: &ResNet, images: &Tensor, labels: &Tensor) -> Tensor {
    let mut h = vec![network.stem(images).expect("shapes fit")];
    for block in 0..network.blocks().len() {
        h.push(network.step(block, &h[block]).expect("shapes fit"));
    }
    let last = &h[network.blocks().len()];
    let logits = network.head(last).expect("shapes fit");
    let gradient = ir_tensor_ops::explicit::cross_entropy_backward(&logits, labels);
    let backward = network.block_backward().expect("it has explicit gradients");
    let gradient = backward.head_gradient(last, &gradient.expect("shapes fit"));
    let mut gradient = gradient.expect("shapes fit");
    for block in (0..network.blocks().len()).rev() {
        let found = backward.gradients(block, &h[block], &gradient);
        gradient = found.expect("shapes fit").h;
    }
    gradient
}

fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    network: &ResNet,
    images: &Tensor,
    labels: &Tensor,
    measures: &[Measure],
) {
    let options = Options {
        measures: measures.iter().copied().collect(),
        ..Options::default()
    };
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            let batch = Ok::<_, ir_analysis::Error>((images.clone(), labels.clone()));
            analyze_split(black_box(network), [batch], &options, &mut |_| ()).expect("it is sound")
        });
    });
}

criterion_group!(benches, analysis);
criterion_main!(benches);
