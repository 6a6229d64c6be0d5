//! What the benchmarks share: inputs that are the same in every run.

#[cfg(any(feature = "cuda", feature = "emulation"))]
pub mod compare;
mod failure;
pub mod gpu_roofline;
#[cfg(any(feature = "cuda", feature = "emulation"))]
pub mod gpu_run;
pub mod peak;
pub mod record;
pub mod roofline;
pub mod worker;

use candle_core::{Device, Result, Shape, Tensor};
pub use failure::Failure;
use ir_tensor_ops::random;
use rand::Rng;
use rand_distr::StandardNormal;

/// The networks and batches that are measured.
pub const SUBJECTS: [(&str, usize); 7] = [
    ("resnet-32", 128),
    ("resnet-38", 128),
    ("resnet-56", 128),
    ("resnet-110", 128),
    ("single-representation", 32),
    ("avg-pooling", 32),
    ("wide", 32),
];

/// A tensor of values uniform in [-1, 1), a function of the seed.
///
/// # Errors
/// Whatever Candle reports.
///
/// ```
/// let images = ir_benches::uniform(0, (2, 3, 32, 32))?;
/// assert_eq!(images.dims(), [2, 3, 32, 32]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn uniform(seed: u64, shape: impl Into<Shape>) -> Result<Tensor> {
    let shape = shape.into();
    let mut stream = random::stream(seed, 0, 0, 0);
    let values: Vec<f32> = (0..shape.elem_count())
        .map(|_| stream.random_range(-1.0..1.0))
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// Labels 0, 1, … of `classes` classes in turn, `[count]`.
///
/// # Errors
/// Whatever Candle reports.
///
/// ```
/// assert_eq!(ir_benches::labels(3, 2)?.to_vec1::<u32>()?, [0, 1, 0]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn labels(count: usize, classes: u32) -> Result<Tensor> {
    let labels: Vec<u32> = (0..classes).cycle().take(count).collect();
    Tensor::new(labels, &Device::Cpu)
}

/// A tensor of standard normal values, a function of the seed.
///
/// # Errors
/// Whatever Candle reports.
///
/// ```
/// let images = ir_benches::normal(0, (2, 3, 32, 32))?;
/// assert_eq!(images.dims(), [2, 3, 32, 32]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn normal(seed: u64, shape: impl Into<Shape>) -> Result<Tensor> {
    let shape = shape.into();
    let stream = random::stream(seed, 0, 0, 0);
    let values: Vec<f32> = stream
        .sample_iter(StandardNormal)
        .take(shape.elem_count())
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// The largest resident size that this process ever had, in MiB; `None` where the system
/// does not say.
///
/// ```
/// assert!(ir_benches::peak_memory_mib().is_none_or(|mib| mib > 1.0));
/// ```
pub fn peak_memory_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes / 1024.0)
}
