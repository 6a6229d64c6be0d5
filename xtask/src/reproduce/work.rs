//! One step carried out: skipped if it is done, gone on with if it was stopped, else begun.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::graph::Step;
use super::shell;
use super::stamp::{self, Decision, Stamp};
use crate::elapsed::Elapsed;
use crate::signals;

/// The exit codes of `ir` after SIGHUP, SIGINT and SIGTERM, when it has written a checkpoint.
const INTERRUPTED: [i32; 3] = [129, 130, 143];

/// Lines of a failed step's log that are shown.
const SHOWN: usize = 20;

/// Where and with what steps are carried out.
pub(super) struct Workplace<'a> {
    ir: &'a Path,
    /// What `ir --version` says.
    version: String,
    /// The folder of the results; logs and stamps lie in it as well.
    out: &'a Path,
    /// How many threads each step has; as many as there are cores if `None`.
    threads: Option<usize>,
    /// Whether the progress of a step goes to the terminal, where only one can be seen at a time.
    shown: bool,
}

/// What became of a step that was to begin.
pub(super) enum Begun {
    /// There is nothing to do.
    Done,
    /// Another process is at it, perhaps one that an earlier plan has left behind.
    Elsewhere,
    /// It runs.
    Running(Box<Running>),
}

/// A step that runs.
pub(super) struct Running {
    child: Child,
    title: String,
    command: String,
    started: Instant,
    stamp: Stamp,
    stamp_path: PathBuf,
    log: PathBuf,
    outputs: Vec<PathBuf>,
    shown: bool,
}

/// How a step ended, if it did not fail.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Done,
    /// It was asked to stop.
    Interrupted,
}

impl<'a> Workplace<'a> {
    /// A place where steps have these threads each, and show their progress if they run one by one.
    pub(super) fn new(
        ir: &'a Path,
        out: &'a Path,
        threads: Option<usize>,
        shown: bool,
    ) -> Result<Self> {
        for folder in ["logs", "stamps"].map(|name| out.join(name)) {
            fs::create_dir_all(&folder)
                .with_context(|| format!("creating {}", folder.display()))?;
        }
        Ok(Self {
            ir,
            version: version(ir)?,
            out,
            threads,
            shown,
        })
    }

    /// Begins a step, unless it is done or another process is at it.
    pub(super) fn begin(&self, step: &Step, title: &str) -> Result<Begun> {
        let Some(lock) = self.lock(step)? else {
            return Ok(Begun::Elsewhere);
        };
        let stamp_path = self.stamp(step);
        let stamp = Stamp::started(step, &self.version)?;
        let decision = stamp.decide(Stamp::read(&stamp_path).as_ref(), step);
        let mut arguments = step.arguments.clone();
        match &decision {
            Decision::Skip(another) => {
                println!("{title} … already done{}", by(another.as_deref()));
                return Ok(Begun::Done);
            }
            Decision::Resume(_) => arguments.push("--resume".to_owned()),
            Decision::Start => stamp::remove_outputs(step)?,
        }
        stamp.write(&stamp_path)?;
        if let Some(threads) = self.threads {
            arguments.extend(["--threads".to_owned(), threads.to_string()]);
        }
        let log = self.out.join("logs").join(step.slug() + ".log");
        let child = self.start(&arguments, &decision, &log, lock)?;
        match decision {
            Decision::Resume(another) => {
                println!(
                    "{title} … goes on from its checkpoint{}",
                    by(another.as_deref())
                );
            }
            _ => println!("{title}"),
        }
        Ok(Begun::Running(Box::new(Running {
            child,
            title: title.to_owned(),
            command: shell::line(self.ir, &arguments),
            started: Instant::now(),
            stamp,
            stamp_path,
            log,
            outputs: step.outputs.clone(),
            shown: self.shown,
        })))
    }

    /// Whether there is nothing to do about a step.
    pub(super) fn is_done(&self, step: &Step) -> bool {
        let stamp = Stamp::started(step, &self.version);
        let decide = |stamp: Stamp| stamp.decide(Stamp::read(&self.stamp(step)).as_ref(), step);
        stamp.is_ok_and(|stamp| matches!(decide(stamp), Decision::Skip(_)))
    }

