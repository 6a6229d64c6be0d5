//! `ir man`: the manual in the format of `man`.

use std::io::Write;
use std::path::{Path, PathBuf};
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
    let mut pages = Vec::new();
    write(&command, folder, &mut pages)?;
    // All of them are there before anybody may stop to read.
    let mut out = std::io::stdout().lock();
    for page in pages {
        writeln!(out, "{}", page.display())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The page of a command and of those below it.
fn write(command: &Command, folder: &Path, pages: &mut Vec<PathBuf>) -> Result<()> {
    let page = Man::new(command.clone());
    let path = folder.join(page.get_filename());
    let mut text = Vec::new();
    page.render(&mut text)?;
    files::write(&path, &text)?;
    pages.push(path);
    let mut below = command.get_subcommands();
    below.try_for_each(|command| write(command, folder, pages))
}
