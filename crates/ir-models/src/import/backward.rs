//! Explicit gradients of an imported network.

use candle_core::{Result, Tensor};
use ir_tensor_ops::explicit::{add, relu, relu_backward};

use super::network::{ImportedBlock, ImportedResNet};
use crate::network::{BlockBackward, BlockGradients, LinearizedBlock};

impl BlockBackward for ImportedResNet {
    fn gradients(&self, block: usize, h: &Tensor, gradient: &Tensor) -> Result<BlockGradients> {
        let block = Linearized::new(self.block(block)?, h)?;
        let sum = block.through_after(gradient)?;
        let branch = block.through_branch(&sum)?;
        let h = add(&block.through_shortcut(&sum)?, &branch)?;
        Ok(BlockGradients { sum, h })
    }

    fn head_gradient(&self, h: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        let features = gradient.matmul(self.classifier_weight())?;
        let (_, _, height, width) = h.dims4()?;
        let (batch, channels) = features.dims2()?;
        let mean = (features / (height * width) as f64)?.reshape((batch, channels, 1, 1))?;
        mean.broadcast_as(h.shape())?.contiguous()
    }

    fn linearized<'a>(
        &'a self,
        block: usize,
        h: &Tensor,
    ) -> Result<Option<Box<dyn LinearizedBlock + 'a>>> {
        Ok(Some(Box::new(Linearized::new(self.block(block)?, h)?)))
    }
}

/// A block with what it computes at one h.
struct Linearized<'a> {
    block: &'a ImportedBlock,
    /// What each convolution of the branch reads; all but the first, which is h, come from a ReLU.
    inputs: Vec<Tensor>,
    /// s + F.
    sum: Tensor,
}

impl<'a> Linearized<'a> {
    fn new(block: &'a ImportedBlock, h: &Tensor) -> Result<Self> {
        let h = h.detach();
        let (mut inputs, mut branch) = (Vec::new(), h.clone());
        for (index, convolution) in block.branch.iter().enumerate() {
            let input = if index > 0 { relu(&branch)? } else { branch };
            branch = convolution.apply(&input)?;
            inputs.push(input);
        }
        let sum = add(&block.shortcut(&h)?, &branch)?;
        Ok(Self { block, inputs, sum })
    }

    fn through_after(&self, gradient: &Tensor) -> Result<Tensor> {
        Ok(relu_backward(&self.sum, gradient)?)
    }

    fn through_branch(&self, gradient: &Tensor) -> Result<Tensor> {
        let mut gradient = gradient.clone();
        let layers = self.block.branch.iter().zip(&self.inputs).enumerate();
        for (index, (convolution, input)) in layers.rev() {
            gradient = convolution.input_gradient(input, &gradient)?;
            if index > 0 {
                gradient = relu_backward(input, &gradient)?;
            }
        }
        Ok(gradient)
    }

    fn through_shortcut(&self, gradient: &Tensor) -> Result<Tensor> {
        match &self.block.shortcut {
            Some(convolution) => convolution.input_gradient(&self.inputs[0], gradient),
            None => Ok(gradient.clone()),
        }
    }
}

impl LinearizedBlock for Linearized<'_> {
    fn back_through_branch(&self, gradient: &Tensor) -> Result<Tensor> {
        self.through_branch(&self.through_after(gradient)?)
    }

    fn back_through_shortcut(&self, gradient: &Tensor) -> Result<Tensor> {
        self.through_shortcut(&self.through_after(gradient)?)
    }
}
