//! The memory of a training pass on a GPU: all its activations, and what its operations leave for each other.
//!
//! Everything is there before the pass begins: nothing is allocated while it runs, so that it can be recorded.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use ir_tensor_ops::gpu::{
    Buffer, Convolution, Gpu, Losses, Map, NormRule, NormState, Precision, Sources, StepState,
};

use super::arena::GROUP;
use super::weights::DeviceWeights;
use crate::architecture::Architecture;
use crate::error::Result;
use crate::layout::{self, BatchNorm, BlockLayers, Layout};

/// A convolution with the tensors that it reads.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) shape: Convolution,
    pub(super) of: layout::Convolution,
}

/// What a block keeps between its forward and its backward pass.
#[derive(Debug)]
pub(super) struct BlockPass {
    pub(super) layers: BlockLayers,
    pub(super) h: Map,
    pub(super) norm1: NormState,
    pub(super) conv1: Layer,
    pub(super) inner: Map,
    pub(super) norm2: NormState,
    pub(super) conv2: Layer,
    /// Of a transition, with its result.
    pub(super) shortcut: Option<(Layer, Map)>,
    /// s + F, which is h_{j+1} unless it is pooled.
    pub(super) sum: Map,
}

/// Gradients of maps of one shape: those that pass from block to block by turns, and the one inside a block.
#[derive(Debug)]
pub(super) struct GradientMaps {
    pub(super) between: [Map; 3],
    pub(super) inner: Map,
}

/// Everything of a pass but the weights.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) layout: Layout,
    pub(super) images: Map,
    pub(super) labels: Buffer<u32>,
    pub(super) stem: Layer,
    pub(super) blocks: Vec<BlockPass>,
    pub(super) h_last: Map,
    pub(super) head_norm: NormState,
    pub(super) head_pooling: usize,
    pub(super) features: Buffer<f32>,
    pub(super) features_gradient: Buffer<f32>,
    pub(super) logits: Buffer<f32>,
    pub(super) losses: Losses,
    pub(super) gradients: HashMap<[usize; 4], GradientMaps>,
    /// Partial sums of statistics and of gradients at norms, used by one layer after another.
    pub(super) partials: Buffer<f32>,
    pub(super) partial_weights: Buffer<f32>,
    pub(super) rules: HashMap<usize, NormRule>,
    /// Means and variances of all norms of the batch, in the order of the pass.
    pub(super) means: Buffer<f32>,
    pub(super) variances: Buffer<f32>,
    /// Which of them the running statistics take in, one launch after another.
    pub(super) sources: Vec<Sources>,
    pub(super) batch: usize,
}

/// Takes the memory of a pass, piece by piece.
struct Builder<'a> {
    gpu: &'a Gpu,
    precision: Precision,
    layout: &'a Layout,
    means: Buffer<f32>,
    variances: Buffer<f32>,
    /// Where the next norm's statistics lie.
    next: usize,
    /// The running statistics that each norm moves (as the index of its mean), where its own lie, and of how many values.
    met: Vec<(usize, usize, usize)>,
    partials: usize,
    partial_weights: usize,
}

impl Builder<'_> {
    fn map(&self, dims: [usize; 4]) -> Result<Map> {
        Ok(Map::new(self.gpu, dims, self.precision)?)
    }

    fn layer(&mut self, of: layout::Convolution, x: [usize; 4]) -> Result<Layer> {
        let shape = &self.layout.specs[of.weight].shape;
        let (outputs, kernel) = (shape[0], shape[2]);
        let shape = Convolution::new(x, outputs, kernel, of.stride, of.padding, self.precision)?;
        let channels = |count: usize| count.next_multiple_of(GROUP);
        let partials = [
            3 * shape.statistics_pieces() * channels(outputs),
            2 * shape.gradient_pieces() * channels(x[1]),
        ];
        self.partials = self.partials.max(partials[0]).max(partials[1]);
        self.partial_weights = self.partial_weights.max(shape.partial_weight_len());
        Ok(Layer { shape, of })
    }

    /// A norm of a map of these dimensions.
    fn norm(&mut self, of: &BatchNorm, dims: [usize; 4]) -> Result<NormState> {
        let [batch, channels, height, width] = dims;
        let range = self.next..self.next + channels.next_multiple_of(GROUP);
        self.met
            .push((of.running_mean, range.start, batch * height * width));
        // Pooled maps and the head take their sums an image at a time.
        self.partials = self.partials.max(3 * batch * range.len());
        self.next = range.end;
        Ok(NormState {
            mean: self.means.slice(range.clone())?,
            variance: self.variances.slice(range)?,
            ..NormState::new(self.gpu, channels)?
        })
    }

    fn block(&mut self, layers: &BlockLayers, h: Map) -> Result<(BlockPass, Map)> {
        let norm1 = self.norm(&layers.norm1, h.dims())?;
        let conv1 = self.layer(layers.conv1, h.dims())?;
        let inner = self.map(conv1.shape.output_dims())?;
        let norm2 = self.norm(&layers.norm2, inner.dims())?;
        let conv2 = self.layer(layers.conv2, inner.dims())?;
        let sum = self.map(conv2.shape.output_dims())?;
        let shortcut = match layers.shortcut {
            Some(of) => Some((self.layer(of, h.dims())?, self.map(sum.dims())?)),
            None => None,
        };
        let [batch, channels, height, width] = sum.dims();
        let next = match layers.pooled {
            true => self.map([batch, channels, height / 2, width / 2])?,
            false => sum.clone(),
        };
        let block = BlockPass {
            layers: *layers,
            h,
            norm1,
            conv1,
            inner,
            norm2,
            conv2,
            shortcut,
            sum,
        };
        Ok((block, next))
    }

    /// For each launch, where the running statistics that it moves find the batch's. The n-th launch takes what each
    /// running statistic meets for the n-th time: a naively shared block meets its own once a step.
    fn sources(&self, weights: &DeviceWeights) -> Result<Vec<Sources>> {
        let mut launches: Vec<Vec<Option<(usize, f32)>>> = Vec::new();
        let mut times: HashMap<usize, usize> = HashMap::new();
        for &(running, from, count) in &self.met {
            let time = times.entry(running).or_default();
            if *time == launches.len() {
                launches.push(vec![None; weights.arena.running]);
            }
            let slot = weights.arena.slots[running];
            let count = count as f32;
            let unbiased = if count > 1. { count / (count - 1.) } else { 1. };
            let places = &mut launches[*time][slot.start..][..slot.length];
            for (channel, place) in places.iter_mut().enumerate() {
                *place = Some((from + channel, unbiased));
            }
            *time += 1;
        }
        let sources = launches
            .iter()
            .map(|sources| Sources::new(self.gpu, sources));
        Ok(sources.collect::<ir_tensor_ops::Result<_>>()?)
    }
}

