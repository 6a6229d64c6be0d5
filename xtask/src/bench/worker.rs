//! The processes that take the steps: ours and PyTorch's, told line by line what to do.
//!
//! All processes of a comparison live as long as it lasts and work by turns, so that each has
//! its buffers and its threads from the turn before.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The script of the other side, from the workspace's root.
const PYTORCH: &str = "benches/peers/pytorch.py";

/// Most steps of one measurement.
const MOST_STEPS: f64 = 20.0;

/// How processes are started.
pub(super) struct Workers<'a> {
    steps: &'a Path,
    python: &'a Path,
    has_pytorch: bool,
}

impl<'a> Workers<'a> {
    /// Ours is the program `steps`; PyTorch's is there if the interpreter can import it.
    pub(super) fn new(steps: &'a Path, python: &'a Path) -> Self {
        let asked = Command::new(python)
            .args(["-c", "import torch"])
            .stderr(Stdio::null())
            .status();
        Self {
            steps,
            python,
            has_pytorch: asked.is_ok_and(|status| status.success()),
        }
    }

    /// A process of ours for a task.
    pub(super) fn ours(&self, task: &Value) -> Result<Worker> {
        Worker::start(Command::new(self.steps), task)
    }

    /// A process of PyTorch's for a task, in one of its memory layouts; `None` without PyTorch.
    pub(super) fn pytorch(&self, task: &Value, layout: &str) -> Result<Option<Worker>> {
        if !self.has_pytorch {
            return Ok(None);
        }
        let mut task = task.clone();
        task["layout"] = json!(layout);
        let mut command = Command::new(self.python);
        command.arg(PYTORCH);
        Worker::start(command, &task).map(Some)
    }

    /// What to do where PyTorch is missing; `None` where it is there.
    pub(super) fn advice(&self) -> Option<String> {
        (!self.has_pytorch).then(|| {
            format!(
                "{} has no PyTorch, so its columns are empty; to fill them, `pip install torch numpy` \
                 and name the interpreter with --python",
                self.python.display()
            )
        })
    }
}

/// The answer to a task.
#[derive(Debug, Deserialize)]
pub(super) struct Ready {
    /// Of the program or of PyTorch.
    pub(super) version: String,
    /// Which vector instructions it uses.
    pub(super) instruction_set: String,
    /// Largest size of the process before its first step.
    #[serde(rename = "peak_memory_mib")]
    pub(super) base_memory_mib: Option<f64>,
}

/// The answer to a request for steps.
#[derive(Debug, Deserialize)]
struct Answer {
    milliseconds: Vec<f64>,
    peak_memory_mib: Option<f64>,
}

/// A process that takes steps when asked.
pub(super) struct Worker {
    child: Child,
    /// Closed to let the process end.
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// What the process said of itself.
    pub(super) ready: Ready,
    /// Largest size of the process up to its last answer, in MiB.
    pub(super) peak_memory_mib: Option<f64>,
    /// Milliseconds of every timed step so far.
    pub(super) times: Vec<f64>,
    /// Timed steps of one measurement, once calibrated.
    steps: usize,
}

impl Worker {
    fn start(mut command: Command, task: &Value) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{program} could not be started"))?;
        let (Some(mut requests), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("{program} has no stdin or stdout");
        };
        let mut answers = BufReader::new(answers);
        let ready = ask(&mut requests, &mut answers, task)
            .with_context(|| format!("{program} did not take up {task}"))?;
        Ok(Self {
            child,
            requests: Some(requests),
            answers,
            ready,
            peak_memory_mib: None,
            times: Vec::new(),
            steps: 1,
        })
    }

    /// Warms the process up and counts the steps that fit into `budget` milliseconds.
    pub(super) fn calibrate(&mut self, budget: f64) -> Result<()> {
        let times = self.take_steps(1, 1)?;
        let fastest = times.into_iter().fold(f64::INFINITY, f64::min);
        self.steps = (budget / fastest).clamp(1.0, MOST_STEPS).ceil() as usize;
        Ok(())
    }

    /// One measurement: a step to warm up after the others' turn, then the timed ones.
    pub(super) fn measure(&mut self) -> Result<()> {
        let times = self.take_steps(1, self.steps)?;
        self.times.extend(times);
        Ok(())
    }

    fn take_steps(&mut self, warm_up: usize, steps: usize) -> Result<Vec<f64>> {
        let requests = self.requests.as_mut().context("the process has ended")?;
        let request = json!({ "warm_up": warm_up, "steps": steps });
        let answer: Answer = ask(requests, &mut self.answers, &request)?;
        self.peak_memory_mib = answer.peak_memory_mib;
        Ok(answer.milliseconds)
    }

    /// Processor time that all threads of the process have used, in seconds, where Linux tells.
    pub(super) fn processor_seconds(&self) -> Option<f64> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id())).ok()?;
        let mut nanoseconds = 0;
        for thread in threads {
            let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            nanoseconds += text.split_whitespace().next()?.parse::<u64>().ok()?;
        }
        Some(nanoseconds as f64 / 1e9)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Both sides end when nothing more can come; one that has failed has ended already.
        self.requests = None;
        let _ = self.child.wait();
    }
}

/// Sends a line and reads the line that answers it.
fn ask<T: DeserializeOwned>(
    requests: &mut ChildStdin,
    answers: &mut BufReader<ChildStdout>,
    request: &Value,
) -> Result<T> {
    const ENDED: &str = "the process has ended; what it said stands above";
    writeln!(requests, "{request}").context(ENDED)?;
    let mut line = String::new();
    if answers.read_line(&mut line)? == 0 {
        bail!(ENDED);
    }
    serde_json::from_str(&line).with_context(|| format!("unexpected answer {line:?}"))
}
