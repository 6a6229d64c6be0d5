//! Networks as plain data: enough to build one, count its parameters, and rebuild it from a
//! checkpoint.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A pre-activation residual network as plain data (paper, section 4 and appendix A).
///
/// Every block is BN-ReLU-Conv3×3-BN-ReLU-Conv3×3, the stem one 3×3 convolution, the head
/// BN-ReLU-AvgPool-Flatten-Linear. Every convolution has a bias.
///
/// ```
/// use ir_models::Architecture;
///
/// let resnet = Architecture::named("resnet-32", 10)?;
/// assert_eq!(resnet.parameters().trainable, 467_946);
///
/// let small = Architecture::from_json(r#"{
///     "name": "single-representation-small",
///     "classes": 10,
///     "stem_channels": 32,
///     "stages": [{ "blocks": 4, "channels": 32 }]
/// }"#)?;
/// assert_eq!(small.blocks().len(), 4);
/// # Ok::<(), ir_models::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// The name, for people and file names.
    pub name: String,
    /// Number of classes K; the classifier is `[K, features]`.
    pub classes: usize,
    /// Shape of an image, `[C, H, W]`.
    #[serde(default = "cifar_image")]
    pub image: [usize; 3],
    /// Output channels of the stem.
    pub stem_channels: usize,
    /// The stages in order.
    pub stages: Vec<Stage>,
    /// Kernel and stride of the average pooling in the head.
    #[serde(default = "head_pooling")]
    pub head_pooling: usize,
}

pub(crate) fn cifar_image() -> [usize; 3] {
    [3, 32, 32]
}

pub(crate) fn head_pooling() -> usize {
    8
}

/// A stage: blocks whose representations have one shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Number of blocks, the transition included.
    pub blocks: usize,
    /// Channels of the representation.
    pub channels: usize,
    /// How the representation comes from the stage before.
    #[serde(default)]
    pub entrance: Entrance,
    /// Which of the stage's blocks are steps of one shared block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sharing: Option<Sharing>,
}

/// How a stage takes over from the one before (or from the stem).
///
/// ```
/// use ir_models::{Architecture, Entrance};
///
/// let wide = Architecture::named("wide", 10)?;
/// assert_eq!(wide.stages[1].entrance, Entrance::Transition { stride: 2 });
/// assert_eq!(wide.stage_sizes(), [[32, 32], [16, 16], [8, 8]]);
/// # Ok::<(), ir_models::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entrance {
    /// It has the same shape: the first block is like the others.
    #[default]
    Same,
    /// The first block changes the shape: its first convolution has this stride, its shortcut
    /// is a biased 1×1 convolution of the same stride.
    Transition {
        /// 1 or 2.
        stride: usize,
    },
    /// 2×2 mean pooling of the last sum of the stage before.
    AveragePooling,
}

/// One block applied in several steps (paper, section 4.5).
///
/// ```
/// use ir_models::{Scope, Sharing};
///
/// // "Unshared batch normalisation": convolutions shared, batch norm one per step.
/// let ubn = Sharing { first: 5, statistics: Scope::Step, affine: Scope::Step, initial_gamma: 0.1 };
/// // Naive sharing: everything shared.
/// let naive = Sharing { first: 5, statistics: Scope::Shared, affine: Scope::Shared, initial_gamma: 1.0 };
/// # assert_ne!(ubn, naive);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sharing {
    /// Index within the stage of the first block that is a step; all later ones are too. The
    /// steps' convolutions are one, kept under this block's name.
    pub first: usize,
    /// Whether the steps share the running mean and variance of their batch norms.
    pub statistics: Scope,
    /// Whether they share γ and β.
    pub affine: Scope,
    /// γ of the steps' batch norms at initialisation (the paper's remedy: 0.1).
    pub initial_gamma: f32,
}

/// Whether the steps of a shared block have a thing in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// One for all steps.
    Shared,
    /// Each step has its own.
    Step,
}

/// Number of parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParameterCount {
    /// Trainable ones and the running mean and variance of every batch norm.
    pub all: usize,
    /// Those that the optimiser changes.
    pub trainable: usize,
}

