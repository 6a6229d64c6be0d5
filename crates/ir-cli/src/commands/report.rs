//! `ir report`: figures, claims and one page from run folders.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;

use crate::arguments::Report;
use crate::group::Group;
use crate::report;
use crate::run::Run;

pub(crate) fn run(arguments: &Report) -> Result<ExitCode> {
    let runs = arguments.runs.iter().map(|folder| Run::read(folder));
    let groups = Group::collect(runs.collect::<Result<_>>()?)?;
    let page = report::write(groups, &arguments.out)?;
    writeln!(std::io::stdout().lock(), "{}", page.display())?;
    Ok(ExitCode::SUCCESS)
}
