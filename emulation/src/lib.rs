//! What the tests of the GPU's way share: emulated devices, and how results are compared.

use candle_core::{Device, Tensor};
use ir_tensor_ops::{gpu::Gpu, random};
use rand::Rng;

/// The GPU of this machine, in place of the emulated ones.
///
/// # Panics
/// If there is none: a test that was built for a GPU and passes without one would say nothing.
#[cfg(feature = "cuda")]
pub fn gpus() -> Vec<Gpu> {
    match Gpu::open(0) {
        Ok(gpu) => vec![gpu],
        Err(error) => panic!("built to test a GPU, and none can be used: {error}"),
    }
}

/// The emulated devices, whose threads take turns in opposite orders; the first looks for races. Where `IR_PTX` names a file
/// that CUDA's compiler made of the kernels, one that runs that file instead. Empty, with a line on stderr, where there was no C++
/// compiler: the tests then have nothing to run on.
///
/// # Panics
/// If there is no such file, or nothing that can be run.
#[cfg(not(feature = "cuda"))]
#[allow(clippy::print_stderr, reason = "a test that cannot run says so")]
pub fn gpus() -> Vec<Gpu> {
    if let Some(path) = std::env::var_os("IR_PTX") {
        let ptx = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        return vec![Gpu::interpreted(&ptx).unwrap_or_else(|error| panic!("{error}"))];
    }
    let found = [Gpu::emulated(), Gpu::emulated_in_reverse()];
    let found: Vec<Gpu> = found.into_iter().filter_map(Result::ok).collect();
    if found.is_empty() {
        eprintln!("skipped: no C++ compiler, and so no emulated GPU");
    }
    found
}

/// Numbers from −1 to 1, the same every time for a shape and a seed.
///
/// # Errors
/// Candle's.
pub fn uniform(shape: &[usize], seed: u64) -> candle_core::Result<Tensor> {
    let mut stream = random::stream(seed, 0, 0, 0);
    let count = shape.iter().product();
    let values: Vec<f32> = std::iter::repeat_with(|| stream.random_range(-1f32..1.))
        .take(count)
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// ‖x − y‖ / ‖y‖, and infinity where it is not defined.
pub fn distance(x: &Tensor, y: &Tensor) -> f64 {
    let [x, y] = [x, y].map(|tensor| {
        let values = tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>());
        values.unwrap_or_default()
    });
    if x.len() != y.len() || y.is_empty() {
        return f64::INFINITY;
    }
    let square = |value: f64| value * value;
    let apart: f64 = x
        .iter()
        .zip(&y)
        .map(|(&x, &y)| square(f64::from(x) - f64::from(y)))
        .sum();
    let size: f64 = y.iter().map(|&y| square(f64::from(y))).sum();
    let distance = (apart / size).sqrt();
    if distance.is_nan() {
        f64::INFINITY
    } else {
        distance
    }
}
