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

/// The gradient of each sample's own loss, at the logits or further back, as a direction and a length.
///
/// ∂loss_n/∂logits_n = softmax(logits_n) − onehot(label_n) is as small as the other classes are improbable: beside a
/// logit that is larger by 100 it leaves f32's range, while where it points is as well defined as ever. So what is sent back
/// through a network is the gradient divided by the largest probability of another class, which is of the order of 1, and that
/// probability is what lengths are multiplied by in the end.
pub(crate) struct LossGradient {
    /// The gradients over their scales, `[N, …]`.
    pub(crate) direction: Tensor,
    /// What each sample's has to be multiplied by.
    pub(crate) scales: Vec<f64>,
}

impl LossGradient {
    /// ∂loss/∂logits, in the dtype of the logits and where they are.
    pub(crate) fn at_logits(logits: &Tensor, batch: &Batch) -> Result<Self> {
        let on_the_host = logits.to_device(&Device::Cpu)?;
        let mut rows = on_the_host.to_dtype(DType::F64)?.to_vec2::<f64>()?;
        let rows_and_labels = rows.iter_mut().zip(&batch.label_values);
        let scales = rows_and_labels
            .map(|(row, &label)| direct(row, label as usize))
            .collect();
        let (samples, classes) = logits.dims2()?;
        let direction = Tensor::from_vec(rows.concat(), (samples, classes), &Device::Cpu)?;
        let direction = direction
            .to_dtype(logits.dtype())?
            .to_device(logits.device())?;
        Ok(Self { direction, scales })
    }
}

/// Makes of a row of logits the gradient over its scale, which it returns.
///
/// The entry of the label is not taken as p − 1 but as −Σ of the other probabilities: of a well-trained network many
/// samples have p within rounding of 1, where p − 1 is noise and with it the direction of every gradient behind it.
fn direct(row: &mut [f64], label: usize) -> f64 {
    let largest = |row: &[f64]| row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let of_label = std::mem::replace(&mut row[label], f64::NEG_INFINITY);
    let largest_other = largest(row);
    if largest_other == f64::NEG_INFINITY {
        // No other class is possible at all.
        row.fill(0.0);
        return 0.0;
    }
    if of_label.is_nan() || of_label == f64::INFINITY {
        row.fill(f64::NAN);
        return f64::NAN;
    }
    for logit in row.iter_mut() {
        *logit = (*logit - largest_other).exp();
    }
    // 1 + what the classes beside that one add.
    let others: f64 = row.iter().sum();
    row[label] = -others;
    1.0 / (others + (of_label - largest_other).exp())
}
