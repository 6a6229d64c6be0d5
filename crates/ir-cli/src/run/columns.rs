//! What training records of the blocks and exits, as columns: `blocks.csv` and `exits.csv`.

use std::path::Path;

use anyhow::{Context, Result};
use ir_analysis::results::{BlockMeasures, Split};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::read_if_there;
use crate::files;

/// One block on one split after one epoch. An empty field was not measured or is not defined.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct BlockRow {
    /// Epochs done: 0 is the network before its first step.
    pub(crate) epoch: usize,
    /// `train` or `test`.
    pub(crate) split: String,
    /// The block.
    pub(crate) block: usize,
    /// Its stage.
    pub(crate) stage: usize,
    /// Whether its shortcut is not the identity.
    pub(crate) transition: bool,
    /// cos∠(F_j, ∂L/∂h_j).
    pub(crate) cosine: Option<f64>,
    /// Its standard deviation over samples, as of all that end in `_std`.
    pub(crate) cosine_std: Option<f64>,
    /// cos∠(F_j, ∂L(head(h_j))/∂h_j).
    pub(crate) exit_cosine: Option<f64>,
    pub(crate) exit_cosine_std: Option<f64>,
    /// ‖F_j‖ / ‖h_j‖.
    pub(crate) l2_ratio: Option<f64>,
    pub(crate) l2_ratio_std: Option<f64>,
    /// ‖∂L/∂h_j‖.
    pub(crate) grad_norm: Option<f64>,
    pub(crate) grad_norm_std: Option<f64>,
    /// ‖h_j‖.
    pub(crate) h_norm: Option<f64>,
    pub(crate) h_norm_std: Option<f64>,
    /// √(mean of ‖h_j‖²) with batch norm on the statistics of one batch, as in training; of the
    /// training split only, and of h_j also where the others are of s_j.
    pub(crate) batch_h_norm: Option<f64>,
}

/// One exit of the last stage on one split after one epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ExitRow {
    /// Epochs done.
    pub(crate) epoch: usize,
    /// `train` or `test`.
    pub(crate) split: String,
    /// The block after which the head reads; empty is the entrance of the last stage.
    pub(crate) after_block: Option<usize>,
    /// Accuracy, 0 to 1.
    pub(crate) accuracy: Option<f64>,
    /// Mean cross-entropy in nats.
    pub(crate) loss: Option<f64>,
    /// Mean entropy of the predicted distribution in nats.
    pub(crate) entropy: Option<f64>,
}

/// The rows of a run, in order of epochs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Columns {
    /// Of `blocks.csv`.
    pub(crate) blocks: Vec<BlockRow>,
    /// Of `exits.csv`.
    pub(crate) exits: Vec<ExitRow>,
}

impl Columns {
    /// Reads both files; one that is missing has no rows.
    ///
    /// # Errors
    /// A file cannot be read or has other columns; the message names the file and the line.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        Ok(Self {
            blocks: read(&folder.join("blocks.csv"))?,
            exits: read(&folder.join("exits.csv"))?,
        })
    }

    /// Replaces both files.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        write(&folder.join("blocks.csv"), &self.blocks)?;
        write(&folder.join("exits.csv"), &self.exits)
    }

    /// Forgets what was recorded after an epoch.
    pub(crate) fn keep_until(&mut self, epoch: usize) {
        self.blocks.retain(|row| row.epoch <= epoch);
        self.exits.retain(|row| row.epoch <= epoch);
    }

    /// Adds the measures of one split after an epoch.
    ///
    /// `batch_norms` are the norms of h_j in a training pass, in order of j, or none.
    pub(crate) fn add(&mut self, epoch: usize, split: &str, measured: &Split, batch_norms: &[f64]) {
        let block = |found: &BlockMeasures| BlockRow {
            epoch,
            split: split.into(),
            block: found.block,
            stage: found.stage,
            transition: found.transition,
            cosine: found.cosine,
            cosine_std: found.cosine_std,
            exit_cosine: found.exit_cosine,
            exit_cosine_std: found.exit_cosine_std,
            l2_ratio: found.l2_ratio.map(f64::from),
            l2_ratio_std: found.l2_ratio_std.map(f64::from),
            grad_norm: found.grad_norm.map(f64::from),
            grad_norm_std: found.grad_norm_std.map(f64::from),
            h_norm: found.h_norm.map(f64::from),
            h_norm_std: found.h_norm_std.map(f64::from),
            batch_h_norm: batch_norms.get(found.block).copied(),
        };
        let exit = |found: &ir_analysis::results::Exit| ExitRow {
            epoch,
            split: split.into(),
            after_block: found.after_block,
            accuracy: found.groups.all.accuracy,
            loss: found.groups.all.loss.map(f64::from),
            entropy: found.groups.all.entropy.map(f64::from),
        };
        self.blocks.extend(measured.blocks.iter().map(block));
        self.exits.extend(measured.exits.iter().map(exit));
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let text = read_if_there(path)?.unwrap_or_default();
    csv::Reader::from_reader(text.as_bytes())
        .into_deserialize()
        .collect::<Result<_, _>>()
        .with_context(|| format!("{}: not what `ir train` records", path.display()))
}

fn write(path: &Path, rows: &[impl Serialize]) -> Result<()> {
    let mut table = csv::Writer::from_writer(Vec::new());
    for row in rows {
        table.serialize(row)?;
    }
    files::write(path, &table.into_inner()?)
}
