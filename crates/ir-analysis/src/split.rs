//! All measures of one split, from one traced pass a batch.

use candle_core::Tensor;
use ir_models::ResidualNetwork;

use crate::batch::Batch;
use crate::blocks::BlockSoFar;
use crate::checked::Checked;
use crate::draws::Draws;
use crate::drop::without_block;
use crate::error::{Error, Result};
use crate::estimation::{self, EstimationSoFar};
use crate::evaluate::{BatchError, each_batch};
use crate::exits::ExitsSoFar;
use crate::groups::ScoreSoFar;
use crate::last_stage::{LastStage, Reading};
use crate::lesions::LesionsSoFar;
use crate::options::{Measure, Options};
use crate::paths::PathsSoFar;
use crate::readouts::ReadoutsSoFar;
use crate::results::{BlockMeasures, Split, Stage, Undefined};
use crate::taylor::TaylorSoFar;
use crate::trace::{Gradients, Trace, run};
use crate::unroll::UnrollSoFar;

/// How far [`analyze_split`] is, after each batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Batches done.
    pub batches: usize,
    /// Samples done.
    pub samples: usize,
    /// Accuracy of the network over them, 0 to 1.
    pub accuracy: f64,
    /// Mean loss over them in nats.
    pub loss: f64,
}

/// Measures a network on one split, given as batches of (images `[N, …]`, u32 labels `[N]`).
///
/// Each batch takes one traced pass; every measure reads what it left and adds only what it
/// cannot hold: heads at the exits, the later blocks where one is dropped, the unrolled steps.
/// Nothing but sums is kept from batch to batch, and a sample's numbers do not depend on the
/// batch it is in. `progress` is called after every batch.
///
/// # Errors
/// [`Error::EmptySplit`], [`Error::NonFinite`], and whatever a batch or the network reports; an
/// overflow that only a dropped block, an exit or an unrolled step causes is a result, not an
/// error.
///
/// # Example
/// ```
/// # use candle_core::{Device, Result, Tensor};
/// # use ir_models::{Block, ResidualNetwork};
/// # struct Tiny;
/// # impl ResidualNetwork for Tiny {
/// #     fn blocks(&self) -> Vec<Block> { vec![Block { stage: 0, transition: false }] }
/// #     fn stem(&self, images: &Tensor) -> Result<Tensor> { Ok(images.clone()) }
/// #     fn branch(&self, _: usize, h: &Tensor) -> Result<Tensor> { h.affine(0.5, 0.0) }
/// #     fn head(&self, h: &Tensor) -> Result<Tensor> { Ok(h.clone()) }
/// # }
/// # let network = Tiny; // One block that makes h longer by half.
/// use ir_analysis::{Options, analyze_split};
///
/// let images = Tensor::new(&[[1f32, 0.]], &Device::Cpu)?;
/// let batches = vec![Ok::<_, ir_analysis::Error>((images, Tensor::new(&[0u32], &Device::Cpu)?))];
/// let split = analyze_split(&network, batches, &Options::default(), &mut |progress| {
///     assert_eq!(progress.samples, 1);
/// })?;
/// let block = &split.blocks[0];
/// assert_eq!(block.l2_ratio, Some(0.5.into()));
/// // ∂L/∂h_0 lies along (−1, 1) and F_0 along (1, 0): an angle of 135°.
/// assert!((block.cosine.expect("defined") + 0.5f64.sqrt()).abs() < 1e-6);
/// # Ok::<(), ir_analysis::Error>(())
/// ```
pub fn analyze_split<E: BatchError>(
    network: &dyn ResidualNetwork,
    batches: impl IntoIterator<Item = Result<(Tensor, Tensor), E>>,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Split> {
    let network = Checked::new(network)?;
    let mut so_far = SplitSoFar::new(&network, options)?;
    each_batch(batches, |batch| {
        network.together(|| so_far.add(batch))?;
        progress(so_far.progress(batch.index + 1));
        Ok(())
    })?;
    so_far.finish().ok_or(Error::EmptySplit)
}

/// The sums of every measure asked for.
struct SplitSoFar<'a> {
    network: &'a Checked<'a>,
    options: &'a Options,
    score: ScoreSoFar,
    blocks: Vec<BlockSoFar>,
    drops: Vec<ScoreSoFar>,
    exits: Option<ExitsSoFar>,
    unrolls: Vec<UnrollSoFar>,
    /// One row a block of the last stage.
    taylor: Vec<TaylorSoFar>,
    deletions: Option<LesionsSoFar>,
    reorderings: Option<LesionsSoFar>,
    paths: Option<PathsSoFar>,
    estimations: Vec<EstimationSoFar>,
    readouts: Option<ReadoutsSoFar<'a>>,
}

