//! The `ir` command: parses, dispatches, and turns an error into one sentence and exit code 1.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod claims;
mod commands;
mod figures;
mod group;
mod report;
mod run;

/// Train residual networks and look at what their blocks do.
#[derive(Debug, Parser)]
#[command(name = "ir", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Report(commands::report::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Report(arguments) => commands::report::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do if standard error itself cannot be written.
            let _ = writeln!(std::io::stderr(), "ir: {error:#}");
            ExitCode::FAILURE
        }
    }
}