    /// Removes what a step has left, so that it begins again.
    pub(super) fn forget(&self, step: &Step) -> Result<()> {
        stamp::remove(&self.stamp(step))?;
        stamp::remove_outputs(step)
    }

    fn stamp(&self, step: &Step) -> PathBuf {
        self.out.join("stamps").join(step.slug() + ".json")
    }

    /// Takes the step for this process, or says that another has it.
    ///
    /// The lock goes on to `ir` as its standard input, which it does not read: where this process is
    /// killed and its child is not, the step stays taken until the child ends too.
    fn lock(&self, step: &Step) -> Result<Option<File>> {
        let path = self.out.join("stamps").join(step.slug() + ".lock");
        let cannot = || format!("{}: cannot be locked", path.display());
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&path).with_context(cannot)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            // A file system without locks: `ir train` warns of it.
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {
                Ok(Some(file))
            }
            Err(TryLockError::Error(error)) => Err(error).with_context(cannot),
        }
    }

    /// Runs `ir` with its results in the log, and its progress there too if others run beside it.
    fn start(
        &self,
        arguments: &[String],
        decision: &Decision,
        log: &Path,
        lock: File,
    ) -> Result<Child> {
        let resumes = matches!(decision, Decision::Resume(_));
        let mut options = File::options();
        options.create(true).write(true);
        options.append(resumes).truncate(!resumes);
        let file = options.open(log);
        let file = file.with_context(|| format!("creating {}", log.display()))?;
        let mut command = Command::new(self.ir);
        command.args(arguments).stdin(lock);
        if !self.shown {
            command.stderr(file.try_clone().context("sharing the log")?);
        }
        let started = command.stdout(file).spawn();
        started.with_context(|| not_started(self.ir))
    }
}

impl Running {
    /// How it ended, if it has.
    ///
    /// # Errors
    /// It failed; the message says how to repeat it.
    pub(super) fn poll(&mut self) -> Result<Option<Ended>> {
        let Some(status) = self.child.try_wait().context("waiting for a step")? else {
            return Ok(None);
        };
        let interrupted = |code| INTERRUPTED.contains(&code);
        if status.code().is_some_and(interrupted) {
            return Ok(Some(Ended::Interrupted));
        }
        self.judge(status)?;
        self.stamp.clone().finished().write(&self.stamp_path)?;
        println!("{} … {}", self.title, Elapsed(self.started.elapsed()));
        Ok(Some(Ended::Done))
    }

    /// Asks it to write a checkpoint and end.
    pub(super) fn stop(&self) {
        signals::terminate(&self.child);
    }

    fn judge(&self, status: ExitStatus) -> Result<()> {
        if !status.success() {
            let said = match self.shown {
                true => "what it said stands above, its output in ".to_owned(),
                false => format!("{}\nall it said is in ", last_lines(&self.log)),
            };
            bail!(
                "{status}; {said}{}\nto repeat it: {}",
                self.log.display(),
                self.command
            );
        }
        if let Some(absent) = self.outputs.iter().find(|path| !path.exists()) {
            bail!("it ended well but left no {}", absent.display());
        }
        Ok(())
    }
}

/// What an `ir` says of itself: its version and, if cargo built it in this workspace, its sources.
fn version(ir: &Path) -> Result<String> {
    let said = Command::new(ir).arg("--version").output();
    let said = said.with_context(|| not_started(ir))?;
    if !said.status.success() {
        bail!("`{} --version`: {}", ir.display(), said.status);
    }
    Ok(String::from_utf8_lossy(&said.stdout).trim().to_owned())
}

fn not_started(ir: &Path) -> String {
    format!("{} could not be started", ir.display())
}

/// Who else did a step, for the line about it.
fn by(another: Option<&str>) -> String {
    another.map_or_else(String::new, |ir| {
        format!(", by another `ir`: {ir} (--force does it again)")
    })
}

fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN)..].join("\n")
}
