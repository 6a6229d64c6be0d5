//! Forward passes only: the whole network, and the exits of its last stage.

use candle_core::Tensor;
use ir_models::ResidualNetwork;

use crate::batch::Batch;
use crate::checked::Checked;
use crate::error::{Error, Result};
use crate::groups::ScoreSoFar;
use crate::number::Number;
use crate::outcome::Outcomes;
use crate::trace::{Gradients, run};

/// What an iterator of batches may report; anything that `?` can box.
pub trait BatchError: Into<Box<dyn std::error::Error + Send + Sync>> {}

impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> BatchError for E {}

/// Accuracy and loss of a whole network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluation {
    /// Number of samples.
    pub samples: usize,
    /// Accuracy, 0 to 1.
    pub accuracy: f64,
    /// Mean cross-entropy in nats.
    pub loss: f64,
}

/// Accuracy and loss of one exit of the last stage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExitEvaluation {
    /// The block after which the head reads; `None` is the entrance of the last stage, as in
    /// [`Exit`](crate::results::Exit).
    pub after_block: Option<usize>,
    /// Number of samples.
    pub samples: usize,
    /// Accuracy, 0 to 1.
    pub accuracy: f64,
    /// Mean cross-entropy in nats; an exit that was never trained may overflow.
    pub loss: Number,
}

/// Accuracy and mean loss of a network over batches of (images `[N, …]`, u32 labels `[N]`).
///
/// # Errors
/// [`Error::EmptySplit`], [`Error::NonFinite`], and whatever a batch or the network reports.
///
/// # Example
/// ```
/// # use candle_core::{Device, Result, Tensor};
/// # use ir_models::{Block, ResidualNetwork};
/// # struct Tiny;
/// # impl ResidualNetwork for Tiny {
/// #     fn blocks(&self) -> Vec<Block> { vec![Block { stage: 0, transition: false }] }
/// #     fn stem(&self, images: &Tensor) -> Result<Tensor> { Ok(images.clone()) }
/// #     fn branch(&self, _: usize, h: &Tensor) -> Result<Tensor> { Ok(h.clone()) }
/// #     fn head(&self, h: &Tensor) -> Result<Tensor> { Ok(h.clone()) }
/// # }
/// # let network = Tiny; // The logits are twice the image.
/// let images = Tensor::new(&[[1f32, 0.], [0., 1.]], &Device::Cpu)?;
/// let labels = Tensor::new(&[0u32, 0], &Device::Cpu)?;
/// let batches = vec![Ok::<_, ir_analysis::Error>((images, labels))];
/// let evaluation = ir_analysis::evaluate(&network, batches)?;
/// assert_eq!((evaluation.samples, evaluation.accuracy), (2, 0.5));
/// # Ok::<(), ir_analysis::Error>(())
/// ```
pub fn evaluate<E: BatchError>(
    network: &dyn ResidualNetwork,
    batches: impl IntoIterator<Item = Result<(Tensor, Tensor), E>>,
) -> Result<Evaluation> {
    let network = Checked::new(network)?;
    let mut score = ScoreSoFar::default();
    each_batch(batches, |batch| {
        let h = network.stem(&batch.images)?.detach();
        let logits = network.logits_from(0, &h)?;
        let outcomes = Outcomes::new(&logits, batch)?;
        if outcomes.loss.iter().any(|loss| !loss.is_finite()) {
            // The pass that keeps every h_j says where the loss became what it is.
            run(&network, batch, Gradients::Left)?;
        }
        score.add(&outcomes);
        Ok(())
    })?;
    match (score.accuracy(), score.loss()) {
        (Some(accuracy), Some(loss)) => Ok(Evaluation {
            samples: score.samples(),
            accuracy,
            loss,
        }),
        _ => Err(Error::EmptySplit),
    }
}

/// Accuracy and loss of every exit of the last stage, forward only: what Fig. 5 follows from
/// epoch to epoch. One forward pass a batch, and the head once for each exit.
///
/// # Errors
/// [`Error::EmptySplit`], and whatever a batch or the network reports.
///
/// # Example
/// ```
/// # use candle_core::{Device, Result, Tensor};
/// # use ir_models::{Block, ResidualNetwork};
/// # struct Tiny;
/// # impl ResidualNetwork for Tiny {
/// #     fn blocks(&self) -> Vec<Block> { vec![Block { stage: 0, transition: false }] }
/// #     fn stem(&self, images: &Tensor) -> Result<Tensor> { Ok(images.clone()) }
/// #     fn branch(&self, _: usize, h: &Tensor) -> Result<Tensor> { h.affine(-2.0, 0.0) }
/// #     fn head(&self, h: &Tensor) -> Result<Tensor> { Ok(h.clone()) }
/// # }
/// # let network = Tiny; // One block that turns h around.
/// let images = Tensor::new(&[[1f32, 0.]], &Device::Cpu)?;
/// let batches = vec![Ok::<_, ir_analysis::Error>((images, Tensor::new(&[0u32], &Device::Cpu)?))];
/// let exits = ir_analysis::exit_accuracies(&network, batches)?;
/// assert_eq!((exits[0].after_block, exits[0].accuracy), (None, 1.0));
/// assert_eq!((exits[1].after_block, exits[1].accuracy), (Some(0), 0.0));
/// # Ok::<(), ir_analysis::Error>(())
/// ```
pub fn exit_accuracies<E: BatchError>(
    network: &dyn ResidualNetwork,
    batches: impl IntoIterator<Item = Result<(Tensor, Tensor), E>>,
) -> Result<Vec<ExitEvaluation>> {
    let network = Checked::new(network)?;
    let start = network.last_stage_start();
    let mut scores = vec![ScoreSoFar::default(); network.last_block() - start + 2];
    each_batch(batches, |batch| {
        let mut h = network.stem(&batch.images)?.detach();
        for block in 0..start {
            h = network.step(block, &h)?;
        }
        let entrance = network.shortcut(start, &h)?;
        scores[0].add(&Outcomes::new(&network.head(&entrance)?, batch)?);
        for (score, block) in scores[1..].iter_mut().zip(start..) {
            h = network.step(block, &h)?;
            score.add(&Outcomes::new(&network.head(&h)?, batch)?);
        }
        Ok(())
    })?;
    let evaluation = |(index, score): (usize, &ScoreSoFar)| {
        Some(ExitEvaluation {
            after_block: index.checked_sub(1).map(|offset| start + offset),
            samples: score.samples(),
            accuracy: score.accuracy()?,
            loss: score.loss()?.into(),
        })
    };
    scores
        .iter()
        .enumerate()
        .map(evaluation)
        .collect::<Option<_>>()
        .ok_or(Error::EmptySplit)
}

/// h_L by a plain forward pass.
pub(crate) fn final_representation(network: &Checked<'_>, batch: &Batch) -> Result<Tensor> {
    let mut h = network.stem(&batch.images)?.detach();
    for block in 0..=network.last_block() {
        h = network.step(block, &h)?;
    }
    Ok(h)
}

/// Calls `measure` on every batch; an error if there is none.
pub(crate) fn each_batch<E: BatchError>(
    batches: impl IntoIterator<Item = Result<(Tensor, Tensor), E>>,
    mut measure: impl FnMut(&Batch) -> Result<()>,
) -> Result<()> {
    let mut any = false;
    for (index, batch) in batches.into_iter().enumerate() {
        let (images, labels) = batch.map_err(|error| Error::Batch {
            batch: index,
            source: error.into(),
        })?;
        measure(&Batch::new(index, images, labels)?)?;
        any = true;
    }
    if any { Ok(()) } else { Err(Error::EmptySplit) }
}
