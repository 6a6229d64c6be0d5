//! One training pass on a GPU: the memory of all its activations, and the operations in their order.
//!
//! It is the pass of `pass.rs` with everything in place beforehand: nothing is allocated while it runs, so that it
//! can be recorded.

use std::collections::HashMap;

use ir_tensor_ops::gpu::{
    Buffer, Convolution, Gpu, Losses, Map, NormRule, NormState, Precision, Sources, StepState,
};

use super::arena::GROUP;
use super::weights::DeviceWeights;
use crate::architecture::Architecture;
use crate::error::Result;
use crate::layout::{self, BatchNorm, BlockLayers, Layout};
use crate::resnet::EPSILON;

/// A convolution with the tensors that it reads.
#[derive(Debug)]
struct Layer {
    shape: Convolution,
    of: layout::Convolution,
}

/// What a block keeps between its forward and its backward pass.
#[derive(Debug)]
struct BlockPass {
    layers: BlockLayers,
    h: Map,
    norm1: NormState,
    conv1: Layer,
    inner: Map,
    norm2: NormState,
    conv2: Layer,
    /// Of a transition, with its result.
    shortcut: Option<(Layer, Map)>,
    /// s + F, which is h_{j+1} unless it is pooled.
    sum: Map,
}

/// Gradients of maps of one shape: those that pass from block to block by turns, and the one inside a block.
#[derive(Debug)]
struct GradientMaps {
    between: [Map; 3],
    inner: Map,
}

/// A gradient under way: which of the maps of its shape holds it.
#[derive(Debug, Clone, Copy)]
struct Held {
    dims: [usize; 4],
    index: usize,
}

impl Held {
    /// Another of the maps of some shape, neither this one nor the `other` that follows it.
    fn after(self, dims: [usize; 4], steps: usize) -> Self {
        let index = (self.index + steps) % 3;
        Self { dims, index }
    }
}

