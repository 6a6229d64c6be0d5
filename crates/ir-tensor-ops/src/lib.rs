//! Differentiable operations on Candle tensors, fast enough to train on a CPU.

pub mod random;
