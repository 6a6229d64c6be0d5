//! The traced pass: one forward and one backward that every measure reads.

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use ir_models::{BlockBackward, ResidualNetwork};

use crate::batch::Batch;
use crate::checked::Checked;
use crate::error::{Error, Part, Result};
use crate::last_stage::Reading;
use crate::outcome::{LossGradient, Outcomes};
use crate::probe::{Probe, norms, scale_samples};

/// What one block saw, did, and was asked for by the loss. All are values: none is part of a
/// record for gradients.
#[derive(Debug, Clone)]
pub struct TracedBlock {
    /// h_j, the block's input `[N, …]`.
    pub h: Tensor,
    /// s_j = shortcut(h_j): h_j itself unless the block is a transition. Everything that
    /// compares F_j with "h_j" reads this.
    pub s: Tensor,
    /// F_j(h_j), of the shape of `s`.
    pub branch: Tensor,
    /// The network gradient: ∂L/∂h_j through shortcut and branch and all later blocks; for a
    /// transition ∂L/∂s_j. Row n is the gradient of sample n's own loss. `None` if the pass was
    /// forward only.
    pub gradient: Option<Tensor>,
}

/// One batch's way through a network, with the gradient at every block.
#[derive(Debug, Clone)]
pub struct Trace {
    /// The blocks in order.
    pub blocks: Vec<TracedBlock>,
    /// h_L, what the head reads.
    pub h_last: Tensor,
    /// ∂L/∂h_L, as [`TracedBlock::gradient`].
    pub gradient_last: Option<Tensor>,
    /// The logits `[N, classes]`, bitwise those of [`ResidualNetwork::logits`].
    pub logits: Tensor,
    /// What each sample's gradients have to be multiplied by ([`LossGradient`]): 1 in what [`trace`] gives.
    pub(crate) scales: Vec<f64>,
}

/// Runs a network once forward and once backward, and keeps each h_j, F_j(h_j) and ∂L/∂h_j.
///
/// L is the sum over the batch of each sample's cross-entropy, so that row n of a gradient
/// `[N, …]` belongs to sample n alone and does not depend on the batch. In memory are the
/// representations and gradients of one batch: about four tensors of the size of h_j a block,
/// and what the network's own operations keep for their backward pass.
///
/// `images` is `[N, C, H, W]` (whatever the stem reads), `labels` is `[N]`, u32.
///
/// # Errors
/// Whatever the network breaks of its contract, a label out of range, a loss that is not
/// finite; see [`Error`].
///
/// # Example
/// ```
/// use candle_core::{Device, Result, Tensor};
/// use ir_models::{Block, ResidualNetwork};
///
/// /// One block h + h/2, read by the identity.
/// struct Half;
/// impl ResidualNetwork for Half {
///     fn blocks(&self) -> Vec<Block> {
///         vec![Block { stage: 0, transition: false }]
///     }
///     fn stem(&self, images: &Tensor) -> Result<Tensor> {
///         Ok(images.clone())
///     }
///     fn branch(&self, _block: usize, h: &Tensor) -> Result<Tensor> {
///         h * 0.5
///     }
///     fn head(&self, h: &Tensor) -> Result<Tensor> {
///         Ok(h.clone())
///     }
/// }
///
/// let images = Tensor::new(&[[2f32, 2.]], &Device::Cpu)?;
/// let labels = Tensor::new(&[0u32], &Device::Cpu)?;
/// let trace = ir_analysis::trace(&Half, &images, &labels)?;
/// // Both logits are 3, so ∂L/∂logits = (−1/2, 1/2), and ∂L/∂h_0 is 3/2 of it.
/// assert_eq!(trace.logits.to_vec2::<f32>()?, [[3., 3.]]);
/// let gradient = trace.blocks[0].gradient.as_ref().expect("traced with gradients");
/// assert_eq!(gradient.to_vec2::<f32>()?, [[-0.75, 0.75]]);
/// # Ok::<(), ir_analysis::Error>(())
/// ```
pub fn trace(network: &dyn ResidualNetwork, images: &Tensor, labels: &Tensor) -> Result<Trace> {
    let batch = Batch::new(0, images.clone(), labels.clone())?;
    let network = Checked::new(network)?;
    let (mut trace, _) = run(&network, &batch, Gradients::Taken)?;
    trace.take_in_scales()?;
    Ok(trace)
}

impl Trace {
    /// Takes over what was read at h_L, and gives the gradient there.
    pub(crate) fn read_at_the_end(&mut self, reading: Reading) -> Option<Tensor> {
        let LossGradient { direction, scales } = reading.gradient?;
        self.gradient_last = Some(direction.clone());
        self.scales = scales;
        Some(direction)
    }

    /// Multiplies every gradient by its sample's scale.
    fn take_in_scales(&mut self) -> Result<()> {
        let samples = self.scales.len();
        let scales = std::mem::replace(&mut self.scales, vec![1.0; samples]);
        let blocks = self.blocks.iter_mut().map(|block| &mut block.gradient);
        for gradient in blocks.chain([&mut self.gradient_last]).flatten() {
            *gradient = scale_samples(gradient, &scales)?;
        }
        Ok(())
    }
}

/// Whether a pass goes backward too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gradients {
    Taken,
    Left,
}

/// The traced pass and the network's own outcomes.
pub(crate) fn run(
    network: &Checked<'_>,
    batch: &Batch,
    gradients: Gradients,
) -> Result<(Trace, Outcomes)> {
    network.together(|| match network.block_backward() {
        Some(backward) if gradients == Gradients::Taken => explicit(network, backward, batch),
        _ => recorded(network, batch, gradients),
    })
}

