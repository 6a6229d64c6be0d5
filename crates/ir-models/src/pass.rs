//! One training pass by explicit rules: forward with batch statistics, then the gradient of
//! every tensor, block by block, without a tape.
//!
//! A pre-activation block with its two convolutions reads
//!
//! ```text
//! inner   = conv1(relu(norm1(h)))
//! h_next  = conv2(relu(norm2(inner))) + shortcut(h)
//! ```
//!
//! so the backward pass keeps two activations a block, h and inner, and recomputes the
//! normalised ones where it needs them. What passes from block j to block j − 1 is ∂L/∂h_j.

use candle_core::Tensor;
use ir_tensor_ops::{ChannelStatistics, Norm, explicit, per_sample};

use crate::error::Result;
use crate::layout::{BatchNorm, BlockLayers, Convolution, TensorSpec};
use crate::resnet::{EPSILON, ResNet};

/// PyTorch's default: running ← 0.9 running + 0.1 batch.
const RUNNING_MOMENTUM: f64 = 0.1;

/// What one batch says about the weights: the loss, the gradient of its mean, and the batch
/// statistics that the running ones have yet to take in.
#[derive(Debug)]
pub struct TrainingPass {
    /// Mean cross-entropy of the batch, in nats.
    pub loss: f64,
    /// Samples whose largest logit is their label's.
    pub correct: usize,
    /// The logits `[N, classes]`.
    pub logits: Tensor,
    gradients: Vec<Option<Tensor>>,
    statistics: Vec<(BatchNorm, ChannelStatistics)>,
}

impl TrainingPass {
    /// The gradient of each trainable tensor of `network`, the network of this pass, in
    /// checkpoint order; shared tensors have the sum over their steps.
    pub fn gradients<'a>(
        &'a self,
        network: &'a ResNet,
    ) -> impl Iterator<Item = (&'a TensorSpec, &'a Tensor)> {
        let with_spec = network.layout.specs.iter().zip(&self.gradients);
        with_spec.filter_map(|(spec, gradient)| gradient.as_ref().map(|gradient| (spec, gradient)))
    }

    /// The statistics of each batch norm's input, in the order in which the pass met them.
    pub(crate) fn statistics(&self) -> &[(BatchNorm, ChannelStatistics)] {
        &self.statistics
    }

    /// The gradient of the tensor with this index in the layout.
    pub(crate) fn gradient(&self, index: usize) -> Option<&Tensor> {
        self.gradients[index].as_ref()
    }
}

/// What the forward pass of a block leaves for the backward pass.
struct Saved {
    h: Tensor,
    norm1: Norm,
    inner: Tensor,
    norm2: Norm,
    /// The sum before pooling, where the block is pooled: only its shape is read.
    sum_shape: Vec<usize>,
}

/// The gradients and statistics collected so far.
struct Collected<'a> {
    network: &'a ResNet,
    gradients: Vec<Option<Tensor>>,
    statistics: Vec<(BatchNorm, ChannelStatistics)>,
}

impl ResNet {
    /// Runs one batch forward and backward with batch statistics. Changes nothing: a step of a
    /// [`Trainer`](crate::Trainer) takes in its gradients and its statistics.
    ///
    /// `images` is `[N, C, H, W]` f32, `labels` is `[N]` u32. The gradients are those of the mean
    /// cross-entropy.
    ///
    /// # Errors
    /// Shapes that do not fit, labels out of range.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use ir_models::{Architecture, ResNet};
    ///
    /// let network = ResNet::initialize(&Architecture::named("resnet-32", 10)?, 0)?;
    /// let images = Tensor::ones((2, 3, 32, 32), DType::F32, &Device::Cpu)?;
    /// let labels = Tensor::new(&[3u32, 7], &Device::Cpu)?;
    /// let pass = network.training_pass(&images, &labels)?;
    /// assert!(pass.loss > 0.0);
    /// // Stem, 15 blocks of two batch norms and two convolutions, two shortcuts, head.
    /// assert_eq!(pass.gradients(&network).count(), 2 + 15 * 8 + 2 * 2 + 4);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn training_pass(&self, images: &Tensor, labels: &Tensor) -> Result<TrainingPass> {
        let mut collected = Collected {
            network: self,
            gradients: vec![None; self.tensors.len()],
            statistics: Vec::with_capacity(2 * self.layout.blocks.len() + 1),
        };
        let stem = &self.layout.stem;
        let mut h = explicit::conv2d(
            images,
            self.weight(stem),
            Some(self.bias(stem)),
            stem.stride,
            stem.padding,
        )?;
        let mut statistics = ChannelStatistics::of(&h)?;
        let mut saved = Vec::with_capacity(self.layout.blocks.len());
        for block in &self.layout.blocks {
            let (next, next_statistics, kept) = collected.block_forward(block, h, statistics)?;
            (h, statistics) = (next, next_statistics);
            saved.push(kept);
        }
        let (logits, mut gradient) = collected.head(&h, statistics, labels)?;
        drop(h);
        for (block, kept) in self.layout.blocks.iter().zip(saved).rev() {
            gradient = collected.block_backward(block, &kept, gradient)?;
        }
        let wanted = explicit::Wanted {
            x: false,
            weight: true,
        };
        let stem_gradients = explicit::conv2d_backward(
            images,
            self.weight(stem),
            stem.stride,
            stem.padding,
            &gradient,
            wanted,
        )?;
        collected.add(stem.weight, stem_gradients.weight)?;
        collected.add(stem.bias, stem_gradients.bias)?;

