//! Why tensors cannot become a network.

use super::report::TensorReport;

/// Why a file of tensors is no network that can be built here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportProblem {
    /// No family of networks has tensors of such names.
    #[error(
        "its tensors ({}) are of no known network: expected torchvision's and timm's names \
         (layer1.0.conv1.weight) or those of Hugging Face's ResNetForImageClassification \
         (resnet.encoder.stages.0.layers.0.layer.0.convolution.weight)",
        match names.as_slice() { [] => "none".into(), names => format!("{}, …", names.join(", ")) }
    )]
    NoNetwork {
        /// The first few names.
        names: Vec<String>,
    },
    /// A variant that would need more than is built here.
    #[error("{tensor} belongs to {what}, which is not supported")]
    Unsupported {
        /// The tensor, or the entry of `config.json`, that says so.
        tensor: String,
        /// What it belongs to.
        what: String,
    },
    /// Tensors that are missing, misshapen or left over.
    #[error("{0}")]
    Mismatch(TensorReport),
    /// A tensor whose values are of no use.
    #[error("{tensor}: {reason}")]
    Values {
        /// The tensor.
        tensor: String,
        /// What was found and what was expected.
        reason: String,
    },
    /// A file of PyTorch's that cannot be taken.
    #[error("not a usable file of PyTorch's: {reason}")]
    TorchFile {
        /// What was found, what was expected, and what to do.
        reason: String,
    },
    /// An accompanying JSON file that cannot be taken.
    #[error("{entry}: expected {expected}, found {found}")]
    Config {
        /// The entry, such as `pretrained_cfg.mean`.
        entry: String,
        /// What can stand there.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// Candle failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl From<TensorReport> for ImportProblem {
    fn from(report: TensorReport) -> Self {
        Self::Mismatch(report)
    }
}
