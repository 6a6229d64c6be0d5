//! One value per sample of a batch, accumulated in f64.
//!
//! The first dimension of every tensor is the batch; what follows is one vector per sample.
//! Tensors are f32, of any strides, on the CPU or (feature `cuda`) on an NVIDIA GPU. The order of
//! each sample's sum depends on its size alone, so the values depend neither on the number of
//! threads nor on the rest of the batch. Probabilities are softmax(logits).
//!
//! Errors are those of [`Error`](crate::Error): `Shape`, `DType`, `Device`, and `Label` for a
//! label that is not the index of a logit.

use candle_core::{Device, Tensor};

use crate::arch::{self, Kernel, Vector};
use crate::dispatch::on_gpu;
use crate::error::Result;
use crate::input::{self, Input};
use crate::parallel;

/// The inner products of two vectors x and y.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Inner {
    /// ⟨x, y⟩.
    pub dot: f64,
    /// ‖x‖².
    pub x_squared: f64,
    /// ‖y‖².
    pub y_squared: f64,
}

impl Inner {
    /// ⟨x, y⟩ / (‖x‖ ‖y‖), at most 1 in size; `None` if a norm is 0 or anything is not finite.
    ///
    /// ```
    /// use ir_tensor_ops::per_sample::Inner;
    ///
    /// let right_angle = Inner { dot: 0., x_squared: 2., y_squared: 3. };
    /// assert_eq!(right_angle.cosine(), Some(0.));
    /// assert_eq!(Inner::default().cosine(), None);
    /// ```
    pub fn cosine(&self) -> Option<f64> {
        let norms = self.x_squared.sqrt() * self.y_squared.sqrt();
        let usable = self.dot.is_finite() && norms.is_finite() && norms > 0.;
        usable.then(|| (self.dot / norms).clamp(-1., 1.))
    }
}

/// ‖x‖² of every sample of x `[N, …]`.
///
/// # Errors
/// `Shape`, `DType` or `Device` if x is not such a tensor.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[3f32, 4.], [1., 0.]], &Device::Cpu)?;
/// assert_eq!(ir_tensor_ops::per_sample::squared_norm(&x)?, [25., 1.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn squared_norm(x: &Tensor) -> Result<Vec<f64>> {
    const OP: &str = "squared_norm";
    let size = sample_size(OP, "x", x)?;
    on_gpu!(x, per_sample::squared_norm(OP, x, size));
    let x = Input::new(OP, "x", x)?;
    let x = x.values();
    let x: &[f32] = &x;
    Ok(parallel::map(x.len() / size, |sample| {
        let x = &x[sample * size..][..size];
        arch::run(Product { x, y: x })
    }))
}

/// ⟨x, y⟩, ‖x‖² and ‖y‖² of every sample of x and y, both `[N, …]` of one shape.
///
/// # Errors
/// `Shape`, `DType` or `Device` if x and y are not such tensors.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[3f32, 4.]], &Device::Cpu)?;
/// let y = Tensor::new(&[[1f32, 1.]], &Device::Cpu)?;
/// let inner = ir_tensor_ops::per_sample::inner(&x, &y)?[0];
/// assert_eq!((inner.dot, inner.x_squared, inner.y_squared), (7., 25., 2.));
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn inner(x: &Tensor, y: &Tensor) -> Result<Vec<Inner>> {
    inner_of("inner", x, y)
}

/// ⟨x, y⟩ of every sample of x and y, both `[N, …]` of one shape.
///
/// # Errors
/// As [`inner`].
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[3f32, 4.]], &Device::Cpu)?;
/// assert_eq!(ir_tensor_ops::per_sample::dot(&x, &x)?, [25.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn dot(x: &Tensor, y: &Tensor) -> Result<Vec<f64>> {
    let inner = inner_of("dot", x, y)?;
    Ok(inner.iter().map(|inner| inner.dot).collect())
}

