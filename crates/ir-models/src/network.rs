//! The one idea: a residual network is five functions.

use candle_core::{Result, Tensor};

/// What a measure has to know about a block besides its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Block {
    /// The stage the block belongs to, counted from 0. Within a stage every h_j has one
    /// shape; only the last stage has the shape that the head reads.
    pub stage: usize,
    /// Whether the shortcut is something other than the identity. Such a block has no h_j
    /// of the branch's shape; measures then use s_j = shortcut(h_j) in its place.
    pub transition: bool,
}

/// A residual network, as the five functions of
///
/// ```text
/// h_0     = stem(images)
/// h_{j+1} = after_j( shortcut_j(h_j) + branch_j(h_j) )      j = 0 … L−1
/// logits  = head(h_L)
/// ```
///
/// Every measure of the paper is a loop over these five, so a network that implements
/// them can be put under every measure of `ir-analysis`.
///
/// # Contract
///
/// - All five evaluate: batch norm reads its running statistics, nothing is random, and
///   the output for one sample does not depend on the others in the batch.
/// - h_j may have any shape whose first dimension is the batch N (`[N, C, H, W]` in the
///   paper's nets, `[N, T, D]` in a transformer).
/// - `shortcut(j, h)` and `branch(j, h)` have the same shape.
/// - The functions are made of differentiable Candle operations, so that
///   `Tensor::backward` reaches their input. Fused operations of candle-nn do not
///   (`softmax_last_dim`, `rms_norm`, `layer_norm`, `rope`) and do not say so either: what is
///   behind them is missing from the gradient. `softmax` and the `_slow` ones do.
///
/// # Example
///
/// A network of one linear block, h + W h, on vectors:
///
/// ```
/// use candle_core::{Device, Result, Tensor};
/// use ir_models::{Block, ResidualNetwork};
///
/// struct Tiny {
///     weight: Tensor,
/// }
///
/// impl ResidualNetwork for Tiny {
///     fn blocks(&self) -> Vec<Block> {
///         vec![Block { stage: 0, transition: false }]
///     }
///     fn stem(&self, images: &Tensor) -> Result<Tensor> {
///         images.flatten_from(1)
///     }
///     fn branch(&self, _block: usize, h: &Tensor) -> Result<Tensor> {
///         h.matmul(&self.weight)
///     }
///     fn head(&self, h: &Tensor) -> Result<Tensor> {
///         Ok(h.clone())
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let tiny = Tiny { weight: Tensor::new(&[[0f32, 1.], [1., 0.]], &Device::Cpu)? };
/// let logits = tiny.logits(&Tensor::new(&[[1f32, 2.]], &Device::Cpu)?)?;
/// assert_eq!(logits.to_vec2::<f32>()?, [[3., 3.]]);
/// # Ok(())
/// # }
/// ```
pub trait ResidualNetwork {
    /// The blocks in order; `L = blocks().len()`. Stages start at 0 and never decrease.
    fn blocks(&self) -> Vec<Block>;

    /// h_0 from a batch of normalised images `[N, C, H, W]`, or whatever the network reads: u32
    /// token ids `[N, T]` for a transformer. No gradient is taken through it.
    ///
    /// # Errors
    /// Whatever Candle reports, as in all five.
    fn stem(&self, images: &Tensor) -> Result<Tensor>;

    /// S_j(h_j): the identity unless the block is a transition.
    ///
    /// # Errors
    /// Whatever Candle reports.
    fn shortcut(&self, block: usize, h: &Tensor) -> Result<Tensor> {
        let _ = block;
        Ok(h.clone())
    }

    /// F_j(h_j): what the block adds.
    ///
    /// # Errors
    /// Whatever Candle reports.
    fn branch(&self, block: usize, h: &Tensor) -> Result<Tensor>;

    /// What happens to the sum before the next block reads it: the identity in the paper's
    /// pre-activation nets, average pooling between the stages of its avg-pooling net,
    /// ReLU in post-activation nets.
    ///
    /// # Errors
    /// Whatever Candle reports.
    fn after(&self, block: usize, sum: &Tensor) -> Result<Tensor> {
        let _ = block;
        Ok(sum.clone())
    }

    /// The logits `[N, classes]` from h_L, or from any h of the last stage: the exits of the
    /// paper plug this head after earlier blocks.
    ///
    /// # Errors
    /// Whatever Candle reports.
    fn head(&self, h: &Tensor) -> Result<Tensor>;

    /// h_{j+1} from h_j: one whole block.
    ///
    /// # Errors
    /// Whatever Candle reports.
    fn step(&self, block: usize, h: &Tensor) -> Result<Tensor> {
        let sum = (self.shortcut(block, h)? + self.branch(block, h)?)?;
        self.after(block, &sum)
    }

    /// The logits `[N, classes]` from h_j on: the blocks from `block`, then the head. `block` may
    /// be the number of blocks, and h then is h_L.
    ///
    /// To drop a block, its s_j is read here as h_{j+1}; a network that has a faster way through
    /// its blocks than step by step takes it here.
    ///
    /// # Errors
    /// Whatever Candle reports.
    fn logits_from(&self, block: usize, h: &Tensor) -> Result<Tensor> {
        step_by_step(self, block, h)
    }

