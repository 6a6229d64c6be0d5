//! The `ir` command: parse, call, print.
//!
//! Results go to stdout, progress and warnings to stderr. Exit status: 0 done, 1 failed, 2 wrong
//! usage, 130 interrupted by SIGINT, 143 by SIGTERM and 129 by SIGHUP, after a checkpoint was written.
//! Colours are for terminals, and NO_COLOR turns them off.

mod arguments;
mod checkpoints;
mod claims;
mod commands;
mod config;
mod data;
mod engine;
mod family;
mod figures;
mod files;
mod group;
#[cfg(test)]
mod hostile;
mod images;
mod interrupt;
mod lock;
mod machine;
mod memory;
mod network;
mod outcome;
mod output;
mod progress;
mod report;
mod run;
mod subject;
mod tensorboard;
mod text;
mod training;
mod watch;

use std::io::Write;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use clap::FromArgMatches;
use clap::error::ErrorKind;

use crate::arguments::{Arguments, Command};

/// How the first word of an error looks.
const ERROR: Style = AnsiColor::Red.on_default().bold();

fn main() -> ExitCode {
    ir_tensor_ops::keep_freed_memory();
    match arguments().and_then(run) {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Where even stderr is closed there is nobody left to tell.
            let said = text::printable(&sentence(&error));
            let _ = writeln!(anstream::stderr(), "{ERROR}ir:{ERROR:#} {said}");
            ExitCode::FAILURE
        }
    }
}

/// What was typed, and what a file named there adds. Wrong usage and `--help` end the process.
fn arguments() -> anyhow::Result<Arguments> {
    let words: Vec<_> = std::env::args_os().collect();
    let mut command = config::command(&words)?;
    let matches = command.try_get_matches_from_mut(words);
    let matches = matches.unwrap_or_else(|error| error.exit());
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    if let Some(contradiction) = arguments.contradiction() {
        let wrong_usage = command.error(ErrorKind::ArgumentConflict, contradiction);
        wrong_usage.exit();
    }
    Ok(arguments)
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    machine::use_threads(arguments.threads)?;
    match arguments.command {
        Command::Models(command) => commands::models::run(&command),
        Command::Data(command) => commands::data::run(&command),
        Command::Init(command) => commands::init::run(&command),
        Command::Train(command) => commands::train::run(&command, arguments.threads),
        Command::Analyze(command) => commands::analyze::run(&command),
        Command::Report(command) => commands::report::run(&command),
        Command::Compare(command) => commands::compare::run(&command),
        Command::Watch(command) => commands::watch::run(&command),
        Command::Export(command) => commands::export::run(&command),
        Command::Completions(command) => commands::completions::run(&command),
        Command::Man(command) => commands::man::run(&command),
    }
}

/// One sentence: the chain from what was being done to what went wrong. The libraries' errors
/// name their cause themselves; it is not said twice. Behind the first line Candle says where in this program it was found,
/// if `RUST_BACKTRACE` asks for it.
fn sentence(error: &anyhow::Error) -> String {
    let first_line = |text: String| text.lines().next().unwrap_or_default().to_owned();
    let mut said = first_line(error.to_string());
    for cause in error
        .chain()
        .skip(1)
        .map(|cause| first_line(cause.to_string()))
    {
        if !said.contains(&cause) {
            said = format!("{said}: {cause}");
        }
    }
    said
}

/// Whether whoever read our stdout has gone, as `head` does: that is no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = |cause: &(dyn std::error::Error + 'static)| {
        let json = || cause.downcast_ref::<serde_json::Error>()?.io_error_kind();
        let io = cause.downcast_ref::<std::io::Error>();
        io.map(std::io::Error::kind).or_else(json)
    };
    let mut kinds = error.chain().filter_map(kind);
    kinds.any(|kind| kind == std::io::ErrorKind::BrokenPipe)
}