/// The cosine of the angle between x and y, for every sample; see [`Inner::cosine`] for when
/// there is none.
///
/// # Errors
/// As [`inner`].
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[1f32, 0.], [0., 0.]], &Device::Cpu)?;
/// let y = Tensor::new(&[[-2f32, 0.], [1., 0.]], &Device::Cpu)?;
/// assert_eq!(ir_tensor_ops::per_sample::cosine(&x, &y)?, [Some(-1.), None]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn cosine(x: &Tensor, y: &Tensor) -> Result<Vec<Option<f64>>> {
    let inner = inner_of("cosine", x, y)?;
    Ok(inner.iter().map(Inner::cosine).collect())
}

/// −Σ_k p_k ln p_k of every sample's probabilities, in nats; logits `[N, K]`.
///
/// # Errors
/// `Shape`, `DType` or `Device` if logits is not such a tensor.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let logits = Tensor::new(&[[0f32, 0.], [200., 0.]], &Device::Cpu)?;
/// let entropy = ir_tensor_ops::per_sample::entropy(&logits)?;
/// assert!((entropy[0] - 2f64.ln()).abs() < 1e-15 && entropy[1] < 1e-15);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn entropy(logits: &Tensor) -> Result<Vec<f64>> {
    const OP: &str = "entropy";
    on_gpu!(logits, per_sample::entropy(OP, logits));
    each_row(OP, logits, |row| {
        let plogp = softmax(row)
            .into_iter()
            .filter(|&p| p != 0.)
            .map(|p| p * p.ln());
        0. - plogp.sum::<f64>()
    })
}

/// −ln p_label of every sample, in nats; logits `[N, K]`, labels `[N]` u32.
///
/// # Errors
/// `Label` if a label is K or more; `Shape`, `DType` or `Device` for the tensors.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let logits = Tensor::new(&[[0f32, 0.]], &Device::Cpu)?;
/// let labels = Tensor::new(&[0u32], &Device::Cpu)?;
/// let losses = ir_tensor_ops::per_sample::cross_entropy(&logits, &labels)?;
/// assert!((losses[0] - 2f64.ln()).abs() < 1e-15);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Vec<f64>> {
    cross_entropy_of("per_sample::cross_entropy", logits, labels)
}

/// p_label − max over the other classes of p, for every sample: positive where the prediction
/// is correct, near 0 where it is undecided. With one class it is p_label = 1.
///
/// # Errors
/// As [`cross_entropy`].
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let logits = Tensor::new(&[[0f32, 3f32.ln()]], &Device::Cpu)?;
/// let labels = Tensor::new(&[0u32], &Device::Cpu)?;
/// let margins = ir_tensor_ops::per_sample::probability_margin(&logits, &labels)?;
/// assert!((margins[0] + 0.5).abs() < 1e-6);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn probability_margin(logits: &Tensor, labels: &Tensor) -> Result<Vec<f64>> {
    const OP: &str = "probability_margin";
    on_gpu!(logits, per_sample::probability_margin(OP, logits, labels));
    each_labelled_row(OP, logits, labels, |row, label| {
        let probabilities = softmax(row);
        let others = probabilities.iter().enumerate();
        let best_other = others
            .filter(|&(class, _)| class != label)
            .fold(0., |best: f64, (_, &p)| best.max(p));
        probabilities[label] - best_other
    })
}

/// Whether the largest logit is the label's, for every sample; of equal logits the first
/// counts as the largest. A row with a NaN is never correct.
///
/// # Errors
/// As [`cross_entropy`].
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let logits = Tensor::new(&[[1f32, 1.], [1., 1.]], &Device::Cpu)?;
/// let labels = Tensor::new(&[0u32, 1], &Device::Cpu)?;
/// assert_eq!(ir_tensor_ops::per_sample::correct(&logits, &labels)?, [true, false]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn correct(logits: &Tensor, labels: &Tensor) -> Result<Vec<bool>> {
    const OP: &str = "correct";
    on_gpu!(logits, per_sample::correct(OP, logits, labels));
    each_labelled_row(OP, logits, labels, |row, label| {
        row[..label].iter().all(|&logit| logit < row[label])
            && row[label..].iter().all(|&logit| logit <= row[label])
    })
}

