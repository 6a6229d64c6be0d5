//! A stranger's network, held to the contract of the trait.

use candle_core::{Result as CandleResult, Tensor};
use ir_models::{Block, ResidualNetwork};

use crate::error::{Error, Part, Result};

/// The five functions of a network with their contract checked at every call, so that a
/// mistake in an implementation is reported where it is made. Measures call nothing else.
pub(crate) struct Checked<'a> {
    network: &'a dyn ResidualNetwork,
    blocks: Vec<Block>,
}

impl<'a> Checked<'a> {
    pub(crate) fn new(network: &'a dyn ResidualNetwork) -> Result<Self> {
        let blocks = network.blocks();
        if blocks.is_empty() {
            return Err(Error::NoBlocks);
        }
        let mut previous = None;
        for (block, found) in blocks.iter().map(|block| block.stage).enumerate() {
            let allowed = match previous {
                None => found == 0,
                Some(stage) => found == stage || found == stage + 1,
            };
            if !allowed {
                return Err(Error::StageOrder {
                    block,
                    found,
                    previous,
                });
            }
            previous = Some(found);
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
        Ok((shortcut + branch)?)
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

    /// Logits `[N, classes]`.
    pub(crate) fn head(&self, h: &Tensor) -> Result<Tensor> {
        let logits = named(Part::Head, self.network.head(h))?;
        let samples = h.dims().first().copied().unwrap_or(0);
        match *logits.dims() {
            [found, classes] if found == samples && classes > 0 => Ok(logits),
            _ => Err(Error::Logits {
                samples,
                found: logits.dims().to_vec(),
            }),
        }
    }
}

fn named(part: Part, result: CandleResult<Tensor>) -> Result<Tensor> {
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
