//! The processes that take the steps: ours and PyTorch's, told line by line what to do.
//!
//! All processes of a comparison live as long as it lasts and work by turns, so that each has
//! its buffers and its threads from the turn before.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Result;
use serde::Deserialize;
use serde_json::{Value, json};

use super::process::Process;

/// The scripts of the other side, from the workspace's root.
const PYTORCH_STEPS: &str = "benches/peers/pytorch.py";
const PYTORCH_CURVE: &str = "benches/peers/curve.py";
const PYTORCH_GPU: &str = "benches/peers/pytorch_gpu.py";

/// Most steps of one measurement.
const MOST_STEPS: f64 = 20.0;

/// How processes are started.
pub(super) struct Workers<'a> {
    folder: &'a Path,
    python: &'a Path,
    has_pytorch: bool,
}

impl<'a> Workers<'a> {
    /// Ours are the programs in `folder`; PyTorch's are there if the interpreter can import it.
    pub(super) fn new(folder: &'a Path, python: &'a Path) -> Self {
        let asked = Command::new(python)
            .args(["-c", "import torch"])
            .stderr(Stdio::null())
            .status();
        Self {
            folder,
            python,
            has_pytorch: asked.is_ok_and(|status| status.success()),
        }
    }

    /// Whether the interpreter can import PyTorch.
    pub(super) fn has_pytorch(&self) -> bool {
        self.has_pytorch
    }

    /// A process of ours for a task.
    pub(super) fn ours(&self, task: &Value) -> Result<Worker> {
        Worker::start(Command::new(self.program("steps")), task)
    }

    /// A process of PyTorch's for a task, in one of its memory layouts; `None` without PyTorch.
    pub(super) fn pytorch(&self, task: &Value, layout: &str) -> Result<Option<Worker>> {
        if !self.has_pytorch {
            return Ok(None);
        }
        let mut task = task.clone();
        task["layout"] = json!(layout);
        Worker::start(self.script(PYTORCH_STEPS), &task).map(Some)
    }

    /// A process of ours that trains on a GPU.
    pub(super) fn our_gpu(&self, task: &Value) -> Result<Worker> {
        Worker::start(self.our_gpu_program(), task)
    }

    /// The program that trains on a GPU.
    pub(super) fn our_gpu_program(&self) -> Command {
        Command::new(self.program("gpu"))
    }

    /// A process of PyTorch's that trains on a GPU; `None` without PyTorch.
    pub(super) fn pytorch_gpu(&self, task: &Value) -> Result<Option<Worker>> {
        if !self.has_pytorch {
            return Ok(None);
        }
        Worker::start(self.script(PYTORCH_GPU), task).map(Some)
    }

    /// The program that trains and hands on its batches.
    pub(super) fn our_curve(&self) -> Command {
        Command::new(self.program("curve"))
    }

    /// The script that trains on batches that it is handed.
    pub(super) fn pytorch_curve(&self) -> Command {
        self.script(PYTORCH_CURVE)
    }

    fn program(&self, name: &str) -> PathBuf {
        self.folder
            .join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
    }

    fn script(&self, path: &str) -> Command {
        let mut command = Command::new(self.python);
        command.arg(path);
        command
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
    /// Whether what PyTorch has compiled runs as CUDA graphs, in words, where it says so.
    pub(super) cuda_graphs: Option<String>,
}

/// The answer to a request for steps.
#[derive(Debug, Deserialize)]
struct Answer {
    milliseconds: Vec<f64>,
    peak_memory_mib: Option<f64>,
}

/// A process that takes steps when asked.
pub(super) struct Worker {
    process: Process,
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
    fn start(command: Command, task: &Value) -> Result<Self> {
        let mut process = Process::start(command)?;
        let ready = process.ask(task)?;
        Ok(Self {
            process,
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
        let request = json!({ "warm_up": warm_up, "steps": steps });
        let answer: Answer = self.process.ask(&request)?;
        self.peak_memory_mib = answer.peak_memory_mib;
        Ok(answer.milliseconds)
    }

    /// Processor time that all threads of the process have used, in seconds, where Linux tells.
    pub(super) fn processor_seconds(&self) -> Option<f64> {
        self.process.processor_seconds()
    }
}
