//! A trained network on a GPU, under the measures.

use candle_core::{Device, Tensor};
use ir_tensor_ops::gpu::{Buffer, Convolution, Gpu, Linear, Map, NormState, Precision};

use super::weights::DeviceWeights;
use crate::architecture::Architecture;
use crate::error::Result;
use crate::layout::{self, BatchNorm, BlockLayers, Layout};
use crate::network::{Block, BlockBackward, ResidualNetwork};
use crate::optimizer::Sgd;
use crate::resnet::{EPSILON, ResNet};

/// The five functions of a [`ResNet`] on a GPU, in f32, with its gradients by explicit rules.
///
/// It has the weights that the network had when it was made. A tensor of the host goes to the GPU, and what it comes to
/// comes back; one of the GPU's own Candle device stays there. A tensor that Candle records is refused, since what
/// happens here is not in its record.
///
/// ```
/// # #[cfg(feature = "emulation")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use candle_core::{DType, Device, Tensor};
/// use ir_models::{Architecture, ResNet, ResidualNetwork, gpu};
/// use ir_tensor_ops::gpu::Gpu;
///
/// let architecture = Architecture::from_json(r#"{
///     "name": "tiny", "classes": 2, "image": [3, 8, 8], "stem_channels": 4,
///     "stages": [{ "blocks": 1, "channels": 4 }]
/// }"#)?;
/// let network = ResNet::initialize(&architecture, 0)?;
/// let on_a_gpu = gpu::Network::new(&Gpu::emulated()?, &network)?;
/// let images = Tensor::ones((1, 3, 8, 8), DType::F32, &Device::Cpu)?;
/// let apart = (network.logits(&images)? - on_a_gpu.logits(&images)?)?.abs()?.max_all()?;
/// assert!(apart.to_scalar::<f32>()? < 1e-5);
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "emulation"))]
/// # fn main() {}
/// ```
#[derive(Debug)]
pub struct Network {
    pub(super) gpu: Gpu,
    pub(super) architecture: Architecture,
    pub(super) layout: Layout,
    pub(super) weights: DeviceWeights,
    /// The two norms of each block, with the running statistics.
    norms: Vec<[NormState; 2]>,
    pub(super) head_norm: NormState,
    pub(super) classifier: Linear,
}

/// Errors of the operations, as the trait gives them.
pub(super) type Found<T> = candle_core::Result<T>;

impl Network {
    /// Takes a network's tensors to the device.
    ///
    /// # Errors
    /// What the device reports.
    pub fn new(gpu: &Gpu, network: &ResNet) -> Result<Self> {
        let layout = network.layout.clone();
        let weights = DeviceWeights::new(gpu, &layout, &Sgd::default(), Precision::F32)?;
        weights.write(network.tensors().map(|(spec, tensor)| (spec, tensor, None)))?;
        let norm = |of: &BatchNorm| -> Result<NormState> {
            let slot = weights.arena.slots[of.running_mean];
            let range = slot.start..slot.start + slot.length;
            let norm = NormState {
                mean: weights.running_mean.slice(range.clone())?,
                variance: weights.running_variance.slice(range)?,
                ..NormState::new(gpu, slot.length)?
            };
            let (gamma, beta) = (weights.parameter(of.gamma)?, weights.parameter(of.beta)?);
            norm.resolve(&gamma, &beta, EPSILON as f32)?;
            Ok(norm)
        };
        let blocks = layout.blocks.iter();
        let norms = blocks.map(|block| Ok([norm(&block.norm1)?, norm(&block.norm2)?]));
        Ok(Self {
            gpu: gpu.clone(),
            architecture: network.architecture().clone(),
            norms: norms.collect::<Result<_>>()?,
            head_norm: norm(&layout.head_norm)?,
            classifier: weights.classifier(&layout)?,
            weights,
            layout,
        })
    }

    /// A tensor on the device.
    pub(super) fn map(&self, tensor: &Tensor) -> Found<Map> {
        if tensor.track_op() {
            return Err(candle_core::Error::Msg(
                "a network on a GPU is not in Candle's record: take its gradients by `block_backward`".into(),
            ));
        }
        Ok(Map::from_tensor(&self.gpu, tensor, Precision::F32)?)
    }

    pub(super) fn room(&self, dims: [usize; 4]) -> Result<Map> {
        Ok(Map::new(&self.gpu, dims, Precision::F32)?)
    }

    pub(super) fn layers(&self, block: usize) -> Found<(&BlockLayers, &[NormState; 2])> {
        let found = self.layout.blocks.get(block).zip(self.norms.get(block));
        found.ok_or_else(|| {
            let last = self.norms.len() - 1;
            candle_core::Error::Msg(format!("block {block}: the network has blocks 0 to {last}"))
        })
    }

    pub(super) fn shape(&self, of: &layout::Convolution, x: [usize; 4]) -> Result<Convolution> {
        let shape = &self.layout.specs[of.weight].shape;
        let (outputs, kernel) = (shape[0], shape[2]);
        Ok(Convolution::new(
            x,
            outputs,
            kernel,
            of.stride,
            of.padding,
            Precision::F32,
        )?)
    }

