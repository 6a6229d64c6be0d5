//! What a run leaves in its folder, and how it is read back.
//!
//! | file | content | written by |
//! |---|---|---|
//! | `run.json` | one [`RunInfo`] | `ir train` |
//! | `history.jsonl` | one [`Epoch`] a line | `ir train` |
//! | `blocks.csv`, `exits.csv` | [`Columns`] | `ir train` |
//! | `results.json` | one [`Results`] | `ir analyze` |
//!
//! All but `run.json` may be missing.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use ir_analysis::Number;
use ir_analysis::results::{self, Results};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::text;

mod columns;
mod consistent;

pub(crate) use columns::{BlockRow, Columns, ExitRow};

/// The version of `run.json`. A newer one is refused.
pub(crate) const SCHEMA_VERSION: u32 = 1;

/// The whole of `run.json`: what was trained, on what, how and where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunInfo {
    /// The layout's version, [`SCHEMA_VERSION`].
    pub(crate) schema_version: u32,
    /// The network's name, `resnet-32`.
    pub(crate) model: String,
    /// `cifar10`, `cifar100`, `synthetic10` or `synthetic100`.
    pub(crate) dataset: String,
    /// Whether the images were drawn by a program.
    pub(crate) synthetic: bool,
    /// Number of classes.
    pub(crate) classes: usize,
    /// The seed that every random number of the run comes from.
    pub(crate) seed: u64,
    /// Number of epochs asked for.
    pub(crate) epochs: usize,
    /// Samples in a training step.
    pub(crate) batch_size: usize,
    /// Step size and what goes with it.
    pub(crate) optimizer: Optimizer,
    /// The augmentation in words ("horizontal flip, translation by up to 4 pixels"); `None` is
    /// no augmentation.
    pub(crate) augmentation: Option<String>,
    /// What was subtracted from and divided out of every channel, on the 0–1 scale.
    pub(crate) normalization: Normalization,
    /// Samples in the training split.
    pub(crate) train_samples: usize,
    /// Samples in the test split.
    pub(crate) test_samples: usize,
    /// The network's size.
    pub(crate) parameters: Parameters,
    /// What is smaller than in the paper, a clause each: "8 epochs instead of 300".
    pub(crate) scaled_down: Vec<String>,
    /// Where it ran.
    pub(crate) machine: Machine,
    /// The version of `ir`.
    pub(crate) version: String,
    /// The command line, one word an element.
    pub(crate) command: Vec<String>,
    /// Checksum of the decoded data.
    pub(crate) data_checksum: String,
}

/// Stochastic gradient descent and its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Optimizer {
    /// The learning rate, piece by piece, in order of epochs.
    pub(crate) learning_rate: Vec<LearningRate>,
    /// Momentum.
    pub(crate) momentum: f64,
    /// Weight decay.
    pub(crate) weight_decay: f64,
}

/// One piece of a learning rate schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LearningRate {
    /// The first epoch, counted from 0, that uses it.
    pub(crate) from_epoch: usize,
    /// Its value.
    pub(crate) learning_rate: f64,
}

/// Per-channel normalisation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Normalization {
    /// Mean of each channel.
    pub(crate) mean: Vec<f64>,
    /// Standard deviation of each channel.
    pub(crate) std: Vec<f64>,
}

/// Number of parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parameters {
    /// With the running statistics of batch normalisation, as the paper's totals count.
    pub(crate) all: usize,
    /// Those that training changes, as the paper's Table 1 counts.
    pub(crate) trainable: usize,
}

/// The machine of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// Processor name.
    pub(crate) cpu: String,
    /// Cores of it.
    pub(crate) cores: usize,
    /// Threads used.
    pub(crate) threads: usize,
    /// Instruction set that the kernels chose, `AVX-512`.
    pub(crate) instruction_set: String,
    /// The GPU that computed, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) gpu: Option<String>,
    /// What numbers were stored as on it, `f32` or `bf16`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) precision: Option<String>,
}

impl Machine {
    /// What computed, in words: `NVIDIA H100, bf16`.
    pub(crate) fn device(&self) -> String {
        let device = self.gpu.as_ref().unwrap_or(&self.cpu);
        format!("{device}, {}", self.precision())
    }

    /// What numbers were stored as: on the processor always `f32`.
    pub(crate) fn precision(&self) -> &str {
        self.precision.as_deref().unwrap_or("f32")
    }
}

/// One line of `history.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Epoch {
    /// Epochs done: 0 is the network before its first step.
    pub(crate) epoch: usize,
    /// Steps done.
    pub(crate) step: u64,
    /// Learning rate of the epoch that ended here; of the first one at epoch 0.
    pub(crate) learning_rate: f64,
    /// Wall time of this epoch with its evaluation, in seconds.
    pub(crate) seconds: f64,
    /// Mean loss over the epoch's training batches as they came, augmented; `None` at epoch 0.
    pub(crate) train_loss: Option<Number>,
    /// Accuracy over the same batches; `None` at epoch 0.
    pub(crate) train_accuracy: Option<f64>,
    /// Loss on the test split.
    pub(crate) test_loss: Number,
    /// Accuracy on the test split.
    pub(crate) test_accuracy: f64,
    /// r = ‖∂L/∂h_1‖ / ‖∂L/∂h_k‖, h_k behind the first block of the last stage, of the mean norms
    /// over a fixed subset of each split (Fig. 8); `None` where it was not measured, and for a
    /// network of one stage.
    #[serde(default)]
    pub(crate) gradient_norm_ratio: Option<GradientNormRatio>,
}

