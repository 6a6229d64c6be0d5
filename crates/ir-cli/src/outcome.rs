//! What a run came to, in short: for `ir compare` and for programs that started a training.

use std::collections::BTreeMap;

use ir_analysis::results::{BlockMeasures, Exit};
use ir_analysis::{Number, results};
use serde::Serialize;

use crate::run::{BlockRow, Epoch, ExitRow, Run, RunInfo};

/// A run's settings and its last numbers.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    /// The run's folder.
    pub(crate) folder: String,
    /// `run.json`.
    pub(crate) settings: RunInfo,
    /// Whether all epochs asked for are done.
    pub(crate) finished: bool,
    /// The last epoch.
    pub(crate) last: Option<Epoch>,
    /// The epoch with the highest test accuracy, the earliest of equals.
    pub(crate) best: Option<Epoch>,
    /// Wall time of the training.
    pub(crate) seconds: f64,
    /// Measures by split.
    pub(crate) splits: BTreeMap<String, Measures>,
}

/// The measures of a split at their last, from the analysis if there is one, otherwise as
/// training recorded them.
#[derive(Debug, Serialize)]
pub(crate) struct Measures {
    /// `results.json` or `blocks.csv`.
    pub(crate) from: &'static str,
    /// Epochs done then, where it is known.
    pub(crate) epoch: Option<usize>,
    /// Images measured, where it is known.
    pub(crate) samples: Option<usize>,
    /// Means over the blocks of each stage.
    pub(crate) stages: Vec<StageMeans>,
    /// The exits of the last stage.
    pub(crate) exits: Vec<ExitMeans>,
}

/// Means over the blocks of a stage, transitions aside; `None` where no block has the measure.
#[derive(Debug, Serialize)]
pub(crate) struct StageMeans {
    /// The stage, counted from 0.
    pub(crate) stage: usize,
    /// Of cos∠(F_j, ∂L/∂h_j).
    pub(crate) cosine: Option<f64>,
    /// Of ‖F_j‖ / ‖h_j‖.
    pub(crate) l2_ratio: Option<Number>,
}

/// One exit of the last stage.
#[derive(Debug, Serialize)]
pub(crate) struct ExitMeans {
    /// The block after which the head reads; `None` is the entrance of the stage.
    pub(crate) after_block: Option<usize>,
    /// Accuracy, 0 to 1.
    pub(crate) accuracy: Option<f64>,
    /// Mean loss in nats.
    pub(crate) loss: Option<Number>,
}

impl Outcome {
    /// What is in a run's folder, in short.
    pub(crate) fn of(run: &Run) -> Self {
        let last = run.history.last().cloned();
        let trained = run.history.iter().filter(|epoch| epoch.epoch > 0);
        let best = trained.reduce(|best, epoch| {
            if epoch.test_accuracy > best.test_accuracy {
                epoch
            } else {
                best
            }
        });
        Self {
            folder: run.folder.display().to_string(),
            settings: run.info.clone(),
            finished: last
                .as_ref()
                .is_some_and(|last| last.epoch >= run.info.epochs),
            last,
            best: best.cloned(),
            seconds: run.seconds(),
            splits: splits(run),
        }
    }
}

fn splits(run: &Run) -> BTreeMap<String, Measures> {
    let names = ["train", "test"].into_iter();
    let found = names.filter_map(|name| {
        let analysed = || Some(analysed(run, run.results.as_ref()?.splits.get(name)?));
        let measures = analysed().or_else(|| recorded(run, name))?;
        Some((name.to_owned(), measures))
    });
    found.collect()
}

fn analysed(run: &Run, split: &results::Split) -> Measures {
    let block = |block: &BlockMeasures| Block {
        stage: block.stage,
        transition: block.transition,
        cosine: block.cosine,
        l2_ratio: block.l2_ratio.map(f64::from),
    };
    let exit = |exit: &Exit| ExitMeans {
        after_block: exit.after_block,
        accuracy: exit.groups.all.accuracy,
        loss: exit.groups.all.loss,
    };
    Measures {
        from: "results.json",
        epoch: run.history.last().map(|epoch| epoch.epoch),
        samples: Some(split.samples),
        stages: stage_means(split.blocks.iter().map(block)),
        exits: split.exits.iter().map(exit).collect(),
    }
}

fn recorded(run: &Run, split: &str) -> Option<Measures> {
    let epoch = run.columns.blocks.last()?.epoch;
    let blocks = run.columns.blocks.iter();
    let block = |row: &BlockRow| Block {
        stage: row.stage,
        transition: row.transition,
        cosine: row.cosine,
        l2_ratio: row.l2_ratio,
    };
    let exits = run.columns.exits.iter();
    let exit = |row: &ExitRow| ExitMeans {
        after_block: row.after_block,
        accuracy: row.accuracy,
        loss: row.loss.map(Number),
    };
    Some(Measures {
        from: "blocks.csv",
        epoch: Some(epoch),
        samples: None,
        stages: stage_means(
            blocks
                .filter(|row| row.epoch == epoch && row.split == split)
                .map(block),
        ),
        exits: exits
            .filter(|row| row.epoch == epoch && row.split == split)
            .map(exit)
            .collect(),
    })
}

/// What the means are of.
struct Block {
    stage: usize,
    transition: bool,
    cosine: Option<f64>,
    l2_ratio: Option<f64>,
}

fn stage_means(blocks: impl Iterator<Item = Block>) -> Vec<StageMeans> {
    let mut stages: BTreeMap<usize, Vec<Block>> = BTreeMap::new();
    for block in blocks {
        stages.entry(block.stage).or_default().push(block);
    }
    let means = |(stage, blocks): (usize, Vec<Block>)| {
        let mean = |of: fn(&Block) -> Option<f64>| {
            let within = blocks.iter().filter(|block| !block.transition);
            let values: Vec<f64> = within.filter_map(of).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        StageMeans {
            stage,
            cosine: mean(|block| block.cosine),
            l2_ratio: mean(|block| block.l2_ratio).map(Number),
        }
    };
    stages.into_iter().map(means).collect()
}
