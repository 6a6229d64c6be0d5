//! `cargo xtask bench`: how fast the networks train and evaluate, beside PyTorch.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use self::record::Folder;
use self::worker::Workers;
use crate::{cargo, metadata};

mod chart;
mod comparison;
mod curves;
mod depth;
mod gpu;
mod gpu_profile;
mod machine;
mod process;
mod record;
mod scaling;
mod summary;
mod worker;

/// Arguments of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask bench --python .venv/bin/python
  cargo xtask bench --networks resnet-32,wide --rounds 3
  cargo xtask bench --threads-scaling
  cargo xtask bench --curves --python .venv/bin/python
  cargo xtask bench --device cuda --python .venv/bin/python
Keep the machine otherwise idle. benches/README.md says how to read the tables.")]
pub(crate) struct Args {
    /// Only these networks.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = comparison::names())]
    networks: Vec<String>,
    /// How often each side is measured.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Threads of each side; all cores by default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// The interpreter that has PyTorch (`pip install torch numpy`, for --curves also safetensors).
    #[arg(long, value_name = "PATH", default_value = "python3")]
    python: PathBuf,
    /// One round of single steps, which shows that everything works; recorded in target/bench.
    #[arg(long)]
    quick: bool,
    /// Where to compute. On a GPU each network is trained in both precisions, and what the record has is kept.
    #[arg(long, value_enum, default_value_t = Device::Cpu, conflicts_with_all = ["question", "threads"])]
    device: Device,
    /// Measure the programs in this folder, built before, instead of building them.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Keep the record in this folder instead of benches/record.
    #[arg(long, value_name = "DIR", conflicts_with = "quick")]
    records: Option<PathBuf>,
    /// Measure ours alone on 1 thread and on 4 (or as many as --threads says).
    #[arg(long, group = "question")]
    threads_scaling: bool,
    /// Measure ours alone on residual networks of 5 to 30 blocks a stage and batches of 32 to 256.
    #[arg(long, group = "question", conflicts_with = "networks")]
    depth: bool,
    /// Train resnet-32 for an epoch of CIFAR-10 with both, on the same batches from the same weights.
    #[arg(long, group = "question", conflicts_with_all = ["networks", "rounds"])]
    curves: bool,
}

/// Where to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Device {
    /// The processor.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
}

/// What every measurement is made with.
struct Bench<'a> {
    workers: Workers<'a>,
    networks: Vec<comparison::Subject>,
    rounds: usize,
    threads: usize,
    /// Time that one measurement may take, in milliseconds: steps are counted accordingly.
    budget: f64,
    /// Whether only the working is tried.
    quick: bool,
    records: Folder,
}

/// Builds what is measured and answers the question that was asked.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let programs = match &args.programs {
        Some(folder) => folder.clone(),
        None => build(args.device)?,
    };
    let records = Folder::new(match (&args.records, args.quick) {
        (Some(folder), _) => folder,
        (None, true) => Path::new("target/bench"),
        (None, false) => Path::new("benches/record"),
    })?;
    let bench = Bench {
        workers: Workers::new(&programs, &args.python),
        networks: comparison::subjects(&args.networks),
        rounds: if args.quick { 1 } else { args.rounds.into() },
        threads: args.threads.map_or_else(machine::cores, usize::from),
        budget: if args.quick { 0.0 } else { 600.0 },
        quick: args.quick,
        records,
    };
    if args.device == Device::Cuda {
        gpu::run(&bench)?;
    } else if args.threads_scaling {
        scaling::run(&bench, args.threads.map_or(4, usize::from))?;
    } else if args.depth {
        depth::run(&bench)?;
    } else if args.curves {
        curves::run(&bench)?;
    } else {
        comparison::run(&bench)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds our programs for timing and says in which folder they lie.
fn build(device: Device) -> Result<PathBuf> {
    let mut arguments = vec!["build", "--release", "--package", "ir-benches", "--bins"];
    if device == Device::Cuda {
        arguments.extend(["--features", "cuda"]);
    }
    let built = cargo().args(&arguments).status();
    if !built.context("cargo could not be started")?.success() {
        bail!("`cargo {}` failed", arguments.join(" "));
    }
    Ok(metadata()?.target_directory.join("release").into())
}

/// The first line that a command prints; `None` where it cannot be had.
fn first_line(program: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.trim().to_owned();
    (output.status.success() && !line.is_empty()).then_some(line)
}

/// A bar on stderr, shown where that is a terminal.
fn progress(turns: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} · {eta} left · {msg}");
    ProgressBar::new(turns as u64)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
