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
use ir_tensor_ops::{
    Activation, ActivationGradients, ChannelStatistics, Gradient, Norm, NormGradients, explicit,
    per_sample, together,
};

use crate::error::Result;
use crate::layout::{BatchNorm, BlockLayers, Convolution, TensorSpec};
use crate::resnet::{EPSILON, ResNet};

/// PyTorch's default: running ← 0.9 running + 0.1 batch.
pub(crate) const RUNNING_MOMENTUM: f64 = 0.1;

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
    /// One a tensor of the network, in checkpoint order; `None` for those not trained.
    pub(crate) gradients: Vec<Option<Tensor>>,
    /// Those of each batch norm's input, in the order in which the pass met them.
    pub(crate) statistics: Vec<(BatchNorm, ChannelStatistics)>,
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

    /// The statistics of each batch norm's input in this batch, in the order in which the pass of `network` met them, each with the
    /// running mean that takes them in.
    ///
    /// ```
    /// # use candle_core::{DType, Device, Tensor};
    /// # use ir_models::{Architecture, ResNet};
    /// let network = ResNet::initialize(&Architecture::named("resnet-32", 10)?, 0)?;
    /// let images = Tensor::ones((2, 3, 32, 32), DType::F32, &Device::Cpu)?;
    /// let labels = Tensor::new(&[3u32, 7], &Device::Cpu)?;
    /// let pass = network.training_pass(&images, &labels)?;
    /// // Two in each of 15 blocks, and one in the head.
    /// let (spec, statistics) = pass.statistics(&network).next().expect("there are 31");
    /// assert_eq!((spec.name.as_str(), statistics.mean.len()), ("blocks.0.bn1.running_mean", 16));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn statistics<'a>(
        &'a self,
        network: &'a ResNet,
    ) -> impl Iterator<Item = (&'a TensorSpec, &'a ChannelStatistics)> {
        let of_norms = self.statistics.iter();
        of_norms.map(|(norm, statistics)| (&network.layout.specs[norm.running_mean], statistics))
    }

    /// √(mean of ‖h_j‖² over the batch), j = 0 … L, with every batch norm on the statistics of this
    /// batch: how large the representations are while the network trains. (An evaluation uses
    /// running statistics, which before the first steps leave everything as it is.)
    ///
    /// They follow from the statistics of the batch norms that read h_j: Σ_c H W (μ_c² + σ_c²).
    ///
    /// ```
    /// # use candle_core::{DType, Device, Tensor};
    /// # use ir_models::{Architecture, ResNet};
    /// let network = ResNet::initialize(&Architecture::named("resnet-32", 10)?, 0)?;
    /// let images = Tensor::ones((2, 3, 32, 32), DType::F32, &Device::Cpu)?;
    /// let labels = Tensor::new(&[3u32, 7], &Device::Cpu)?;
    /// let norms = network.training_pass(&images, &labels)?.representation_norms();
    /// assert_eq!(norms.len(), 16);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn representation_norms(&self) -> Vec<f64> {
        let samples = self.logits.dims()[0];
        let norm = |statistics: &ChannelStatistics| {
            let squares = statistics.mean.iter().zip(&statistics.variance);
            let per_place: f64 = squares
                .map(|(&mean, &variance)| f64::from(mean).powi(2) + f64::from(variance))
                .sum();
            (per_place * statistics.count as f64 / samples as f64).sqrt()
        };
        // Of the two batch norms of a block, the first reads h_j; that of the head reads h_L.
        let reads_h = self.statistics.iter().step_by(2);
        reads_h.map(|(_, statistics)| norm(statistics)).collect()
    }
}

