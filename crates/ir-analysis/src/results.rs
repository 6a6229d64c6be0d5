//! What an analysis found, as plain data: the content of `results.json`.
//!
//! Numbers over samples come as a mean and, beside it in a field of the same name with
//! `_std`, the standard deviation of these very samples (divided by N, so 0 for one sample).
//! `None` (`null` in JSON) is a quantity that was not asked for or is undefined there (the exit
//! gradient before the last stage, a cosine with a zero vector). Numbers that ran out of f64's range are written as the
//! strings `"inf"`, `"-inf"` and `"nan"`, see [`Number`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::number::Number;

/// The version of this layout. A reader refuses a newer one.
pub const SCHEMA_VERSION: u32 = 1;

/// One analysis of one network: the whole of `results.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// The layout's version, [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The network's name, for people (`resnet-32`).
    pub network: String,
    /// The data set's name, for people (`cifar10`, `synthetic10`).
    pub dataset: String,
    /// The stages in order.
    pub stages: Vec<Stage>,
    /// What was measured, by the split's name: `train`, `test`.
    pub splits: BTreeMap<String, Split>,
    /// Who made these numbers, from what. Filled in by the caller; free of any type here,
    /// since a library does not know its command line.
    #[serde(default)]
    pub provenance: serde_json::Value,
}

/// A run of blocks whose representations have one shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Index of the stage, from 0.
    pub stage: usize,
    /// Its first block.
    pub first_block: usize,
    /// Its last block, inclusive.
    pub last_block: usize,
    /// Shape of one sample's representation, without the batch: `[C, H, W]` in the paper's nets.
    pub shape: Vec<usize>,
}

/// Everything measured on one split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Split {
    /// Number of samples.
    pub samples: usize,
    /// Accuracy of the whole network, 0 to 1.
    pub accuracy: f64,
    /// Mean cross-entropy of the whole network, in nats.
    pub loss: f64,
    /// Per block, in order (Fig. 2, 3, 4).
    pub blocks: Vec<BlockMeasures>,
    /// Exits of the last stage, in order: before its first block, then after each block
    /// (Fig. 5, 6). Empty if not asked for.
    pub exits: Vec<Exit>,
    /// Unrolling of the last block, one entry a scale (Fig. 7). Empty if not asked for.
    pub unroll: Vec<Unroll>,
    /// The Taylor table of the last stage. Empty if not asked for.
    pub taylor: Vec<TaylorRow>,
}

/// What was measured at one block j.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlockMeasures {
    /// j, through all stages from 0.
    pub block: usize,
    /// The block's stage.
    pub stage: usize,
    /// Whether the shortcut is not the identity; s_j = S_j(h_j) then stands for h_j.
    pub transition: bool,
    /// cos∠(F_j(h_j), ∂L/∂h_j) with the gradient back-propagated through all later blocks.
    pub cosine: Option<f64>,
    /// Standard deviation of `cosine`.
    pub cosine_std: Option<f64>,
    /// cos∠(F_j(h_j), ∂L(head(h_j))/∂h_j), last stage only.
    pub exit_cosine: Option<f64>,
    /// Standard deviation of `exit_cosine`.
    pub exit_cosine_std: Option<f64>,
    /// ‖F_j(h_j)‖ / ‖h_j‖.
    pub l2_ratio: Option<Number>,
    /// Standard deviation of `l2_ratio`.
    pub l2_ratio_std: Option<Number>,
    /// ‖∂L/∂h_j‖, the gradient of each sample's own loss.
    pub grad_norm: Option<Number>,
    /// Standard deviation of `grad_norm`.
    pub grad_norm_std: Option<Number>,
    /// ‖h_j‖.
    pub h_norm: Option<Number>,
    /// Standard deviation of `h_norm`.
    pub h_norm_std: Option<Number>,
    /// Accuracy with F_j := 0.
    pub drop_accuracy: Option<f64>,
    /// Mean loss with F_j := 0.
    pub drop_loss: Option<Number>,
    /// Standard deviation of the loss with F_j := 0.
    pub drop_loss_std: Option<Number>,
    /// Samples without some of these quantities, left out of their means.
    #[serde(default, skip_serializing_if = "Undefined::is_empty")]
    pub undefined: Undefined,
}