pub(crate) fn cross_entropy_of(
    op: &'static str,
    logits: &Tensor,
    labels: &Tensor,
) -> Result<Vec<f64>> {
    on_gpu!(logits, per_sample::cross_entropy(op, logits, labels));
    each_labelled_row(op, logits, labels, |row, label| {
        let (largest, sum) = exponential_sum(row);
        sum.ln() - (f64::from(row[label]) - largest)
    })
}

/// softmax of one row, in f64.
pub(crate) fn softmax(row: &[f32]) -> Vec<f64> {
    let (largest, sum) = exponential_sum(row);
    row.iter()
        .map(|&logit| (f64::from(logit) - largest).exp() / sum)
        .collect()
}

/// m = max of the row, and Σ exp(x − m), which neither overflows nor vanishes.
fn exponential_sum(row: &[f32]) -> (f64, f64) {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let largest = f64::from(largest);
    let sum = row.iter().map(|&logit| (f64::from(logit) - largest).exp());
    (largest, sum.sum())
}

fn inner_of(op: &'static str, x: &Tensor, y: &Tensor) -> Result<Vec<Inner>> {
    let size = sample_size(op, "x", x)?;
    on_gpu!(x, per_sample::inner(op, x, y, size));
    let y = Input::shaped(op, "y", y, x.dims())?;
    let x = Input::new(op, "x", x)?;
    let (x, y) = (x.values(), y.values());
    let (x, y): (&[f32], &[f32]) = (&x, &y);
    Ok(parallel::map(x.len() / size, |sample| {
        let (x, y) = (&x[sample * size..][..size], &y[sample * size..][..size]);
        Inner {
            dot: arch::run(Product { x, y }),
            x_squared: arch::run(Product { x, y: x }),
            y_squared: arch::run(Product { x: y, y }),
        }
    }))
}

/// Σ xᵢ yᵢ in f64, in 32 interleaved chains that the CPU can overlap.
struct Product<'a> {
    x: &'a [f32],
    y: &'a [f32],
}

impl Kernel for Product<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<V: Vector>(self, _vector: V) -> f64 {
        const CHAINS: usize = 32;
        let ((xs, x_rest), (ys, y_rest)) =
            (self.x.as_chunks::<CHAINS>(), self.y.as_chunks::<CHAINS>());
        let mut chains = [0f64; CHAINS];
        for (x, y) in xs.iter().zip(ys) {
            for lane in 0..CHAINS {
                chains[lane] += f64::from(x[lane]) * f64::from(y[lane]);
            }
        }
        for (lane, (&x, &y)) in x_rest.iter().zip(y_rest).enumerate() {
            chains[lane] += f64::from(x) * f64::from(y);
        }
        let mut total = 0.;
        for chain in chains {
            total += chain;
        }
        total
    }
}

/// The number of values per sample.
fn sample_size(op: &'static str, argument: &'static str, x: &Tensor) -> Result<usize> {
    match x.dims() {
        [batch, rest @ ..] if *batch > 0 && !rest.contains(&0) => Ok(rest.iter().product()),
        _ => Err(input::wrong_shape(
            op,
            argument,
            x,
            "[N, …], no dimension 0".into(),
        )),
    }
}

fn each_row<T>(op: &'static str, logits: &Tensor, value: impl Fn(&[f32]) -> T) -> Result<Vec<T>> {
    let [_, classes] = input::dims(op, "logits", logits, "[N, K]")?;
    let logits = Input::new(op, "logits", logits)?;
    Ok(logits.values().chunks(classes).map(value).collect())
}

fn each_labelled_row<T>(
    op: &'static str,
    logits: &Tensor,
    labels: &Tensor,
    value: impl Fn(&[f32], usize) -> T,
) -> Result<Vec<T>> {
    let [batch, classes] = input::dims(op, "logits", logits, "[N, K]")?;
    let labels = input::labels(op, labels, &Device::Cpu, batch, classes)?;
    let logits = Input::new(op, "logits", logits)?;
    let logits = logits.values();
    let rows = logits.chunks(classes).zip(&labels);
    Ok(rows
        .map(|(row, &label)| value(row, label as usize))
        .collect())
}
