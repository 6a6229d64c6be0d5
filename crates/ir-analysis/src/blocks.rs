//! Cosine, ratio and norms of one block (Fig. 2 and 4).

use crate::shim::per_sample;
use candle_core::Tensor;

use crate::error::Result;
use crate::last_stage::LastStage;
use crate::options::{Measure, Options};
use crate::results::{BlockMeasures, Undefined};
use crate::statistics::{Moments, PartialMoments};
use crate::trace::TracedBlock;

/// The per-sample scalars of one block, over the batches so far.
#[derive(Clone, Default)]
pub(crate) struct BlockSoFar {
    cosine: PartialMoments,
    exit_cosine: PartialMoments,
    l2_ratio: PartialMoments,
    grad_norm: Moments,
    h_norm: Moments,
}

impl BlockSoFar {
    /// Adds a batch; `last_stage` where the block is in it and its readings were taken.
    pub(crate) fn add(
        &mut self,
        block: usize,
        traced: &TracedBlock,
        last_stage: Option<&LastStage>,
        options: &Options,
    ) -> Result<()> {
        if options.any(&[Measure::Ratio]) {
            let h_norms = norms(&traced.s)?;
            for (f_norm, h_norm) in norms(&traced.branch)?.iter().zip(&h_norms) {
                self.l2_ratio.add(ratio(*f_norm, *h_norm));
            }
            self.h_norm.extend(&h_norms);
        }
        if let (Some(gradient), true) = (&traced.gradient, options.any(&[Measure::Cosine])) {
            for inner in per_sample::inner(&traced.branch, gradient)? {
                self.cosine.add(finite(inner.cosine()));
                self.grad_norm.add(inner.y_squared.sqrt());
            }
        }
        let exit_gradient = last_stage.and_then(|stage| stage.before(block).gradient.as_ref());
        if let (Some(gradient), true) = (exit_gradient, options.any(&[Measure::ExitCosine])) {
            for inner in per_sample::inner(&traced.branch, gradient)? {
                self.exit_cosine.add(finite(inner.cosine()));
            }
        }
        Ok(())
    }

    /// Writes what was measured into `measures`.
    pub(crate) fn finish(&self, measures: &mut BlockMeasures) {
        measures.cosine = self.cosine.defined.mean();
        measures.cosine_std = self.cosine.defined.std();
        measures.exit_cosine = self.exit_cosine.defined.mean();
        measures.exit_cosine_std = self.exit_cosine.defined.std();
        measures.l2_ratio = self.l2_ratio.defined.mean().map(Into::into);
        measures.l2_ratio_std = self.l2_ratio.defined.std().map(Into::into);
        measures.grad_norm = self.grad_norm.mean().map(Into::into);
        measures.grad_norm_std = self.grad_norm.std().map(Into::into);
        measures.h_norm = self.h_norm.mean().map(Into::into);
        measures.h_norm_std = self.h_norm.std().map(Into::into);
        measures.undefined = Undefined {
            cosine: self.cosine.undefined,
            exit_cosine: self.exit_cosine.undefined,
            l2_ratio: self.l2_ratio.undefined,
        };
    }
}

/// ‖x_n‖ of each sample.
pub(crate) fn norms(x: &Tensor) -> Result<Vec<f64>> {
    Ok(per_sample::squared_norm(x)?
        .into_iter()
        .map(f64::sqrt)
        .collect())
}

/// ‖F‖ / ‖h‖; undefined where h is zero.
pub(crate) fn ratio(f_norm: f64, h_norm: f64) -> Option<f64> {
    (h_norm != 0.0).then(|| f_norm / h_norm)
}

/// A cosine with an overflowed vector is as undefined as one with a zero vector.
pub(crate) fn finite(cosine: Option<f64>) -> Option<f64> {
    cosine.filter(|cosine| cosine.is_finite())
}
