//! What the logits say about each sample, and how the loss depends on them.

use candle_core::{DType, Device, Tensor};
use ir_tensor_ops::per_sample;

use crate::batch::Batch;
use crate::error::Result;
use crate::probe::on_the_host;

/// Per sample of a batch, in order: what the head made of it.
pub(crate) struct Outcomes {
    /// Cross-entropy in nats.
    pub(crate) loss: Vec<f64>,
    /// Entropy of the predicted distribution in nats.
    pub(crate) entropy: Vec<f64>,
    /// p_correct − max_{other} p.
    pub(crate) margin: Vec<f64>,
    /// Whether the largest logit is the label's, the first of equals being the largest. Where the
    /// loss has overflowed nothing is correct: equal infinities are no prediction.
    pub(crate) correct: Vec<bool>,
}

impl Outcomes {
    pub(crate) fn new(logits: &Tensor, batch: &Batch) -> Result<Self> {
        batch.check_labels(logits.dim(1)?)?;
        let logits = &on_the_host(logits)?;
        let loss = per_sample::cross_entropy(logits, &batch.labels)?;
        let largest = per_sample::correct(logits, &batch.labels)?;
        let correct = largest
            .iter()
            .zip(&loss)
            .map(|(largest, loss)| *largest && loss.is_finite());
        Ok(Self {
            correct: correct.collect(),
            entropy: per_sample::entropy(logits)?,
            margin: per_sample::probability_margin(logits, &batch.labels)?,
            loss,
        })
    }
}

/// ∂loss_n/∂logits_n = softmax(logits_n) − onehot(label_n), `[N, classes]` in the logits' dtype,
/// for each sample's own loss.
///
/// The entry of the label is not taken as p − 1 but as −Σ of the other probabilities, and in f64:
/// of a well-trained network many samples have p within f32's rounding of 1, where p − 1 is
/// noise and with it the direction of every gradient behind it.
pub(crate) fn loss_gradient(logits: &Tensor, batch: &Batch) -> Result<Tensor> {
    let on_the_host = logits.to_device(&Device::Cpu)?;
    let mut rows = on_the_host.to_dtype(DType::F64)?.to_vec2::<f64>()?;
    for (row, &label) in rows.iter_mut().zip(&batch.label_values) {
        let label = label as usize;
        let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        for logit in row.iter_mut() {
            *logit = (*logit - largest).exp();
        }
        let total: f64 = row.iter().sum();
        let others: f64 = (0..row.len())
            .filter(|&class| class != label)
            .map(|class| row[class])
            .sum();
        row[label] = -others;
        for entry in row.iter_mut() {
            *entry /= total;
        }
    }
    let (samples, classes) = logits.dims2()?;
    let gradient = Tensor::from_vec(rows.concat(), (samples, classes), &Device::Cpu)?;
    Ok(gradient
        .to_dtype(logits.dtype())?
        .to_device(logits.device())?)
}
