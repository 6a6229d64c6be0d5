//! The paper's networks, built from an [`Architecture`].

use candle_core::Tensor;
use ir_tensor_ops::{
    Activation, Conv2d, Norm, Workspace, avg_pool2d, frozen_norm_relu, frozen_norm_relu_conv2d,
    linear, together,
};

use crate::architecture::Architecture;
use crate::error::Result;
use crate::initialize;
use crate::layout::{BatchNorm, BlockLayers, Convolution, Layout, TensorSpec};
use crate::network::{Block, BlockBackward, ResidualNetwork, step_by_step};

/// ε in every batch norm, PyTorch's default: y = γ (x − mean) / √(variance + ε) + β. A channel whose
/// variance is 0 thus has a value, y = β, and a gradient.
pub const EPSILON: f64 = 1e-5;

/// A pre-activation residual network of the paper (section 4), f32 on the CPU.
///
/// As a [`ResidualNetwork`] it evaluates: batch norm reads its running statistics, and Candle's
/// autograd reaches the representations but not the weights, which are constants there. Training
/// goes by explicit rules, see [`crate::Trainer`], and changes the weights in place: a clone
/// of a `ResNet` shares them, [`ResNet::deep_clone`] does not.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use ir_models::{Architecture, ResNet, ResidualNetwork};
///
/// let network = ResNet::initialize(&Architecture::named("resnet-32", 10)?, 0)?;
/// let images = Tensor::zeros((2, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// assert_eq!(network.logits(&images)?.dims(), [2, 10]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ResNet {
    architecture: Architecture,
    pub(crate) layout: Layout,
    pub(crate) tensors: Vec<Tensor>,
    pub(crate) workspace: Workspace,
}

impl ResNet {
    /// An untrained network: He-normal weights N(0, 2 / fan_in), biases and β 0, γ 1 (or what
    /// the architecture's sharing says), running mean 0 and variance 1. Every weight is a
    /// function of the seed and its place in the network.
    ///
    /// # Errors
    /// [`crate::Error::InvalidArchitecture`].
    pub fn initialize(architecture: &Architecture, seed: u64) -> Result<Self> {
        Self::from_tensors(architecture, |spec| initialize::tensor(spec, seed))
    }

    /// A network from tensors that the caller finds by name, as those of a checkpoint: f32 on
    /// the CPU. Contiguous ones are shared, not copied, and training changes them in place.
    ///
    /// # Errors
    /// [`crate::Error::InvalidArchitecture`], whatever `find` reports, and
    /// [`candle_core::Error::UnexpectedShape`] where it returns another shape than asked for.
    pub fn from_tensors(
        architecture: &Architecture,
        mut find: impl FnMut(&TensorSpec) -> Result<Tensor>,
    ) -> Result<Self> {
        architecture.check()?;
        let layout = Layout::new(architecture);
        let checked = |spec: &TensorSpec| -> Result<Tensor> {
            let tensor = find(spec)?;
            if tensor.dims() != spec.shape {
                return Err(candle_core::Error::UnexpectedShape {
                    msg: format!("tensor {}", spec.name),
                    expected: spec.shape.clone().into(),
                    got: tensor.shape().clone(),
                }
                .into());
            }
            Ok(tensor.contiguous()?)
        };
        let tensors = layout.specs.iter().map(checked).collect::<Result<_>>()?;
        Ok(Self {
            architecture: architecture.clone(),
            layout,
            tensors,
            workspace: Workspace::default(),
        })
    }

    /// The description that it was built from.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Every tensor with what it is, in checkpoint order; shared ones once.
    pub fn tensors(&self) -> impl Iterator<Item = (&TensorSpec, &Tensor)> {
        self.layout.specs.iter().zip(&self.tensors)
    }

