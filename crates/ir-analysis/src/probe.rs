//! Reading values and gradients inside a network, whatever its dtype and device.

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use ir_tensor_ops::per_sample::{self, Inner};
use ir_tensor_ops::{Tap, tap};

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
        if x.dtype() == DType::F32 && x.device().is_cpu() {
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

/// Where and in which dtype the per-sample reductions read.
pub(crate) fn readable(x: &Tensor) -> Result<Tensor> {
    Ok(x.to_device(&Device::Cpu)?.to_dtype(DType::F32)?)
}

/// ‖x_n‖ of each sample.
pub(crate) fn norms(x: &Tensor) -> Result<Vec<f64>> {
    let squared = per_sample::squared_norm(&readable(x)?)?;
    Ok(squared.into_iter().map(f64::sqrt).collect())
}

/// ⟨x_n, y_n⟩ and both norms of each sample.
pub(crate) fn inner(x: &Tensor, y: &Tensor) -> Result<Vec<Inner>> {
    Ok(per_sample::inner(&readable(x)?, &readable(y)?)?)
}
