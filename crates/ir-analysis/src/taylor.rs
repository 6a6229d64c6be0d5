//! The Taylor table of the last stage: each block's effect on the exit loss, beside its
//! first-order prediction.

use crate::error::Result;
use crate::last_stage::LastStage;
use crate::probe::inner;
use crate::results::TaylorRow;
use crate::statistics::Moments;
use crate::trace::TracedBlock;

/// One row over the batches so far.
#[derive(Clone, Default)]
pub(crate) struct TaylorSoFar {
    exit_loss: Moments,
    next_exit_loss: Moments,
    predicted_change: Moments,
    remainder: Moments,
}

impl TaylorSoFar {
    pub(crate) fn add(
        &mut self,
        block: usize,
        traced: &TracedBlock,
        last_stage: &LastStage,
    ) -> Result<()> {
        let here = last_stage.before(block);
        let next = last_stage.after(block);
        let Some(gradient) = &here.gradient else {
            return Ok(());
        };
        let losses = here.outcomes.loss.iter().zip(&next.outcomes.loss);
        let products = inner(&traced.branch, &gradient.direction)?;
        let predicted = products.iter().zip(&gradient.scales);
        let predicted = predicted.map(|(product, scale)| product.dot * scale);
        for ((loss, next_loss), predicted) in losses.zip(predicted) {
            self.exit_loss.add(*loss);
            self.next_exit_loss.add(*next_loss);
            self.predicted_change.add(predicted);
            self.remainder.add(next_loss - loss - predicted);
        }
        Ok(())
    }

    /// `None` before the first sample.
    pub(crate) fn finish(&self, block: usize) -> Option<TaylorRow> {
        Some(TaylorRow {
            block,
            exit_loss: self.exit_loss.mean()?.into(),
            next_exit_loss: self.next_exit_loss.mean()?.into(),
            predicted_change: self.predicted_change.mean()?.into(),
            predicted_change_std: self.predicted_change.std()?.into(),
            remainder: self.remainder.mean()?.into(),
            remainder_std: self.remainder.std()?.into(),
        })
    }
}