/// What the forward pass of a block leaves for the backward pass.
struct Saved {
    h: Activation,
    norm1: Norm,
    inner: Activation,
    norm2: Norm,
    /// The dimensions of the sum before pooling, where the block is pooled.
    unpooled: Option<[usize; 4]>,
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
        together(|| self.pass(images, labels))
    }

    fn pass(&self, images: &Tensor, labels: &Tensor) -> Result<TrainingPass> {
        let mut collected = Collected {
            network: self,
            gradients: vec![None; self.tensors.len()],
            statistics: Vec::with_capacity(2 * self.layout.blocks.len() + 1),
        };
        let stem = &self.layout.stem;
        let images = Activation::from_tensor(&self.workspace, images)?;
        let (mut h, mut statistics) = images.conv2d_with_statistics(self.convolution(stem))?;
        let mut saved = Vec::with_capacity(self.layout.blocks.len());
        for block in &self.layout.blocks {
            let (next, next_statistics, kept) = collected.block_forward(block, h, statistics)?;
            (h, statistics) = (next, next_statistics);
            saved.push(kept);
        }
        let (logits, mut gradient) = collected.head(h, statistics, labels)?;
        for (block, kept) in self.layout.blocks.iter().zip(saved).rev() {
            gradient = collected.block_backward(block, kept, gradient)?;
        }
        let wanted = explicit::Wanted {
            x: false,
            weight: true,
        };
        let found = images.conv2d_backward(self.convolution(stem), &mut gradient, wanted)?;
        collected.add_convolution(stem, found)?;

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
        h: Activation,
        statistics: ChannelStatistics,
    ) -> Result<(Activation, ChannelStatistics, Saved)> {
        let net = self.network;
        let norm1 = self.norm(&block.norm1, statistics)?;
        let (inner, statistics) =
            h.norm_relu_conv2d_with_statistics(&norm1, net.convolution(&block.conv1), None)?;
        let norm2 = self.norm(&block.norm2, statistics)?;
        let shortcut = match &block.shortcut {
            Some(conv) => Some(h.conv2d(net.convolution(conv))?),
            None => None,
        };
        let residual = Some(shortcut.as_ref().unwrap_or(&h));
        let conv2 = net.convolution(&block.conv2);
        let (sum, statistics) = inner.norm_relu_conv2d_with_statistics(&norm2, conv2, residual)?;
        let mut saved = Saved {
            h,
            norm1,
            inner,
            norm2,
            unpooled: None,
        };
        if !block.pooled {
            return Ok((sum, statistics, saved));
        }
        let pooled = sum.avg_pool2d(2)?;
        let statistics = pooled.statistics();
        saved.unpooled = Some(sum.dims());
        Ok((pooled, statistics, saved))
    }

    /// ∂L/∂h_j from ∂L/∂h_{j+1}.
    fn block_backward(
        &mut self,
        block: &BlockLayers,
        saved: Saved,
        gradient: Gradient,
    ) -> Result<Gradient> {
        let net = self.network;
        let mut gradient = match saved.unpooled {
            Some(dims) => gradient.whole().avg_pool2d_backward(2, dims)?.into(),
            None => gradient,
        };
        let (inner, conv2) = (saved.inner, net.convolution(&block.conv2));
        let found = inner.norm_relu_conv2d_backward(&saved.norm2, conv2, &mut gradient, None)?;
        let mut inner_gradient = self.add_half(&block.norm2, &block.conv2, found)?;
        let through_shortcut = match &block.shortcut {
            Some(conv) => {
                let wanted = explicit::Wanted {
                    x: true,
                    weight: true,
                };
                let layer = net.convolution(conv);
                let found = saved.h.conv2d_backward(layer, &mut gradient, wanted)?;
                self.add_convolution(conv, found)?
            }
            None => Some(gradient),
        };
        let found = saved.h.norm_relu_conv2d_backward(
            &saved.norm1,
            net.convolution(&block.conv1),
            &mut inner_gradient,
            through_shortcut.map(Gradient::whole),
        )?;
        self.add_half(&block.norm1, &block.conv1, found)
    }

    /// The logits and ∂L/∂h_L.
    fn head(
        &mut self,
        h: Activation,
        statistics: ChannelStatistics,
        labels: &Tensor,
    ) -> Result<(Tensor, Gradient)> {
        let net = self.network;
        let layout = &net.layout;
        let norm = self.norm(&layout.head_norm, statistics)?;
        let pooling = net.architecture().head_pooling;
        let pooled = h.norm_relu_avg_pool2d(&norm, pooling)?.to_tensor()?;
        let features = pooled.flatten_from(1)?;
        let weight = &net.tensors[layout.classifier_weight];
        let logits =
            ir_tensor_ops::linear(&features, weight, &net.tensors[layout.classifier_bias])?;

        let gradient = explicit::cross_entropy_backward(&logits, labels)?;
        let linear = explicit::linear_backward(&features, weight, &gradient)?;
        self.add(layout.classifier_weight, linear.weight)?;
        self.add(layout.classifier_bias, linear.bias)?;
        let gradient = linear.x.reshape(pooled.shape())?;
        let gradient = Activation::from_tensor(&net.workspace, &gradient)?;
        let (gradient, of_norm) = h.norm_relu_avg_pool2d_backward(&norm, pooling, &gradient)?;
        self.add_norm(&layout.head_norm, of_norm)?;
        Ok((logits, gradient))
    }

    /// Adds the gradients of a batch norm and the convolution behind it; gives that of x.
    fn add_half(
        &mut self,
        norm: &BatchNorm,
        conv: &Convolution,
        mut found: ActivationGradients,
    ) -> Result<Gradient> {
        if let Some(of_norm) = found.norm.take() {
            self.add_norm(norm, of_norm)?;
        }
        let x = self.add_convolution(conv, found)?;
        x.ok_or_else(|| candle_core::Error::msg("a backward pass gave no gradient of x").into())
    }

    /// Adds the gradients of a convolution's parameters; gives that of x.
    fn add_convolution(
        &mut self,
        conv: &Convolution,
        found: ActivationGradients,
    ) -> Result<Option<Gradient>> {
        for (index, gradient) in [(conv.weight, found.weight), (conv.bias, found.bias)] {
            if let Some(gradient) = gradient {
                self.add(index, gradient)?;
            }
        }
        Ok(found.x)
    }

    fn add_norm(&mut self, norm: &BatchNorm, found: NormGradients) -> Result<()> {
        self.add(norm.gamma, found.gamma)?;
        self.add(norm.beta, found.beta)
    }

    /// Adds to the gradient of one tensor: a shared one is met once a step.
    fn add(&mut self, index: usize, gradient: Tensor) -> Result<()> {
        let slot = &mut self.gradients[index];
        *slot = Some(match slot.take() {
            Some(sum) => (sum + gradient)?,
            None => gradient,
        });
        Ok(())
    }
}