    /// The network's own way to take a gradient through a block or the head, if it has one. By
    /// default it has none, and measures take Candle's automatic differentiation.
    fn block_backward(&self) -> Option<&dyn BlockBackward> {
        None
    }

    /// The plain forward pass: logits `[N, classes]` of a batch of images.
    ///
    /// # Errors
    /// Whatever Candle reports.
    fn logits(&self, images: &Tensor) -> Result<Tensor> {
        self.logits_from(0, &self.stem(images)?)
    }
}

/// Explicit gradients of a network's blocks and head, faster than those of a recorded graph.
pub trait BlockBackward {
    /// ∂L/∂h_j, and on the way ∂L/∂(s_j + F_j), from h_j and `gradient` = ∂L/∂h_{j+1}.
    ///
    /// # Errors
    /// Whatever Candle reports.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use ir_models::{Architecture, ResNet, ResidualNetwork};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let network = ResNet::initialize(&Architecture::named("resnet-32", 10)?, 0)?;
    /// let backward = network.block_backward().expect("it has explicit gradients");
    /// let h = Tensor::ones((1, 16, 8, 8), DType::F32, &Device::Cpu)?;
    /// let gradients = backward.gradients(0, &h, &h)?;
    /// assert_eq!(gradients.h.dims(), h.dims());
    /// # Ok(())
    /// # }
    /// ```
    fn gradients(&self, block: usize, h: &Tensor, gradient: &Tensor) -> Result<BlockGradients>;

    /// ∂L/∂h through the head alone, from h and `gradient` = ∂L/∂logits `[N, classes]`.
    ///
    /// # Errors
    /// Whatever Candle reports.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use ir_models::{Architecture, ResNet, ResidualNetwork};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let network = ResNet::initialize(&Architecture::named("resnet-32", 10)?, 0)?;
    /// let backward = network.block_backward().expect("it has explicit gradients");
    /// let h = Tensor::ones((1, 64, 8, 8), DType::F32, &Device::Cpu)?;
    /// let gradient = network.head(&h)?.ones_like()?;
    /// assert_eq!(backward.head_gradient(&h, &gradient)?.dims(), h.dims());
    /// # Ok(())
    /// # }
    /// ```
    fn head_gradient(&self, h: &Tensor, gradient: &Tensor) -> Result<Tensor>;

    /// The block as it is at h_j, to take many gradients back through one of its two ways alone.
    /// `None`, by default, leaves that to Candle's automatic differentiation.
    ///
    /// # Errors
    /// Whatever Candle reports.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use ir_models::{Architecture, ResNet, ResidualNetwork};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let network = ResNet::initialize(&Architecture::named("resnet-32", 10)?, 0)?;
    /// let backward = network.block_backward().expect("it has explicit gradients");
    /// let h = Tensor::ones((1, 16, 8, 8), DType::F32, &Device::Cpu)?;
    /// let block = backward.linearized(0, &h)?.expect("it has explicit gradients of these too");
    /// // The shortcut of an ordinary block is the identity.
    /// assert_eq!(block.back_through_shortcut(&h)?.id(), h.id());
    /// assert_eq!(block.back_through_branch(&h)?.dims(), h.dims());
    /// # Ok(())
    /// # }
    /// ```
    fn linearized<'a>(
        &'a self,
        block: usize,
        h: &Tensor,
    ) -> Result<Option<Box<dyn LinearizedBlock + 'a>>> {
        let _ = (block, h);
        Ok(None)
    }
}

/// A block's derivative at one h_j, see [`BlockBackward::linearized`]. Both functions read ∂L/∂h_{j+1};
/// where a way is the identity they return the tensor itself.
pub trait LinearizedBlock {
    /// branch_j'(h_j)ᵀ after_j'(s_j + F_j)ᵀ `gradient`.
    ///
    /// # Errors
    /// Whatever Candle reports.
    fn back_through_branch(&self, gradient: &Tensor) -> Result<Tensor>;

    /// shortcut_j'(h_j)ᵀ after_j'(s_j + F_j)ᵀ `gradient`.
    ///
    /// # Errors
    /// Whatever Candle reports.
    fn back_through_shortcut(&self, gradient: &Tensor) -> Result<Tensor>;
}

/// The logits from h_j on by the steps of a network, each of which records gradients where it can.
pub(crate) fn step_by_step(
    network: &(impl ResidualNetwork + ?Sized),
    block: usize,
    h: &Tensor,
) -> Result<Tensor> {
    let mut h = h.clone();
    for later in block..network.blocks().len() {
        h = network.step(later, &h)?;
    }
    network.head(&h)
}

/// What [`BlockBackward::gradients`] finds.
#[derive(Debug, Clone)]
pub struct BlockGradients {
    /// ∂L/∂(s_j + F_j), before what happens to the sum: also ∂L/∂s_j and ∂L/∂F_j.
    pub sum: Tensor,
    /// ∂L/∂h_j.
    pub h: Tensor,
}
