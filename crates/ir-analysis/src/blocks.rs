//! Cosine, ratio and norms of one block (Fig. 2 and 4).

use crate::error::Result;
use crate::last_stage::LastStage;
use crate::options::{Measure, Options};
use crate::probe::{inner, norms};
use crate::results::{BlockMeasures, Undefined};
use crate::statistics::{Moments, PartialMoments};
use crate::trace::Trace;

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
        trace: &Trace,
        last_stage: Option<&LastStage>,
        options: &Options,
    ) -> Result<()> {
        let traced = &trace.blocks[block];
        if options.any(&[Measure::Ratio]) {
            let h_norms = norms(&traced.s)?;
            for (f_norm, h_norm) in norms(&traced.branch)?.iter().zip(&h_norms) {
                self.l2_ratio.add(ratio(*f_norm, *h_norm));
            }
            self.h_norm.extend(&h_norms);
        }
        if let (Some(gradient), true) = (&traced.gradient, options.any(&[Measure::Cosine])) {
            let products = inner(&traced.branch, gradient)?;
            for (product, scale) in products.iter().zip(&trace.scales) {
                self.cosine.add(product.cosine());
                self.grad_norm.add(product.y_squared.sqrt() * scale);
            }
        }
        let exit_gradient = last_stage.and_then(|stage| stage.before(block).gradient.as_ref());
        if let (Some(gradient), true) = (exit_gradient, options.any(&[Measure::ExitCosine])) {
            for product in inner(&traced.branch, &gradient.direction)? {
                self.exit_cosine.add(product.cosine());
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

/// ‖F‖ / ‖h‖; undefined where h is zero.
pub(crate) fn ratio(f_norm: f64, h_norm: f64) -> Option<f64> {
    (h_norm != 0.0).then(|| f_norm / h_norm)
}
