//! The last block applied again and again to its own result (Fig. 7).

use candle_core::Tensor;
use ir_models::ResidualNetwork;

use crate::batch::Batch;
use crate::blocks::ratio;
use crate::checked::Checked;
use crate::error::{Error, Result};
use crate::evaluate::{BatchError, each_batch, final_representation};
use crate::groups::{GroupsSoFar, Membership, ScoreSoFar};
use crate::last_stage::{LastStage, Reading};
use crate::number::Number;
use crate::options::UnrollScale;
use crate::outcome::Outcomes;
use crate::probe::{inner, norms};
use crate::results::{ScaleSource, Undefined, Unroll, UnrollStep};
use crate::statistics::{Moments, PartialMoments};
use crate::trace::{Gradients, Trace};

/// One unrolling over the batches so far.
pub(crate) struct UnrollSoFar {
    scale: UnrollScale,
    /// Step 0 is the network as it is.
    steps: Vec<StepSoFar>,
}

#[derive(Clone, Default)]
struct StepSoFar {
    groups: GroupsSoFar,
    cosine: PartialMoments,
    l2_ratio: PartialMoments,
    h_norm: Moments,
}

impl UnrollSoFar {
    /// `steps` additional applications.
    pub(crate) fn new(network: &Checked<'_>, scale: UnrollScale, steps: usize) -> Result<Self> {
        require_repeatable(network)?;
        Ok(Self {
            scale,
            steps: vec![StepSoFar::default(); steps + 1],
        })
    }

    /// Adds a batch. Step 0 and the first gradient come from the trace; each further step costs
    /// one branch and one head.
    pub(crate) fn add(
        &mut self,
        network: &Checked<'_>,
        trace: &Trace,
        last_stage: &LastStage,
        batch: &Batch,
    ) -> Result<()> {
        let block = network.last_block();
        let traced = &trace.blocks[block];
        let final_exit = last_stage.after(block);
        let membership = Membership::decided_at(&final_exit.outcomes);
        let Some((step_0, additional)) = self.steps.split_first_mut() else {
            return Ok(());
        };
        step_0.add_move(&traced.s, &traced.branch, 1.0, last_stage.before(block))?;
        step_0.add_state(&trace.h_last, &final_exit.outcomes, &membership)?;

        let mut h = trace.h_last.clone();
        let mut reading: Option<Reading> = None;
        let last = additional.len();
        for (step, so_far) in (1..).zip(additional) {
            let (next, branch) = apply_again(network, &h, self.scale.factor)?;
            so_far.add_move(
                &h,
                &branch,
                self.scale.factor,
                reading.as_ref().unwrap_or(final_exit),
            )?;
            // The gradient at a state is for the step that leaves it.
            let gradients = if step < last {
                Gradients::Taken
            } else {
                Gradients::Left
            };
            let name = || format!("unrolled step {step}");
            let arrived = Reading::at(network, &next, batch, gradients, name)?;
            so_far.add_state(&next, &arrived.outcomes, &membership)?;
            (h, reading) = (next, Some(arrived));
        }
        Ok(())
    }

    pub(crate) fn finish(&self) -> Unroll {
        let steps = self
            .steps
            .iter()
            .enumerate()
            .map(|(step, so_far)| so_far.finish(step));
        Unroll {
            scale: self.scale.factor,
            scale_source: self.scale.source,
            steps: steps.collect(),
        }
    }
}

impl StepSoFar {
    /// The move that makes the step: F and its gradient at the h it starts from.
    fn add_move(&mut self, h: &Tensor, branch: &Tensor, scale: f64, from: &Reading) -> Result<()> {
        if let Some(gradient) = &from.gradient {
            for product in inner(branch, &gradient.direction)? {
                self.cosine.add(product.cosine());
            }
        }
        for (f_norm, h_norm) in norms(branch)?.into_iter().zip(norms(h)?) {
            self.l2_ratio.add(ratio(scale.abs() * f_norm, h_norm));
        }
        Ok(())
    }

    /// The state after the step.
    fn add_state(
        &mut self,
        h: &Tensor,
        outcomes: &Outcomes,
        groups: &Membership<'_>,
    ) -> Result<()> {
        self.groups.add(outcomes, groups);
        self.h_norm.extend(&norms(h)?);
        Ok(())
    }

    fn finish(&self, step: usize) -> UnrollStep {
        UnrollStep {
            step,
            groups: self.groups.finish(),
            cosine: self.cosine.defined.mean(),
            cosine_std: self.cosine.defined.std(),
            l2_ratio: self.l2_ratio.defined.mean().map(Into::into),
            l2_ratio_std: self.l2_ratio.defined.std().map(Into::into),
            h_norm: self.h_norm.mean().map(Into::into),
            undefined: Undefined {
                cosine: self.cosine.undefined,
                exit_cosine: 0,
                l2_ratio: self.l2_ratio.undefined,
            },
        }
    }
}

