//! What the paper measures, on anything that is a residual network.
//!
//! A network is the five functions of [`ir_models::ResidualNetwork`]; nothing here knows more of
//! it, of a data set or of a command line. [`analyze_split`] takes batches and gives every
//! measure of the paper's section 4 and of the works beside it as plain data, [`results::Split`]:
//!
//! | measure | what | paper |
//! |---|---|---|
//! | [`Measure::Cosine`] | cos∠(F_j(h_j), ∂L/∂h_j) and ‖∂L/∂h_j‖ | Fig. 4 |
//! | [`Measure::ExitCosine`] | cos∠(F_j(h_j), ∂L(head(h_j))/∂h_j), last stage | Eq. 4 |
//! | [`Measure::Ratio`] | ‖F_j(h_j)‖ / ‖h_j‖ and ‖h_j‖ | Fig. 2 |
//! | [`Measure::Drop`] | accuracy and loss with F_j := 0 | Fig. 3 |
//! | [`Measure::Exits`] | the head plugged after each block of the last stage | Fig. 5, 6 |
//! | [`Measure::Unroll`] | the last block applied again and again | Fig. 7 |
//! | [`Measure::Taylor`] | each block's effect on the loss, and its first-order prediction | Eq. 4 |
//! | [`Measure::Delete`] | accuracy and loss without k random blocks | Veit et al. 2016, Fig. 5 |
//! | [`Measure::Reorder`] | the same after k random swaps, against Kendall's τ | Veit et al. 2016, Fig. 5 |
//! | [`Measure::Paths`] | the gradient at h_0 through single paths of each length | Veit et al. 2016, Fig. 6 |
//! | [`Measure::Estimation`] | h_j against its stage's last representation | Greff et al. 2017, Fig. 3 |
//! | [`Measure::Readouts`] | a linear classifier trained on each h_j | Huang et al. 2018 |
//!
//! The paper's are measured by default, the others by name. What the others mean exactly stands with
//! their results: [`results::Deletions`], [`results::Reorderings`], [`results::PathLength`],
//! [`results::Estimation`] and [`Readouts`].
//!
//! Beside it stand [`trace()`] (every h_j, F_j and gradient of a batch), [`evaluate`] and
//! [`exit_accuracies`] (forward only), [`choose_scale`] (for the unrolling), [`fit_readouts`] (for
//! the readouts) and [`stages`]. [`check_gradients`] says whether the gradients of a network can be
//! believed.
//!
//! # Definitions
//!
//! - L is each sample's own cross-entropy; a number is computed for each sample and then
//!   averaged. Standard deviations are those of the samples measured (divided by N): 0 for one
//!   sample, none for none.
//! - For a transition, whose shortcut is not the identity, s_j = shortcut(h_j) and ∂L/∂s_j (F_j
//!   held fixed) stand for h_j and ∂L/∂h_j, also at the entrance of the last stage.
//! - A cosine with a zero or overflowed vector and a ratio to a zero vector are undefined: the
//!   sample is left out of the mean and counted in [`results::Undefined`].
//! - What an exit, a dropped block or an unrolled step overflows to is reported ([`Number`]); an
//!   overflow in the network itself is an error that names its origin.
//!
//! # Cost
//!
//! One forward and one backward pass a batch feed all measures. Dropping L blocks adds about L/2
//! forward passes, since each starts at the s_j kept; an exit adds one head, an unrolled step one
//! branch and one head. Only sums are kept from batch to batch.
//!
//! Each draw of deleted or swapped blocks costs up to a forward pass, and a path of length k the
//! backward passes of k branches: with d draws all paths of a network of L blocks cost about d L / 2
//! backward passes. Estimation errors cost next to nothing, readouts a product with a small matrix and
//! their training.

mod batch;
mod blocks;
mod checked;
mod draws;
mod drop;
mod error;
mod estimation;
mod evaluate;
mod exits;
mod gradient_check;
mod groups;
mod last_stage;
mod lesions;
mod number;
mod options;
mod outcome;
mod paths;
mod probe;
mod readouts;
mod recorded;
pub mod results;
mod split;
mod statistics;
mod taylor;
mod trace;
mod unroll;

pub use error::{Error, Part, Result};
pub use evaluate::{BatchError, Evaluation, ExitEvaluation, evaluate, exit_accuracies};
pub use gradient_check::{GradientCheck, check_gradients};
pub use number::Number;
pub use options::{Measure, Options, ReferenceExit, UnrollScale};
pub use readouts::{Readouts, fit_readouts};
pub use split::{Progress, analyze_split, stages};
pub use trace::{Trace, TracedBlock, trace};
pub use unroll::{ScaleChoice, choose_scale};
