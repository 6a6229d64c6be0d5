//! Our own convolutions and cuDNN's, measured on the shapes of a network for CIFAR-10 in batches of 128.
#![allow(clippy::print_stdout, reason = "it prints a table")]

use ir_tensor_ops::gpu::{Convolution, CudnnConvolution, Gpu, Precision};

/// Inputs, side of x, outputs, kernel and stride.
const SHAPES: [[usize; 5]; 6] = [
    [3, 32, 16, 3, 1],
    [16, 32, 16, 3, 1],
    [16, 32, 32, 3, 2],
    [32, 16, 32, 3, 1],
    [32, 16, 64, 3, 2],
    [64, 8, 64, 3, 1],
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let gpu = Gpu::open(0)?;
    println!("{}: microseconds, our own / cuDNN", gpu.name());
    for precision in [Precision::F32, Precision::Bf16] {
        for [inputs, side, outputs, kernel, stride] in SHAPES {
            let (x, padding) = ([128, inputs, side, side], kernel / 2);
            let own = Convolution::new(x, outputs, kernel, stride, padding, precision)?;
            let cudnn =
                CudnnConvolution::new(&gpu, x, outputs, kernel, stride, padding, precision)?;
            let [forward, of_x, of_weight] = cudnn.compare(&own, 200)?.map(|seconds| {
                let [own, cudnn] = [seconds.own, seconds.cudnn].map(|seconds| seconds * 1e6);
                format!("{own:7.1} / {cudnn:7.1}")
            });
            println!(
                "{} {inputs:2} x {side:2}² -> {outputs:2}, stride {stride}: forward {forward}, gradient of x {of_x}, \
                 gradient of the weight {of_weight}",
                precision.name()
            );
        }
    }
    Ok(())
}
