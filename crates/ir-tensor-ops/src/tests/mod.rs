//! Tests of every operation, on every instruction set of the machine.
//!
//! - `oracle.rs` computes each operation and its gradients naively in f64, and beside each
//!   number the bound that rounding in f32 must keep; `finite_differences.rs` checks the
//!   oracle's gradients against its values.
//! - `winograd.rs` has the bound of the Winograd convolutions.
//! - `convolution.rs`, `norm.rs` and `layers.rs` compare the operations with the oracle.
//! - `activation.rs` compares operations on activations with those on tensors, `threads.rs`
//!   the bits on pools of different sizes, `instruction_sets.rs` those on different instruction sets, `errors.rs` tries wrong arguments, `per_sample.rs`
//!   the per-sample reductions.

mod activation;
mod convolution;
mod errors;
mod finite_differences;
mod instruction_sets;
mod layers;
mod norm;
mod oracle;
mod per_sample;
mod threads;
mod winograd;

use candle_core::{Device, Tensor};
use rand::Rng;

use crate::random;

/// Uniform numbers in [−1, 1); `purpose` keeps the arguments of one test apart.
fn uniform(shape: &[usize], purpose: u64) -> Tensor {
    let mut stream = random::stream(7, 0, shape.iter().sum::<usize>() as u64, purpose);
    let count = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|_| stream.random_range(-1f32..1.)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// The numbers of a tensor.
fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}
