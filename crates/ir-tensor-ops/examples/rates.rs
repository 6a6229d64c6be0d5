//! Prints the time and the rate of the convolution kernels on shapes of the paper's networks:
//! `cargo run --release -p ir-tensor-ops --example rates`.
//!
//! The best of 20 runs each; GFLOP/s counts two operations per multiply-add of the direct
//! algorithm. `RAYON_NUM_THREADS` sets the number of threads.

use std::time::Instant;

use candle_core::{Device, Tensor};
use ir_tensor_ops::explicit::{self, Wanted};
use ir_tensor_ops::{ChannelStatistics, Norm, Result};

/// Batch, channels, height and width.
const SHAPES: [[usize; 3]; 5] = [
    [128, 16, 32],
    [128, 32, 16],
    [128, 64, 8],
    [32, 100, 32],
    [32, 150, 16],
];

fn main() -> Result<()> {
    for [batch, channels, size] in SHAPES {
        let cpu = &Device::Cpu;
        let x = &Tensor::randn(0f32, 1., (batch, channels, size, size), cpu)?;
        let weight = &Tensor::randn(0f32, 0.1, (channels, channels, 3, 3), cpu)?;
        let bias = &Tensor::randn(0f32, 0.1, channels, cpu)?;
        let norm = &Norm::batch(&ChannelStatistics::of(x)?, bias, bias, 1e-5)?;
        let operations = 2 * 9 * channels * channels * size * size * batch;
        let backward = |wanted| explicit::conv2d_backward(x, weight, 1, 1, x, wanted);
        let only = |x| Wanted { x, weight: !x };
        let show = |name: &str, multiple: usize, run: &dyn Fn() -> Result<()>| -> Result<()> {
            let seconds = best(run)?;
            let rate = (multiple * operations) as f64 / seconds / 1e9;
            report(&format!(
                "{channels:3} channels {size:2}x{size:<2} batch {batch:3} {name:16} \
                 {:7.2} ms {rate:5.0} GFLOP/s",
                seconds * 1e3
            ));
            Ok(())
        };
        show("forward", 1, &|| {
            explicit::conv2d(x, weight, None, 1, 1).map(drop)
        })?;
        show("input gradient", 1, &|| backward(only(true)).map(drop))?;
        show("weight gradient", 1, &|| backward(only(false)).map(drop))?;
        show("fused forward", 1, &|| {
            let residual = Some(x);
            explicit::norm_relu_conv2d_with_statistics(x, norm, weight, bias, 1, 1, residual)
                .map(drop)
        })?;
        show("fused backward", 2, &|| {
            explicit::norm_relu_conv2d_backward(x, norm, weight, 1, 1, x, Some(x)).map(drop)
        })?;
    }
    Ok(())
}

/// The shortest of 20 runs, in seconds.
fn best(run: &dyn Fn() -> Result<()>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..20 {
        let start = Instant::now();
        run()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}

#[expect(clippy::print_stdout, reason = "the output of the program")]
fn report(line: &str) {
    println!("{line}");
}
