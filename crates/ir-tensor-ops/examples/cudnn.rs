//! Our own convolutions and cuDNN's, measured on the shapes of a network for CIFAR-10 in batches of 128.
#![allow(clippy::print_stdout, reason = "it prints a table")]

use ir_tensor_ops::gpu::{Convolution, CudnnConvolution, Gpu, Precision};
use ir_tensor_ops::{Error, Result};

/// Inputs, side of x, outputs, kernel and stride.
const SHAPES: [[usize; 5]; 6] = [
    [3, 32, 16, 3, 1],
    [16, 32, 16, 3, 1],
    [16, 32, 32, 3, 2],
    [32, 16, 32, 3, 1],
    [32, 16, 64, 3, 2],
    [64, 8, 64, 3, 1],
];

/// Launches between two synchronisations, of which the mean is taken: one of a few microseconds would be the host's time.
const CALLS: usize = 200;

fn main() -> Result<()> {
    let gpu = Gpu::open(0)?;
    println!("{}: microseconds, our own / cuDNN", gpu.name());
    for precision in [Precision::F32, Precision::Bf16] {
        for shape in SHAPES {
            let [inputs, side, outputs, _, stride] = shape;
            let found = match compare(&gpu, shape, precision) {
                // cuDNN has no algorithm for every shape; the next may have one.
                Err(Error::Gpu { action, reason }) if action.starts_with("cuDNN") => {
                    format!("none: {action}: {reason}")
                }
                found => found?,
            };
            let precision = precision.name();
            println!("{precision} {inputs:2} x {side:2}² -> {outputs:2}, stride {stride}: {found}");
        }
    }
    Ok(())
}

fn compare(gpu: &Gpu, shape: [usize; 5], precision: Precision) -> Result<String> {
    let [inputs, side, outputs, kernel, stride] = shape;
    let (x, padding) = ([128, inputs, side, side], kernel / 2);
    let own = Convolution::new(x, outputs, kernel, stride, padding, precision)?;
    let cudnn = CudnnConvolution::new(gpu, x, outputs, kernel, stride, padding, precision)?;
    let [forward, of_x, of_weight] = cudnn.compare(&own, CALLS)?.map(|seconds| {
        let [own, cudnn] = [seconds.own, seconds.cudnn].map(|seconds| seconds * 1e6);
        format!("{own:7.1} / {cudnn:7.1}")
    });
    Ok(format!(
        "forward {forward}, gradient of x {of_x}, gradient of the weight {of_weight}"
    ))
}
