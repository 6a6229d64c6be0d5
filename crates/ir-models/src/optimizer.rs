//! Stochastic gradient descent with momentum and weight decay.

use candle_core::{CpuStorage, InplaceOp2, InplaceOp3, Layout, Storage, Tensor};
use ir_tensor_ops::for_each_piece;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::layout::Kind;

/// What weight decay covers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightDecayCovers {
    /// Weights of convolutions and of the classifier, not biases, γ and β.
    #[default]
    Weights,
    /// Every trainable tensor.
    Everything,
}

/// Stochastic gradient descent as PyTorch defines it:
///
/// ```text
/// v ← momentum · v + gradient + weight_decay · w        (v = 0 before the first step)
/// w ← w − learning_rate · v
/// ```
///
/// The paper trains with momentum 0.9 (section 4); its weight decay is not stated, 1e-4 is usual.
///
/// ```
/// use ir_models::{Sgd, WeightDecayCovers};
///
/// let sgd = Sgd::default();
/// assert_eq!((sgd.momentum, sgd.weight_decay), (0.9, 1e-4));
/// assert_eq!(sgd.weight_decay_covers, WeightDecayCovers::Weights);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sgd {
    /// Factor on the velocity.
    pub momentum: f64,
    /// Factor on the weights.
    pub weight_decay: f64,
    /// Which weights.
    pub weight_decay_covers: WeightDecayCovers,
}

impl Default for Sgd {
    fn default() -> Self {
        Self {
            momentum: 0.9,
            weight_decay: 1e-4,
            weight_decay_covers: WeightDecayCovers::Weights,
        }
    }
}

impl Sgd {
    /// Whether one kind of tensor decays.
    pub(crate) fn decays(&self, kind: Kind) -> bool {
        let is_weight = matches!(kind, Kind::ConvolutionWeight | Kind::LinearWeight);
        is_weight || self.weight_decay_covers == WeightDecayCovers::Everything
    }

    /// The weight decay of one kind of tensor.
    fn decay_of(&self, kind: Kind) -> f64 {
        match self.decays(kind) {
            true => self.weight_decay,
            false => 0.0,
        }
    }

    /// Updates `weight` and `velocity` in place.
    pub(crate) fn update(
        &self,
        kind: Kind,
        weight: &Tensor,
        velocity: &Tensor,
        gradient: &Tensor,
        learning_rate: f64,
    ) -> Result<()> {
        velocity.inplace_op3(weight, gradient, &self.accumulate(kind))?;
        weight.inplace_op2(velocity, &descend(learning_rate))?;
        Ok(())
    }

    /// Whether [`Sgd::update`] would leave finite numbers only in `weight` and `velocity`, which
    /// stay as they are.
    pub(crate) fn stays_finite(
        &self,
        kind: Kind,
        weight: &Tensor,
        velocity: &Tensor,
        gradient: &Tensor,
        learning_rate: f64,
    ) -> Result<bool> {
        let (accumulate, descend) = (self.accumulate(kind), descend(learning_rate));
        let (weight, weight_layout) = weight.storage_and_layout();
        let (velocity, velocity_layout) = velocity.storage_and_layout();
        let (gradient, gradient_layout) = gradient.storage_and_layout();
        let weight = values(&weight, weight_layout)?;
        let velocity = values(&velocity, velocity_layout)?;
        let gradient = values(&gradient, gradient_layout)?;
        // One answer a chunk, without a way out of the inner loop, is what vectorises.
        let mut unfit = vec![0f32; weight.len().div_ceil(CHUNK)];
        for_each_piece(&mut unfit, 1, |index, unfit| {
            let first = index * CHUNK;
            let weight = weight[first..].iter().take(CHUNK);
            let constants = velocity[first..].iter().zip(&gradient[first..]);
            let mut finite = true;
            for (&w, (&v, &g)) in weight.zip(constants) {
                let v = accumulate.apply(v, w, g);
                finite &= v.is_finite() & descend.apply(w, v).is_finite();
            }
            unfit[0] = f32::from(u8::from(!finite));
        });
        Ok(unfit.iter().all(|&unfit| unfit == 0.0))
    }

