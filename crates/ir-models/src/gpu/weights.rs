//! The tensors of a network in the memory of a GPU.

use candle_core::Tensor;
use ir_tensor_ops::gpu::{Buffer, Gpu, Linear, Parameters, Precision, Weights};

use super::arena::{self, Arena, Slot};
use crate::error::Result;
use crate::layout::{Kind, Layout, TensorSpec};
use crate::optimizer::Sgd;

/// The parameters of a network, with velocities and gradients, and its running statistics.
#[derive(Debug)]
pub(super) struct DeviceWeights {
    pub(super) arena: Arena,
    pub(super) parameters: Parameters,
    pub(super) running_mean: Buffer<f32>,
    pub(super) running_variance: Buffer<f32>,
    precision: Precision,
}

/// A tensor of the network and its velocity, if it is trained.
type WithVelocity<'a> = (&'a TensorSpec, &'a Tensor, Option<&'a Tensor>);

impl DeviceWeights {
    pub(super) fn new(gpu: &Gpu, layout: &Layout, sgd: &Sgd, precision: Precision) -> Result<Self> {
        let arena = Arena::new(layout, sgd);
        let with_copy = precision == Precision::Bf16;
        Ok(Self {
            parameters: Parameters::new(gpu, arena.parameters, with_copy)?,
            running_mean: Buffer::zeros(gpu, arena.running)?,
            running_variance: Buffer::zeros(gpu, arena.running)?,
            arena,
            precision,
        })
    }

    /// Takes all tensors of a network to the device, in the order of its layout.
    pub(super) fn write<'a>(&self, tensors: impl Iterator<Item = WithVelocity<'a>>) -> Result<()> {
        let mut weights = vec![0f32; self.arena.parameters];
        let mut velocities = weights.clone();
        let mut mean = vec![0f32; self.arena.running];
        let mut variance = mean.clone();
        for (&slot, (spec, tensor, velocity)) in self.arena.slots.iter().zip(tensors) {
            let row = match spec.kind {
                Kind::RunningMean => &mut mean,
                Kind::RunningVariance => &mut variance,
                _ => &mut weights,
            };
            arena::pack(spec, slot, tensor, row)?;
            if let Some(velocity) = velocity {
                arena::pack(spec, slot, velocity, &mut velocities)?;
            }
        }
        self.parameters.weights.write(&weights)?;
        self.parameters.velocities.write(&velocities)?;
        self.running_mean.write(&mean)?;
        self.running_variance.write(&variance)?;
        Ok(self.parameters.refresh_copy()?)
    }

    /// All tensors as they are on the device, each with its velocity if it is trained.
    pub(super) fn read(&self, specs: &[TensorSpec]) -> Result<Vec<(Tensor, Option<Tensor>)>> {
        let weights = self.parameters.weights.to_vec()?;
        let velocities = self.parameters.velocities.to_vec()?;
        let mean = self.running_mean.to_vec()?;
        let variance = self.running_variance.to_vec()?;
        let tensors = specs.iter().zip(&self.arena.slots);
        let read = |(spec, &slot): (&TensorSpec, &Slot)| -> Result<_> {
            let row = match spec.kind {
                Kind::RunningMean => &mean,
                Kind::RunningVariance => &variance,
                _ => &weights,
            };
            let velocity = spec
                .kind
                .is_trainable()
                .then(|| arena::unpack(spec, slot, &velocities));
            Ok((arena::unpack(spec, slot, row)?, velocity.transpose()?))
        };
        tensors.map(read).collect()
    }

    /// The gradients that a pass has left, `None` for tensors that are not trained.
    pub(super) fn read_gradients(&self, specs: &[TensorSpec]) -> Result<Vec<Option<Tensor>>> {
        let gradients = self.parameters.gradients.to_vec()?;
        let read = |(spec, &slot): (&TensorSpec, &Slot)| {
            let trained = spec.kind.is_trainable();
            trained
                .then(|| arena::unpack(spec, slot, &gradients))
                .transpose()
        };
        specs.iter().zip(&self.arena.slots).map(read).collect()
    }

    /// The parameter with this index in the layout.
    pub(super) fn parameter(&self, index: usize) -> Result<Buffer<f32>> {
        self.of(&self.parameters.weights, index)
    }

    /// Its gradient.
    pub(super) fn gradient(&self, index: usize) -> Result<Buffer<f32>> {
        self.of(&self.parameters.gradients, index)
    }

    /// The weight of a convolution, as convolutions read it.
    pub(super) fn convolution(&self, index: usize) -> Result<Weights> {
        let Slot { start, length } = self.arena.slots[index];
        let range = start..start + length;
        Ok(match (self.precision, &self.parameters.copy) {
            (Precision::Bf16, Some(copy)) => Weights::Bf16(copy.slice(range)?),
            _ => Weights::F32(self.parameters.weights.slice(range)?),
        })
    }

    /// The classifier of a network.
    pub(super) fn classifier(&self, layout: &Layout) -> Result<Linear> {
        let shape = &layout.specs[layout.classifier_weight].shape;
        Ok(Linear {
            weight: self.parameter(layout.classifier_weight)?,
            bias: self.parameter(layout.classifier_bias)?,
            outputs: shape[0],
            inputs: shape[1],
        })
    }

    fn of(&self, row: &Buffer<f32>, index: usize) -> Result<Buffer<f32>> {
        let Slot { start, length } = self.arena.slots[index];
        Ok(row.slice(start..start + length)?)
    }
}