impl<'a> SplitSoFar<'a> {
    fn new(network: &'a Checked<'a>, options: &'a Options) -> Result<Self> {
        let blocks = network.blocks().len();
        let start = network.last_stage_start();
        let asked = |measure| options.any(&[measure]);
        let exits =
            asked(Measure::Exits).then(|| ExitsSoFar::new(start, network.last_block(), options));
        let scales = if asked(Measure::Unroll) {
            options.unroll_scales.as_slice()
        } else {
            &[]
        };
        let readouts = options
            .readouts
            .as_ref()
            .filter(|_| asked(Measure::Readouts));
        let unroll = |&scale| UnrollSoFar::new(network, scale, options.unroll_steps);
        let rows = |measure, rows: usize| if asked(measure) { rows } else { 0 };
        let draws = Draws {
            count: options.draws,
            seed: options.draw_seed,
        };
        Ok(Self {
            network,
            options,
            score: ScoreSoFar::default(),
            blocks: vec![BlockSoFar::default(); blocks],
            drops: vec![ScoreSoFar::default(); rows(Measure::Drop, blocks)],
            exits,
            unrolls: scales.iter().map(unroll).collect::<Result<_>>()?,
            taylor: vec![TaylorSoFar::default(); rows(Measure::Taylor, blocks - start)],
            deletions: asked(Measure::Delete).then(|| LesionsSoFar::deletions(network, draws)),
            reorderings: asked(Measure::Reorder).then(|| LesionsSoFar::reorderings(network, draws)),
            paths: asked(Measure::Paths).then(|| PathsSoFar::new(blocks, draws)),
            estimations: vec![EstimationSoFar::default(); rows(Measure::Estimation, blocks)],
            readouts: readouts
                .map(|readouts| ReadoutsSoFar::new(network, readouts))
                .transpose()?,
        })
    }

    fn add(&mut self, batch: &Batch) -> Result<()> {
        let gradients = self.gradients(&[Measure::Cosine]);
        let (mut trace, outcomes) = run(self.network, batch, gradients)?;
        if self.options.any(&[Measure::Unroll, Measure::Paths]) && trace.gradient_last.is_none() {
            // Without the backward pass through the network, one through the head is enough.
            let name = || "h_L".to_owned();
            let h_last = &trace.h_last;
            let last = Reading::at(self.network, h_last, batch, Gradients::Taken, name)?;
            trace.read_at_the_end(last);
        }
        self.score.add(&outcomes);
        self.add_lesions(&trace, batch)?;
        if let Some(paths) = &mut self.paths {
            paths.add(self.network, &trace)?;
        }
        if !self.estimations.is_empty() {
            estimation::add(&mut self.estimations, self.network, &trace)?;
        }
        if let Some(readouts) = &mut self.readouts {
            readouts.add(&trace, batch)?;
        }
        let last_stage = if self.options.any(&[
            Measure::ExitCosine,
            Measure::Exits,
            Measure::Unroll,
            Measure::Taylor,
        ]) {
            let gradients =
                self.gradients(&[Measure::ExitCosine, Measure::Unroll, Measure::Taylor]);
            Some(LastStage::read(
                self.network,
                &trace,
                outcomes,
                batch,
                gradients,
            )?)
        } else {
            None
        };
        self.add_blocks(&trace, last_stage.as_ref())?;
        if let Some(last_stage) = &last_stage {
            self.add_last_stage(&trace, last_stage, batch)?;
        }
        Ok(())
    }

    /// Blocks dropped, deleted and in another order.
    fn add_lesions(&mut self, trace: &Trace, batch: &Batch) -> Result<()> {
        for (block, score) in self.drops.iter_mut().enumerate() {
            score.add(&without_block(self.network, trace, batch, block)?);
        }
        for lesions in self.deletions.iter_mut().chain(&mut self.reorderings) {
            lesions.add(self.network, trace, batch)?;
        }
        Ok(())
    }

    fn add_blocks(&mut self, trace: &Trace, last_stage: Option<&LastStage>) -> Result<()> {
        for (block, so_far) in self.blocks.iter_mut().enumerate() {
            let last_stage = last_stage.filter(|stage| block >= stage.start);
            so_far.add(block, trace, last_stage, self.options)?;
        }
        Ok(())
    }

    fn add_last_stage(&mut self, trace: &Trace, stage: &LastStage, batch: &Batch) -> Result<()> {
        if let Some(exits) = &mut self.exits {
            exits.add(stage);
        }
        for (row, block) in self.taylor.iter_mut().zip(stage.start..) {
            row.add(block, &trace.blocks[block], stage)?;
        }
        for unroll in &mut self.unrolls {
            unroll.add(self.network, trace, stage, batch)?;
        }
        Ok(())
    }

    /// Gradients are taken if one of these measures is asked for.
    fn gradients(&self, measures: &[Measure]) -> Gradients {
        if self.options.any(measures) {
            Gradients::Taken
        } else {
            Gradients::Left
        }
    }

