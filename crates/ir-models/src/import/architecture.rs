//! What an imported network consists of, and how its family calls the tensors.

/// Whose names the tensors have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// torchvision's, which timm and the common CIFAR networks share: `layer1.0.conv1.weight`.
    Torchvision,
    /// Those of Hugging Face's `ResNetForImageClassification`:
    /// `resnet.encoder.stages.0.layers.0.layer.0.convolution.weight`.
    HuggingFace,
}

/// The two blocks of the first residual networks (He et al. 2015).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockKind {
    /// Two 3×3 convolutions.
    Basic,
    /// A 1×1, a 3×3 and a 1×1 convolution.
    Bottleneck,
}

/// The blocks between two changes of resolution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedStage {
    /// Number of blocks.
    pub blocks: usize,
    /// Channels between the convolutions of a block.
    pub width: usize,
    /// Channels of h.
    pub channels: usize,
    /// Groups of the 3×3 convolution in a bottleneck; 1 unless the network is a ResNeXt.
    pub groups: usize,
    /// Stride of the first block.
    pub stride: usize,
    /// Whether the first block's shortcut is a convolution.
    pub transition: bool,
}

/// A post-activation residual network as its tensors describe it.
///
/// ```
/// use std::collections::BTreeMap;
/// use ir_models::import::{BlockKind, ImportedArchitecture, StridePlacement};
///
/// // A network of two stages with one basic block each, as `{name: shape}`.
/// let mut shapes = BTreeMap::new();
/// let mut norm = |shapes: &mut BTreeMap<_, _>, name: &str, channels| {
///     for tensor in ["weight", "bias", "running_mean", "running_var"] {
///         shapes.insert(format!("{name}.{tensor}"), vec![channels]);
///     }
/// };
/// shapes.insert("conv1.weight".into(), vec![4, 3, 3, 3]);
/// norm(&mut shapes, "bn1", 4);
/// for (stage, input, output) in [(1, 4, 4), (2, 4, 8)] {
///     for (conv, input) in [(1, input), (2, output)] {
///         shapes.insert(format!("layer{stage}.0.conv{conv}.weight"), vec![output, input, 3, 3]);
///         norm(&mut shapes, &format!("layer{stage}.0.bn{conv}"), output);
///     }
/// }
/// shapes.insert("layer2.0.downsample.0.weight".into(), vec![8, 4, 1, 1]);
/// norm(&mut shapes, "layer2.0.downsample.1", 8);
/// shapes.insert("fc.weight".into(), vec![10, 8]);
/// shapes.insert("fc.bias".into(), vec![10]);
///
/// let found = ImportedArchitecture::identify(&shapes, StridePlacement::default())?;
/// assert_eq!((found.block, found.classes), (BlockKind::Basic, 10));
/// assert_eq!(found.stages.iter().map(|stage| stage.blocks).collect::<Vec<_>>(), [1, 1]);
/// assert!(found.compare(&shapes).is_exact());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedArchitecture {
    /// Whose names the tensors have.
    pub family: Family,
    /// The kind of every block.
    pub block: BlockKind,
    /// Channels of an image.
    pub image_channels: usize,
    /// Channels of the stem.
    pub stem_channels: usize,
    /// Height and width of the stem's kernel: 7 (stride 2, then 3×3 max pooling with stride 2) or
    /// 3 (stride 1, no pooling).
    pub stem_kernel: usize,
    /// The stages in order.
    pub stages: Vec<ImportedStage>,
    /// Whether a bottleneck's stride is that of its first 1×1 convolution and not of the 3×3.
    pub stride_in_first: bool,
    /// Number of classes.
    pub classes: usize,
}

/// A convolution with its batch norm: the names of both, without the last part.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub(super) convolution: String,
    pub(super) norm: String,
    /// `[O, I / groups, K, K]`.
    pub(super) shape: [usize; 4],
    pub(super) stride: usize,
    pub(super) groups: usize,
}

/// One block's layers.
#[derive(Debug, Clone)]
pub(super) struct BlockLayers {
    pub(super) stage: usize,
    pub(super) branch: Vec<Layer>,
    pub(super) shortcut: Option<Layer>,
}

impl Family {
    pub(super) fn stem(self) -> [String; 2] {
        match self {
            Self::Torchvision => ["conv1".into(), "bn1".into()],
            Self::HuggingFace => pair("resnet.embedder.embedder"),
        }
    }

    fn block(self, stage: usize, block: usize) -> String {
        match self {
            Self::Torchvision => format!("layer{}.{block}", stage + 1),
            Self::HuggingFace => format!("resnet.encoder.stages.{stage}.layers.{block}"),
        }
    }

    /// The `index`-th convolution of a branch, from 0, and its norm.
    pub(super) fn branch(self, stage: usize, block: usize, index: usize) -> [String; 2] {
        let block = self.block(stage, block);
        match self {
            Self::Torchvision => ["conv", "bn"].map(|kind| format!("{block}.{kind}{}", index + 1)),
            Self::HuggingFace => pair(&format!("{block}.layer.{index}")),
        }
    }

