//! `ir completions`: what a shell needs to complete our arguments.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::CommandFactory;

use crate::arguments::{self, Arguments};

pub(crate) fn run(arguments: &arguments::Completions) -> Result<ExitCode> {
    // By way of memory: the generator panics where a reader has gone.
    let mut script = Vec::new();
    let mut command = Arguments::command();
    clap_complete::generate(arguments.shell, &mut command, "ir", &mut script);
    std::io::stdout().lock().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}