    /// A tensor by its checkpoint name.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors()
            .find(|(spec, _)| spec.name == name)
            .map(|(_, tensor)| tensor)
    }

    /// A copy with weights of its own, which training this one leaves alone.
    ///
    /// # Errors
    /// Whatever Candle reports.
    pub fn deep_clone(&self) -> Result<Self> {
        let tensors = self
            .tensors
            .iter()
            .map(Tensor::copy)
            .collect::<candle_core::Result<_>>()?;
        Ok(Self {
            architecture: self.architecture.clone(),
            layout: self.layout.clone(),
            tensors,
            workspace: Workspace::default(),
        })
    }

    pub(crate) fn block(&self, index: usize) -> candle_core::Result<&BlockLayers> {
        let blocks = &self.layout.blocks;
        blocks.get(index).ok_or_else(|| {
            let last = blocks.len() - 1;
            candle_core::Error::Msg(format!("block {index}: the network has blocks 0 to {last}"))
        })
    }

    /// A convolution with its tensors.
    pub(crate) fn convolution(&self, layer: &Convolution) -> Conv2d<'_> {
        Conv2d {
            weight: &self.tensors[layer.weight],
            bias: &self.tensors[layer.bias],
            stride: layer.stride,
            padding: layer.padding,
        }
    }

    /// h_{j+1} from h_j, with running statistics.
    fn evaluate_block(
        &self,
        block: &BlockLayers,
        h: &Activation,
    ) -> ir_tensor_ops::Result<Activation> {
        let norm1 = self.running_norm(&block.norm1)?;
        let inner = h.norm_relu_conv2d(&norm1, self.convolution(&block.conv1), None)?;
        let shortcut = match &block.shortcut {
            Some(conv) => Some(h.conv2d(self.convolution(conv))?),
            None => None,
        };
        let norm2 = self.running_norm(&block.norm2)?;
        let residual = Some(shortcut.as_ref().unwrap_or(h));
        let sum = inner.norm_relu_conv2d(&norm2, self.convolution(&block.conv2), residual)?;
        if block.pooled {
            sum.avg_pool2d(2)
        } else {
            Ok(sum)
        }
    }

    /// The logits from h_j on, with running statistics.
    fn evaluate_from(&self, first: usize, mut h: Activation) -> ir_tensor_ops::Result<Tensor> {
        for block in self.layout.blocks.iter().skip(first) {
            h = self.evaluate_block(block, &h)?;
        }
        self.evaluate_head(&h)
    }

    fn evaluate_head(&self, h: &Activation) -> ir_tensor_ops::Result<Tensor> {
        let norm = self.running_norm(&self.layout.head_norm)?;
        let pooled = h.norm_relu_avg_pool2d(&norm, self.architecture.head_pooling)?;
        let features = pooled.to_tensor()?.flatten_from(1)?;
        let weight = &self.tensors[self.layout.classifier_weight];
        let bias = &self.tensors[self.layout.classifier_bias];
        linear(&features, weight, bias)
    }

    /// The batch norm as evaluation reads it.
    pub(crate) fn running_norm(&self, norm: &BatchNorm) -> ir_tensor_ops::Result<Norm> {
        Norm::running(
            &self.tensors[norm.running_mean],
            &self.tensors[norm.running_variance],
            &self.tensors[norm.gamma],
            &self.tensors[norm.beta],
            EPSILON,
        )
    }

    fn norm_relu_conv2d(
        &self,
        x: &Tensor,
        norm: &BatchNorm,
        conv: &Convolution,
    ) -> ir_tensor_ops::Result<Tensor> {
        let (weight, bias) = (&self.tensors[conv.weight], &self.tensors[conv.bias]);
        frozen_norm_relu_conv2d(
            x,
            &self.running_norm(norm)?,
            weight,
            bias,
            conv.stride,
            conv.padding,
        )
    }

    fn conv2d(&self, x: &Tensor, conv: &Convolution) -> ir_tensor_ops::Result<Tensor> {
        let (weight, bias) = (&self.tensors[conv.weight], &self.tensors[conv.bias]);
        ir_tensor_ops::conv2d(x, weight, Some(bias), conv.stride, conv.padding)
    }
}

impl ResidualNetwork for ResNet {
    fn blocks(&self) -> Vec<Block> {
        self.layout.blocks()
    }

    fn stem(&self, images: &Tensor) -> candle_core::Result<Tensor> {
        Ok(self.conv2d(images, &self.layout.stem)?)
    }

    fn shortcut(&self, block: usize, h: &Tensor) -> candle_core::Result<Tensor> {
        match &self.block(block)?.shortcut {
            Some(conv) => Ok(self.conv2d(h, conv)?),
            None => Ok(h.clone()),
        }
    }

    fn branch(&self, block: usize, h: &Tensor) -> candle_core::Result<Tensor> {
        let block = self.block(block)?;
        if !h.track_op() {
            return Ok(together(|| {
                let h = Activation::from_tensor(&self.workspace, h)?;
                let norm = self.running_norm(&block.norm1)?;
                let inner = h.norm_relu_conv2d(&norm, self.convolution(&block.conv1), None)?;
                let (conv, norm) = (&block.conv2, self.running_norm(&block.norm2)?);
                let branch = inner.norm_relu_conv2d(&norm, self.convolution(conv), None)?;
                branch.to_tensor()
            })?);
        }
        let inner = self.norm_relu_conv2d(h, &block.norm1, &block.conv1)?;
        Ok(self.norm_relu_conv2d(&inner, &block.norm2, &block.conv2)?)
    }

    fn after(&self, block: usize, sum: &Tensor) -> candle_core::Result<Tensor> {
        if self.block(block)?.pooled {
            Ok(avg_pool2d(sum, 2)?)
        } else {
            Ok(sum.clone())
        }
    }

    fn head(&self, h: &Tensor) -> candle_core::Result<Tensor> {
        if !h.track_op() {
            return Ok(together(|| {
                self.evaluate_head(&Activation::from_tensor(&self.workspace, h)?)
            })?);
        }
        let active = frozen_norm_relu(h, &self.running_norm(&self.layout.head_norm)?)?;
        let features = avg_pool2d(&active, self.architecture.head_pooling)?.flatten_from(1)?;
        let weight = &self.tensors[self.layout.classifier_weight];
        Ok(linear(
            &features,
            weight,
            &self.tensors[self.layout.classifier_bias],
        )?)
    }

    fn step(&self, block: usize, h: &Tensor) -> candle_core::Result<Tensor> {
        if h.track_op() {
            let sum = (self.shortcut(block, h)? + self.branch(block, h)?)?;
            return self.after(block, &sum);
        }
        let block = self.block(block)?;
        Ok(together(|| {
            let h = Activation::from_tensor(&self.workspace, h)?;
            self.evaluate_block(block, &h)?.to_tensor()
        })?)
    }

    fn block_backward(&self) -> Option<&dyn BlockBackward> {
        Some(self)
    }

    /// On activations from block to block where nothing is recorded; the bits are those of the other functions in turn.
    fn logits_from(&self, block: usize, h: &Tensor) -> candle_core::Result<Tensor> {
        if h.track_op() {
            return step_by_step(self, block, h);
        }
        let logits = together(|| {
            let h = Activation::from_tensor(&self.workspace, h)?;
            self.evaluate_from(block, h)
        });
        Ok(logits?)
    }

    fn logits(&self, images: &Tensor) -> candle_core::Result<Tensor> {
        if images.track_op() {
            return step_by_step(self, 0, &self.stem(images)?);
        }
        let logits = together(|| {
            let images = Activation::from_tensor(&self.workspace, images)?;
            let h = images.conv2d(self.convolution(&self.layout.stem))?;
            self.evaluate_from(0, h)
        });
        Ok(logits?)
    }
}
