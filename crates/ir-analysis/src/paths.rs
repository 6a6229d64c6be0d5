//! The gradient through single paths of each length (Veit et al. 2016, section 5).
//!
//! Unravelled, a network of L blocks is a sum over 2^L paths, each of which takes the branch of
//! some blocks and the shortcut of the others. The forward pass here is the whole network's own, so
//! that every branch is linearised where it works; only the way back takes a single path:
//!
//! ```text
//! g_L = ∂L/∂h_L
//! g_j = branch_j'(h_j)ᵀ   after_j'ᵀ g_{j+1}     for a block on the path
//! g_j = shortcut_j'(h_j)ᵀ after_j'ᵀ g_{j+1}     for one beside it
//! ```
//!
//! What is measured is ‖g_0‖ of each sample. The sum of g_0 over all paths is ∂L/∂h_0.

use candle_core::Tensor;
use ir_models::LinearizedBlock;

use crate::checked::Checked;
use crate::draws::{Draws, binomial};
use crate::error::{Error, Result};
use crate::probe::{norms, scale_samples};
use crate::recorded::Recorded;
use crate::results::PathLength;
use crate::statistics::Moments;
use crate::trace::{Trace, TracedBlock};

/// The paths of every length over the batches so far.
pub(crate) struct PathsSoFar {
    /// Number of blocks.
    blocks: usize,
    /// Those drawn of each length, where any are.
    lengths: Vec<(usize, Vec<PathSoFar>)>,
}

struct PathSoFar {
    /// Whether each block's branch is on the path.
    takes: Vec<bool>,
    /// Each sample's norm at h_0.
    norm: Moments,
}

impl PathsSoFar {
    pub(crate) fn new(blocks: usize, draws: Draws) -> Self {
        let path = |taken: Vec<usize>| PathSoFar {
            takes: (0..blocks).map(|block| taken.contains(&block)).collect(),
            norm: Moments::default(),
        };
        let of_length = |length| {
            let drawn = draws.paths(blocks, length).into_iter().map(path);
            (length, drawn.collect::<Vec<_>>())
        };
        let lengths = (0..=blocks).map(of_length);
        Self {
            blocks,
            lengths: lengths.filter(|(_, drawn)| !drawn.is_empty()).collect(),
        }
    }

    /// Adds a batch. Each block is linearised once; a path of length k costs the backward passes of
    /// k branches.
    pub(crate) fn add(&mut self, network: &Checked<'_>, trace: &Trace) -> Result<()> {
        let Some(gradient_last) = &trace.gradient_last else {
            return Ok(());
        };
        let linearize = |(block, traced)| linearized(network, block, traced);
        let blocks = trace.blocks.iter().enumerate().map(linearize);
        let blocks: Vec<_> = blocks.collect::<Result<_>>()?;
        for path in self.lengths.iter_mut().flat_map(|(_, drawn)| drawn) {
            let mut arriving = Arriving::new(gradient_last.clone())?;
            for (block, &takes) in path.takes.iter().enumerate().rev() {
                let back = if takes {
                    blocks[block].back_through_branch(&arriving.gradient)?
                } else {
                    blocks[block].back_through_shortcut(&arriving.gradient)?
                };
                if back.dims() != trace.blocks[block].h.dims() {
                    let position = format!("h_{block}");
                    return Err(Error::NoGradient { position });
                }
                arriving.pass(back)?;
            }
            path.norm.extend(&arriving.norms(&trace.scales));
        }
        Ok(())
    }

    /// `None` before the first sample.
    pub(crate) fn finish(&self) -> Option<Vec<PathLength>> {
        let of_length = |&(length, ref sampled): &(usize, Vec<PathSoFar>)| {
            let mut norm = Moments::default();
            for path in sampled {
                norm.add(path.norm.mean()?);
            }
            let (paths, mean) = (binomial(self.blocks, length), norm.mean()?);
            Some(PathLength {
                length,
                paths: paths.into(),
                sampled: sampled.len(),
                gradient_norm: mean.into(),
                gradient_norm_std: norm.std()?.into(),
                contribution: (paths * mean).into(),
            })
        };
        self.lengths.iter().map(of_length).collect()
    }
}

