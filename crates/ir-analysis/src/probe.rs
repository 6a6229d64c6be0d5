//! Reading values and gradients inside a network, whatever its dtype and device.

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use ir_tensor_ops::per_sample::{self, Inner};
use ir_tensor_ops::{Tap, computes_on, tap};

use crate::error::Result;

/// A place at which the gradient of a later loss can be read.
pub(crate) enum Probe {
    /// On the way of the gradient itself.
    Tap(Tap),
    /// A zero that was added there: ∂L/∂zero is the gradient. For what a tap does not read.
    Zero(Var),
}

impl Probe {
    /// x with a probe on it: use the returned tensor in its place.
    pub(crate) fn on(x: &Tensor) -> Result<(Tensor, Self)> {
        if is_ours(x) {
            let (x, tap) = tap(x)?;
            return Ok((x, Self::Tap(tap)));
        }
        let zero = Var::zeros(x.shape(), x.dtype(), x.device())?;
        Ok(((x + zero.as_tensor())?, Self::Zero(zero)))
    }

    /// The gradient of the backward pass that filled `gradients`; `None` if it did not come by.
    pub(crate) fn gradient(&self, gradients: &GradStore) -> Option<Tensor> {
        match self {
            Self::Tap(tap) => tap.gradient(),
            Self::Zero(zero) => gradients.get(zero).cloned(),
        }
    }
}

/// Whether the operations of ir-tensor-ops take a tensor as it is.
pub(crate) fn is_ours(x: &Tensor) -> bool {
    x.dtype() == DType::F32 && computes_on(x.device())
}

/// A tensor that the per-sample reductions read: the same where they can, else a copy on the host.
pub(crate) fn readable(x: &Tensor) -> Result<Tensor> {
    match is_ours(x) {
        true => Ok(x.clone()),
        false => on_the_host(x),
    }
}

/// A tensor in f32 on the host, where labels are.
pub(crate) fn on_the_host(x: &Tensor) -> Result<Tensor> {
    Ok(x.to_device(&Device::Cpu)?.to_dtype(DType::F32)?)
}

/// ‖x_n‖ of each sample.
pub(crate) fn norms(x: &Tensor) -> Result<Vec<f64>> {
    let squared = per_sample::squared_norm(&readable(x)?)?;
    Ok(squared.into_iter().map(f64::sqrt).collect())
}

/// Each sample times its factor, which is rounded to the dtype of x.
pub(crate) fn scale_samples(x: &Tensor, factors: &[f64]) -> Result<Tensor> {
    let mut shape = vec![1; x.rank()];
    shape[0] = factors.len();
    let factors = Tensor::from_slice(factors, shape, &Device::Cpu)?;
    let factors = factors.to_dtype(x.dtype())?.to_device(x.device())?;
    Ok(x.broadcast_mul(&factors)?)
}

/// ⟨x_n, y_n⟩ and both norms of each sample.
pub(crate) fn inner(x: &Tensor, y: &Tensor) -> Result<Vec<Inner>> {
    Ok(per_sample::inner(&readable(x)?, &readable(y)?)?)
}
