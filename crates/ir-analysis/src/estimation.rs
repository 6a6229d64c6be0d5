//! Each representation of a stage as an estimate of its last one (Greff et al. 2017, Eq. 4 and
//! Fig. 3).

use candle_core::Tensor;
use ir_tensor_ops::per_sample;

use crate::blocks::ratio;
use crate::checked::Checked;
use crate::error::Result;
use crate::probe::{norms, readable};
use crate::results::Estimation;
use crate::statistics::{Moments, PartialMoments};
use crate::trace::Trace;

/// The errors of one block over the batches so far.
#[derive(Clone, Default)]
pub(crate) struct EstimationSoFar {
    /// Each sample's mean of the error over its units.
    mean: Moments,
    /// Each sample's mean of the squared error over its units.
    square: Moments,
    distance: PartialMoments,
}

/// Adds a batch to every block.
pub(crate) fn add(
    so_far: &mut [EstimationSoFar],
    network: &Checked<'_>,
    trace: &Trace,
) -> Result<()> {
    let blocks = network.blocks();
    let mut end: Option<Tensor> = None;
    for block in (0..blocks.len()).rev() {
        let ends_stage = blocks
            .get(block + 1)
            .is_none_or(|next| next.stage != blocks[block].stage);
        if ends_stage {
            end = Some(stage_end(network, trace, block)?);
        }
        if let Some(end) = &end {
            so_far[block].add(&trace.blocks[block].s, end)?;
        }
    }
    Ok(())
}

/// What the last block of a stage gives, in the stage's shape.
fn stage_end(network: &Checked<'_>, trace: &Trace, last: usize) -> Result<Tensor> {
    let traced = &trace.blocks[last];
    let next = trace
        .blocks
        .get(last + 1)
        .map_or(&trace.h_last, |next| &next.h);
    if next.dims() == traced.s.dims() {
        return Ok(next.clone());
    }
    network.sum(last, &traced.s, &traced.branch)
}

impl EstimationSoFar {
    fn add(&mut self, h: &Tensor, end: &Tensor) -> Result<()> {
        let (h, end) = (readable(h)?, readable(end)?);
        let error = (&h - &end)?;
        let units = (error.elem_count() / error.dim(0)?) as f64;
        // The inner product with ones is the sum over the units.
        let sums = per_sample::inner(&error, &error.ones_like()?)?;
        for (sum, end_norm) in sums.iter().zip(norms(&end)?) {
            self.mean.add(sum.dot / units);
            self.square.add(sum.x_squared / units);
            self.distance.add(ratio(sum.x_squared.sqrt(), end_norm));
        }
        Ok(())
    }

    /// `None` before the first sample.
    pub(crate) fn finish(&self, block: usize, stage: usize) -> Option<Estimation> {
        let (mean, square) = (self.mean.mean()?, self.square.mean()?);
        // Over units and samples at once: E[e²] − E[e]², which rounding may put below 0 where all
        // errors are equal. What is not a number stays so.
        let variance = square - mean * mean;
        let variance = if variance < 0.0 { 0.0 } else { variance };
        Some(Estimation {
            block,
            stage,
            error: mean.into(),
            error_std: variance.sqrt().into(),
            distance: self.distance.defined.mean().map(Into::into),
            distance_std: self.distance.defined.std().map(Into::into),
            undefined: self.distance.undefined,
        })
    }
}
