//! A stranger's network, held to the contract of the trait.

use candle_core::{Result as CandleResult, Tensor};
use ir_models::{Block, BlockBackward, BlockGradients, LinearizedBlock, ResidualNetwork};
use ir_tensor_ops::{explicit, together};

use crate::error::{Error, Part, Result};
use crate::probe::is_ours;

/// The five functions of a network with their contract checked at every call, so that a
/// mistake in an implementation is reported where it is made. Measures call nothing else but
/// the plain way to the logits.
pub(crate) struct Checked<'a> {
    network: &'a dyn ResidualNetwork,
    blocks: Vec<Block>,
}

impl<'a> Checked<'a> {
    pub(crate) fn new(network: &'a dyn ResidualNetwork) -> Result<Self> {
        let blocks = network.blocks();
        let Some(first) = blocks.first() else {
            return Err(Error::NoBlocks);
        };
        if first.stage != 0 {
            return Err(Error::FirstStage { found: first.stage });
        }
        for (block, pair) in (1..).zip(blocks.windows(2)) {
            let (previous, found) = (pair[0].stage, pair[1].stage);
            if found < previous || found > previous + 1 {
                return Err(Error::StageOrder {
                    block,
                    found,
                    previous,
                });
            }
        }
        Ok(Self { network, blocks })
    }

    pub(crate) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    pub(crate) fn is_transition(&self, block: usize) -> bool {
        self.blocks[block].transition
    }

    /// L − 1; there is always a block.
    pub(crate) fn last_block(&self) -> usize {
        self.blocks.len() - 1
    }

    /// The first block of the last stage.
    pub(crate) fn last_stage_start(&self) -> usize {
        let last = self.blocks[self.last_block()].stage;
        self.blocks.partition_point(|block| block.stage < last)
    }

    pub(crate) fn stem(&self, images: &Tensor) -> Result<Tensor> {
        let h = named(Part::Stem, self.network.stem(images))?;
        same_batch(Part::Stem, images, h)
    }

    /// s_j.
    pub(crate) fn shortcut(&self, block: usize, h: &Tensor) -> Result<Tensor> {
        let part = Part::Shortcut(block);
        let s = same_batch(part, h, named(part, self.network.shortcut(block, h))?)?;
        if !self.is_transition(block) && s.dims() != h.dims() {
            return Err(Error::NotIdentity {
                block,
                input: h.dims().to_vec(),
                shortcut: s.dims().to_vec(),
            });
        }
        Ok(s)
    }

    /// F_j.
    pub(crate) fn branch(&self, block: usize, h: &Tensor) -> Result<Tensor> {
        let part = Part::Branch(block);
        same_batch(part, h, named(part, self.network.branch(block, h))?)
    }

    /// s_j + F_j.
    pub(crate) fn sum(&self, block: usize, shortcut: &Tensor, branch: &Tensor) -> Result<Tensor> {
        if shortcut.dims() != branch.dims() {
            return Err(Error::BlockShapes {
                block,
                shortcut: shortcut.dims().to_vec(),
                branch: branch.dims().to_vec(),
            });
        }
        let plain = |x: &Tensor| !x.track_op() && is_ours(x);
        if plain(shortcut) && plain(branch) {
            return Ok(explicit::add(shortcut, branch)?);
        }
        Ok((shortcut + branch)?)
    }

    /// The network's own way to take gradients through its blocks.
    pub(crate) fn block_backward(&self) -> Option<&dyn BlockBackward> {
        self.network.block_backward()
    }

    /// Does `work` with rayon's threads at hand if the network computes by rules of its own, which
    /// are the operations of ir-tensor-ops. Candle's bring threads of their own, and wait for each
    /// of them: two sets of waiting threads take the processors from one another.
    pub(crate) fn together<R>(&self, work: impl FnOnce() -> R) -> R {
        match self.block_backward() {
            Some(_) => together(work),
            None => work(),
        }
    }

    /// ∂L/∂h_j and ∂L/∂s_j by that way.
    pub(crate) fn gradients(
        &self,
        backward: &dyn BlockBackward,
        block: usize,
        h: &Tensor,
        gradient: &Tensor,
    ) -> Result<BlockGradients> {
        let found = named(Part::Block(block), backward.gradients(block, h, gradient))?;
        if found.h.dims() != h.dims() {
            return Err(Error::NoGradient {
                position: format!("h_{block}"),
            });
        }
        Ok(found)
    }

    /// A block at an h, by that way, if it has one.
    pub(crate) fn linearized<'b>(
        &self,
        backward: &'b dyn BlockBackward,
        block: usize,
        h: &Tensor,
    ) -> Result<Option<Box<dyn LinearizedBlock + 'b>>> {
        named(Part::Block(block), backward.linearized(block, h))
    }

    /// The gradient at h_L, from that at the logits, by that way.
    pub(crate) fn head_gradient(
        &self,
        backward: &dyn BlockBackward,
        h: &Tensor,
        gradient: &Tensor,
    ) -> Result<Tensor> {
        named(Part::Head, backward.head_gradient(h, gradient))
    }

    /// h_{j+1} from the sum.
    pub(crate) fn after(&self, block: usize, sum: &Tensor) -> Result<Tensor> {
        let part = Part::After(block);
        same_batch(part, sum, named(part, self.network.after(block, sum))?)
    }

    /// h_{j+1} from h_j, without a record for gradients.
    pub(crate) fn step(&self, block: usize, h: &Tensor) -> Result<Tensor> {
        let shortcut = self.shortcut(block, h)?;
        let branch = self.branch(block, h)?;
        let sum = self.sum(block, &shortcut, &branch)?;
        Ok(self.after(block, &sum)?.detach())
    }

    /// Logits `[N, classes]` from h_j on, without a record for gradients.
    ///
    /// By the network's own way; if anything is wrong there, a function that is wrong too is named instead.
    pub(crate) fn logits_from(&self, block: usize, h: &Tensor) -> Result<Tensor> {
        let found = named(Part::LogitsFrom(block), self.network.logits_from(block, h));
        let error = match found.and_then(|logits| logits_of(h, logits)) {
            Ok(logits) => return Ok(logits.detach()),
            Err(error) => error,
        };
        let mut h = h.clone();
        for later in block..=self.last_block() {
            h = self.step(later, &h)?;
        }
        self.head(&h)?;
        Err(error)
    }

    /// Logits `[N, classes]`.
    pub(crate) fn head(&self, h: &Tensor) -> Result<Tensor> {
        logits_of(h, named(Part::Head, self.network.head(h))?)
    }
}

/// `logits` if it has the shape of those of a batch.
fn logits_of(h: &Tensor, logits: Tensor) -> Result<Tensor> {
    let samples = h.dims().first().copied().unwrap_or(0);
    match *logits.dims() {
        [found, classes] if found == samples && classes > 0 => Ok(logits),
        _ => Err(Error::Logits {
            samples,
            found: logits.dims().to_vec(),
        }),
    }
}

fn named<T>(part: Part, result: CandleResult<T>) -> Result<T> {
    result.map_err(|source| Error::Network { part, source })
}

/// `output` if it has as many samples as `input`.
fn same_batch(part: Part, input: &Tensor, output: Tensor) -> Result<Tensor> {
    let expected = input.dims().first().copied().unwrap_or(0);
    if output.dims().first() != Some(&expected) {
        return Err(Error::BatchSize {
            part,
            expected,
            found: output.dims().to_vec(),
        });
    }
    Ok(output)
}
