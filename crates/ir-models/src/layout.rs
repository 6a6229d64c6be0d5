//! Which tensors a network has, what they are called, and where each layer finds its own.

use std::collections::HashMap;

use crate::architecture::Architecture;
use crate::network::Block;

/// What a tensor is to the optimiser and to initialisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `[O, I, K, K]`.
    ConvolutionWeight,
    /// `[O]`.
    ConvolutionBias,
    /// γ, `[C]`.
    Gamma,
    /// β, `[C]`.
    Beta,
    /// `[C]`, not trained.
    RunningMean,
    /// `[C]`, not trained.
    RunningVariance,
    /// `[K, features]`.
    LinearWeight,
    /// `[K]`.
    LinearBias,
}

impl Kind {
    /// Whether the optimiser changes it.
    pub fn is_trainable(self) -> bool {
        !matches!(self, Self::RunningMean | Self::RunningVariance)
    }
}

/// One tensor of a network.
///
/// ```
/// use ir_models::{Architecture, Kind, ResNet};
///
/// let network = ResNet::initialize(&Architecture::named("resnet-32", 10)?, 0)?;
/// let (spec, tensor) = network.tensors().next().expect("a network has tensors");
/// assert_eq!((spec.name.as_str(), spec.kind), ("stem.weight", Kind::ConvolutionWeight));
/// assert_eq!(spec.shape, tensor.dims());
/// # Ok::<(), ir_models::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct TensorSpec {
    /// Its name in a checkpoint.
    pub name: String,
    /// Its shape, in PyTorch's order.
    pub shape: Vec<usize>,
    /// What it is.
    pub kind: Kind,
    /// What γ starts from; 1 for all other tensors, where it means nothing.
    pub initial_gamma: f32,
}

/// A convolution's tensors, as indices into the layout, and its geometry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Convolution {
    pub(crate) weight: usize,
    pub(crate) bias: usize,
    pub(crate) stride: usize,
    pub(crate) padding: usize,
}

/// A batch norm's tensors, as indices into the layout.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchNorm {
    pub(crate) gamma: usize,
    pub(crate) beta: usize,
    pub(crate) running_mean: usize,
    pub(crate) running_variance: usize,
}

/// A block's layers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockLayers {
    pub(crate) stage: usize,
    pub(crate) norm1: BatchNorm,
    pub(crate) conv1: Convolution,
    pub(crate) norm2: BatchNorm,
    pub(crate) conv2: Convolution,
    pub(crate) shortcut: Option<Convolution>,
    pub(crate) pooled: bool,
}

/// The tensors of a network in checkpoint order, and the layers that point into them.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) specs: Vec<TensorSpec>,
    pub(crate) stem: Convolution,
    pub(crate) blocks: Vec<BlockLayers>,
    pub(crate) head_norm: BatchNorm,
    pub(crate) classifier_weight: usize,
    pub(crate) classifier_bias: usize,
}

impl Layout {
    pub(crate) fn new(architecture: &Architecture) -> Self {
        let mut specs = Specs::default();
        let stem = specs.convolution(
            "stem",
            architecture.stem_channels,
            architecture.image[0],
            3,
            1,
        );
        let mut blocks = Vec::new();
        for (j, plan) in architecture.blocks().iter().enumerate() {
            let gamma = plan.initial_gamma;
            let (affine, statistics, conv) =
                (plan.affine_of, plan.statistics_of, plan.convolutions_of);
            let norm = |specs: &mut Specs, n: usize, channels: usize| {
                specs.batch_norm(
                    &format!("blocks.{affine}.bn{n}"),
                    &format!("blocks.{statistics}.bn{n}"),
                    channels,
                    gamma,
                )
            };
            let (input, channels) = (plan.input_channels, plan.channels);
            blocks.push(BlockLayers {
                stage: plan.stage,
                norm1: norm(&mut specs, 1, input),
                conv1: specs.convolution(
                    &format!("blocks.{conv}.conv1"),
                    channels,
                    input,
                    3,
                    plan.stride,
                ),
                norm2: norm(&mut specs, 2, channels),
                conv2: specs.convolution(&format!("blocks.{conv}.conv2"), channels, channels, 3, 1),
                shortcut: plan.transition.then(|| {
                    specs.convolution(
                        &format!("blocks.{j}.shortcut"),
                        channels,
                        input,
                        1,
                        plan.stride,
                    )
                }),
                pooled: plan.pooled,
            });
        }
        let channels = architecture
            .stages
            .last()
            .map_or(architecture.stem_channels, |s| s.channels);
        let head_norm = specs.batch_norm("head.bn", "head.bn", channels, 1.0);
        let (classes, features) = (architecture.classes, architecture.features());
        let classifier_weight = specs.tensor(
            "head.fc.weight".into(),
            vec![classes, features],
            Kind::LinearWeight,
            1.0,
        );
        let classifier_bias =
            specs.tensor("head.fc.bias".into(), vec![classes], Kind::LinearBias, 1.0);
        Self {
            specs: specs.specs,
            stem,
            blocks,
            head_norm,
            classifier_weight,
            classifier_bias,
        }
    }

    /// What measures know of the blocks.
    pub(crate) fn blocks(&self) -> Vec<Block> {
        let blocks = self.blocks.iter();
        blocks
            .map(|block| Block {
                stage: block.stage,
                transition: block.shortcut.is_some(),
            })
            .collect()
    }
}

/// The tensors so far. A name that is there already is shared: its index is handed out again.
#[derive(Default)]
struct Specs {
    specs: Vec<TensorSpec>,
    index: HashMap<String, usize>,
}

impl Specs {
    fn tensor(&mut self, name: String, shape: Vec<usize>, kind: Kind, initial_gamma: f32) -> usize {
        let index = *self.index.entry(name.clone()).or_insert(self.specs.len());
        if index == self.specs.len() {
            self.specs.push(TensorSpec {
                name,
                shape,
                kind,
                initial_gamma,
            });
        }
        index
    }

    fn convolution(
        &mut self,
        name: &str,
        output: usize,
        input: usize,
        kernel: usize,
        stride: usize,
    ) -> Convolution {
        let shape = vec![output, input, kernel, kernel];
        Convolution {
            weight: self.tensor(
                format!("{name}.weight"),
                shape,
                Kind::ConvolutionWeight,
                1.0,
            ),
            bias: self.tensor(
                format!("{name}.bias"),
                vec![output],
                Kind::ConvolutionBias,
                1.0,
            ),
            stride,
            padding: kernel / 2,
        }
    }

    fn batch_norm(
        &mut self,
        affine: &str,
        statistics: &str,
        channels: usize,
        gamma: f32,
    ) -> BatchNorm {
        let mut add = |owner: &str, name: &str, kind, value| {
            self.tensor(format!("{owner}.{name}"), vec![channels], kind, value)
        };
        BatchNorm {
            gamma: add(affine, "weight", Kind::Gamma, gamma),
            beta: add(affine, "bias", Kind::Beta, 1.0),
            running_mean: add(statistics, "running_mean", Kind::RunningMean, 1.0),
            running_variance: add(statistics, "running_var", Kind::RunningVariance, 1.0),
        }
    }
}
