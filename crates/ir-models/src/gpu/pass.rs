//! One training pass on a GPU, the operations in their order: that of the CPU's `pass.rs`, with everything in place.

use ir_tensor_ops::gpu::{Map, NormState};

use super::memory::{BlockPass, Layer, Pass};
use super::weights::DeviceWeights;
use crate::error::Result;
use crate::layout::BatchNorm;
use crate::resnet::EPSILON;

/// A gradient under way: which of the maps of its shape holds it.
#[derive(Debug, Clone, Copy)]
struct Held {
    dims: [usize; 4],
    index: usize,
}

impl Held {
    /// One of the maps of some shape, so many behind this one in turn: 1 and 2 are the two others.
    fn after(self, dims: [usize; 4], steps: usize) -> Self {
        let index = (self.index + steps) % 3;
        Self { dims, index }
    }
}

impl Pass {
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
        self.weight_gradient(&pass.stem, &pass.images, None, pass.gradient(gradient))?;
        Ok(pass.images.gpu().join()?)
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
        // The gradients of the weights of the block behind are done: the maps that they read may be overwritten.
        pass.images.gpu().join()?;
        if block.layers.pooled {
            let of_sum = held.after(block.sum.dims(), 1);
            pass.gradient(held)
                .avg_pool2d_gradient(2, pass.gradient(of_sum))?;
            held = of_sum;
        }
        let (gradient, inner) = (pass.gradient(held), &block.inner);
        let of_inner = &pass.gradients[&inner.dims()].inner;
        self.weight_gradient(&block.conv2, inner, Some(&block.norm2), gradient)?;
        self.input_gradient(
            &block.conv2,
            gradient,
            of_inner,
            Some((inner, &block.norm2)),
        )?;
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
            self.weight_gradient(layer, h, None, gradient)?;
            self.input_gradient(layer, gradient, to, None)?;
            through_shortcut = to;
        }
        let leaving = held.after(h.dims(), 2);
        let to = pass.gradient(leaving);
        self.weight_gradient(&block.conv1, h, Some(&block.norm1), of_inner)?;
        self.input_gradient(&block.conv1, of_inner, to, Some((h, &block.norm1)))?;
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

    /// Beside what follows, which does not need it: on small maps neither fills a GPU.
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
        let shape = &layer.shape;
        Ok(gradient
            .gpu()
            .beside(|| shape.weight_gradient(x, norm, gradient, partials, &weight, &bias, add))?)
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