/// What the layout of a network needs to know about one block.
///
/// ```
/// use ir_models::Architecture;
///
/// let blocks = Architecture::named("resnet-110-ubn", 10)?.blocks();
/// // The steps of a shared block have one set of convolutions and batch norms of their own.
/// assert_eq!((blocks[9].convolutions_of, blocks[9].affine_of), (5, 9));
/// assert!(blocks[18].transition);
/// # Ok::<(), ir_models::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockPlan {
    /// The block's stage.
    pub stage: usize,
    /// Channels that it reads.
    pub input_channels: usize,
    /// Channels that it writes.
    pub channels: usize,
    /// Stride of its first convolution and of the shortcut.
    pub stride: usize,
    /// Whether its shortcut is a convolution.
    pub transition: bool,
    /// Whether 2×2 mean pooling follows the sum.
    pub pooled: bool,
    /// The block under whose name its convolutions stand: itself unless shared.
    pub convolutions_of: usize,
    /// The block under whose name its running statistics stand.
    pub statistics_of: usize,
    /// The block under whose name its γ and β stand.
    pub affine_of: usize,
    /// γ at initialisation.
    pub initial_gamma: f32,
}

impl Architecture {
    /// Reads an architecture from JSON and checks it.
    ///
    /// # Errors
    /// [`Error::ArchitectureJson`] where the text is not an architecture,
    /// [`Error::InvalidArchitecture`] where it cannot be built.
    pub fn from_json(text: &str) -> Result<Self> {
        let architecture: Self = serde_json::from_str(text).map_err(Error::ArchitectureJson)?;
        architecture.check()?;
        Ok(architecture)
    }

    /// Checks that the network can be built: sizes are positive and bounded, shapes meet.
    ///
    /// # Errors
    /// [`Error::InvalidArchitecture`] with the reason.
    pub fn check(&self) -> Result<()> {
        let fail = |reason: String| {
            Err(Error::InvalidArchitecture {
                name: self.name.clone(),
                reason,
            })
        };
        let bounded = |n: usize| (1..=LARGEST).contains(&n);
        let sizes = [self.classes, self.stem_channels, self.head_pooling];
        if !sizes.iter().chain(&self.image).all(|&n| bounded(n)) {
            return fail(format!(
                "classes, image, stem_channels and head_pooling must lie in 1..={LARGEST}"
            ));
        }
        if self.stages.is_empty() {
            return fail("it has no stages".into());
        }
        let (mut channels, [_, mut height, mut width]) = (self.stem_channels, self.image);
        for (index, stage) in self.stages.iter().enumerate() {
            if stage.blocks == 0 || !bounded(stage.channels) {
                return fail(format!(
                    "stage {index}: blocks and channels must lie in 1..={LARGEST}"
                ));
            }
            match stage.entrance {
                Entrance::Transition {
                    stride: stride @ (1 | 2),
                } => {
                    (height, width) = (height.div_ceil(stride), width.div_ceil(stride));
                }
                Entrance::Transition { stride } => {
                    return fail(format!("stage {index}: stride {stride}, expected 1 or 2"));
                }
                _ if stage.channels != channels => {
                    return fail(format!(
                        "stage {index} has {} channels after {channels}; only a transition changes their number",
                        stage.channels
                    ));
                }
                Entrance::AveragePooling if index == 0 => {
                    return fail("stage 0 has no stage before it to pool".into());
                }
                Entrance::AveragePooling => (height, width) = (height / 2, width / 2),
                Entrance::Same => {}
            }
            if let Some(sharing) = &stage.sharing {
                if !sharing.initial_gamma.is_finite() {
                    return fail(format!(
                        "stage {index}: initial_gamma is {}, expected a number that f32 can hold",
                        sharing.initial_gamma
                    ));
                }
                let transition = matches!(stage.entrance, Entrance::Transition { .. });
                if sharing.first >= stage.blocks || (transition && sharing.first == 0) {
                    return fail(format!(
                        "stage {index}: sharing starts at block {}, which is {}",
                        sharing.first,
                        if sharing.first == 0 {
                            "the transition"
                        } else {
                            "past the last block"
                        }
                    ));
                }
            }
            channels = stage.channels;
        }
        if height < self.head_pooling || width < self.head_pooling {
            return fail(format!(
                "the last stage is {height}×{width}, smaller than the head's {0}×{0} pooling",
                self.head_pooling
            ));
        }
        let blocks = self.stages.iter().map(|stage| stage.blocks);
        if blocks.fold(0, usize::saturating_add) > MOST_BLOCKS {
            return fail(format!("it has more than {MOST_BLOCKS} blocks"));
        }
        let parameters = self.parameters().all;
        if parameters > MOST_PARAMETERS {
            return fail(format!(
                "it has {parameters} parameters; at most {MOST_PARAMETERS} are built"
            ));
        }
        Ok(())
    }