/// The pass of a network with gradients of its own: forward without a record, then the
/// gradient from block to block.
fn explicit(
    network: &Checked<'_>,
    backward: &dyn BlockBackward,
    batch: &Batch,
) -> Result<(Trace, Outcomes)> {
    let (mut trace, outcomes) = recorded(network, batch, Gradients::Left)?;
    let last = trace.blocks.len();
    let name = || format!("h_{last}");
    let reading = Reading::at(network, &trace.h_last, batch, Gradients::Taken, name)?;
    let mut gradient = trace.read_at_the_end(reading);
    for (j, block) in trace.blocks.iter_mut().enumerate().rev() {
        let Some(arriving) = &gradient else {
            break;
        };
        let found = network.gradients(backward, j, &block.h, arriving)?;
        block.gradient = Some(if network.is_transition(j) {
            found.sum
        } else {
            found.h.clone()
        });
        gradient = Some(found.h);
    }
    Ok((trace, outcomes))
}

/// The pass that Candle records.
fn recorded(
    network: &Checked<'_>,
    batch: &Batch,
    gradients: Gradients,
) -> Result<(Trace, Outcomes)> {
    let mut probes = Probes {
        gradients,
        list: Vec::new(),
    };
    let mut h = probes.start(&network.stem(&batch.images)?)?;
    let mut blocks = Vec::with_capacity(network.blocks().len());
    for block in 0..network.blocks().len() {
        let (next, traced) = traced_step(network, block, h, &mut probes)?;
        blocks.push(traced);
        h = next;
    }
    h = probes.probe(h)?;
    let logits = network.head(&h)?;
    let outcomes = Outcomes::new(&logits, batch)?;
    let mut trace = Trace {
        blocks,
        h_last: h.detach(),
        gradient_last: None,
        logits: logits.detach(),
        scales: Vec::new(),
    };
    require_finite(&trace, &outcomes, batch)?;
    if gradients == Gradients::Taken {
        let (gradients, scales) = back_propagate(&logits, batch)?;
        trace.scales = scales;
        probes.collect(&gradients, &mut trace)?;
    }
    Ok((trace, outcomes))
}

/// One block, with the probe where the gradient of all that depends on it passes: at h_j, which
/// shortcut and branch both read, or at s_j behind a transition's shortcut.
fn traced_step(
    network: &Checked<'_>,
    block: usize,
    h: Tensor,
    probes: &mut Probes,
) -> Result<(Tensor, TracedBlock)> {
    let transition = network.is_transition(block);
    let h = if transition { h } else { probes.probe(h)? };
    let s = network.shortcut(block, &h)?;
    let s = if transition { probes.probe(s)? } else { s };
    let branch = network.branch(block, &h)?;
    let sum = network.sum(block, &s, &branch)?;
    let next = network.after(block, &sum)?;
    let traced = TracedBlock {
        h: h.detach(),
        s: s.detach(),
        branch: branch.detach(),
        gradient: None,
    };
    Ok((next, traced))
}

/// Sends each sample's loss gradient back from the logits, over its scale, which is returned beside.
pub(crate) fn back_propagate(logits: &Tensor, batch: &Batch) -> Result<(GradStore, Vec<f64>)> {
    // The derivative of Σ logits · g with g held fixed is g: exactly the vector wanted.
    let LossGradient { direction, scales } = LossGradient::at_logits(logits, batch)?;
    Ok(((logits * direction)?.sum_all()?.backward()?, scales))
}

/// Refuses a loss of which no gradient exists, and says where it comes from.
fn require_finite(trace: &Trace, outcomes: &Outcomes, batch: &Batch) -> Result<()> {
    let Some(sample) = outcomes.loss.iter().position(|loss| !loss.is_finite()) else {
        return Ok(());
    };
    let mut results = Vec::new();
    for (j, block) in trace.blocks.iter().enumerate() {
        let before = j.checked_sub(1).map_or(Part::Stem, Part::After);
        results.push((before, &block.h));
        results.push((Part::Shortcut(j), &block.s));
        results.push((Part::Branch(j), &block.branch));
    }
    results.push((Part::After(trace.blocks.len() - 1), &trace.h_last));
    let mut origin = Part::Head;
    for (part, result) in results {
        let values = result.narrow(0, sample, 1)?;
        if !norms(&values)?.iter().all(|norm| norm.is_finite()) {
            origin = part;
            break;
        }
    }
    Err(Error::NonFinite {
        batch: batch.index,
        sample,
        loss: outcomes.loss[sample],
        part: origin,
    })
}

/// The probes of a pass, in the order in which they were set.
struct Probes {
    gradients: Gradients,
    list: Vec<Probe>,
}

impl Probes {
    /// h_0 as the variable from which Candle starts to record.
    fn start(&self, h: &Tensor) -> Result<Tensor> {
        match self.gradients {
            Gradients::Taken => Ok(Var::from_tensor(&h.detach())?.into_inner()),
            Gradients::Left => Ok(h.detach()),
        }
    }

    fn probe(&mut self, x: Tensor) -> Result<Tensor> {
        if self.gradients == Gradients::Left {
            return Ok(x.detach());
        }
        let (x, probe) = Probe::on(&x)?;
        self.list.push(probe);
        Ok(x)
    }

    /// Moves the gradients into the trace: one probe a block, then that of h_L.
    fn collect(self, gradients: &GradStore, trace: &mut Trace) -> Result<()> {
        let slots = trace.blocks.iter_mut().map(|block| &mut block.gradient);
        let slots = slots.chain(std::iter::once(&mut trace.gradient_last));
        for (j, (slot, probe)) in slots.zip(self.list).enumerate() {
            let gradient = probe.gradient(gradients);
            *slot = Some(gradient.ok_or_else(|| Error::NoGradient {
                position: format!("h_{j}"),
            })?);
        }
        Ok(())
    }
}
