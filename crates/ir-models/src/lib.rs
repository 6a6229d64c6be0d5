//! Residual networks: what one is, the paper's own, their training and their checkpoints.
//!
//! A residual network is five functions, [`ResidualNetwork`]. The paper's networks are plain data,
//! [`Architecture`], built as a [`ResNet`], trained by a [`Trainer`], kept in a [`Checkpoint`].
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use ir_models::{Architecture, ResNet, ResidualNetwork};
//!
//! let architecture = Architecture::named("resnet-110", 10)?;
//! assert_eq!(architecture.parameters().all, 1_742_762);
//!
//! // The third block of an untrained network, by hand:
//! let network = ResNet::initialize(&Architecture::named("resnet-32", 10)?, 7)?;
//! let images = Tensor::zeros((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
//! let mut h = network.stem(&images)?;
//! for block in 0..2 {
//!     h = network.step(block, &h)?;
//! }
//! let f = network.branch(2, &h)?;
//! assert_eq!(f.dims(), h.dims());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod architecture;
mod backward;
mod checkpoint;
mod checksum;
mod error;
mod faults;
pub mod files;
mod finite;
#[cfg(any(feature = "cuda", feature = "emulation"))]
pub mod gpu;
pub mod import;
mod initialize;
mod layout;
mod mapped;
mod names;
mod network;
mod optimizer;
mod pass;
mod resnet;
mod schedule;
mod trainer;

pub use architecture::{Architecture, BlockPlan, Entrance, ParameterCount, Scope, Sharing, Stage};
pub use checkpoint::{Checkpoint, DataDescription, FORMAT_VERSION, Normalization};
pub use error::{Error, Result};
pub use layout::{Kind, TensorSpec};
pub use names::NAMES;
pub use network::{Block, BlockBackward, BlockGradients, LinearizedBlock, ResidualNetwork};
pub use optimizer::{Sgd, WeightDecayCovers};
pub use pass::TrainingPass;
pub use resnet::{EPSILON, ResNet};
pub use schedule::{Piece, Recipe, Schedule};
pub use trainer::{Position, StepReport, Trainer, TrainingSettings};