    /// The blocks in order, through all stages.
    pub fn blocks(&self) -> Vec<BlockPlan> {
        let mut plans = Vec::new();
        let mut channels = self.stem_channels;
        for (index, stage) in self.stages.iter().enumerate() {
            let first = plans.len();
            let next = self.stages.get(index + 1).map(|next| next.entrance);
            for within in 0..stage.blocks {
                let block = first + within;
                let stride = match stage.entrance {
                    Entrance::Transition { stride } if within == 0 => Some(stride),
                    _ => None,
                };
                let shared = stage
                    .sharing
                    .as_ref()
                    .filter(|sharing| within >= sharing.first);
                let owner = |scope: Option<Scope>| match (shared, scope) {
                    (Some(sharing), Some(Scope::Shared)) => first + sharing.first,
                    _ => block,
                };
                plans.push(BlockPlan {
                    stage: index,
                    input_channels: channels,
                    channels: stage.channels,
                    stride: stride.unwrap_or(1),
                    transition: stride.is_some(),
                    pooled: within + 1 == stage.blocks && next == Some(Entrance::AveragePooling),
                    convolutions_of: owner(Some(Scope::Shared)),
                    statistics_of: owner(shared.map(|sharing| sharing.statistics)),
                    affine_of: owner(shared.map(|sharing| sharing.affine)),
                    initial_gamma: shared.map_or(1.0, |sharing| sharing.initial_gamma),
                });
                channels = stage.channels;
            }
        }
        plans
    }

    /// Height and width of every stage's representation, in order.
    pub fn stage_sizes(&self) -> Vec<[usize; 2]> {
        let [_, mut height, mut width] = self.image;
        let size = |stage: &Stage| {
            match stage.entrance {
                Entrance::Same => {}
                Entrance::Transition { stride } => {
                    // A stride of 0 is none; `check` refuses it.
                    let stride = stride.max(1);
                    (height, width) = (height.div_ceil(stride), width.div_ceil(stride));
                }
                Entrance::AveragePooling => (height, width) = (height / 2, width / 2),
            }
            [height, width]
        };
        self.stages.iter().map(size).collect()
    }

    /// Number of features that the classifier reads; 0 for what [`Architecture::check`] refuses.
    pub fn features(&self) -> usize {
        let channels = self
            .stages
            .last()
            .map_or(self.stem_channels, |stage| stage.channels);
        let [height, width] = self.stage_sizes().last().copied().unwrap_or([0, 0]);
        let pooled = |size: usize| size.checked_div(self.head_pooling).unwrap_or(0);
        channels * pooled(height) * pooled(width)
    }

    /// Counts the parameters without building the network.
    pub fn parameters(&self) -> ParameterCount {
        let specs = crate::layout::Layout::new(self).specs;
        let count = |trainable_only: bool| {
            let counted = specs
                .iter()
                .filter(|spec| !trainable_only || spec.kind.is_trainable());
            counted
                .map(|spec| spec.shape.iter().product::<usize>())
                .sum()
        };
        ParameterCount {
            all: count(false),
            trainable: count(true),
        }
    }
}

/// No dimension of an architecture goes beyond this: a description that was tampered with must not
/// make the program ask for all of the memory.
const LARGEST: usize = 16_384;

/// Nor does its number of blocks beyond this.
const MOST_BLOCKS: usize = 4096;

/// Nor does an architecture have more parameters, which are 4 GiB; the paper's largest has 46
/// million.
const MOST_PARAMETERS: usize = 1 << 30;
