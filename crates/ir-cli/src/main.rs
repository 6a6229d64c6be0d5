//! The `ir` command: parse, call, print.
//!
//! Results go to stdout, progress and warnings to stderr. Exit status: 0 done, 1 failed, 2 wrong
//! usage, 130 interrupted by SIGINT and 143 by SIGTERM, after a checkpoint was written.

mod arguments;
mod checkpoints;
mod claims;
mod commands;
mod data;
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
mod progress;
mod report;
mod run;
mod subject;
mod text;
mod training;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, Command};

fn main() -> ExitCode {
    ir_tensor_ops::keep_freed_memory();
    match run(Arguments::parse()) {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Where even stderr is closed there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "ir: {}", printable(&sentence(&error)));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    machine::use_threads(arguments.threads)?;
    match arguments.command {
        Command::Models(command) => commands::models::run(&command),
        Command::Data(command) => commands::data::run(&command),
        Command::Init(command) => commands::init::run(&command),
        Command::Train(command) => commands::train::run(&command),
        Command::Analyze(command) => commands::analyze::run(&command),
        Command::Report(command) => commands::report::run(&command),
    }
}

/// The longest sentence on the terminal, in characters.
const LONGEST: usize = 4000;

/// A sentence without control characters, of which terminals take orders: names in it may come
/// from a file. The end of one that is too long is left out.
fn printable(sentence: &str) -> String {
    let characters = sentence.chars().take(LONGEST);
    let plain = |character: char| match character {
        character if character.is_control() => '\u{fffd}',
        character => character,
    };
    characters.map(plain).collect()
}

/// One sentence: the chain from what was being done to what went wrong. The libraries' errors
/// name their cause themselves; it is not said twice.
fn sentence(error: &anyhow::Error) -> String {
    let mut said = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
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