/// Everything of a pass but the weights.
#[derive(Debug)]
pub(super) struct Pass {
    layout: Layout,
    pub(super) images: Map,
    pub(super) labels: Buffer<u32>,
    stem: Layer,
    blocks: Vec<BlockPass>,
    h_last: Map,
    head_norm: NormState,
    head_pooling: usize,
    features: Buffer<f32>,
    features_gradient: Buffer<f32>,
    logits: Buffer<f32>,
    pub(super) losses: Losses,
    gradients: HashMap<[usize; 4], GradientMaps>,
    /// Partial sums of statistics and of gradients at norms, used by one layer after another.
    partials: Buffer<f32>,
    partial_weights: Buffer<f32>,
    rules: HashMap<usize, NormRule>,
    /// Means and variances of all norms of the batch, in the order of the pass.
    means: Buffer<f32>,
    variances: Buffer<f32>,
    /// Which of them the running statistics take in, one launch after another.
    sources: Vec<Sources>,
    batch: usize,
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
            if !gradients.contains_key(&dims) {
                let maps = GradientMaps {
                    between: [builder.map(dims)?, builder.map(dims)?, builder.map(dims)?],
                    inner: builder.map(dims)?,
                };
                gradients.insert(dims, maps);
            }
            if !rules.contains_key(&dims[1]) {
                rules.insert(dims[1], NormRule::new(gpu, dims[1])?);
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

    /// The loss of the batch, and the gradients of all parameters.
    pub(super) fn run(&self, weights: &DeviceWeights) -> Result<()> {
        let mut work = Work {
            pass: self,
            weights,
            met: vec![false; weights.arena.slots.len()],
        };
        work.forward()?;
        work.backward()
    }

    fn gradient(&self, held: Held) -> &Map {
        &self.gradients[&held.dims].between[held.index]
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

/// The operations of one pass, asked for one after another.
struct Work<'a> {
    pass: &'a Pass,
    weights: &'a DeviceWeights,
    /// Which tensors have their gradient already: those of later steps through them are added.
    met: Vec<bool>,
}

impl Work<'_> {
    fn forward(&self) -> Result<()> {
        let pass = self.pass;
        let first = pass.blocks.first().map_or(&pass.h_last, |block| &block.h);
        let mut pieces = self.convolve(&pass.stem, &pass.images, None, None, first, true)?;
        for (j, block) in pass.blocks.iter().enumerate() {
            self.resolve(&block.norm1, &block.layers.norm1, pieces)?;
            let norm1 = Some(&block.norm1);
            pieces = self.convolve(&block.conv1, &block.h, norm1, None, &block.inner, true)?;
            self.resolve(&block.norm2, &block.layers.norm2, pieces)?;
            let mut residual = &block.h;
            if let Some((layer, result)) = &block.shortcut {
                self.convolve(layer, &block.h, None, None, result, false)?;
                residual = result;
            }
            let norm2 = Some(&block.norm2);
            let (inner, sum) = (&block.inner, &block.sum);
            pieces = self.convolve(
                &block.conv2,
                inner,
                norm2,
                Some(residual),
                sum,
                !block.layers.pooled,
            )?;
            if block.layers.pooled {
                let next = pass.blocks.get(j + 1).map_or(&pass.h_last, |next| &next.h);
                block.sum.avg_pool2d(2, next)?;
                next.moments(&pass.partials)?;
                pieces = pass.batch;
            }
        }
        self.resolve(&pass.head_norm, &pass.layout.head_norm, pieces)?;
        pass.h_last
            .features(&pass.head_norm, pass.head_pooling, &pass.features)?;
        let classifier = self.weights.classifier(&pass.layout)?;
        classifier.forward(pass.batch, &pass.features, &pass.logits)?;
        let (rows, classes) = (pass.batch, classifier.outputs);
        Ok(pass
            .losses
            .compute(rows, classes, &pass.logits, &pass.labels)?)
    }

    /// A convolution; gives the number of pieces of the moments of its result, where they are wanted.
    fn convolve(
        &self,
        layer: &Layer,
        x: &Map,
        norm: Option<&NormState>,
        residual: Option<&Map>,
        y: &Map,
        moments: bool,
    ) -> Result<usize> {
        let weight = self.weights.convolution(layer.of.weight)?;
        let bias = self.weights.parameter(layer.of.bias)?;
        let moments = moments.then_some(&self.pass.partials);
        layer
            .shape
            .forward(x, norm, &weight, &bias, residual, y, moments)?;
        Ok(layer.shape.statistics_pieces())
    }

    fn resolve(&self, norm: &NormState, of: &BatchNorm, pieces: usize) -> Result<()> {
        let (gamma, beta) = (
            self.weights.parameter(of.gamma)?,
            self.weights.parameter(of.beta)?,
        );
        let moments = &self.pass.partials;
        Ok(norm.of_moments(moments, pieces, &gamma, &beta, EPSILON as f32)?)
    }

    fn backward(&mut self) -> Result<()> {
        let pass = self.pass;
        let mut gradient = self.head_gradient()?;
        for block in pass.blocks.iter().rev() {
            gradient = self.block_gradient(block, gradient)?;
        }
        self.weight_gradient(&pass.stem, &pass.images, None, pass.gradient(gradient))
    }

    /// The gradients of the classifier, and that of h_L.
    fn head_gradient(&mut self) -> Result<Held> {
        let pass = self.pass;
        let classifier = self.weights.classifier(&pass.layout)?;
        let (rows, of_logits) = (pass.batch, &pass.losses.gradient);
        let weight = self.weights.gradient(pass.layout.classifier_weight)?;
        let bias = self.weights.gradient(pass.layout.classifier_bias)?;
        classifier.gradient_of_weight(rows, &pass.features, of_logits, [&weight, &bias])?;
        classifier.gradient_of_x(rows, of_logits, &pass.features_gradient)?;
        let (h, norm) = (&pass.h_last, &pass.head_norm);
        let held = Held {
            dims: h.dims(),
            index: 0,
        };
        let (to, of_features) = (pass.gradient(held), &pass.features_gradient);
        h.features_gradient(norm, pass.head_pooling, of_features, to, &pass.partials)?;
        self.through_norm(norm, &pass.layout.head_norm, pass.batch, h, None, to)?;
        Ok(held)
    }

    /// ∂L/∂h_j from ∂L/∂h_{j+1}.
    fn block_gradient(&mut self, block: &BlockPass, mut held: Held) -> Result<Held> {
        let pass = self.pass;
        if block.layers.pooled {
            let of_sum = held.after(block.sum.dims(), 1);
            pass.gradient(held)
                .avg_pool2d_gradient(2, pass.gradient(of_sum))?;
            held = of_sum;
        }
        let (gradient, inner) = (pass.gradient(held), &block.inner);
        let of_inner = &pass.gradients[&inner.dims()].inner;
        self.input_gradient(
            &block.conv2,
            gradient,
            of_inner,
            Some((inner, &block.norm2)),
        )?;
        self.weight_gradient(&block.conv2, inner, Some(&block.norm2), gradient)?;
        let pieces = block.conv2.shape.gradient_pieces();
        self.through_norm(
            &block.norm2,
            &block.layers.norm2,
            pieces,
            inner,
            None,
            of_inner,
        )?;

        let h = &block.h;
        let mut through_shortcut = gradient;
        if let Some((layer, _)) = &block.shortcut {
            let to = pass.gradient(held.after(h.dims(), 1));
            self.input_gradient(layer, gradient, to, None)?;
            self.weight_gradient(layer, h, None, gradient)?;
            through_shortcut = to;
        }
        let leaving = held.after(h.dims(), 2);
        let to = pass.gradient(leaving);
        self.input_gradient(&block.conv1, of_inner, to, Some((h, &block.norm1)))?;
        self.weight_gradient(&block.conv1, h, Some(&block.norm1), of_inner)?;
        let pieces = block.conv1.shape.gradient_pieces();
        let added = Some(through_shortcut);
        self.through_norm(&block.norm1, &block.layers.norm1, pieces, h, added, to)?;
        Ok(leaving)
    }

    /// The gradient of a convolution's input, up to the norm before it, if there is one; its sums are then partial ones.
    fn input_gradient(
        &self,
        layer: &Layer,
        gradient: &Map,
        dx: &Map,
        behind: Option<(&Map, &NormState)>,
    ) -> Result<()> {
        let weight = self.weights.convolution(layer.of.weight)?;
        let behind = behind.map(|(x, norm)| (x, norm, &self.pass.partials));
        Ok(layer.shape.input_gradient(gradient, &weight, dx, behind)?)
    }

    fn weight_gradient(
        &mut self,
        layer: &Layer,
        x: &Map,
        norm: Option<&NormState>,
        gradient: &Map,
    ) -> Result<()> {
        let weight = self.weights.gradient(layer.of.weight)?;
        let bias = self.weights.gradient(layer.of.bias)?;
        let add = self.meets(layer.of.weight);
        let partials = &self.pass.partial_weights;
        Ok(layer
            .shape
            .weight_gradient(x, norm, gradient, partials, &weight, &bias, add)?)
    }

    /// The gradients of γ and β, and that of x in place of the one behind the norm.
    fn through_norm(
        &mut self,
        norm: &NormState,
        of: &BatchNorm,
        pieces: usize,
        x: &Map,
        added: Option<&Map>,
        gradient: &Map,
    ) -> Result<()> {
        let pass = self.pass;
        let [batch, channels, height, width] = x.dims();
        let (gamma, beta) = (
            self.weights.gradient(of.gamma)?,
            self.weights.gradient(of.beta)?,
        );
        let add = self.meets(of.gamma);
        let rule = &pass.rules[&channels];
        let count = batch * height * width;
        norm.gradient(&pass.partials, pieces, count, [&gamma, &beta], add, rule)?;
        Ok(norm.gradient_of_x(rule, gradient, x, added, gradient)?)
    }

    /// Whether a tensor has a gradient already; from now on it has.
    fn meets(&mut self, index: usize) -> bool {
        std::mem::replace(&mut self.met[index], true)
    }
}