/// The last block can read its own result only if it does not change the shape.
fn require_repeatable(network: &Checked<'_>) -> Result<()> {
    let block = network.last_block();
    if network.is_transition(block) {
        return Err(Error::Unroll { block });
    }
    Ok(())
}

/// after(h + scale · F(h)) and F(h), with the last block's functions.
fn apply_again(network: &Checked<'_>, h: &Tensor, scale: f64) -> Result<(Tensor, Tensor)> {
    let block = network.last_block();
    let branch = network.branch(block, h)?.detach();
    let scaled = if scale == 1.0 {
        branch.clone()
    } else {
        (&branch * scale)?
    };
    let sum = network.sum(block, &network.shortcut(block, h)?, &scaled)?;
    Ok((network.after(block, &sum)?.detach(), branch))
}

/// A scale and what it was chosen from.
#[derive(Debug, Clone, PartialEq)]
pub struct ScaleChoice {
    /// The chosen factor, ready for [`Options::unroll_scales`](crate::Options::unroll_scales).
    pub scale: UnrollScale,
    /// Every candidate in the order given, with its mean loss in nats after the last step.
    pub losses: Vec<(f64, Number)>,
}

/// The candidate with the lowest mean loss after `steps` additional applications of the last
/// block, the first one of equals; meant for the training split, so that the test split has no
/// part in the choice (Fig. 7; the paper does not say how it chose).
///
/// A forward pass for each batch, then `steps` branches for each candidate.
///
/// # Errors
/// [`Error::NoScale`] if no candidate keeps the loss finite (or there is none),
/// [`Error::Unroll`] if the last block is a transition, and what a pass can report.
///
/// # Example
/// ```
/// # use candle_core::{Device, Result, Tensor};
/// # use ir_models::{Block, ResidualNetwork};
/// # struct Tiny;
/// # impl ResidualNetwork for Tiny {
/// #     fn blocks(&self) -> Vec<Block> { vec![Block { stage: 0, transition: false }] }
/// #     fn stem(&self, images: &Tensor) -> Result<Tensor> { Ok(images.clone()) }
/// #     fn branch(&self, _: usize, h: &Tensor) -> Result<Tensor> { Ok(h.clone()) }
/// #     fn head(&self, h: &Tensor) -> Result<Tensor> { Ok(h.clone()) }
/// # }
/// # let network = Tiny; // F(h) = h = logits: a larger step is surer of the class.
/// let images = Tensor::new(&[[1f32, 0.]], &Device::Cpu)?;
/// let train = vec![Ok::<_, ir_analysis::Error>((images, Tensor::new(&[0u32], &Device::Cpu)?))];
/// let choice = ir_analysis::choose_scale(&network, train, &[0.1, 0.01], 20)?;
/// assert_eq!(choice.scale.factor, 0.1);
/// # Ok::<(), ir_analysis::Error>(())
/// ```
pub fn choose_scale<E: BatchError>(
    network: &dyn ResidualNetwork,
    batches: impl IntoIterator<Item = Result<(Tensor, Tensor), E>>,
    candidates: &[f64],
    steps: usize,
) -> Result<ScaleChoice> {
    let network = Checked::new(network)?;
    require_repeatable(&network)?;
    let mut scores = vec![ScoreSoFar::default(); candidates.len()];
    each_batch(batches, |batch| {
        let h_last = final_representation(&network, batch)?;
        for (score, &scale) in scores.iter_mut().zip(candidates) {
            let mut h = h_last.clone();
            for _ in 0..steps {
                (h, _) = apply_again(&network, &h, scale)?;
            }
            score.add(&Outcomes::new(&network.head(&h)?, batch)?);
        }
        Ok(())
    })?;
    let losses: Vec<_> = scores
        .iter()
        .zip(candidates)
        .map(|(score, &scale)| (scale, Number(score.loss().unwrap_or(f64::NAN))))
        .collect();
    let finite = losses.iter().filter(|(_, loss)| loss.0.is_finite());
    match finite.min_by(|(_, a), (_, b)| a.0.total_cmp(&b.0)) {
        Some(&(factor, _)) => {
            let scale = UnrollScale {
                factor,
                source: ScaleSource::ChosenOnTrain,
            };
            Ok(ScaleChoice { scale, losses })
        }
        None => Err(Error::NoScale {
            candidates: candidates.len(),
            steps,
        }),
    }
}
