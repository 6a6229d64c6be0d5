//! Arguments of the commands that look at runs.

use std::path::PathBuf;

use clap::Args;

use super::SplitName;

/// Arguments of `ir report`.
#[derive(Debug, Args)]
pub(crate) struct Report {
    /// Folders that `ir train` wrote, with the results.json of `ir analyze` in them.
    #[arg(required = true, value_name = "RUN")]
    pub(crate) runs: Vec<PathBuf>,

    /// The folder to write: report.html, figures/, claims.json.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,

    /// Print one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `ir compare`.
#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// Folders that `ir train` wrote.
    #[arg(required = true, num_args = 2.., value_name = "RUN")]
    pub(crate) runs: Vec<PathBuf>,

    /// Print one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `ir watch`.
#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// A folder that `ir train` writes or wrote.
    #[arg(value_name = "RUN")]
    pub(crate) run: PathBuf,

    /// Which split's blocks.
    #[arg(long, value_enum, default_value_t = SplitName::Test)]
    pub(crate) split: SplitName,

    /// Of which epoch; the last by default.
    #[arg(long, value_name = "N")]
    pub(crate) epoch: Option<usize>,

    /// Print one frame as text, as happens where stdout is no terminal.
    #[arg(long)]
    pub(crate) once: bool,
}

/// Arguments of `ir export`.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// A folder that `ir train` wrote.
    #[arg(value_name = "RUN")]
    pub(crate) run: PathBuf,

    /// Write losses, accuracies, the learning rate and every block's cosine and ratio by epoch as
    /// an event file into this folder, for TensorBoard.
    #[arg(long, value_name = "DIR")]
    pub(crate) tensorboard: PathBuf,

    /// Print one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}
