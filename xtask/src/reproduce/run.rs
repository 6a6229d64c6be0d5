//! Carries out a plan step by step: skips what is done, goes on with what was stopped.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::plan::{Plan, Step};
use super::shell;
use super::stamp::{self, Decision, Stamp};
use crate::elapsed::Elapsed;

/// The exit codes of `ir` after SIGINT and SIGTERM, when it has written a checkpoint.
const INTERRUPTED: [i32; 2] = [130, 143];

/// How a plan ended, if no step failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Every step is done.
    Done,
    /// The user stopped a step.
    Interrupted,
}

/// Where and with what a plan is carried out.
pub(super) struct Runner<'a> {
    /// The `ir` command.
    pub(super) ir: &'a Path,
    /// The folder of the results; logs and stamps lie in it as well.
    pub(super) out: &'a Path,
    /// Whether steps already done are done again.
    pub(super) force: bool,
    /// Set when the user asks to stop: the step that runs then ends, and no other starts.
    pub(super) interrupted: &'static AtomicBool,
}

impl Runner<'_> {
    /// Runs the plan up to the first step that fails or is interrupted.
    pub(super) fn run(&self, plan: &Plan) -> Result<Outcome> {
        for folder in [self.logs(), self.stamps()] {
            fs::create_dir_all(&folder)
                .with_context(|| format!("creating {}", folder.display()))?;
        }
        for (index, step) in plan.steps.iter().enumerate() {
            let title = format!("[{}/{}] {}", index + 1, plan.steps.len(), step.name);
            let outcome = self.run_step(step, &title);
            let outcome = outcome.with_context(|| format!("{title} failed"))?;
            if outcome == Outcome::Interrupted {
                return Ok(outcome);
            }
        }
        Ok(Outcome::Done)
    }

    fn run_step(&self, step: &Step, title: &str) -> Result<Outcome> {
        let path = self.stamps().join(file_name(step, "json"));
        let stamp = Stamp::started(step)?;
        let earlier = Stamp::read(&path);
        let decision = match self.force {
            true => Decision::Start,
            false => stamp.decide(earlier.as_ref(), step),
        };
        let mut arguments = step.arguments.clone();
        match decision {
            Decision::Skip => {
                println!("{title} … already done");
                return Ok(Outcome::Done);
            }
            Decision::Resume => arguments.push("--resume".to_owned()),
            Decision::Start => stamp::remove_outputs(step)?,
        }
        stamp.write(&path)?;
        println!("{title}");
        let start = Instant::now();
        let status = self.start(step, &arguments)?;
        let stopped = status
            .code()
            .is_some_and(|code| INTERRUPTED.contains(&code));
        if stopped || self.interrupted.load(Ordering::Relaxed) {
            return Ok(Outcome::Interrupted);
        }
        self.judge(step, &arguments, status)?;
        stamp.finished().write(&path)?;
        println!("{title} … {}", Elapsed(start.elapsed()));
        Ok(Outcome::Done)
    }

    /// Runs `ir` with its results in the log and its progress bars on the terminal.
    fn start(&self, step: &Step, arguments: &[String]) -> Result<ExitStatus> {
        let path = self.log(step);
        let log = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
        Command::new(self.ir)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log)
            .status()
            .with_context(|| format!("{} could not be started", self.ir.display()))
    }

    fn judge(&self, step: &Step, arguments: &[String], status: ExitStatus) -> Result<()> {
        if !status.success() {
            bail!(
                "{status}; what it said stands above, its output in {}\nto repeat it: {}",
                self.log(step).display(),
                shell::line(self.ir, arguments)
            );
        }
        if let Some(absent) = step.outputs.iter().find(|path| !path.exists()) {
            bail!("it ended well but left no {}", absent.display());
        }
        Ok(())
    }

    fn log(&self, step: &Step) -> PathBuf {
        self.logs().join(file_name(step, "log"))
    }

    fn logs(&self) -> PathBuf {
        self.out.join("logs")
    }

    fn stamps(&self) -> PathBuf {
        self.out.join("stamps")
    }
}

/// The step's name as a file name.
fn file_name(step: &Step, extension: &str) -> String {
    let name = step.name.replace(", ", "-").replace(' ', "-");
    format!("{name}.{extension}")
}

#[cfg(test)]
#[cfg(unix)]
mod tests;
