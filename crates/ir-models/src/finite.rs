//! Whether what a step is about to put into the network is finite, asked before any of it is there.

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::optimizer::Sgd;
use crate::pass::TrainingPass;
use crate::resnet::ResNet;
use crate::trainer::Position;

/// A step that has yet to be taken.
pub(crate) struct Step<'a> {
    pub(crate) network: &'a ResNet,
    pub(crate) pass: &'a TrainingPass,
    /// One a tensor of the network, `None` for those not trained.
    pub(crate) velocities: &'a [Option<Tensor>],
    pub(crate) sgd: &'a Sgd,
    pub(crate) learning_rate: f64,
    pub(crate) position: &'a Position,
}

impl Step<'_> {
    /// Refuses a step that would leave NaN or infinity in a weight, a velocity or a running
    /// statistic.
    ///
    /// # Errors
    /// [`Error::NonFiniteLoss`], [`Error::NonFiniteStep`].
    pub(crate) fn check(&self) -> Result<()> {
        let Position { step, epoch, .. } = *self.position;
        let loss = self.pass.loss;
        let norm = self.non_finite_norm();
        if !loss.is_finite() {
            return Err(Error::NonFiniteLoss {
                loss,
                step,
                epoch,
                origin: norm,
            });
        }
        let found = match norm {
            Some(norm) => Some(("batch statistics", norm)),
            None => self.non_finite_update()?,
        };
        match found {
            None => Ok(()),
            Some((quantity, tensor)) => Err(Error::NonFiniteStep {
                quantity,
                tensor,
                loss,
                step,
                epoch,
            }),
        }
    }

    /// The first batch norm, in order of the forward pass, whose input is not finite.
    fn non_finite_norm(&self) -> Option<String> {
        let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
        let mut norms = self.pass.statistics.iter();
        let (norm, _) =
            norms.find(|(_, found)| !finite(&found.mean) || !finite(&found.variance))?;
        let name = &self.network.layout.specs[norm.running_mean].name;
        Some(name.trim_end_matches(".running_mean").to_owned())
    }

    /// What is not finite of the update, with its tensor: the last in order of the layout, since
    /// the backward pass comes to it first.
    fn non_finite_update(&self) -> Result<Option<(&'static str, String)>> {
        let tensors: Vec<_> = self.network.tensors().enumerate().collect();
        for (index, (spec, weight)) in tensors.into_iter().rev() {
            let (Some(velocity), Some(gradient)) =
                (&self.velocities[index], &self.pass.gradients[index])
            else {
                continue;
            };
            let (sgd, rate) = (self.sgd, self.learning_rate);
            if sgd.stays_finite(spec.kind, weight, velocity, gradient, rate)? {
                continue;
            }
            let values = gradient.flatten_all()?.to_vec1::<f32>()?;
            let quantity = match values.iter().all(|value| value.is_finite()) {
                true => "updated value",
                false => "gradient",
            };
            return Ok(Some((quantity, spec.name.clone())));
        }
        Ok(None)
    }
}