    pub(super) fn convolve(
        &self,
        of: &layout::Convolution,
        x: &Map,
        norm: Option<&NormState>,
        residual: Option<&Map>,
    ) -> Result<Map> {
        let shape = self.shape(of, x.dims())?;
        let y = self.room(shape.output_dims())?;
        let weight = self.weights.convolution(of.weight)?;
        let bias = self.weights.parameter(of.bias)?;
        shape.forward(x, norm, &weight, &bias, residual, &y, None)?;
        Ok(y)
    }

    /// s + F before what happens to the sum.
    fn sum(&self, (block, norms): (&BlockLayers, &[NormState; 2]), h: &Map) -> Result<Map> {
        let inner = self.convolve(&block.conv1, h, Some(&norms[0]), None)?;
        let shortcut = match &block.shortcut {
            Some(of) => Some(self.convolve(of, h, None, None)?),
            None => None,
        };
        let residual = Some(shortcut.as_ref().unwrap_or(h));
        self.convolve(&block.conv2, &inner, Some(&norms[1]), residual)
    }

    fn pooled(&self, sum: &Map) -> Result<Map> {
        let [batch, channels, height, width] = sum.dims();
        let y = self.room([batch, channels, height / 2, width / 2])?;
        sum.avg_pool2d(2, &y)?;
        Ok(y)
    }

    fn evaluate_from(&self, first: usize, mut h: Map, device: &Device) -> Result<Tensor> {
        for block in first..self.norms.len() {
            let layers = self.layers(block)?;
            let sum = self.sum(layers, &h)?;
            h = if layers.0.pooled {
                self.pooled(&sum)?
            } else {
                sum
            };
        }
        self.evaluate_head(&h, device)
    }

    fn evaluate_head(&self, h: &Map, device: &Device) -> Result<Tensor> {
        let rows = h.dims()[0];
        let features = self.features_of(h)?;
        h.features(&self.head_norm, self.architecture.head_pooling, &features)?;
        let logits = Buffer::new(&self.gpu, rows * self.classifier.outputs)?;
        self.classifier.forward(rows, &features, &logits)?;
        let shape = (rows, self.classifier.outputs);
        Ok(Tensor::from_vec(logits.to_vec()?, shape, device)?)
    }

    /// Room for the features of as many images.
    pub(super) fn features_of(&self, h: &Map) -> Result<Buffer<f32>> {
        let [batch, channels, height, width] = h.dims();
        let pooling = self.architecture.head_pooling;
        let features = channels * (height / pooling) * (width / pooling);
        if features != self.classifier.inputs {
            let expected = self.classifier.inputs;
            let message = format!("the head reads {expected} features, but h has {features}");
            return Err(candle_core::Error::Msg(message).into());
        }
        Ok(Buffer::new(&self.gpu, batch * features)?)
    }
}

/// A map as a tensor on the device that what it was made from lies on.
pub(super) fn tensor(map: Result<Map>, device: &Device) -> Found<Tensor> {
    Ok(map
        .map_err(candle_core::Error::from)?
        .to_tensor_on(device)?)
}

impl ResidualNetwork for Network {
    fn blocks(&self) -> Vec<Block> {
        self.layout.blocks()
    }

    fn stem(&self, images: &Tensor) -> Found<Tensor> {
        let h = self.convolve(&self.layout.stem, &self.map(images)?, None, None);
        tensor(h, images.device())
    }

    fn shortcut(&self, block: usize, h: &Tensor) -> Found<Tensor> {
        match &self.layers(block)?.0.shortcut {
            Some(of) => {
                let s = self.convolve(of, &self.map(h)?, None, None);
                tensor(s, h.device())
            }
            None => Ok(h.clone()),
        }
    }

    fn branch(&self, block: usize, h: &Tensor) -> Found<Tensor> {
        let (layers, norms) = self.layers(block)?;
        let inner = self.convolve(&layers.conv1, &self.map(h)?, Some(&norms[0]), None);
        let inner = inner.map_err(candle_core::Error::from)?;
        let branch = self.convolve(&layers.conv2, &inner, Some(&norms[1]), None);
        tensor(branch, h.device())
    }

    fn after(&self, block: usize, sum: &Tensor) -> Found<Tensor> {
        if !self.layers(block)?.0.pooled {
            return Ok(sum.clone());
        }
        tensor(self.pooled(&self.map(sum)?), sum.device())
    }

    fn head(&self, h: &Tensor) -> Found<Tensor> {
        let logits = self.evaluate_head(&self.map(h)?, h.device());
        logits.map_err(candle_core::Error::from)
    }

    fn step(&self, block: usize, h: &Tensor) -> Found<Tensor> {
        let layers = self.layers(block)?;
        let sum = self
            .sum(layers, &self.map(h)?)
            .map_err(candle_core::Error::from)?;
        let next = match layers.0.pooled {
            true => self.pooled(&sum).map_err(candle_core::Error::from)?,
            false => sum,
        };
        Ok(next.to_tensor_on(h.device())?)
    }

    fn logits_from(&self, block: usize, h: &Tensor) -> Found<Tensor> {
        let logits = self.evaluate_from(block, self.map(h)?, h.device());
        logits.map_err(candle_core::Error::from)
    }

    fn logits(&self, images: &Tensor) -> Found<Tensor> {
        let h = self.convolve(&self.layout.stem, &self.map(images)?, None, None);
        let logits = h.and_then(|h| self.evaluate_from(0, h, images.device()));
        logits.map_err(candle_core::Error::from)
    }

    fn block_backward(&self) -> Option<&dyn BlockBackward> {
        Some(self)
    }
}
