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

/// The version of this layout. A reader refuses a newer one, and reads older ones: version 2 added
/// the fields from [`Split::deletions`] on, which are empty where they are missing.
pub const SCHEMA_VERSION: u32 = 2;

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
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
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
    /// Random blocks deleted, one entry a number of blocks. Empty if not asked for, as all that
    /// follow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deletions: Vec<Deletions>,
    /// Random pairs of blocks swapped, one entry a number of swaps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reorderings: Vec<Reorderings>,
    /// The gradient through single paths, one entry a length from 0 to the number of blocks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<PathLength>,
    /// Each block's distance from the end of its stage, one entry a block.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub estimations: Vec<Estimation>,
    /// A trained linear classifier at h_0, then after each block.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub readouts: Vec<Readout>,
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

/// The network with k random blocks deleted, F_j := 0 for all of them at once (Veit et al. 2016,
/// section 4.1). Transitions are never deleted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deletions {
    /// k.
    pub deleted: usize,
    /// Mean accuracy over the draws, 0 to 1.
    pub accuracy: f64,
    /// Standard deviation of `accuracy` over the draws.
    pub accuracy_std: f64,
    /// Mean over the draws of the mean cross-entropy, in nats.
    pub loss: Number,
    /// Standard deviation of `loss` over the draws.
    pub loss_std: Number,
    /// Every draw; no two have the same blocks. All sets of k blocks there are, if there are no
    /// more of them than draws were asked for.
    pub draws: Vec<Deletion>,
}

/// One draw of deleted blocks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deletion {
    /// The deleted blocks, in order.
    pub blocks: Vec<usize>,
    /// Accuracy without them, 0 to 1.
    pub accuracy: f64,
    /// Mean cross-entropy without them, in nats.
    pub loss: Number,
}

/// The network after k random swaps, one after the other, each of two blocks of one stage (Veit et
/// al. 2016, section 4.2). Transitions stay where they are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reorderings {
    /// k.
    pub swaps: usize,
    /// Mean of Kendall's τ over the draws.
    pub kendall_tau: f64,
    /// Mean accuracy over the draws, 0 to 1.
    pub accuracy: f64,
    /// Standard deviation of `accuracy` over the draws.
    pub accuracy_std: f64,
    /// Mean over the draws of the mean cross-entropy, in nats.
    pub loss: Number,
    /// Standard deviation of `loss` over the draws.
    pub loss_std: Number,
    /// Every draw.
    pub draws: Vec<Reordering>,
}

/// One draw of an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reordering {
    /// The block whose branch is applied at each place, over all blocks.
    pub order: Vec<usize>,
    /// Kendall's τ of `order` against 0, 1, …, L − 1: (pairs in order − pairs out of order) / all
    /// pairs. 1 for the network as it is.
    pub kendall_tau: f64,
    /// Accuracy in this order, 0 to 1.
    pub accuracy: f64,
    /// Mean cross-entropy in this order, in nats.
    pub loss: Number,
}

/// The gradient that arrives at h_0 through single paths of one length k (Veit et al. 2016,
/// section 5).
///
/// A path is a choice of k of the L blocks. ∂L/∂h_L goes back through the branch alone of each
/// chosen block and through the shortcut alone of each other one, at the h_j of the whole network's
/// forward pass. A transition is a block like others, whose shortcut is a convolution. The gradient
/// ∂L/∂h_0 of the whole network is the sum over all 2^L paths.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PathLength {
    /// k.
    pub length: usize,
    /// Number of paths of this length, L! / (k! (L − k)!).
    pub paths: Number,
    /// How many of them were taken: random ones, no two the same, or all there are.
    pub sampled: usize,
    /// Mean norm of the gradient at h_0 through one path, over samples and then over the paths
    /// taken. Row n is the gradient of sample n's own loss.
    pub gradient_norm: Number,
    /// Standard deviation over the paths taken of the mean norm over samples.
    pub gradient_norm_std: Number,
    /// `paths` · `gradient_norm`: what all paths of this length would bring together if their
    /// gradients pointed the same way.
    pub contribution: Number,
}

/// How far the representation before a block is from its stage's last one (Greff et al. 2017,
/// Fig. 3).
///
/// The error of unit i for sample n at block j is h_j − h_end, where h_end is what the last block of
/// the stage gives: h of the next block where that has the stage's shape, otherwise the sum s + F
/// before what follows it (pooling). s_j stands for h_j of a transition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Estimation {
    /// j.
    pub block: usize,
    /// The block's stage.
    pub stage: usize,
    /// Mean of h_j − h_end over all units and samples.
    pub error: Number,
    /// Standard deviation of h_j − h_end over all units and samples.
    pub error_std: Number,
    /// Mean over samples of ‖h_j − h_end‖ / ‖h_end‖.
    pub distance: Option<Number>,
    /// Standard deviation of `distance` over samples.
    pub distance_std: Option<Number>,
    /// Samples with h_end = 0, left out of `distance`.
    #[serde(default)]
    pub undefined: usize,
}

/// A trained linear classifier of one representation, beside the plugged head of [`Exit`]; see
/// [`Readouts`](crate::Readouts) for what it reads and how it was trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Readout {
    /// The block after which it reads; `None` is h_0.
    pub after_block: Option<usize>,
    /// Number of features that it reads.
    pub features: usize,
    /// Accuracy, 0 to 1.
    pub accuracy: f64,
    /// Mean cross-entropy in nats.
    pub loss: Number,
    /// Standard deviation of `loss` over samples.
    pub loss_std: Number,
    /// Norm of the gradient at which its training ended.
    pub gradient_norm: f64,
    /// Steps of its training.
    pub iterations: usize,
}
