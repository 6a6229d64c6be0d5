//! What can go wrong between a description, a checkpoint and a trained network.

use std::path::{Path, PathBuf};

use crate::import::ImportProblem;
use crate::names::NAMES;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that this crate reports.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name that is not one of the paper's networks.
    #[error(
        "no network is called `{name}`; known are {}, and resnet-D for every depth D = 6n + 2, \
         with the same endings",
        NAMES.join(", ")
    )]
    UnknownArchitecture {
        /// The name asked for.
        name: String,
    },
    /// Text that is not an architecture.
    #[error("not an architecture: {0}")]
    ArchitectureJson(#[source] serde_json::Error),
    /// An architecture that cannot be built.
    #[error("the architecture `{name}` cannot be built: {reason}")]
    InvalidArchitecture {
        /// The architecture's name.
        name: String,
        /// Why not.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("{}: {action}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file could not be written for want of room.
    #[error(
        "{}: the disk is full: it takes {needed} bytes beside what is there now; make room and try again ({source})",
        path.display()
    )]
    DiskFull {
        /// The file, which is as it was.
        path: PathBuf,
        /// The size of the file that was to be written, in bytes.
        needed: u64,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file that is not a checkpoint of this program.
    #[error("{}: not a usable checkpoint: {reason}", path.display())]
    NotACheckpoint {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        reason: String,
    },
    /// Tensors that do not fit the architecture.
    #[error("{}: the tensors do not fit the architecture `{architecture}`: {report}", path.display())]
    TensorMismatch {
        /// The file.
        path: PathBuf,
        /// The architecture's name.
        architecture: String,
        /// Missing, unexpected and misshapen tensors.
        report: String,
    },
    /// A checkpoint whose content is not what was written.
    #[error(
        "{}: damaged: the checksum of its content is {found}, and it says {expected}; its content has changed \
         since it was written",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The checksum that the file states.
        expected: String,
        /// The checksum of what it holds.
        found: String,
    },
    /// Weights of someone else's that are no network that is known here, or a `config.json` beside
    /// them that cannot be taken.
    #[error("{}: {problem}", path.display())]
    Import {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        problem: ImportProblem,
    },
    /// The loss is not a number any more.
    #[error(
        "the loss is {loss} at step {step} (epoch {epoch}){}; the weights are those before this step. \
         A lower learning rate usually helps",
        origin.as_ref().map_or_else(String::new, |norm| format!(", and {norm} is the first to read what is not finite"))
    )]
    NonFiniteLoss {
        /// NaN or infinity.
        loss: f64,
        /// Steps done before.
        step: u64,
        /// The epoch, from 0.
        epoch: usize,
        /// The first batch norm whose input is not finite, such as `blocks.3.bn1`; `None` if the
        /// input of all is.
        origin: Option<String>,
    },
    /// A step would put what is not a finite number into the network, though the loss is one.
    #[error(
        "the {quantity} of {tensor} is not finite at step {step} (epoch {epoch}), with a loss of {loss}; \
         the weights are those before this step. A lower learning rate usually helps"
    )]
    NonFiniteStep {
        /// `gradient`, `updated value`, or `batch statistics`.
        quantity: &'static str,
        /// The tensor, or the batch norm, as `blocks.3.conv1.weight` or `blocks.3.bn1`.
        tensor: String,
        /// The loss of the step.
        loss: f64,
        /// Steps done before.
        step: u64,
        /// The epoch, from 0.
        epoch: usize,
    },
    /// The source of batches failed.
    #[error("reading a batch: {0}")]
    Batches(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An operation failed.
    #[error(transparent)]
    Operation(#[from] ir_tensor_ops::Error),
    /// Candle failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl Error {
    pub(crate) fn import(path: &Path, problem: ImportProblem) -> Self {
        let path = path.into();
        Self::Import { path, problem }
    }
}

impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Candle(error) => error,
            Error::Operation(error) => error.into(),
            error => Self::wrap(error),
        }
    }
}
