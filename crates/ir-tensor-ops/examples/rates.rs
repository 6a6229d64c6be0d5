//! Prints the time and the rate of the convolution kernels on shapes of the paper's networks:
//! `cargo run --release -p ir-tensor-ops --example rates`.
//!
//! The best of 20 runs each; GFLOP/s counts two operations per multiply-add of the direct
//! algorithm. `RAYON_NUM_THREADS` sets the number of threads.

use std::cell::RefCell;
use std::time::Instant;

use candle_core::{Device, Tensor};
use ir_tensor_ops::explicit::Wanted;
use ir_tensor_ops::{Activation, ChannelStatistics, Conv2d, Norm, Result, Workspace, together};

/// Batch, channels, height and width.
const SHAPES: [[usize; 3]; 5] = [
    [128, 16, 32],
    [128, 32, 16],
    [128, 64, 8],
    [32, 100, 32],
    [32, 150, 16],
];

fn main() -> Result<()> {
    together(all)
}

fn all() -> Result<()> {
    for [batch, channels, size] in SHAPES {
        let cpu = &Device::Cpu;
        let tensor = &Tensor::randn(0f32, 1., (batch, channels, size, size), cpu)?;
        let weight = &Tensor::randn(0f32, 0.1, (channels, channels, 3, 3), cpu)?;
        let bias = &Tensor::randn(0f32, 0.1, channels, cpu)?;
        let norm = &Norm::batch(&ChannelStatistics::of(tensor)?, bias, bias, 1e-5)?;
        let operations = 2 * 9 * channels * channels * size * size * batch;
        let workspace = Workspace::default();
        let x = &Activation::from_tensor(&workspace, tensor)?;
        let layer = Conv2d {
            weight,
            bias,
            stride: 1,
            padding: 1,
        };
        let gradient = RefCell::new(Activation::from_tensor(&workspace, tensor)?.into());
        let backward = |x_wanted, weight| {
            let wanted = Wanted {
                x: x_wanted,
                weight,
            };
            x.conv2d_backward(layer, &mut gradient.borrow_mut(), wanted)
                .map(drop)
        };
        let show = |name: &str, run: &dyn Fn() -> Result<()>| -> Result<()> {
            let seconds = best(run)?;
            let rate = operations as f64 / seconds / 1e9;
            report(&format!(
                "{channels:3} channels {size:2}x{size:<2} batch {batch:3} {name:16} \
                 {:7.2} ms {rate:5.0} GFLOP/s",
                seconds * 1e3
            ));
            Ok(())
        };
        show("forward", &|| x.conv2d(layer).map(drop))?;
        show("input gradient", &|| backward(true, false))?;
        show("weight gradient", &|| backward(false, true))?;
        show("fused forward", &|| {
            x.norm_relu_conv2d(norm, layer, Some(x)).map(drop)
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
