//! What a pass on a GPU came to, as one on the CPU gives it.

use candle_core::{Device, Tensor};
use ir_tensor_ops::ChannelStatistics;
use ir_tensor_ops::gpu::{Buffer, Map, NormState};

use super::memory::Pass;
use super::weights::DeviceWeights;
use crate::error::Result;
use crate::layout::BatchNorm;
use crate::pass::TrainingPass;

impl Pass {
    /// The loss, the logits, the gradients and the statistics of the last batch.
    pub(super) fn found(&self, weights: &DeviceWeights) -> Result<TrainingPass> {
        let losses = self.losses.loss.to_vec()?;
        let correct = self.losses.correct.to_vec()?;
        let logits = self.logits.to_vec()?;
        let dims = (self.batch, logits.len() / self.batch);
        Ok(TrainingPass {
            loss: losses.iter().sum::<f64>() / losses.len() as f64,
            correct: correct.iter().sum::<u32>() as usize,
            logits: Tensor::from_vec(logits, dims, &Device::Cpu)?,
            gradients: weights.read_gradients(&self.layout.specs)?,
            statistics: self.statistics()?,
        })
    }

    /// The statistics of each batch norm's input, in the order in which the pass meets them.
    fn statistics(&self) -> Result<Vec<(BatchNorm, ChannelStatistics)>> {
        let of_blocks = self.blocks.iter().flat_map(|block| {
            let (first, second) = (&block.layers.norm1, &block.layers.norm2);
            [
                (first, &block.norm1, &block.h),
                (second, &block.norm2, &block.inner),
            ]
        });
        let of_head = (&self.layout.head_norm, &self.head_norm, &self.h_last);
        of_blocks
            .chain([of_head])
            .map(|(of, norm, x)| Ok((*of, statistics(norm, x)?)))
            .collect()
    }
}

/// The statistics of x, with which its norm was resolved.
fn statistics(norm: &NormState, x: &Map) -> Result<ChannelStatistics> {
    let [batch, channels, height, width] = x.dims();
    let values = |padded: &Buffer<f32>| Ok::<_, crate::Error>(padded.slice(0..channels)?.to_vec()?);
    Ok(ChannelStatistics {
        mean: values(&norm.mean)?,
        variance: values(&norm.variance)?,
        count: batch * height * width,
    })
}
