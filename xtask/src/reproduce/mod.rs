//! `cargo xtask reproduce`: builds `ir`, finds the data, and carries out a plan of `ir` commands.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use anyhow::{Context, Result, bail, ensure};

use self::data::{Ask, Source};
use self::graph::Graph;
use self::local::{Outcome, Runner};
use self::plan::Plan;
use self::profiles::Profile;
use self::shard::Shard;
use self::slurm::{SlurmOption, Submission};
use self::work::Workplace;
use crate::{cargo, metadata, signals};

mod cost;
mod data;
mod graph;
pub(crate) mod job;
mod local;
mod plan;
mod profiles;
mod shard;
mod shell;
mod slurm;
mod snakefile;
mod stamp;
mod work;

/// Arguments of `cargo xtask reproduce`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask reproduce --profile quick
  cargo xtask reproduce --profile standard --engine slurm --slurm-option train:time=12:00:00
A run that was stopped goes on where it was when the same command is given again.")]
pub(crate) struct Args {
    /// How much to do: smoke (does everything run), quick (minutes), short (hours: every comparison in few epochs),
    /// standard (a night), paper (the paper's epochs, seeds and data sets).
    #[arg(long, value_enum, default_value_t = profiles::Name::Quick)]
    profile: profiles::Name,
    /// Print the plan as shell commands and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print the plan as a Snakefile and do nothing.
    #[arg(long, conflicts_with_all = ["dry_run", "shard"])]
    snakefile: bool,
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
    /// How many steps run at once, each with its part of the threads; 1 by default. With Slurm, how
    /// many tasks of an array; as many as the cluster lets by default.
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Threads for all steps together; as many as there are cores by default. Results do not depend
    /// on it.
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Do the i-th of n parts of the trainings with their analyses, and no report. When all are done
    /// in one folder, the same command without this draws the report.
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// What carries out the steps.
    #[arg(long, value_enum, default_value_t = Engine::Local)]
    engine: Engine,
    /// An option of `sbatch`, for all jobs or only those of one kind: `partition=cpu`,
    /// `train:time=24:00:00`, `exclusive`. May be given several times.
    #[arg(long, value_name = "[KIND:]KEY[=VALUE]")]
    slurm_option: Vec<SlurmOption>,
    /// With Slurm, come back only when the last job has ended.
    #[arg(long)]
    wait: bool,
}

/// What carries out the steps of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Engine {
    /// This machine.
    Local,
    /// A cluster's Slurm, as job arrays; comes back when they are submitted.
    Slurm,
}

/// Carries out the plan of a profile, or prints it.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    check(args)?;
    let profile = profiles::of(args.profile);
    let ir = args.ir.clone().map_or_else(built_ir, Ok)?;
    let out = args
        .out
        .clone()
        .unwrap_or_else(|| Path::new("reproduction").join(args.profile.to_string()));
    if args.dry_run || args.snakefile {
        let source = Source::before_looking(args.data.as_deref());
        let plan = Plan::new(profile, &source, &out)?;
        let text = match args.snakefile {
            true => snakefile::print(&plan, &ir),
            false => plan.to_shell(&ir, args.ir.is_none(), &chosen(args, &plan.graph)),
        };
        return match std::io::stdout().write_all(text.as_bytes()) {
            // Whoever wanted to read it has gone.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
            written => Ok(written.map(|()| ExitCode::SUCCESS)?),
        };
    }
    if args.ir.is_none() {
        build_ir()?;
    }
    let source = find_data(args, profile, &ir)?;
    println!("{source}");
    let plan = Plan::new(profile, &source, &out)?;
    let chosen = chosen(args, &plan.graph);
    let workplace = Workplace::new(&ir, &out, threads(args), jobs(args) == 1)?;
    if args.force {
        let mut steps = chosen.iter().map(|&step| &plan.graph.steps()[step]);
        steps.try_for_each(|step| workplace.forget(step))?;
    }
    match args.engine {
        Engine::Local => run_here(args, &plan, chosen, &workplace),
        Engine::Slurm => submit(args, &plan, &workplace, &ir, &out),
    }
}

/// What clap cannot say.
fn check(args: &Args) -> Result<()> {
    if args.engine == Engine::Slurm {
        ensure!(
            args.shard.is_none(),
            "--shard: Slurm deals the work out itself"
        );
        ensure!(
            args.threads.is_none(),
            "--threads: a job of Slurm has as many as --slurm-option cpus-per-task=N says"
        );
        return Ok(());
    }
    ensure!(
        args.slurm_option.is_empty() && !args.wait,
        "--slurm-option and --wait are for --engine slurm"
    );
    Ok(())
}

/// The steps to be done, those of the shard if one is asked for.
fn chosen(args: &Args, graph: &Graph) -> BTreeSet<usize> {
    match args.shard {
        Some(shard) => shard.of(graph),
        None => (0..graph.steps().len()).collect(),
    }
}

fn jobs(args: &Args) -> usize {
    args.jobs.map_or(1, NonZeroUsize::get)
}

/// How many threads each step has, where that is not for `ir` to say.
fn threads(args: &Args) -> Option<usize> {
    let all = args.threads.map(NonZeroUsize::get);
    let all = match jobs(args) {
        1 => all?,
        _ => all.or_else(|| thread::available_parallelism().ok().map(NonZeroUsize::get))?,
    };
    Some((all / jobs(args)).max(1))
}

fn run_here(
    args: &Args,
    plan: &Plan,
    chosen: BTreeSet<usize>,
    workplace: &Workplace<'_>,
) -> Result<ExitCode> {
    signals::listen()?;
    let runner = Runner::new(&plan.graph, chosen, workplace, jobs(args));
    match runner.run(&signals::asked_to_stop)? {
        Outcome::Done if args.shard.is_some() => {
            println!(
                "this part is done; when all are, the same command without --shard draws the report"
            );
            Ok(ExitCode::SUCCESS)
        }
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

fn submit(
    args: &Args,
    plan: &Plan,
    workplace: &Workplace<'_>,
    ir: &Path,
    out: &Path,
) -> Result<ExitCode> {
    let graph = &plan.graph;
    // What is made of something that is not done will not be up to date either.
    let mut pending = BTreeSet::new();
    for (index, step) in graph.steps().iter().enumerate() {
        if !graph.parents(index).is_disjoint(&pending) || !workplace.is_done(step) {
            pending.insert(index);
        }
    }
    let submission = Submission {
        graph,
        ir,
        out,
        pending: &pending,
        options: &args.slurm_option,
        at_once: args.jobs.map(NonZeroUsize::get),
        wait: args.wait,
    };
    submission.submit()?;
    if args.wait {
        let left = graph.steps().iter().filter(|step| !workplace.is_done(step));
        let left: Vec<_> = left.map(|step| step.name.as_str()).collect();
        ensure!(
            left.is_empty(),
            "not done: {}; what the jobs said is in {}, and the same command submits what is left",
            left.join("; "),
            out.join("logs").display()
        );
    }
    println!("report: {}", plan.report.display());
    Ok(ExitCode::SUCCESS)
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

#[cfg(test)]
#[cfg(unix)]
mod tests;