/// The ratio of two gradient norms, by split.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct GradientNormRatio {
    /// On training samples, not augmented.
    pub(crate) train: Option<Number>,
    /// On test samples.
    pub(crate) test: Option<Number>,
}

/// A run folder, read and checked.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// The folder.
    pub(crate) folder: PathBuf,
    /// `run.json`.
    pub(crate) info: RunInfo,
    /// `history.jsonl`, empty where there is none.
    pub(crate) history: Vec<Epoch>,
    /// `blocks.csv` and `exits.csv`, without rows where there are none.
    pub(crate) columns: Columns,
    /// `results.json`, where there is one.
    pub(crate) results: Option<Results>,
}

impl Run {
    /// Reads a run folder.
    ///
    /// # Errors
    /// The folder or its `run.json` is missing, or a file is not what it should be; the message
    /// names the file and the place in it.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let run = Self::read_training(folder)?;
        let results = read_results(&folder.join("results.json"), &run.info, &run.history)?;
        Ok(Self { results, ..run })
    }

    /// Reads what training left in a run folder: an analysis may be of an earlier epoch while it
    /// goes on.
    ///
    /// # Errors
    /// As [`Run::read`].
    pub(crate) fn read_training(folder: &Path) -> Result<Self> {
        ensure!(
            folder.is_dir(),
            "{}: no such folder; give the folder that `ir train … --out` wrote",
            folder.display()
        );
        let path = folder.join("run.json");
        let text = read_if_there(&path)?.with_context(|| {
            format!(
                "{}: not found; give a folder that `ir train … --out` wrote",
                path.display()
            )
        })?;
        let info: RunInfo = parse(&path, &text, "a run's description")?;
        check_version(&path, info.schema_version, SCHEMA_VERSION)?;
        let history = read_history(&folder.join("history.jsonl"))?;
        let mut columns = Columns::read(folder)?;
        // The history is written last: what is not in it was recorded by a run that was killed.
        match history.last() {
            Some(last) => columns.keep_until(last.epoch),
            None => columns = Columns::default(),
        }
        Ok(Self {
            folder: folder.to_path_buf(),
            info,
            history,
            columns,
            results: None,
        })
    }

    /// Wall time of the training, in seconds.
    pub(crate) fn seconds(&self) -> f64 {
        self.history.iter().map(|epoch| epoch.seconds).sum()
    }
}

fn read_if_there(path: &Path) -> Result<Option<String>> {
    match text::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("{}: cannot be read", path.display())),
    }
}

fn parse<T: DeserializeOwned>(path: &Path, text: &str, what: &str) -> Result<T> {
    serde_json::from_str(text).with_context(|| format!("{}: not {what}", path.display()))
}

fn check_version(path: &Path, found: u32, known: u32) -> Result<()> {
    ensure!(
        found <= known,
        "{}: schema_version is {found}, and this program reads up to {known}; \
         use the version of ir that wrote it",
        path.display()
    );
    Ok(())
}

pub(crate) fn read_history(path: &Path) -> Result<Vec<Epoch>> {
    let text = read_if_there(path)?.unwrap_or_default();
    let mut history: Vec<Epoch> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let epoch: Epoch = serde_json::from_str(line)
            .with_context(|| format!("{}: line {}: not an epoch", path.display(), index + 1))?;
        if let Some(last) = history.last()
            && epoch.epoch <= last.epoch
        {
            bail!(
                "{}: line {}: epoch {} follows epoch {}; expected a later one",
                path.display(),
                index + 1,
                epoch.epoch,
                last.epoch
            );
        }
        history.push(epoch);
    }
    Ok(history)
}

fn read_results(path: &Path, info: &RunInfo, history: &[Epoch]) -> Result<Option<Results>> {
    let Some(text) = read_if_there(path)? else {
        return Ok(None);
    };
    let results: Results = parse(path, &text, "an analysis")?;
    check_version(path, results.schema_version, results::SCHEMA_VERSION)?;
    consistent::check(&results).with_context(|| path.display().to_string())?;
    for (what, found, expected) in [
        ("network", &results.network, &info.model),
        ("dataset", &results.dataset, &info.dataset),
    ] {
        ensure!(
            found == expected,
            "{}: {what} is {found:?}, but run.json beside it says {expected:?}; \
             analyse this run's own checkpoint",
            path.display()
        );
    }
    // An analysis of this network at another time is one of another network.
    let analyzed = results.provenance.get("epochs_trained");
    if let (Some(analyzed), Some(last)) = (analyzed.and_then(Value::as_u64), history.last()) {
        ensure!(
            analyzed == last.epoch as u64,
            "{}: the network was analysed after {analyzed} epochs, and history.jsonl has {}; \
             run `ir analyze` again",
            path.display(),
            last.epoch
        );
    }
    Ok(Some(results))
}