/// A block at the h_j that it saw: by the network's own rules, or as Candle records it.
fn linearized<'a>(
    network: &'a Checked<'_>,
    block: usize,
    traced: &TracedBlock,
) -> Result<Box<dyn LinearizedBlock + 'a>> {
    if let Some(backward) = network.block_backward()
        && let Some(linearized) = network.linearized(backward, block, &traced.h)?
    {
        return Ok(linearized);
    }
    Ok(Box::new(RecordedBlock::new(network, block, traced)?))
}

/// The three functions of a block, each recorded alone at the values of the whole network's pass.
struct RecordedBlock {
    shortcut: Recorded,
    branch: Recorded,
    after: Recorded,
}

impl RecordedBlock {
    fn new(network: &Checked<'_>, block: usize, traced: &TracedBlock) -> Result<Self> {
        let sum = network.sum(block, &traced.s, &traced.branch)?;
        Ok(Self {
            shortcut: Recorded::new(&traced.h, |h| network.shortcut(block, h))?,
            branch: Recorded::new(&traced.h, |h| network.branch(block, h))?,
            after: Recorded::new(&sum, |sum| network.after(block, sum))?,
        })
    }
}

impl LinearizedBlock for RecordedBlock {
    fn back_through_branch(&self, gradient: &Tensor) -> candle_core::Result<Tensor> {
        self.branch.back(&self.after.back(gradient)?)
    }

    fn back_through_shortcut(&self, gradient: &Tensor) -> candle_core::Result<Tensor> {
        self.shortcut.back(&self.after.back(gradient)?)
    }
}

/// A gradient on its way back: each sample's is `gradient` · 2^`exponent`, since through many
/// branches it would leave f32's range.
struct Arriving {
    gradient: Tensor,
    exponents: Vec<i32>,
    norms: Vec<f64>,
}

impl Arriving {
    fn new(gradient: Tensor) -> Result<Self> {
        let norms = norms(&gradient)?;
        Ok(Self {
            exponents: vec![0; norms.len()],
            gradient,
            norms,
        })
    }

    /// Takes what came back through one block.
    fn pass(&mut self, gradient: Tensor) -> Result<()> {
        if gradient.id() == self.gradient.id() {
            return Ok(());
        }
        self.norms = norms(&gradient)?;
        self.gradient = gradient;
        self.rescale()
    }

    /// Takes powers of two out of samples whose gradient has become very small or large. Each factor
    /// is a function of its own sample and exact, so that no result depends on the batch.
    fn rescale(&mut self) -> Result<()> {
        const RANGE: i32 = 20;
        // Beyond this a factor would leave f32's range itself; the rest is for the next block.
        const MOST: i32 = 100;
        let exponent = |norm: f64| match norm.log2().floor() as i32 {
            exponent if norm > 0.0 && norm.is_finite() && exponent.abs() > RANGE => {
                exponent.clamp(-MOST, MOST)
            }
            _ => 0,
        };
        let exponents: Vec<i32> = self.norms.iter().map(|&norm| exponent(norm)).collect();
        if exponents.iter().all(|&exponent| exponent == 0) {
            return Ok(());
        }
        let factors: Vec<f64> = exponents.iter().map(|&e| 2f64.powi(-e)).collect();
        self.gradient = scale_samples(&self.gradient, &factors)?;
        for (sample, exponent) in exponents.into_iter().enumerate() {
            self.exponents[sample] += exponent;
            self.norms[sample] *= 2f64.powi(-exponent);
        }
        Ok(())
    }

    /// ‖g‖ of each sample, whose gradient began over its scale.
    fn norms(&self, scales: &[f64]) -> Vec<f64> {
        let norms = self.norms.iter().zip(&self.exponents).zip(scales);
        norms
            .map(|((norm, &exponent), scale)| norm * 2f64.powi(exponent) * scale)
            .collect()
    }
}
