//! Training on a GPU: the weights of a [`ResNet`](crate::ResNet) in its memory, and a step that is recorded once.
//!
//! A [`Trainer`] does there what [`crate::Trainer`] does on the CPU, by the same rules: forward with batch statistics, the
//! gradient block by block, stochastic gradient descent. The images lie on the device too. Between two steps nothing is
//! copied and nobody waits; what the steps came to is asked for every now and then.
//!
//! Its weights are those of a [`crate::Trainer`] that it takes and gives back, so that checkpoints, measures and
//! evaluations are the same for both.

mod arena;
mod backward;
mod found;
mod memory;
mod network;
mod pass;
mod trainer;
mod weights;

pub use network::Network;
pub use trainer::{Trainer, TrainingImages};
