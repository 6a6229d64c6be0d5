//! `cargo xtask step`: one step of a plan, as a job of a cluster does it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::graph::{Graph, Step};
use super::local::{Outcome, Runner};
use super::work::Workplace;
use crate::signals;

/// Arguments of `cargo xtask step`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The plan, as `cargo xtask reproduce --engine slurm` has written it.
    plan: PathBuf,
    /// The step by its name.
    name: String,
    /// Threads to compute with.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// A plan as it was when it was submitted.
#[derive(Serialize, Deserialize)]
pub(super) struct Frozen {
    ir: PathBuf,
    out: PathBuf,
    steps: Vec<Step>,
}

impl Frozen {
    pub(super) fn new(graph: &Graph, ir: &Path, out: &Path) -> Self {
        Self {
            ir: ir.into(),
            out: out.into(),
            steps: graph.steps().to_vec(),
        }
    }

    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let unfinished = path.with_extension("tmp");
        fs::write(&unfinished, serde_json::to_vec_pretty(self)?)
            .and_then(|()| fs::rename(&unfinished, path))
            .with_context(|| format!("writing {}", path.display()))
    }

    fn read(path: &Path) -> Result<Self> {
        let reading = || format!("reading {}", path.display());
        serde_json::from_slice(&fs::read(path).with_context(reading)?).with_context(reading)
    }
}

/// Does the step as far as it is not done. Where a cluster says that the job's time is nearly over, the
/// step writes its checkpoint and the job goes back into the queue.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let Frozen { ir, out, steps } = Frozen::read(&args.plan)?;
    let data: Vec<_> = steps.iter().flat_map(|step| step.inputs.clone()).collect();
    let graph = Graph::new(steps, &data)?;
    let step = graph.steps().iter().position(|step| step.name == args.name);
    let step =
        step.with_context(|| format!("{} has no step {:?}", args.plan.display(), args.name))?;
    let can_go_on = graph.steps()[step].checkpoint.is_some();
    let time_is_over = signals::listen_for_the_end_of_a_job()?;
    signals::listen()?;
    let workplace = Workplace::new(&ir, &out, args.threads, true)?;
    let runner = Runner::new(&graph, [step].into(), &workplace, 1);
    let interrupted = || signals::asked_to_stop() || (can_go_on && time_is_over());
    match runner.run(&interrupted)? {
        Outcome::Done => Ok(ExitCode::SUCCESS),
        Outcome::Interrupted if signals::asked_to_stop() || !time_is_over() => {
            println!("interrupted");
            Ok(ExitCode::from(130))
        }
        Outcome::Interrupted => {
            requeue()?;
            Ok(ExitCode::from(130))
        }
    }
}

/// Asks Slurm to begin this task again, which ends it. Its `SLURM_JOB_ID` may be that of the whole array.
fn requeue() -> Result<()> {
    let number = |name| std::env::var(name).with_context(|| format!("{name} is not set"));
    let (job, task) = (
        number("SLURM_ARRAY_JOB_ID")?,
        number("SLURM_ARRAY_TASK_ID")?,
    );
    let job = format!("{job}_{task}");
    println!("the job's time is nearly over: it goes back into the queue and then goes on");
    let asked = Command::new("scontrol").args(["requeue", &job]).status();
    let status = asked.context("scontrol could not be started")?;
    ensure!(status.success(), "scontrol requeue {job}: {status}");
    Ok(())
}