/// How many samples a quantity was undefined for. They are left out of its mean and standard
/// deviation, and counted here so that nobody has to guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Undefined {
    /// Samples whose F_j or network gradient is zero (or has overflowed): no angle.
    pub cosine: usize,
    /// The same with the exit gradient.
    pub exit_cosine: usize,
    /// Samples with h_j = 0: no ratio.
    pub l2_ratio: usize,
}

impl Undefined {
    /// Whether every quantity is defined for every sample.
    ///
    /// ```
    /// assert!(ir_analysis::results::Undefined::default().is_empty());
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A group of samples at an exit or an unrolled step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Number of samples in the group.
    pub samples: usize,
    /// Accuracy, 0 to 1; `None` for an empty group, as in all of these.
    pub accuracy: Option<f64>,
    /// Mean cross-entropy in nats.
    pub loss: Option<Number>,
    /// Standard deviation of `loss`.
    pub loss_std: Option<Number>,
    /// Mean entropy of the predicted distribution in nats.
    pub entropy: Option<Number>,
    /// Standard deviation of `entropy`.
    pub entropy_std: Option<Number>,
}

/// The three groups of Fig. 6 and 7. Membership is decided once, at the reference exit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Groups {
    /// Every sample.
    pub all: Group,
    /// Samples that the reference exit already classifies correctly.
    pub correct: Group,
    /// Samples with |p_correct − max_{other} p| < 0.1 at the reference exit.
    pub borderline: Group,
}

/// The head plugged in after a block of the last stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exit {
    /// The block after which the head reads; `None` is the entrance of the last stage, before
    /// the first block that has its shape.
    pub after_block: Option<usize>,
    /// Whether the groups were decided at this exit.
    pub reference: bool,
    /// Accuracy, loss and entropy by group.
    pub groups: Groups,
}

/// How the scale of an unrolled branch came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScaleSource {
    /// 1: the branch as it is.
    Unscaled,
    /// Given by the user.
    Fixed,
    /// The one of the candidates with the lowest loss on the training split after the last step.
    ChosenOnTrain,
}

/// The last block applied again and again: h ← h + scale · F_{L−1}(h).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unroll {
    /// Factor on the branch in every additional step.
    pub scale: f64,
    /// Where the factor comes from.
    pub scale_source: ScaleSource,
    /// Step 0 is the network as it is; step k has k additional applications.
    pub steps: Vec<UnrollStep>,
}

/// The state after one unrolled step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnrollStep {
    /// Number of additional applications so far.
    pub step: usize,
    /// Accuracy, loss and entropy by group; the reference is step 0.
    pub groups: Groups,
    /// cos∠(F(h), ∂L(head(h))/∂h) at the h that this step started from: at step 0 the last
    /// block's own input, then each unrolled one.
    pub cosine: Option<f64>,
    /// Standard deviation of `cosine`.
    pub cosine_std: Option<f64>,
    /// ‖scale · F(h)‖ / ‖h‖ at the same h (at step 0 with scale 1).
    pub l2_ratio: Option<Number>,
    /// Standard deviation of `l2_ratio`.
    pub l2_ratio_std: Option<Number>,
    /// ‖h‖ after the step.
    pub h_norm: Option<Number>,
    /// Samples without a cosine (with the exit gradient, in `cosine`) or without a ratio.
    #[serde(default, skip_serializing_if = "Undefined::is_empty")]
    pub undefined: Undefined,
}

/// One row of the Taylor table: the exit loss L(h_j) = loss(head(h_j)) around a block of the
/// last stage, against its first-order prediction (paper, section 3, Eq. 4; the paper states
/// the expansion and does not show this check).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaylorRow {
    /// j.
    pub block: usize,
    /// Mean exit loss at h_j.
    pub exit_loss: Number,
    /// Mean exit loss at h_{j+1}.
    pub next_exit_loss: Number,
    /// Mean of F_j(h_j) · ∂L/∂h_j: the predicted change.
    pub predicted_change: Number,
    /// Standard deviation of the predicted change over samples.
    pub predicted_change_std: Number,
    /// Mean of L(h_{j+1}) − L(h_j) − F_j(h_j) · ∂L/∂h_j: what the prediction leaves out.
    pub remainder: Number,
    /// Standard deviation of the remainder over samples.
    pub remainder_std: Number,
}