        let losses = per_sample::cross_entropy(&logits, labels)?;
        let correct = per_sample::correct(&logits, labels)?;
        Ok(TrainingPass {
            loss: losses.iter().sum::<f64>() / losses.len() as f64,
            correct: correct.iter().filter(|&&correct| correct).count(),
            logits,
            gradients: collected.gradients,
            statistics: collected.statistics,
        })
    }

    /// Moves the running statistics towards those of a pass, by 0.1 each, in the order in which
    /// the pass met them: those of a naively shared block move once a step.
    pub(crate) fn take_in_statistics(&self, pass: &TrainingPass) -> Result<()> {
        for (norm, statistics) in &pass.statistics {
            let (mean, variance) = (
                &self.tensors[norm.running_mean],
                &self.tensors[norm.running_variance],
            );
            statistics.update_running(mean, variance, RUNNING_MOMENTUM)?;
        }
        Ok(())
    }

    fn weight(&self, conv: &Convolution) -> &Tensor {
        &self.tensors[conv.weight]
    }

    fn bias(&self, conv: &Convolution) -> &Tensor {
        &self.tensors[conv.bias]
    }
}

impl Collected<'_> {
    /// Resolves a batch norm with the statistics of its input, and keeps them.
    fn norm(&mut self, layer: &BatchNorm, statistics: ChannelStatistics) -> Result<Norm> {
        let (gamma, beta) = (
            &self.network.tensors[layer.gamma],
            &self.network.tensors[layer.beta],
        );
        let norm = Norm::batch(&statistics, gamma, beta, EPSILON)?;
        self.statistics.push((*layer, statistics));
        Ok(norm)
    }

    /// h_{j+1} with its statistics, from h_j with its own.
    fn block_forward(
        &mut self,
        block: &BlockLayers,
        h: Tensor,
        statistics: ChannelStatistics,
    ) -> Result<(Tensor, ChannelStatistics, Saved)> {
        let net = self.network;
        let norm1 = self.norm(&block.norm1, statistics)?;
        let (conv1, conv2) = (&block.conv1, &block.conv2);
        let (inner, inner_statistics) = explicit::norm_relu_conv2d_with_statistics(
            &h,
            &norm1,
            net.weight(conv1),
            net.bias(conv1),
            conv1.stride,
            conv1.padding,
            None,
        )?;
        let norm2 = self.norm(&block.norm2, inner_statistics)?;
        let convolved = match &block.shortcut {
            Some(conv) => Some(explicit::conv2d(
                &h,
                net.weight(conv),
                Some(net.bias(conv)),
                conv.stride,
                conv.padding,
            )?),
            None => None,
        };
        let residual = Some(convolved.as_ref().unwrap_or(&h));
        let (sum, sum_statistics) = explicit::norm_relu_conv2d_with_statistics(
            &inner,
            &norm2,
            net.weight(conv2),
            net.bias(conv2),
            conv2.stride,
            conv2.padding,
            residual,
        )?;
        let saved = Saved {
            sum_shape: sum.dims().to_vec(),
            h,
            norm1,
            inner,
            norm2,
        };
        if block.pooled {
            let pooled = ir_tensor_ops::avg_pool2d(&sum, 2)?;
            let statistics = ChannelStatistics::of(&pooled)?;
            return Ok((pooled, statistics, saved));
        }
        Ok((sum, sum_statistics, saved))
    }

    /// ∂L/∂h_j from ∂L/∂h_{j+1}.
    fn block_backward(
        &mut self,
        block: &BlockLayers,
        saved: &Saved,
        gradient: Tensor,
    ) -> Result<Tensor> {
        let net = self.network;
        let gradient = match block.pooled {
            true => explicit::avg_pool2d_backward(&saved.sum_shape, 2, &gradient)?,
            false => gradient,
        };
        let (conv1, conv2) = (&block.conv1, &block.conv2);
        let inner = explicit::norm_relu_conv2d_backward(
            &saved.inner,
            &saved.norm2,
            net.weight(conv2),
            conv2.stride,
            conv2.padding,
            &gradient,
            None,
        )?;
        self.add_block_half(&block.norm2, conv2, &inner)?;
        let through_shortcut = match &block.shortcut {
            Some(conv) => {
                let wanted = explicit::Wanted {
                    x: true,
                    weight: true,
                };
                let found = explicit::conv2d_backward(
                    &saved.h,
                    net.weight(conv),
                    conv.stride,
                    conv.padding,
                    &gradient,
                    wanted,
                )?;
                self.add(conv.weight, found.weight)?;
                self.add(conv.bias, found.bias)?;
                found.x
            }
            None => Some(gradient),
        };
        let outer = explicit::norm_relu_conv2d_backward(
            &saved.h,
            &saved.norm1,
            net.weight(conv1),
            conv1.stride,
            conv1.padding,
            &inner.x,
            through_shortcut.as_ref(),
        )?;
        self.add_block_half(&block.norm1, conv1, &outer)?;
        Ok(outer.x)
    }

    /// The logits and ∂L/∂h_L.
    fn head(
        &mut self,
        h: &Tensor,
        statistics: ChannelStatistics,
        labels: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        let net = self.network;
        let layout = &net.layout;
        let norm = self.norm(&layout.head_norm, statistics)?;
        let active = explicit::norm_relu(h, &norm)?;
        let pooling = net.architecture().head_pooling;
        let pooled = ir_tensor_ops::avg_pool2d(&active, pooling)?;
        let features = pooled.flatten_from(1)?;
        let weight = &net.tensors[layout.classifier_weight];
        let logits =
            ir_tensor_ops::linear(&features, weight, &net.tensors[layout.classifier_bias])?;

        let gradient = explicit::cross_entropy_backward(&logits, labels)?;
        let linear = explicit::linear_backward(&features, weight, &gradient)?;
        self.add(layout.classifier_weight, Some(linear.weight))?;
        self.add(layout.classifier_bias, Some(linear.bias))?;
        let gradient = linear.x.reshape(pooled.shape())?;
        let gradient = explicit::avg_pool2d_backward(active.dims(), pooling, &gradient)?;
        let found = explicit::norm_relu_backward(h, &norm, &gradient)?;
        self.add(layout.head_norm.gamma, Some(found.gamma))?;
        self.add(layout.head_norm.beta, Some(found.beta))?;
        Ok((logits, found.x))
    }

    fn add_block_half(
        &mut self,
        norm: &BatchNorm,
        conv: &Convolution,
        found: &explicit::NormReluConv2dGradients,
    ) -> Result<()> {
        self.add(norm.gamma, Some(found.gamma.clone()))?;
        self.add(norm.beta, Some(found.beta.clone()))?;
        self.add(conv.weight, Some(found.weight.clone()))?;
        self.add(conv.bias, Some(found.bias.clone()))
    }

    /// Adds to the gradient of one tensor: a shared one is met once a step.
    fn add(&mut self, index: usize, gradient: Option<Tensor>) -> Result<()> {
        let slot = &mut self.gradients[index];
        *slot = match (slot.take(), gradient) {
            (Some(sum), Some(gradient)) => Some((sum + gradient)?),
            (sum, gradient) => gradient.or(sum),
        };
        Ok(())
    }
}
