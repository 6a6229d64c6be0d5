//! The head read at every place of the last stage, the only one whose shape it fits.

use candle_core::{Tensor, Var};

use crate::batch::Batch;
use crate::checked::Checked;
use crate::error::{Error, Result};
use crate::outcome::{LossGradient, Outcomes};
use crate::trace::{Gradients, Trace, back_propagate};

/// What the head makes of a representation.
pub(crate) struct Reading {
    pub(crate) outcomes: Outcomes,
    /// The exit gradient ∂loss(head(h))/∂h, if taken.
    pub(crate) gradient: Option<LossGradient>,
}

impl Reading {
    /// One pass of the head alone, forward and where asked backward. `name` is for a message.
    pub(crate) fn at(
        network: &Checked<'_>,
        h: &Tensor,
        batch: &Batch,
        gradients: Gradients,
        name: impl FnOnce() -> String,
    ) -> Result<Self> {
        if gradients == Gradients::Left {
            let outcomes = Outcomes::new(&network.head(h)?, batch)?;
            return Ok(Self {
                outcomes,
                gradient: None,
            });
        }
        if let Some(backward) = network.block_backward() {
            let logits = network.head(h)?;
            let outcomes = Outcomes::new(&logits, batch)?;
            let LossGradient { direction, scales } = LossGradient::at_logits(&logits, batch)?;
            let direction = network.head_gradient(backward, h, &direction)?;
            return Ok(Self {
                outcomes,
                gradient: Some(LossGradient { direction, scales }),
            });
        }
        let h = Var::from_tensor(h)?;
        let logits = network.head(&h)?;
        let outcomes = Outcomes::new(&logits, batch)?;
        let (mut gradients, scales) = back_propagate(&logits, batch)?;
        let Some(direction) = gradients.remove(&h) else {
            return Err(Error::NoGradient { position: name() });
        };
        Ok(Self {
            outcomes,
            gradient: Some(LossGradient { direction, scales }),
        })
    }
}

/// Every reading of the last stage for one batch.
pub(crate) struct LastStage {
    /// The stage's first block.
    pub(crate) start: usize,
    /// Before the first block: at s of the first block, which is h there unless the block is a
    /// transition, whose h does not have the stage's shape.
    pub(crate) entrance: Reading,
    /// At s_j of later transitions of the stage; `None` for an ordinary block, whose s_j is the
    /// h that the reading after the block before it reads.
    transitions: Vec<Option<Reading>>,
    /// At h_{j+1}, after each block. The last is the network itself.
    pub(crate) after: Vec<Reading>,
}

impl LastStage {
    /// `outcomes` are the network's own, which the trace's pass has already made.
    pub(crate) fn read(
        network: &Checked<'_>,
        trace: &Trace,
        outcomes: Outcomes,
        batch: &Batch,
        gradients: Gradients,
    ) -> Result<Self> {
        let start = network.last_stage_start();
        let end = network.last_block();
        let at = |h: &Tensor, block: usize| {
            Reading::at(network, h, batch, gradients, || {
                format!("h_{block} from the head")
            })
        };
        let entrance = at(&trace.blocks[start].s, start)?;
        let mut transitions = vec![None];
        let mut after = Vec::new();
        for block in start + 1..=end {
            after.push(at(&trace.blocks[block].h, block)?);
            let transition = network.is_transition(block);
            transitions.push(
                transition
                    .then(|| at(&trace.blocks[block].s, block))
                    .transpose()?,
            );
        }
        after.push(Reading {
            outcomes,
            gradient: trace.gradient_last.clone().map(|direction| LossGradient {
                direction,
                scales: trace.scales.clone(),
            }),
        });
        Ok(Self {
            start,
            entrance,
            transitions,
            after,
        })
    }

    /// The reading at s_j, where block j sets out.
    pub(crate) fn before(&self, block: usize) -> &Reading {
        let offset = block - self.start;
        match (&self.transitions[offset], offset) {
            (Some(reading), _) => reading,
            (None, 0) => &self.entrance,
            (None, _) => &self.after[offset - 1],
        }
    }

    /// The reading at h_{j+1}, where block j arrives.
    pub(crate) fn after(&self, block: usize) -> &Reading {
        &self.after[block - self.start]
    }

    /// All exits in order: the entrance, then after each block.
    pub(crate) fn exits(&self) -> impl Iterator<Item = &Reading> {
        std::iter::once(&self.entrance).chain(&self.after)
    }
}
