//! What can go wrong in a measurement, and what to do about it.

use std::fmt;

use crate::gradient_check::GradientCheck;
use crate::options::Measure;

/// Result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A function of [`ir_models::ResidualNetwork`], as named in an error.
///
/// ```
/// use ir_analysis::Part;
///
/// assert_eq!(Part::Branch(3).to_string(), "branch of block 3");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `stem`.
    Stem,
    /// `shortcut` of this block.
    Shortcut(usize),
    /// `branch` of this block.
    Branch(usize),
    /// `after` of this block.
    After(usize),
    /// All of this block, by gradients of the network's own.
    Block(usize),
    /// `head`.
    Head,
    /// `logits_from`, from this block on.
    LogitsFrom(usize),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stem => f.write_str("stem"),
            Self::Shortcut(block) => write!(f, "shortcut of block {block}"),
            Self::Branch(block) => write!(f, "branch of block {block}"),
            Self::After(block) => write!(f, "after of block {block}"),
            Self::Block(block) => write!(f, "block {block}"),
            Self::Head => f.write_str("head"),
            Self::LogitsFrom(block) => write!(f, "logits_from({block}, …)"),
        }
    }
}

/// Why a network could not be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // The data.
    /// The batches ended before the first sample.
    #[error("the split has no samples, and a measure is a mean over samples: give at least one")]
    EmptySplit,

    /// The iterator of batches reported an error.
    #[error("batch {batch} could not be read: {source}")]
    Batch {
        /// Index of the batch, from 0.
        batch: usize,
        /// What the iterator reported.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// Images and labels do not form a batch.
    #[error(
        "a batch is images [N, …] and u32 labels [N] with N ≥ 1; \
         found images {images:?} and {dtype} labels {labels:?}"
    )]
    BatchShape {
        /// Shape of the images.
        images: Vec<usize>,
        /// Shape of the labels.
        labels: Vec<usize>,
        /// Element type of the labels.
        dtype: &'static str,
    },

    /// A label names a class that the head does not have.
    #[error(
        "sample {sample} of its batch has label {label}, but the head has {classes} classes \
         (labels 0 to {last}): the network and the data set do not belong together",
        last = classes.saturating_sub(1)
    )]
    Label {
        /// Index of the sample within its batch.
        sample: usize,
        /// Its label.
        label: u32,
        /// Number of logits.
        classes: usize,
    },

    // The network's side of the contract.
    /// The network has no block.
    #[error("the network has no blocks, so there is nothing to measure")]
    NoBlocks,

    /// The stages are not numbered from 0.
    #[error("block 0 is in stage {found}, but the first block is in stage 0")]
    FirstStage {
        /// Stage of block 0.
        found: usize,
    },

    /// The stages of the blocks do not go 0, 0, …, 1, 1, ….
    #[error(
        "block {block} is in stage {found} and the block before it in stage {previous}: \
         from block to block a stage stays or goes up by 1"
    )]
    StageOrder {
        /// The block.
        block: usize,
        /// Its stage.
        found: usize,
        /// Stage of the block before.
        previous: usize,
    },

    /// Shortcut and branch cannot be added.
    #[error(
        "block {block}: shortcut gives {shortcut:?} and branch gives {branch:?}; \
         both must have one shape, since the block adds them"
    )]
    BlockShapes {
        /// The block.
        block: usize,
        /// Shape of s_j.
        shortcut: Vec<usize>,
        /// Shape of F_j.
        branch: Vec<usize>,
    },

    /// A shortcut that is not a transition changed its input's shape.
    #[error(
        "block {block}: shortcut turns {input:?} into {shortcut:?}, but the block is not marked \
         as a transition; set `transition: true` where the shortcut is not the identity"
    )]
    NotIdentity {
        /// The block.
        block: usize,
        /// Shape of h_j.
        input: Vec<usize>,
        /// Shape of s_j.
        shortcut: Vec<usize>,
    },

    /// A function changed the number of samples.
    #[error(
        "{part} gives {found:?} for a batch of {expected}: the first dimension must stay {expected}"
    )]
    BatchSize {
        /// The function.
        part: Part,
        /// Size of the batch.
        expected: usize,
        /// Shape of what the function gave.
        found: Vec<usize>,
    },

    /// The head's result is not a table of logits.
    #[error("the head gives {found:?}; logits have the shape [{samples}, classes]")]
    Logits {
        /// Size of the batch.
        samples: usize,
        /// Shape of what the head gave.
        found: Vec<usize>,
    },

    /// The loss is not connected to a representation.
    #[error(
        "no gradient reaches {position}: every function from there to the logits must be made of \
         differentiable Candle operations that depend on their input"
    )]
    NoGradient {
        /// The representation, as `h_3`.
        position: String,
    },

    /// The gradient through these functions is not theirs.
    #[error(
        "no measure of this network that takes a gradient is right, since the gradient is cut in {}: \
         an operation there records none, or only a part, as candle-nn's `softmax_last_dim`, \
         `rms_norm`, `layer_norm` and `rope` do, or it is detached; take one that records \
         (`softmax`, `RmsNorm::forward_diff`, `rms_norm_slow`, `layer_norm_slow`, `rope_slow`)",
        cut.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    CutGradients {
        /// The functions, in the order of the network.
        cut: Vec<GradientCheck>,
    },

    /// The network itself failed.
    #[error("{part} failed: {source}")]
    Network {
        /// The function.
        part: Part,
        /// What Candle reported.
        source: candle_core::Error,
    },

    /// The network's own loss is infinite or not a number, so no gradient of it exists.
    #[error(
        "sample {sample} of batch {batch} has the loss {loss}; the first value that is not \
         finite comes from {part}: check the weights and the normalisation of the images"
    )]
    NonFinite {
        /// Index of the batch, from 0.
        batch: usize,
        /// Index of the sample within it.
        sample: usize,
        /// The loss.
        loss: f64,
        /// The first function whose result is not finite.
        part: Part,
    },

    /// A readout has nothing to read: a representation is empty or has overflowed.
    #[error(
        "{position} of sample {sample} of its batch has no finite features that a linear \
         classifier could read: check the weights and the normalisation of the images"
    )]
    Feature {
        /// The representation, as `h_3`.
        position: String,
        /// Index of the sample within its batch.
        sample: usize,
    },

    // The request.
    /// Readouts of a network with another number of blocks.
    #[error(
        "{found} readouts were given and the network has {expected} representations, h_0 and one \
         after each block: fit them on this network"
    )]
    ReadoutCount {
        /// Blocks of the network and one.
        expected: usize,
        /// Readouts given.
        found: usize,
    },

    /// A readout of another representation.
    #[error(
        "the readout of h_{index} reads {} features of {} classes, and the network has {} and {}: \
         fit readouts on this network", expected.0, expected.1, found.0, found.1
    )]
    ReadoutShape {
        /// Index of the representation.
        index: usize,
        /// Features and classes of the readout.
        expected: (usize, usize),
        /// Those of the network.
        found: (usize, usize),
    },

    /// The last block cannot be applied to its own result.
    #[error(
        "block {block}, the last, is a transition and cannot be applied again: \
         leave out the measure `{measure}`",
        measure = Measure::Unroll
    )]
    Unroll {
        /// The last block.
        block: usize,
    },

    /// None of the candidates is a usable scale.
    #[error(
        "none of the {candidates} candidate scales gives a finite loss after {steps} steps: \
         try smaller ones"
    )]
    NoScale {
        /// Number of candidates.
        candidates: usize,
        /// Number of unrolled steps.
        steps: usize,
    },

    /// A measure's name is not known.
    #[error("there is no measure {name:?}; known are {known}", known = Measure::names())]
    UnknownMeasure {
        /// The name.
        name: String,
    },

    /// An operation on tensors failed outside the network.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl From<ir_tensor_ops::Error> for Error {
    fn from(error: ir_tensor_ops::Error) -> Self {
        Self::Tensor(error.into())
    }
}
