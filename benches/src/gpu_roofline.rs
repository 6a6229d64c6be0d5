//! What a training step on a GPU cannot do without: memory traffic, arithmetic, and kernels to start.
//!
//! The traffic is counted as in [`crate::roofline`], once with every kernel that could be joined to the one beside it
//! joined, and once as the kernels are. Nothing is assumed to stay in the L2 cache between two kernels; where an activation fits
//! into it, the true traffic to memory is less.

use ir_models::{Architecture, BlockPlan};

use crate::roofline::{Cost, STEP_ACTIVATIONS, WEIGHT_PASSES, traffic};

/// Activations, each as large as a block's output, that the kernels of a block read and write in a step: forward those of
/// the convolutions (5); backward for each of the two convolutions what the gradient of its input reads and writes (gradient, x,
/// result) and what that of its weight reads (x, gradient), then the gradient through the norm (itself and x read, itself written, and
/// once the shortcut's added).
const KERNEL_ACTIVATIONS: usize = 5 + 2 * (3 + 2) + (3 + 4);

/// Kernels of a block: forward a convolution and the end of its result's norm, twice; backward the gradient of the input, of the
/// weight in parts and their sum, the end of the norm's gradient and the gradient through the norm, twice.
const KERNELS_OF_BLOCK: usize = 2 * 2 + 2 * 5;
/// A shortcut with a convolution: forward, the gradient of its input, of its weight in parts and their sum.
const KERNELS_OF_SHORTCUT: usize = 4;
/// The batch and its labels, the stem, the head, the loss, the checks, the update.
const OTHER_KERNELS: usize = 21;

/// What a GPU can do.
///
/// ```
/// use ir_benches::gpu_roofline::{Gpu, StepCost};
/// use ir_models::Architecture;
///
/// let network = Architecture::named("resnet-110", 10)?;
/// let [f32, bf16] = [4, 2].map(|bytes| StepCost::of(&network, 128, bytes));
/// assert_eq!(f32.operations, bf16.operations);
/// assert!(bf16.fewest_bytes < 0.6 * f32.fewest_bytes);
/// assert!(bf16.floor_milliseconds(&Gpu::H100_BF16) < f32.floor_milliseconds(&Gpu::H100_F32));
/// # Ok::<(), ir_models::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gpu {
    /// Bytes a second to and from memory.
    pub bandwidth: f64,
    /// Operations a second, a multiply-add being two.
    pub operations: f64,
    /// Seconds from the end of a kernel of a graph to the beginning of the next.
    pub launch: f64,
}

impl Gpu {
    /// An H100 (SXM) with bfloat16 on dense tensor cores. A copy moves 3.0 TB/s on it and a large matrix product runs at
    /// 800 TFLOP/s; a microsecond between the kernels of a graph is an assumption.
    pub const H100_BF16: Self = Self {
        bandwidth: 3.0e12,
        operations: 800e12,
        launch: 1e-6,
    };

    /// An H100 in f32 without tensor cores.
    pub const H100_F32: Self = Self {
        operations: 67e12,
        ..Self::H100_BF16
    };
}

/// What one training step costs at least.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepCost {
    /// Bytes read and written with everything joined that could be.
    pub fewest_bytes: f64,
    /// Bytes read and written by the kernels as they are.
    pub kernel_bytes: f64,
    /// Operations of the direct algorithm.
    pub operations: f64,
    /// Kernels.
    pub launches: usize,
}

impl StepCost {
    /// A step on `batch` images whose activations take `bytes` bytes a number.
    pub fn of(network: &Architecture, batch: usize, bytes: usize) -> Self {
        // Weights are f32, and those that convolutions read twice in a step are of the activations' type.
        let weights = network.parameters().trainable * (4 * (WEIGHT_PASSES - 2) + 2 * bytes);
        let moved = |activations| traffic(network, batch, activations, bytes) + weights as f64;
        let blocks = network.blocks();
        let shortcuts = blocks.iter().filter(|block: &&BlockPlan| block.transition);
        Self {
            fewest_bytes: moved(STEP_ACTIVATIONS),
            kernel_bytes: moved(KERNEL_ACTIVATIONS),
            operations: Cost::of_training_step(network, batch).direct,
            launches: KERNELS_OF_BLOCK * blocks.len()
                + KERNELS_OF_SHORTCUT * shortcuts.count()
                + OTHER_KERNELS,
        }
    }

    /// The larger of arithmetic and the fewest bytes.
    pub fn floor_milliseconds(&self, gpu: &Gpu) -> f64 {
        let memory = self.fewest_bytes / gpu.bandwidth;
        1e3 * memory.max(self.operations / gpu.operations)
    }

    /// The larger of arithmetic and the kernels' bytes, and the time between the kernels.
    pub fn kernels_milliseconds(&self, gpu: &Gpu) -> f64 {
        let memory = self.kernel_bytes / gpu.bandwidth;
        let busy = memory.max(self.operations / gpu.operations);
        1e3 * (busy + self.launches as f64 * gpu.launch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_network_of_one_stage_are_those_counted_by_hand() {
        let network = Architecture::named("single-representation", 10).unwrap();
        let step = StepCost::of(&network, 32, 2);
        let activation = 10 * 32 * 100 * 32 * 32 * 2;
        let weights = network.parameters().trainable * (6 * 4 + 2 * 2);
        assert_eq!(step.fewest_bytes, (15 * activation + weights) as f64);
        assert_eq!(step.kernel_bytes, (22 * activation + weights) as f64);
        assert_eq!(step.launches, 14 * 10 + 21);
    }

    #[test]
    fn the_time_is_that_of_what_there_is_most_of() {
        let step = StepCost {
            fewest_bytes: 1.0,
            kernel_bytes: 2.0,
            operations: 6.0,
            launches: 3,
        };
        let gpu = Gpu {
            bandwidth: 1.0,
            operations: 4.0,
            launch: 0.5,
        };
        assert_eq!(step.floor_milliseconds(&gpu), 1500.0);
        assert_eq!(step.kernels_milliseconds(&gpu), 3500.0);
    }
}
