//! `ir report`: figures, claims and one page from run folders.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use crate::group::Group;
use crate::report;
use crate::run::Run;

/// Draw the paper's figures from runs and write them into one page
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ir report runs/resnet-32-seed-1 runs/resnet-32-seed-2 --out report"
)]
pub(crate) struct Arguments {
    /// Folders written by `ir train` and `ir analyze`; runs that differ in the seed alone are
    /// averaged
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Folder to write report.html, claims.json and figures/ into
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Reads the runs, draws, writes, and prints the page's path.
///
/// # Errors
/// A run folder cannot be read, or the report cannot be written.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let runs = arguments.runs.iter().map(|folder| Run::read(folder));
    let groups = Group::collect(runs.collect::<Result<_>>()?)?;
    let page = report::write(&groups, &arguments.out)?;
    writeln!(std::io::stdout(), "{}", page.display()).context("standard output cannot be written")
}
