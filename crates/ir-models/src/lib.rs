//! Residual networks.

mod network;

pub use network::{Block, ResidualNetwork};
