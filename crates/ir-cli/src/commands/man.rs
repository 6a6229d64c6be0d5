//! `ir man`: the manual in the format of `man`.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use clap_mangen::Man;

use crate::arguments::{self, Arguments};
use crate::files;

pub(crate) fn run(arguments: &arguments::Man) -> Result<ExitCode> {
    let folder = &arguments.out;
    std::fs::create_dir_all(folder)
        .with_context(|| format!("{}: cannot be made", folder.display()))?;
    let mut command = Arguments::command().disable_help_subcommand(true);
    command.build();
    write(&command, folder)?;
    Ok(ExitCode::SUCCESS)
}

/// The page of a command and of those below it; their names go to stdout.
fn write(command: &Command, folder: &Path) -> Result<()> {
    let page = Man::new(command.clone());
    let path = folder.join(page.get_filename());
    let mut text = Vec::new();
    page.render(&mut text)?;
    files::write(&path, &text)?;
    writeln!(std::io::stdout().lock(), "{}", path.display())?;
    let mut below = command.get_subcommands();
    below.try_for_each(|command| write(command, folder))
}
