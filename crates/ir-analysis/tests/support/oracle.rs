//! Every measure of the paper for a [`Dense`] network, straight from its definition: one sample
//! at a time, in f64, the network run anew for each number, gradients by central differences.

use super::{After, Dense, Matrix, Samples};

/// Step of the differences: their error is about the third derivative times STEP² = 1e-10, plus
/// f64's rounding of the loss over STEP, 2e-11.
const STEP: f64 = 1e-5;

fn times(h: &[f64], matrix: &Matrix) -> Vec<f64> {
    let column = |k: usize| h.iter().zip(matrix).map(|(x, row)| x * row[k]).sum();
    (0..matrix[0].len()).map(column).collect()
}

pub(crate) fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

pub(crate) fn norm(x: &[f64]) -> f64 {
    dot(x, x).sqrt()
}

pub(crate) fn cosine(x: &[f64], y: &[f64]) -> f64 {
    dot(x, y) / (norm(x) * norm(y))
}

/// One sample's passage through the network.
pub(crate) struct Oracle<'a> {
    pub(crate) network: &'a Dense,
    pub(crate) label: usize,
}

/// What logits say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) loss: f64,
    pub(crate) entropy: f64,
    pub(crate) margin: f64,
    pub(crate) correct: bool,
}

impl Oracle<'_> {
    pub(crate) fn shortcut(&self, j: usize, h: &[f64]) -> Vec<f64> {
        match &self.network.blocks[j].shortcut {
            Some(matrix) => times(h, matrix),
            None => h.to_vec(),
        }
    }

    pub(crate) fn branch(&self, j: usize, h: &[f64]) -> Vec<f64> {
        let block = &self.network.blocks[j];
        let hidden: Vec<f64> = times(h, &block.inner).into_iter().map(f64::tanh).collect();
        times(&hidden, &block.outer)
            .into_iter()
            .map(|x| x * block.scale)
            .collect()
    }

    /// after_j(x + scale · y).
    pub(crate) fn join(&self, j: usize, x: &[f64], y: &[f64], scale: f64) -> Vec<f64> {
        let sum: Vec<f64> = x.iter().zip(y).map(|(x, y)| x + scale * y).collect();
        match self.network.blocks[j].after {
            After::Identity => sum,
            After::Relu => sum.into_iter().map(|x| x.max(0.0)).collect(),
            After::PairMean => sum
                .chunks(2)
                .map(|pair| (pair[0] + pair[1]) / 2.0)
                .collect(),
        }
    }

    pub(crate) fn step(&self, j: usize, h: &[f64]) -> Vec<f64> {
        self.join(j, &self.shortcut(j, h), &self.branch(j, h), 1.0)
    }

    /// h_0 … h_L.
    pub(crate) fn path(&self, image: &[f64]) -> Vec<Vec<f64>> {
        let mut path = vec![image.to_vec()];
        for j in 0..self.network.blocks.len() {
            path.push(self.step(j, &path[j]));
        }
        path
    }

    /// The network from h_j on.
    pub(crate) fn from(&self, j: usize, h: &[f64]) -> Outcome {
        let mut h = h.to_vec();
        for block in j..self.network.blocks.len() {
            h = self.step(block, &h);
        }
        self.exit(&h)
    }

    /// The head at h.
    pub(crate) fn exit(&self, h: &[f64]) -> Outcome {
        let logits = times(h, &self.network.head);
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = logits.iter().map(|x| (x - largest).exp()).sum();
        let p: Vec<f64> = logits.iter().map(|x| (x - largest).exp() / total).collect();
        let others = p
            .iter()
            .enumerate()
            .filter(|(class, _)| *class != self.label);
        let best_other = others.map(|(_, p)| *p).fold(0.0, f64::max);
        Outcome {
            loss: largest + total.ln() - logits[self.label],
            entropy: p.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum(),
            margin: p[self.label] - best_other,
            correct: p[self.label] > best_other,
        }
    }

    /// ∂L/∂h_j through all later blocks; for a transition ∂L/∂s_j with F_j held fixed.
    pub(crate) fn network_gradient(&self, j: usize, h: &[f64]) -> Vec<f64> {
        if self.network.blocks[j].shortcut.is_none() {
            return differences(h, |h| self.from(j, h).loss);
        }
        let branch = self.branch(j, h);
        differences(&self.shortcut(j, h), |s| {
            self.from(j + 1, &self.join(j, s, &branch, 1.0)).loss
        })
    }

    pub(crate) fn exit_gradient(&self, h: &[f64]) -> Vec<f64> {
        differences(h, |h| self.exit(h).loss)
    }
}

/// The gradient of `f` at x by central differences.
pub(crate) fn differences(x: &[f64], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let along = |k: usize| {
        let mut moved = x.to_vec();
        moved[k] = x[k] + STEP;
        let above = f(&moved);
        moved[k] = x[k] - STEP;
        (above - f(&moved)) / (2.0 * STEP)
    };
    (0..x.len()).map(along).collect()
}

/// Mean and standard deviation (over N) of `value` over all samples, each with its image.
pub(crate) fn over(
    network: &Dense,
    samples: &Samples,
    value: impl Fn(&Oracle<'_>, &[f64]) -> f64,
) -> (f64, f64) {
    let values: Vec<f64> = samples
        .images
        .iter()
        .zip(&samples.labels)
        .map(|(image, &label)| {
            value(
                &Oracle {
                    network,
                    label: label as usize,
                },
                image,
            )
        })
        .collect();
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
    (mean, variance.sqrt())
}
