//! What a pass through a network cannot do without: arithmetic and memory traffic.
//!
//! Operations are multiplications and additions in f32; a multiply-add is two. An instruction that
//! only adds takes as long as a multiply-add, so where additions stand alone, in the transforms of
//! the Winograd algorithm, each is counted as two.
//!
//! Bytes are counted per convolution: activations that it reads and writes, once each, as if
//! nothing stayed in a cache from one convolution to the next. Small batches do better.

use ir_models::{Architecture, BlockPlan};

/// Outputs of a Winograd tile in each direction, F(4×4, 3×3).
const TILE: usize = 4;
/// Products of a tile for each pair of channels: 6 × 6 against 4 × 4 × 9 of the direct algorithm.
const TILE_PRODUCTS: usize = 36;
/// Multiply-adds that transform one 6×6 tile of one channel: 12 vectors of six, 12 each.
const TRANSFORM_IN: usize = 144;
/// Multiply-adds between 6×6 and 4×4: 10 vectors of six, 12 each.
const TRANSFORM_OUT: usize = 120;

/// Activations that a block reads or writes, each as large as its output.
///
/// Forward: conv1 reads h and writes inner, conv2 reads inner and h and writes the next h.
const FORWARD_ACTIVATIONS: usize = 5;
/// Backward with every batch norm fused into the convolution beside it. The gradient of the
/// output is made of three activations and written; conv2 reads inner and writes its
/// gradient; conv1 reads that gradient, inner and h and writes the gradient of h.
const BACKWARD_ACTIVATIONS: usize = 10;
/// Both.
pub(crate) const STEP_ACTIVATIONS: usize = FORWARD_ACTIVATIONS + BACKWARD_ACTIVATIONS;
/// A training step reads and writes weights forward, backward and in the optimiser: w twice, the
/// gradient written and read, w and v read and written.
pub(crate) const WEIGHT_PASSES: usize = 8;

const BYTES: usize = size_of::<f32>();

/// What one pass over a batch costs at least.
///
/// ```
/// use ir_benches::roofline::Cost;
/// use ir_models::Architecture;
///
/// let network = Architecture::named("resnet-110", 10)?;
/// let step = Cost::of_training_step(&network, 128);
/// let evaluation = Cost::of_evaluation(&network, 128);
/// // Backward is twice as much as forward.
/// assert!((step.direct / evaluation.direct - 3.0).abs() < 0.01);
/// assert!(step.fewest < 0.5 * step.direct);
/// # Ok::<(), ir_models::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// Operations of the direct algorithm.
    pub direct: f64,
    /// Operations where each convolution takes the algorithm that needs the fewest, transforms
    /// included.
    pub fewest: f64,
    /// Bytes read and written.
    pub bytes: f64,
}

impl Cost {
    /// A forward pass of `batch` images.
    pub fn of_evaluation(network: &Architecture, batch: usize) -> Self {
        let mut cost = Self::default();
        for convolution in convolutions(network, batch) {
            cost.direct += convolution.direct();
            cost.fewest += convolution.fewest_forward();
        }
        let weights = network.parameters().all * BYTES;
        cost.bytes = traffic(network, batch, FORWARD_ACTIVATIONS, BYTES) + weights as f64;
        cost
    }

    /// An optimiser step on `batch` images.
    pub fn of_training_step(network: &Architecture, batch: usize) -> Self {
        let mut cost = Self::default();
        for (index, convolution) in convolutions(network, batch).enumerate() {
            // The stem's input is the images, which need no gradient.
            let passes = if index == 0 { 2.0 } else { 3.0 };
            cost.direct += passes * convolution.direct();
            let backward = convolution.fewest_input_gradient() * (passes - 2.0);
            // The weight gradient transforms x as the forward pass does, and ∂y as that its result.
            cost.fewest += 2.0 * convolution.fewest_forward() + backward;
        }
        let weights = WEIGHT_PASSES * network.parameters().trainable * BYTES;
        cost.bytes = traffic(network, batch, STEP_ACTIVATIONS, BYTES) + weights as f64;
        cost
    }
}

/// Bytes of `activations` passes over the output of every block, of `bytes` bytes a number.
pub(crate) fn traffic(
    network: &Architecture,
    batch: usize,
    activations: usize,
    bytes: usize,
) -> f64 {
    let sizes = network.stage_sizes();
    let values = network.blocks().into_iter().map(|block| {
        let [height, width] = sizes[block.stage];
        block.channels * height * width
    });
    (values.sum::<usize>() * batch * activations * bytes) as f64
}