    pub(super) fn shortcut(self, stage: usize, block: usize) -> [String; 2] {
        let block = self.block(stage, block);
        match self {
            Self::Torchvision => ["0", "1"].map(|index| format!("{block}.downsample.{index}")),
            Self::HuggingFace => pair(&format!("{block}.shortcut")),
        }
    }

    pub(super) fn classifier(self) -> &'static str {
        match self {
            Self::Torchvision => "fc",
            Self::HuggingFace => "classifier.1",
        }
    }
}

fn pair(owner: &str) -> [String; 2] {
    ["convolution", "normalization"].map(|kind| format!("{owner}.{kind}"))
}

impl BlockKind {
    /// Convolutions of a branch.
    pub(super) fn convolutions(self) -> usize {
        match self {
            Self::Basic => 2,
            Self::Bottleneck => 3,
        }
    }
}

impl ImportedArchitecture {
    /// Number of blocks through all stages.
    pub fn blocks(&self) -> usize {
        self.stages.iter().map(|stage| stage.blocks).sum()
    }

    pub(super) fn stem_layer(&self) -> Layer {
        let kernel = self.stem_kernel;
        let shape = [self.stem_channels, self.image_channels, kernel, kernel];
        let stride = if self.has_max_pool() { 2 } else { 1 };
        layer(self.family.stem(), shape, stride, 1)
    }

    pub(super) fn has_max_pool(&self) -> bool {
        self.stem_kernel > 3
    }

    pub(super) fn block_layers(&self) -> Vec<BlockLayers> {
        let mut blocks = Vec::new();
        let mut input = self.stem_channels;
        for (index, stage) in self.stages.iter().enumerate() {
            for block in 0..stage.blocks {
                let first = block == 0;
                let stride = if first { stage.stride } else { 1 };
                let shape = [stage.channels, input, 1, 1];
                let shortcut = layer(self.family.shortcut(index, block), shape, stride, 1);
                blocks.push(BlockLayers {
                    stage: index,
                    branch: self.branch_layers(index, block, input, stride),
                    shortcut: (first && stage.transition).then_some(shortcut),
                });
                input = stage.channels;
            }
        }
        blocks
    }

    fn branch_layers(&self, index: usize, block: usize, input: usize, stride: usize) -> Vec<Layer> {
        let stage = &self.stages[index];
        let (width, channels, groups) = (stage.width, stage.channels, stage.groups);
        let names = |layer| self.family.branch(index, block, layer);
        match self.block {
            BlockKind::Basic => vec![
                layer(names(0), [width, input, 3, 3], stride, 1),
                layer(names(1), [channels, width, 3, 3], 1, 1),
            ],
            BlockKind::Bottleneck => {
                let (first, second) = match self.stride_in_first {
                    true => (stride, 1),
                    false => (1, stride),
                };
                vec![
                    layer(names(0), [width, input, 1, 1], first, 1),
                    layer(names(1), [width, width / groups, 3, 3], second, groups),
                    layer(names(2), [channels, width, 1, 1], 1, 1),
                ]
            }
        }
    }

    /// Channels that the classifier reads.
    pub(super) fn features(&self) -> usize {
        self.stages
            .last()
            .map_or(self.stem_channels, |stage| stage.channels)
    }

    /// Name and shape of every tensor of the network.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let mut tensors = self.stem_layer().tensors();
        for block in self.block_layers() {
            for layer in block.branch.iter().chain(&block.shortcut) {
                tensors.extend(layer.tensors());
            }
        }
        let classifier = self.family.classifier();
        let weight = vec![self.classes, self.features()];
        tensors.push((format!("{classifier}.weight"), weight));
        tensors.push((format!("{classifier}.bias"), vec![self.classes]));
        tensors
    }

    /// Names of norms' counters of training steps, which evaluation does not read.
    pub(super) fn counters(&self) -> Vec<String> {
        let blocks = self.block_layers();
        let layers = blocks
            .iter()
            .flat_map(|block| block.branch.iter().chain(&block.shortcut));
        let stem = self.stem_layer();
        let norms = std::iter::once(&stem).chain(layers);
        norms
            .map(|layer| format!("{}.num_batches_tracked", layer.norm))
            .collect()
    }
}

fn layer(
    [convolution, norm]: [String; 2],
    shape: [usize; 4],
    stride: usize,
    groups: usize,
) -> Layer {
    Layer {
        convolution,
        norm,
        shape,
        stride,
        groups,
    }
}

/// The tensors of a batch norm: γ, β, running mean, running variance.
pub(super) const NORM: [&str; 4] = ["weight", "bias", "running_mean", "running_var"];

impl Layer {
    pub(super) fn weight(&self) -> String {
        format!("{}.weight", self.convolution)
    }

    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let norm = NORM.map(|tensor| (format!("{}.{tensor}", self.norm), vec![self.shape[0]]));
        let mut tensors = vec![(self.weight(), self.shape.to_vec())];
        tensors.extend(norm);
        tensors
    }
}
