//! `cargo xtask reproduce`: builds `ir`, finds the data, and carries out a plan of `ir` commands.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};

use self::data::{Ask, Source};
use self::plan::Plan;
use self::profiles::Profile;
use self::run::{Outcome, Runner};
use crate::{cargo, metadata};

mod data;
mod plan;
mod profiles;
mod run;
mod shell;
mod stamp;

/// Arguments of `cargo xtask reproduce`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  cargo xtask reproduce --profile quick
A run that was stopped goes on where it was when the same command is given again.")]
pub(crate) struct Args {
    /// How much to do: smoke (does everything run), quick (minutes), standard (a night),
    /// paper (the paper's epochs, seeds and data sets).
    #[arg(long, value_enum, default_value_t = profiles::Name::Quick)]
    profile: profiles::Name,
    /// Print the plan as shell commands and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// A folder of images, or `synthetic`; by default CIFAR is looked for, then fetched.
    #[arg(long, value_name = "DATA", value_parser = data::parse_argument)]
    data: Option<String>,
    /// Fetch nothing from the network.
    #[arg(long)]
    offline: bool,
    /// The folder for runs, logs and the report.
    ///
    /// A profile has a folder of its own, `reproduction/PROFILE`, since its runs share names with
    /// another's and would replace them.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Do every step again, also those already done.
    #[arg(long)]
    force: bool,
    /// Use this `ir` instead of building one.
    #[arg(long, value_name = "PATH")]
    ir: Option<PathBuf>,
}

/// Carries out the plan of a profile, or prints it.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let profile = profiles::of(args.profile);
    let ir = args.ir.clone().map_or_else(built_ir, Ok)?;
    let out = args
        .out
        .clone()
        .unwrap_or_else(|| Path::new("reproduction").join(args.profile.to_string()));
    if args.dry_run {
        let source = Source::before_looking(args.data.as_deref());
        let plan = Plan::new(profile, &source, &out);
        print!("{}", plan.to_shell(&ir, args.ir.is_none()));
        return Ok(ExitCode::SUCCESS);
    }
    if args.ir.is_none() {
        build_ir()?;
    }
    let source = find_data(args, profile, &ir)?;
    println!("{source}");
    let plan = Plan::new(profile, &source, &out);
    let runner = Runner {
        ir: &ir,
        out: &out,
        force: args.force,
        interrupted: wait_on_interrupt()?,
    };
    match runner.run(&plan)? {
        Outcome::Done => {
            println!("report: {}", plan.report.display());
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Interrupted => {
            println!("interrupted; the same command goes on from here");
            Ok(ExitCode::from(130))
        }
    }
}

/// Lets the `ir` that runs end first when the user presses Ctrl-C, since it gets the same
/// signal and then writes a checkpoint. A second signal ends this command at once.
fn wait_on_interrupt() -> Result<&'static AtomicBool> {
    static INTERRUPTED: AtomicBool = AtomicBool::new(false);
    ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })
    .context("setting the handler for Ctrl-C")?;
    Ok(&INTERRUPTED)
}

/// The `ir` command: the one given, or the one that cargo builds now.
pub(crate) fn ir(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(ir) = given {
        return Ok(ir.into());
    }
    build_ir()?;
    built_ir()
}

/// Where cargo leaves the command, relative to the workspace if it lies there.
fn built_ir() -> Result<PathBuf> {
    let metadata = metadata()?;
    let target = &metadata.target_directory;
    let folder = target
        .strip_prefix(&metadata.workspace_root)
        .unwrap_or(target);
    let name = format!("ir{}", std::env::consts::EXE_SUFFIX);
    Ok(folder.join("release").join(name).into())
}

fn build_ir() -> Result<()> {
    let built = cargo()
        .args(["build", "--release", "--package", "ir-cli"])
        .status()
        .context("cargo could not be started")?;
    if !built.success() {
        bail!("`cargo build --release --package ir-cli` failed");
    }
    Ok(())
}

fn find_data(args: &Args, profile: &Profile, ir: &Path) -> Result<Source> {
    let ask = Ask {
        ir,
        offline: args.offline,
    };
    ask.find(
        args.data.as_deref(),
        &profile.datasets(),
        profile.synthetic_will_do,
    )
}
