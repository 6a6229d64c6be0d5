//! Development commands of the workspace: `cargo xtask validate`, `reproduce`, `bench`, `kills`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is a command, not a library"
)]

use std::env;
use std::path::PathBuf;
use std::process::{self, ExitCode};

use anyhow::Context;
use cargo_metadata::{Metadata, MetadataCommand};
use clap::Parser;

mod bench;
mod elapsed;
mod kills;
mod reproduce;
mod signals;
mod validate;

/// Development commands of the workspace. Paths are relative to its root.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
enum Command {
    /// Check everything that a change has to satisfy, cheapest first.
    Validate(validate::Args),
    /// Train, measure and draw: the paper's figures from one command.
    Reproduce(reproduce::Args),
    /// Measure the speed of the networks beside PyTorch.
    Bench(bench::Args),
    /// Kill training runs at random moments and compare what they come to with an undisturbed one.
    Kills(kills::Args),
    /// Do one step of a plan, as a job of a cluster does.
    #[command(hide = true)]
    Step(reproduce::job::Args),
}

fn main() -> ExitCode {
    let command = Command::parse();
    let done = enter_workspace_root().and_then(|()| match command {
        Command::Validate(args) => validate::run(&args),
        Command::Reproduce(args) => reproduce::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Kills(args) => kills::run(&args),
        Command::Step(args) => reproduce::job::run(&args),
    });
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Every command works on the workspace, from whichever of its folders it was started. On a machine where it was not
/// built there is none, and the current folder takes its place.
fn enter_workspace_root() -> anyhow::Result<()> {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    if root.is_dir() {
        env::set_current_dir(root.canonicalize()?)?;
    }
    Ok(())
}

/// The workspace as cargo sees it, without its dependencies' own dependencies.
fn metadata() -> anyhow::Result<Metadata> {
    let metadata = MetadataCommand::new().no_deps().exec();
    metadata.context("cargo metadata failed")
}

/// The cargo that started this command, so that every step uses one toolchain. It sets variables
/// about this package, which some build scripts watch; handed on, they would make it build
/// dependencies again that a cargo started by hand has built.
fn cargo() -> process::Command {
    let mut cargo = process::Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&name);
        }
    }
    cargo
}
