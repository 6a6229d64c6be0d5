//! What can go wrong between a description, a checkpoint and a trained network.

use std::path::PathBuf;

use crate::architecture::NAMES;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that this crate reports.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name that is not one of the paper's networks.
    #[error("no network is called `{name}`; known are {}", NAMES.join(", "))]
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
    /// The loss is not a number any more.
    #[error(
        "the loss is {loss} at step {step} (epoch {epoch}); the weights are those before this step. \
         A lower learning rate usually helps"
    )]
    NonFiniteLoss {
        /// NaN or infinity.
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

impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Candle(error) => error,
            Error::Operation(error) => error.into(),
            error => Self::wrap(error),
        }
    }
}