/// A convolution on a batch.
struct Convolution {
    inputs: usize,
    outputs: usize,
    kernel: usize,
    stride: usize,
    /// Height and width of the output.
    size: [usize; 2],
    batch: usize,
}

impl Convolution {
    /// Operations of the direct algorithm, the same in each of the three passes.
    fn direct(&self) -> f64 {
        let [height, width] = self.size;
        let products = self.kernel.pow(2) * self.inputs * self.outputs * height * width;
        2.0 * (products * self.batch) as f64
    }

    fn fewest_forward(&self) -> f64 {
        self.winograd(self.inputs, self.outputs).min(self.direct())
    }

    fn fewest_input_gradient(&self) -> f64 {
        self.winograd(self.outputs, self.inputs).min(self.direct())
    }

    /// Operations of the Winograd algorithm from `from` to `to` channels; infinite where it does not apply.
    fn winograd(&self, from: usize, to: usize) -> f64 {
        if (self.kernel, self.stride) != (3, 1) {
            return f64::INFINITY;
        }
        let tiles = self
            .size
            .iter()
            .map(|n| n.div_ceil(TILE))
            .product::<usize>()
            * self.batch;
        let a_tile = TILE_PRODUCTS * from * to + TRANSFORM_IN * from + TRANSFORM_OUT * to;
        2.0 * (a_tile * tiles) as f64
    }
}

/// Every convolution of a network, the stem first. The classifier is nothing beside them.
fn convolutions(network: &Architecture, batch: usize) -> impl Iterator<Item = Convolution> {
    let sizes = network.stage_sizes();
    let [channels, height, width] = network.image;
    let stem = Convolution {
        inputs: channels,
        outputs: network.stem_channels,
        kernel: 3,
        stride: 1,
        size: [height, width],
        batch,
    };
    let blocks = network.blocks().into_iter();
    std::iter::once(stem)
        .chain(blocks.flat_map(move |block| of_block(&block, sizes[block.stage], batch)))
}

fn of_block(block: &BlockPlan, size: [usize; 2], batch: usize) -> Vec<Convolution> {
    let convolution = |inputs, kernel, stride| Convolution {
        inputs,
        outputs: block.channels,
        kernel,
        stride,
        size,
        batch,
    };
    let shortcut = block
        .transition
        .then(|| convolution(block.input_channels, 1, block.stride));
    let mut found = vec![
        convolution(block.input_channels, 3, block.stride),
        convolution(block.channels, 3, 1),
    ];
    found.extend(shortcut);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operations_of_resnet_32_are_those_counted_by_hand() {
        let network = Architecture::named("resnet-32", 10).unwrap();
        let stem = 3 * 16 * 9 * 1024;
        let stages = [
            10 * 16 * 16 * 9 * 1024,
            9 * 32 * 32 * 9 * 256,
            9 * 64 * 64 * 9 * 64,
        ];
        let transitions = (16 * 32 * 256 + 32 * 64 * 64) * (9 + 1);
        let products = stem + stages.iter().sum::<usize>() + transitions;
        let evaluation = Cost::of_evaluation(&network, 2);
        assert_eq!(evaluation.direct, (2 * 2 * products) as f64);
        let step = Cost::of_training_step(&network, 2);
        assert_eq!(step.direct, (2 * 2 * (3 * products - stem)) as f64);
    }

    #[test]
    fn winograd_needs_a_quarter_of_the_products() {
        let convolution = Convolution {
            inputs: 1000,
            outputs: 1000,
            kernel: 3,
            stride: 1,
            size: [8, 8],
            batch: 1,
        };
        let transforms = 2 * 4 * (TRANSFORM_IN + TRANSFORM_OUT) * 1000;
        let products = convolution.fewest_forward() - transforms as f64;
        assert_eq!(products, convolution.direct() / 4.0);
        let strided = Convolution {
            stride: 2,
            ..convolution
        };
        assert_eq!(strided.fewest_forward(), strided.direct());
    }

    #[test]
    fn traffic_is_five_activations_a_block_and_the_weights() {
        let network = Architecture::named("single-representation", 10).unwrap();
        let activation = 32 * 100 * 32 * 32 * 4;
        let expected = 10 * 5 * activation + 1_829_210 * 4;
        assert_eq!(Cost::of_evaluation(&network, 32).bytes, f64::from(expected));
    }
}
