//! What runs on a GPU against the CPU's own way and f64 sums.

mod analysis;
mod batches;
mod compare;
mod convolution;
mod maps;
mod network;
mod operations;
mod per_sample;
mod tensors;
mod training;