    fn progress(&self, batches: usize) -> Progress {
        Progress {
            batches,
            samples: self.score.samples(),
            accuracy: self.score.accuracy().unwrap_or(f64::NAN),
            loss: self.score.loss().unwrap_or(f64::NAN),
        }
    }

    /// `None` before the first sample.
    fn finish(&self) -> Option<Split> {
        let start = self.network.last_stage_start();
        let rows = self.taylor.iter().zip(start..);
        let blocks = self.network.blocks().iter().enumerate();
        let estimations = self.estimations.iter().zip(blocks);
        let deletions = self.deletions.as_ref().map(LesionsSoFar::finish_deletions);
        let reorderings = self
            .reorderings
            .as_ref()
            .map(LesionsSoFar::finish_reorderings);
        let paths = self.paths.as_ref().map(PathsSoFar::finish);
        let readouts = self.readouts.as_ref().map(ReadoutsSoFar::finish);
        Some(Split {
            samples: self.score.samples(),
            accuracy: self.score.accuracy()?,
            loss: self.score.loss()?,
            blocks: (0..self.blocks.len())
                .map(|block| self.finish_block(block))
                .collect(),
            exits: self
                .exits
                .as_ref()
                .map(ExitsSoFar::finish)
                .unwrap_or_default(),
            unroll: self.unrolls.iter().map(UnrollSoFar::finish).collect(),
            taylor: rows
                .map(|(row, block)| row.finish(block))
                .collect::<Option<_>>()?,
            deletions: deletions.unwrap_or_else(|| Some(Vec::new()))?,
            reorderings: reorderings.unwrap_or_else(|| Some(Vec::new()))?,
            paths: paths.unwrap_or_else(|| Some(Vec::new()))?,
            estimations: estimations
                .map(|(so_far, (block, about))| so_far.finish(block, about.stage))
                .collect::<Option<_>>()?,
            readouts: readouts.unwrap_or_else(|| Some(Vec::new()))?,
        })
    }

    fn finish_block(&self, block: usize) -> BlockMeasures {
        let about = self.network.blocks()[block];
        let drop = self.drops.get(block);
        let mut measures = BlockMeasures {
            block,
            stage: about.stage,
            transition: about.transition,
            cosine: None,
            cosine_std: None,
            exit_cosine: None,
            exit_cosine_std: None,
            l2_ratio: None,
            l2_ratio_std: None,
            grad_norm: None,
            grad_norm_std: None,
            h_norm: None,
            h_norm_std: None,
            drop_accuracy: drop.and_then(ScoreSoFar::accuracy),
            drop_loss: drop.and_then(ScoreSoFar::loss).map(Into::into),
            drop_loss_std: drop.and_then(ScoreSoFar::loss_std).map(Into::into),
            undefined: Undefined::default(),
        };
        self.blocks[block].finish(&mut measures);
        measures
    }
}

/// The stages of a network and the shapes of their representations, found by passing images
/// `[N, …]` through it once; one image is enough.
///
/// A stage's shape is that of s_j of its first block, without the batch.
///
/// # Errors
/// Whatever the network breaks of its contract.
///
/// # Example
/// ```
/// # use candle_core::{Device, Result, Tensor};
/// # use ir_models::{Block, ResidualNetwork};
/// # struct Tiny;
/// # impl ResidualNetwork for Tiny {
/// #     fn blocks(&self) -> Vec<Block> { vec![Block { stage: 0, transition: false }] }
/// #     fn stem(&self, images: &Tensor) -> Result<Tensor> { images.flatten_from(1) }
/// #     fn branch(&self, _: usize, h: &Tensor) -> Result<Tensor> { Ok(h.clone()) }
/// #     fn head(&self, h: &Tensor) -> Result<Tensor> { Ok(h.clone()) }
/// # }
/// # let network = Tiny; // Its stem flattens the image.
/// let image = Tensor::zeros((1, 3, 8, 8), candle_core::DType::F32, &Device::Cpu)?;
/// let stages = ir_analysis::stages(&network, &image)?;
/// assert_eq!((stages[0].first_block, stages[0].last_block), (0, 0));
/// assert_eq!(stages[0].shape, [192]);
/// # Ok::<(), ir_analysis::Error>(())
/// ```
pub fn stages(network: &dyn ResidualNetwork, images: &Tensor) -> Result<Vec<Stage>> {
    let network = Checked::new(network)?;
    let mut stages: Vec<Stage> = Vec::new();
    let mut h = network.stem(images)?.detach();
    for (block, about) in network.blocks().iter().enumerate() {
        match stages.last_mut() {
            Some(stage) if stage.stage == about.stage => stage.last_block = block,
            _ => stages.push(Stage {
                stage: about.stage,
                first_block: block,
                last_block: block,
                shape: network.shortcut(block, &h)?.dims()[1..].to_vec(),
            }),
        }
        h = network.step(block, &h)?;
    }
    Ok(stages)
}
