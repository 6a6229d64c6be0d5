//! How near to the machine's limit is each operation, on the shapes that the networks are made of?
//!
//! Convolutions are 3×3, stride 1, as many channels out as in. Their elements are floating-point
//! operations, 2 · 9 · C² · H · W · N (a multiplication and an addition each), so that Gelem/s
//! reads as GFLOP/s; a backward pass with both gradients has twice as many. Batch norm does little
//! arithmetic and is bound by memory: its elements are the values of x.

use std::hint::black_box;
use std::time::Duration;

use candle_core::{Result, Tensor};
use criterion::{
    BenchmarkGroup, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
    measurement::WallTime,
};
use ir_benches::uniform;
use ir_tensor_ops::explicit::{self, Wanted};
use ir_tensor_ops::{ChannelStatistics, Norm};

/// Images in a batch, channels, height and width: the stages of resnet-32 and resnet-110, and
/// single-representation.
const SHAPES: [(usize, usize, usize); 4] =
    [(128, 16, 32), (128, 32, 16), (128, 64, 8), (32, 100, 32)];

const EPSILON: f64 = 1e-5;

/// What the operations on one shape read.
struct Inputs {
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    gamma: Tensor,
    norm: Norm,
    grad_output: Tensor,
}

impl Inputs {
    fn new((batch, channels, side): (usize, usize, usize)) -> Result<Self> {
        let x = uniform(1, (batch, channels, side, side))?;
        let gamma = uniform(2, channels)?;
        let norm = Norm::batch(&ChannelStatistics::of(&x)?, &gamma, &gamma, EPSILON)?;
        Ok(Self {
            x,
            weight: uniform(3, (channels, channels, 3, 3))?,
            bias: uniform(4, channels)?,
            gamma,
            norm,
            grad_output: uniform(5, (batch, channels, side, side))?,
        })
    }
}

fn operations(criterion: &mut Criterion) {
    for shape @ (batch, channels, side) in SHAPES {
        let inputs = Inputs::new(shape).expect("the shapes fit");
        let mut group = criterion.benchmark_group(format!("{batch}x{channels}x{side}x{side}"));
        group
            .sampling_mode(SamplingMode::Flat)
            .sample_size(20)
            .warm_up_time(Duration::from_millis(500))
            .measurement_time(Duration::from_secs(2));
        let values = (batch * channels * side * side) as u64;
        let operations = 2 * 9 * channels as u64 * values;
        convolution(&mut group, &inputs, operations);
        fused(&mut group, &inputs, operations);
        batch_norm(&mut group, &inputs, values);
        group.finish();
    }
}

fn bench(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    elements: u64,
    mut operation: impl FnMut() -> ir_tensor_ops::Result<()>,
) {
    group.throughput(Throughput::Elements(elements));
    group.bench_function(name, |bencher| {
        bencher.iter(|| operation().expect("the shapes fit"));
    });
}

fn convolution(group: &mut BenchmarkGroup<'_, WallTime>, inputs: &Inputs, operations: u64) {
    let Inputs {
        x,
        weight,
        bias,
        grad_output,
        ..
    } = inputs;
    bench(group, "conv2d/forward", operations, || {
        black_box(explicit::conv2d(x, weight, Some(bias), 1, 1)?);
        Ok(())
    });
    let backward = |wanted| {
        black_box(explicit::conv2d_backward(
            x,
            weight,
            1,
            1,
            grad_output,
            wanted,
        )?);
        Ok(())
    };
    let (input, both) = (
        Wanted {
            x: true,
            weight: false,
        },
        Wanted {
            x: true,
            weight: true,
        },
    );
    let weight_only = Wanted {
        x: false,
        weight: true,
    };
    bench(group, "conv2d/backward-input", operations, || {
        backward(input)
    });
    bench(group, "conv2d/backward-weight", operations, || {
        backward(weight_only)
    });
    bench(group, "conv2d/backward", 2 * operations, || backward(both));
}

/// BN-ReLU-Conv3×3 with a residual, half a block of the networks.
fn fused(group: &mut BenchmarkGroup<'_, WallTime>, inputs: &Inputs, operations: u64) {
    let Inputs {
        x,
        weight,
        bias,
        norm,
        grad_output,
        ..
    } = inputs;
    bench(group, "norm-relu-conv2d/forward", operations, || {
        let residual = Some(grad_output);
        black_box(explicit::norm_relu_conv2d_with_statistics(
            x, norm, weight, bias, 1, 1, residual,
        )?);
        Ok(())
    });
    bench(group, "norm-relu-conv2d/backward", 2 * operations, || {
        let residual = Some(grad_output);
        black_box(explicit::norm_relu_conv2d_backward(
            x,
            norm,
            weight,
            1,
            1,
            grad_output,
            residual,
        )?);
        Ok(())
    });
}

/// Batch norm and ReLU with the statistics of the batch.
fn batch_norm(group: &mut BenchmarkGroup<'_, WallTime>, inputs: &Inputs, values: u64) {
    let Inputs {
        x,
        gamma,
        norm,
        grad_output,
        ..
    } = inputs;
    bench(group, "norm-relu/forward", values, || {
        let norm = Norm::batch(&ChannelStatistics::of(x)?, gamma, gamma, EPSILON)?;
        black_box(explicit::norm_relu(x, &norm)?);
        Ok(())
    });
    bench(group, "norm-relu/backward", values, || {
        black_box(explicit::norm_relu_backward(x, norm, grad_output)?);
        Ok(())
    });
}

criterion_group!(benches, operations);
criterion_main!(benches);
