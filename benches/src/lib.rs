//! What the benchmarks share: inputs that are the same in every run.

use candle_core::{Device, Result, Shape, Tensor};
use ir_tensor_ops::random;
use rand::Rng;

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
