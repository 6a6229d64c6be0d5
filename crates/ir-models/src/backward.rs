//! Explicit gradients of the paper's networks as they evaluate.

use candle_core::Tensor;
use ir_tensor_ops::explicit::Wanted;
use ir_tensor_ops::{Activation, Gradient, Norm, together};

use crate::layout::BlockLayers;
use crate::network::{BlockBackward, BlockGradients, LinearizedBlock};
use crate::resnet::ResNet;

/// The weights are constants.
pub(crate) const OF_X: Wanted = Wanted {
    x: true,
    weight: false,
};

impl BlockBackward for ResNet {
    fn gradients(
        &self,
        block: usize,
        h: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<BlockGradients> {
        let block = self.block(block)?;
        Ok(together(|| self.block_gradients(block, h, gradient))?)
    }

    fn head_gradient(&self, h: &Tensor, gradient: &Tensor) -> candle_core::Result<Tensor> {
        Ok(together(|| {
            let h = Activation::from_tensor(&self.workspace, h)?;
            let [batch, channels, height, width] = h.dims();
            let (norm, pooling) = (
                self.running_norm(&self.layout.head_norm)?,
                self.architecture().head_pooling,
            );
            let weight = &self.tensors[self.layout.classifier_weight];
            let features = (channels, height / pooling, width / pooling);
            let features = gradient
                .matmul(weight)?
                .reshape((batch, features.0, features.1, features.2))?;
            let features = Activation::from_tensor(&self.workspace, &features)?;
            let (gradient, _) = h.norm_relu_avg_pool2d_backward(&norm, pooling, &features)?;
            gradient.whole().to_tensor()
        })?)
    }

    fn linearized<'a>(
        &'a self,
        block: usize,
        h: &Tensor,
    ) -> candle_core::Result<Option<Box<dyn LinearizedBlock + 'a>>> {
        let block = self.block(block)?;
        Ok(Some(Box::new(Linearized::new(self, block, h)?)))
    }
}

impl ResNet {
    fn block_gradients(
        &self,
        block: &BlockLayers,
        h: &Tensor,
        gradient: &Tensor,
    ) -> ir_tensor_ops::Result<BlockGradients> {
        let h = Activation::from_tensor(&self.workspace, h)?;
        let (conv1, conv2) = (
            self.convolution(&block.conv1),
            self.convolution(&block.conv2),
        );
        let norm1 = self.running_norm(&block.norm1)?;
        let norm2 = self.running_norm(&block.norm2)?;
        let inner = h.norm_relu_conv2d(&norm1, conv1, None)?;
        let mut sum = Activation::from_tensor(&self.workspace, gradient)?;
        if block.pooled {
            let [batch, _, height, width] = inner.dims();
            let channels = conv2.weight.dims()[0];
            sum = sum.avg_pool2d_backward(2, [batch, channels, height, width])?;
        }
        let of_sum = if block.pooled {
            sum.to_tensor()?
        } else {
            gradient.clone()
        };
        let mut sum = Gradient::from(sum);
        let mut inner = inner.norm_relu_conv2d_input_gradient(&norm2, conv2, &mut sum, None)?;
        let through_shortcut = match &block.shortcut {
            Some(conv) => {
                let found = h.conv2d_backward(self.convolution(conv), &mut sum, OF_X)?;
                found.x
            }
            None => Some(sum),
        };
        let added = through_shortcut.map(Gradient::whole);
        let of_h = h.norm_relu_conv2d_input_gradient(&norm1, conv1, &mut inner, added)?;
        Ok(BlockGradients {
            sum: of_sum,
            h: of_h.whole().to_tensor()?,
        })
    }
}

/// A block with what its branch computes at one h.
struct Linearized<'a> {
    network: &'a ResNet,
    block: &'a BlockLayers,
    h: Activation,
    norm1: Norm,
    inner: Activation,
    norm2: Norm,
}

impl<'a> Linearized<'a> {
    fn new(network: &'a ResNet, block: &'a BlockLayers, h: &Tensor) -> ir_tensor_ops::Result<Self> {
        together(|| {
            let norm1 = network.running_norm(&block.norm1)?;
            let h = Activation::from_tensor(&network.workspace, h)?;
            let inner = h.norm_relu_conv2d(&norm1, network.convolution(&block.conv1), None)?;
            Ok(Self {
                norm2: network.running_norm(&block.norm2)?,
                network,
                block,
                h,
                norm1,
                inner,
            })
        })
    }

    /// ∂L/∂(s + F).
    fn back_through_after(&self, gradient: &Tensor) -> ir_tensor_ops::Result<Activation> {
        let gradient = Activation::from_tensor(&self.network.workspace, gradient)?;
        if !self.block.pooled {
            return Ok(gradient);
        }
        let channels = gradient.dims()[1];
        let [batch, _, height, width] = self.inner.dims();
        gradient.avg_pool2d_backward(2, [batch, channels, height, width])
    }
}

impl LinearizedBlock for Linearized<'_> {
    fn back_through_branch(&self, gradient: &Tensor) -> candle_core::Result<Tensor> {
        let layer = |layer| self.network.convolution(layer);
        let (conv1, conv2) = (layer(&self.block.conv1), layer(&self.block.conv2));
        let found = together(|| {
            let sum = self.back_through_after(gradient)?;
            let inner = &self.inner;
            let inner = inner.norm_relu_conv2d_input_gradient_at(&self.norm2, conv2, sum)?;
            let h = &self.h;
            h.norm_relu_conv2d_input_gradient_at(&self.norm1, conv1, inner)?
                .to_tensor()
        });
        Ok(found?)
    }

    fn back_through_shortcut(&self, gradient: &Tensor) -> candle_core::Result<Tensor> {
        let shortcut = self.block.shortcut.as_ref();
        if shortcut.is_none() && !self.block.pooled {
            return Ok(gradient.clone());
        }
        let found = together(|| {
            let sum = self.back_through_after(gradient)?;
            match shortcut {
                None => sum.to_tensor(),
                Some(conv) => {
                    let conv = self.network.convolution(conv);
                    let found = self.h.conv2d_backward(conv, &mut sum.into(), OF_X)?;
                    found.x.expect("it was wanted").whole().to_tensor()
                }
            }
        });
        Ok(found?)
    }
}