impl Pass {
    pub(super) fn new(
        gpu: &Gpu,
        architecture: &Architecture,
        layout: &Layout,
        weights: &DeviceWeights,
        batch: usize,
        precision: Precision,
    ) -> Result<Self> {
        let channels = |norm: &BatchNorm| weights.arena.slots[norm.gamma].length;
        let norms = layout
            .blocks
            .iter()
            .flat_map(|block| [&block.norm1, &block.norm2]);
        let statistics = norms.chain([&layout.head_norm]).map(channels).sum();
        let mut builder = Builder {
            gpu,
            precision,
            layout,
            means: Buffer::zeros(gpu, statistics)?,
            variances: Buffer::zeros(gpu, statistics)?,
            next: 0,
            met: Vec::new(),
            partials: 0,
            partial_weights: 0,
        };
        let [image_channels, height, width] = architecture.image;
        let images = builder.map([batch, image_channels, height, width])?;
        let stem = builder.layer(layout.stem, images.dims())?;
        let mut h = builder.map(stem.shape.output_dims())?;
        let mut blocks = Vec::with_capacity(layout.blocks.len());
        for layers in &layout.blocks {
            let (block, next) = builder.block(layers, h)?;
            blocks.push(block);
            h = next;
        }
        let head_norm = builder.norm(&layout.head_norm, h.dims())?;
        let mut gradients = HashMap::new();
        let mut rules = HashMap::new();
        let maps = blocks
            .iter()
            .flat_map(|block| [&block.h, &block.inner, &block.sum]);
        for dims in maps.chain([&h]).map(Map::dims) {
            if let Entry::Vacant(vacant) = gradients.entry(dims) {
                let maps = GradientMaps {
                    between: [builder.map(dims)?, builder.map(dims)?, builder.map(dims)?],
                    inner: builder.map(dims)?,
                };
                vacant.insert(maps);
            }
            if let Entry::Vacant(vacant) = rules.entry(dims[1]) {
                vacant.insert(NormRule::new(gpu, dims[1])?);
            }
        }
        let features = batch * architecture.features();
        let classes = architecture.classes;
        Ok(Self {
            layout: layout.clone(),
            images,
            labels: Buffer::zeros(gpu, batch)?,
            stem,
            blocks,
            h_last: h,
            head_norm,
            head_pooling: architecture.head_pooling,
            features: Buffer::new(gpu, features)?,
            features_gradient: Buffer::new(gpu, features)?,
            logits: Buffer::new(gpu, batch * classes)?,
            losses: Losses::new(gpu, batch, classes)?,
            gradients,
            partials: Buffer::new(gpu, builder.partials)?,
            partial_weights: Buffer::new(gpu, builder.partial_weights)?,
            rules,
            sources: builder.sources(weights)?,
            means: builder.means,
            variances: builder.variances,
            batch,
        })
    }

    /// Stops a step whose statistics are not finite.
    pub(super) fn check(&self, state: &StepState) -> Result<()> {
        state.check_statistics(&self.means)?;
        Ok(state.check_statistics(&self.variances)?)
    }

    /// Moves the running statistics towards those of the batch.
    pub(super) fn take_in_statistics(
        &self,
        weights: &DeviceWeights,
        state: &StepState,
        momentum: f64,
    ) -> Result<()> {
        for sources in &self.sources {
            let running = [&weights.running_mean, &weights.running_variance];
            let batch = [&self.means, &self.variances];
            state.take_statistics(running, batch, sources, momentum)?;
        }
        Ok(())
    }
}
