//! One value per sample of a batch.

use candle_core::Tensor;

use super::{Buffer, Call, Gpu};
use crate::error::Result;
use crate::input;
use crate::per_sample::Inner;

/// The threads that share a sample: as in `per_sample.cuh`.
const SAMPLE_THREADS: u32 = 512;

/// ⟨x, y⟩, ‖x‖² and ‖y‖² of every sample; x and y have one shape, `size` numbers per sample.
pub(crate) fn inner(
    gpu: &Gpu,
    op: &'static str,
    x: &Tensor,
    y: &Tensor,
    size: usize,
) -> Result<Vec<Inner>> {
    let call = Call::new(gpu, op, x);
    let y = call.shaped("y", y, x.dims())?;
    let x = call.numbers("x", x)?;
    let samples = x.len() / size;
    let found = Buffer::<f64>::new(gpu, 3 * samples)?;
    let arguments = [
        (&x).into(),
        (&y).into(),
        (&found).into(),
        (size as i32).into(),
    ];
    let (grid, block) = ([samples as u32, 1, 1], [SAMPLE_THREADS, 1, 1]);
    // SAFETY: x and y have `size` numbers for each block, and there is room for three sums of each.
    unsafe { gpu.launch("inner_products".into(), grid, block, 0, arguments)? };
    let found = found.to_vec()?;
    let (samples, _) = found.as_chunks::<3>();
    let inner = |&[dot, x_squared, y_squared]: &[f64; 3]| Inner {
        dot,
        x_squared,
        y_squared,
    };
    Ok(samples.iter().map(inner).collect())
}

/// ‖x‖² of every sample of `size` numbers.
pub(crate) fn squared_norm(
    gpu: &Gpu,
    op: &'static str,
    x: &Tensor,
    size: usize,
) -> Result<Vec<f64>> {
    let found = inner(gpu, op, x, x, size)?;
    Ok(found.iter().map(|inner| inner.x_squared).collect())
}

/// What is asked of a row of logits: as in `per_sample.cuh`.
#[derive(Clone, Copy)]
enum Measure {
    Entropy,
    CrossEntropy,
    ProbabilityMargin,
    Correct,
}

/// −Σ_k p_k ln p_k of every row of logits.
pub(crate) fn entropy(gpu: &Gpu, op: &'static str, logits: &Tensor) -> Result<Vec<f64>> {
    let call = Call::new(gpu, op, logits);
    of_rows(&call, logits, None, Measure::Entropy)?.to_vec()
}

/// −ln p_label of every row of logits.
pub(crate) fn cross_entropy(
    gpu: &Gpu,
    op: &'static str,
    logits: &Tensor,
    labels: &Tensor,
) -> Result<Vec<f64>> {
    let call = Call::new(gpu, op, logits);
    losses(&call, logits, labels)?.to_vec()
}

/// p_label − max over the other classes of p, of every row of logits.
pub(crate) fn probability_margin(
    gpu: &Gpu,
    op: &'static str,
    logits: &Tensor,
    labels: &Tensor,
) -> Result<Vec<f64>> {
    let call = Call::new(gpu, op, logits);
    of_rows(&call, logits, Some(labels), Measure::ProbabilityMargin)?.to_vec()
}

/// Whether the label's logit is the largest, for every row.
pub(crate) fn correct(
    gpu: &Gpu,
    op: &'static str,
    logits: &Tensor,
    labels: &Tensor,
) -> Result<Vec<bool>> {
    let call = Call::new(gpu, op, logits);
    let found = of_rows(&call, logits, Some(labels), Measure::Correct)?.to_vec()?;
    Ok(found.into_iter().map(|correct| correct > 0.).collect())
}

/// [`cross_entropy`], still on the GPU.
pub(super) fn losses(call: &Call<'_>, logits: &Tensor, labels: &Tensor) -> Result<Buffer<f64>> {
    of_rows(call, logits, Some(labels), Measure::CrossEntropy)
}

fn of_rows(
    call: &Call<'_>,
    logits: &Tensor,
    labels: Option<&Tensor>,
    measure: Measure,
) -> Result<Buffer<f64>> {
    let [rows, classes] = input::dims(call.op, "logits", logits, "[N, K]")?;
    let labels = labels
        .map(|labels| call.labels(labels, rows, classes))
        .transpose()?;
    let logits = call.numbers("logits", logits)?;
    let found = Buffer::new(call.gpu, rows)?;
    let arguments = [
        (&logits).into(),
        labels.as_ref().into(),
        (&found).into(),
        (rows as i32).into(),
        (classes as i32).into(),
        (measure as i32).into(),
    ];
    // SAFETY: the logits have as many rows and classes, there is room for a number of each row, and a label, which
    // is a class, wherever the measure asks for one.
    unsafe {
        call.gpu.launch_each(rows, "of_rows".into(), arguments)?;
    }
    Ok(found)
}
