//! Cross-entropy of class labels.

use candle_core::{Device, Tensor};

use crate::dispatch::on_gpu;
use crate::error::Result;
use crate::input::{self, Input, Output};
use crate::parallel;
use crate::per_sample;

/// The mean over the batch of −ln softmax(logits)\[label\], in nats; a scalar.
///
/// # Shapes
/// logits `[N, K]` f32, labels `[N]` u32. Each sample is computed in f64.
///
/// # Errors
/// `Label` if a label is K or more; `Shape`, `DType` or `Device` for the tensors.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use ir_tensor_ops::explicit;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let logits = Tensor::new(&[[0f32, 0.]], &Device::Cpu)?;
/// let labels = Tensor::new(&[1u32], &Device::Cpu)?;
/// let loss = explicit::cross_entropy(&logits, &labels)?;
/// assert_eq!(loss.to_scalar::<f32>()?, std::f32::consts::LN_2);
/// # Ok(())
/// # }
/// ```
pub fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    cross_entropy_output(logits, labels)?.tensor()
}

/// [`cross_entropy`], not yet a tensor.
pub(crate) fn cross_entropy_output(logits: &Tensor, labels: &Tensor) -> Result<Output> {
    const OP: &str = "cross_entropy";
    on_gpu!(logits, classifier::cross_entropy(OP, logits, labels));
    let losses = per_sample::cross_entropy_of(OP, logits, labels)?;
    let mean = losses.iter().sum::<f64>() / losses.len() as f64;
    Ok(Output::new(vec![mean as f32], ()))
}

/// The gradient of [`cross_entropy`] with respect to the logits `[N, K]`:
/// (softmax(logits) − one-hot(label)) / N.
///
/// # Errors
/// As [`cross_entropy`].
///
/// ```
/// use candle_core::{Device, Tensor};
/// use ir_tensor_ops::explicit;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let logits = Tensor::new(&[[0f32, 0.]], &Device::Cpu)?;
/// let labels = Tensor::new(&[1u32], &Device::Cpu)?;
/// let gradient = explicit::cross_entropy_backward(&logits, &labels)?;
/// assert_eq!(gradient.to_vec2::<f32>()?, [[0.5, -0.5]]);
/// # Ok(())
/// # }
/// ```
pub fn cross_entropy_backward(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    const OP: &str = "cross_entropy_backward";
    let [batch, classes] = input::dims(OP, "logits", logits, "[N, K]")?;
    on_gpu!(
        logits,
        classifier::cross_entropy_backward(OP, logits, labels, [batch, classes])
    );
    let labels = input::labels(OP, labels, &Device::Cpu, batch, classes)?;
    let logits = Input::new(OP, "logits", logits)?;
    let logits = logits.values();
    let logits: &[f32] = &logits;
    let gradient = parallel::pieces(batch * classes, classes, |sample, gradient| {
        let probabilities = per_sample::softmax(&logits[sample * classes..][..classes]);
        for (class, (g, p)) in gradient.iter_mut().zip(probabilities).enumerate() {
            let target = f64::from(u8::from(class == labels[sample] as usize));
            *g = ((p - target) / batch as f64) as f32;
        }
    });
    input::output(gradient, &[batch, classes])
}