    fn accumulate(&self, kind: Kind) -> Accumulate {
        Accumulate {
            momentum: self.momentum as f32,
            weight_decay: self.decay_of(kind) as f32,
        }
    }
}

fn descend(learning_rate: f64) -> Descend {
    Descend {
        learning_rate: learning_rate as f32,
    }
}

/// Elements that one task updates: large enough that handing it out costs nothing beside it.
const CHUNK: usize = 1 << 14;

/// v ← momentum · v + gradient + weight_decay · w
struct Accumulate {
    momentum: f32,
    weight_decay: f32,
}

impl Accumulate {
    #[inline]
    fn apply(&self, v: f32, w: f32, g: f32) -> f32 {
        self.momentum * v + (g + self.weight_decay * w)
    }
}

impl InplaceOp3 for Accumulate {
    fn name(&self) -> &'static str {
        "sgd-accumulate"
    }

    fn cpu_fwd(
        &self,
        velocity: &mut CpuStorage,
        velocity_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> candle_core::Result<()> {
        let velocity = contiguous_mut(velocity, velocity_layout, self.name())?;
        let weight = contiguous(weight, weight_layout, self.name())?;
        let gradient = contiguous(gradient, gradient_layout, self.name())?;
        for_each_piece(velocity, CHUNK, |index, velocity| {
            let rest = index * CHUNK;
            let constants = weight[rest..].iter().zip(&gradient[rest..]);
            for (v, (w, g)) in velocity.iter_mut().zip(constants) {
                *v = self.apply(*v, *w, *g);
            }
        });
        Ok(())
    }
}

/// w ← w − learning_rate · v
struct Descend {
    learning_rate: f32,
}

impl Descend {
    #[inline]
    fn apply(&self, w: f32, v: f32) -> f32 {
        w - self.learning_rate * v
    }
}

impl InplaceOp2 for Descend {
    fn name(&self) -> &'static str {
        "sgd-descend"
    }

    fn cpu_fwd(
        &self,
        weight: &mut CpuStorage,
        weight_layout: &Layout,
        velocity: &CpuStorage,
        velocity_layout: &Layout,
    ) -> candle_core::Result<()> {
        let weight = contiguous_mut(weight, weight_layout, self.name())?;
        let velocity = contiguous(velocity, velocity_layout, self.name())?;
        for_each_piece(weight, CHUNK, |index, weight| {
            for (w, v) in weight.iter_mut().zip(&velocity[index * CHUNK..]) {
                *w = self.apply(*w, *v);
            }
        });
        Ok(())
    }
}

/// The values of a tensor on the CPU, in place.
fn values<'a>(storage: &'a Storage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    match storage {
        Storage::Cpu(storage) => contiguous(storage, layout, "sgd-check"),
        _ => Err(candle_core::Error::Msg(
            "sgd-check: expected a tensor on the CPU".into(),
        )),
    }
}

fn contiguous<'a>(
    storage: &'a CpuStorage,
    layout: &Layout,
    op: &'static str,
) -> candle_core::Result<&'a [f32]> {
    let (start, end) = layout
        .contiguous_offsets()
        .ok_or(candle_core::Error::RequiresContiguous { op })?;
    Ok(&storage.as_slice::<f32>()?[start..end])
}

fn contiguous_mut<'a>(
    storage: &'a mut CpuStorage,
    layout: &Layout,
    op: &'static str,
) -> candle_core::Result<&'a mut [f32]> {
    let (start, end) = layout
        .contiguous_offsets()
        .ok_or(candle_core::Error::RequiresContiguous { op })?;
    match storage {
        CpuStorage::F32(values) => Ok(&mut values[start..end]),
        other => Err(candle_core::Error::UnexpectedDType {
            msg: op,
            expected: candle_core::DType::F32,
            got: candle_core::backend::BackendStorage::dtype(other),
        }),
    }
}
