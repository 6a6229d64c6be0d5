//! A linear softmax classifier and its training.

use rayon::prelude::*;

use super::lbfgs;

/// λ of the penalty (λ/2) ‖W‖², beside a loss that is a mean over samples: enough to make the
/// minimum unique, little enough to leave the accuracy alone.
pub(crate) const PENALTY: f64 = 1e-3;

/// Training ends where the gradient's norm is below this. The penalised loss is then within
/// 1e-12 / (2 λ) = 5e-10 of its minimum over the weights.
const TOLERANCE: f64 = 1e-6;

/// Steps after which training ends in any case.
const STEPS: usize = 5000;

/// At most so many pieces of the samples are summed apart, on different threads, and then in order.
const PIECES: usize = 64;

/// A feature that varies by less than this share of its size varies by rounding alone.
const CONSTANT: f64 = 1e-6;

/// logits_k = b_k + Σ_d W_dk (x_d − mean_d) / std_d.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Softmax {
    mean: Vec<f64>,
    /// 1 / std of each feature; 0 for one that is constant, which is then not read.
    scale: Vec<f64>,
    /// W and under it b, row by row: `[D + 1, classes]`.
    weights: Vec<f64>,
    pub(crate) gradient_norm: f64,
    pub(crate) iterations: usize,
}

impl Softmax {
    /// Minimises mean cross-entropy + (λ/2) ‖W‖² over standardised features. `features` is
    /// `[N, D]` row by row, `labels` `[N]` below `classes`, N ≥ 1.
    ///
    /// Sums are taken in pieces that depend on N alone, so that the result is the same bits on any
    /// number of threads.
    pub(crate) fn train(features: &[f32], labels: &[u32], classes: usize) -> Self {
        let width = features.len() / labels.len();
        let (mean, scale) = standardization(features, width);
        let mut x = Vec::with_capacity(labels.len() * (width + 1));
        for row in features.chunks(width) {
            x.extend(standardized(row, &mean, &scale));
            x.push(1.0);
        }
        let objective = |weights: &[f64]| objective(&x, labels, classes, weights);
        let start = vec![0.0; (width + 1) * classes];
        let found = lbfgs::minimize(objective, start, TOLERANCE, STEPS);
        Self {
            mean,
            scale,
            weights: found.place,
            gradient_norm: found.gradient_norm,
            iterations: found.iterations,
        }
    }

    /// Number of features D.
    pub(crate) fn features(&self) -> usize {
        self.mean.len()
    }

    /// Number of classes.
    pub(crate) fn classes(&self) -> usize {
        self.weights.len() / (self.mean.len() + 1)
    }

    /// The logits of one sample's features.
    pub(crate) fn logits(&self, features: &[f32]) -> Vec<f64> {
        let mut x: Vec<f64> = standardized(features, &self.mean, &self.scale).collect();
        x.push(1.0);
        let mut logits = vec![0.0; self.classes()];
        multiply(&x, &self.weights, &mut logits);
        logits
    }
}

/// Mean and 1 / standard deviation of every feature, over all rows.
fn standardization(features: &[f32], width: usize) -> (Vec<f64>, Vec<f64>) {
    let samples = (features.len() / width) as f64;
    let mut mean = vec![0.0; width];
    for row in features.chunks(width) {
        mean.iter_mut()
            .zip(row)
            .for_each(|(sum, &x)| *sum += f64::from(x));
    }
    mean.iter_mut().for_each(|sum| *sum /= samples);
    let (mut squares, mut largest) = (vec![0.0; width], vec![0.0f64; width]);
    for row in features.chunks(width) {
        for (feature, &x) in row.iter().enumerate() {
            squares[feature] += (f64::from(x) - mean[feature]).powi(2);
            largest[feature] = largest[feature].max(f64::from(x).abs());
        }
    }
    let scale = squares.iter().zip(largest).map(|(square, largest)| {
        let std = (square / samples).sqrt();
        if std > CONSTANT * largest {
            1.0 / std
        } else {
            0.0
        }
    });
    (mean, scale.collect())
}

fn standardized<'a>(
    row: &'a [f32],
    mean: &'a [f64],
    scale: &'a [f64],
) -> impl Iterator<Item = f64> + 'a {
    let place = mean.iter().zip(scale);
    row.iter()
        .zip(place)
        .map(|(&x, (mean, scale))| (f64::from(x) - mean) * scale)
}

/// out = x W, for one row x.
fn multiply(x: &[f64], weights: &[f64], out: &mut [f64]) {
    out.fill(0.0);
    for (&x, row) in x.iter().zip(weights.chunks(out.len())) {
        out.iter_mut()
            .zip(row)
            .for_each(|(out, weight)| *out += x * weight);
    }
}

/// Mean cross-entropy + (λ/2) ‖W‖² and its gradient, at weights `[D + 1, classes]` with b last.
fn objective(x: &[f64], labels: &[u32], classes: usize, weights: &[f64]) -> (f64, Vec<f64>) {
    let width = x.len() / labels.len();
    let piece = labels.len().div_ceil(PIECES);
    let sums: Vec<(f64, Vec<f64>)> = x
        .par_chunks(piece * width)
        .zip(labels.par_chunks(piece))
        .map(|(x, labels)| losses(x, labels, classes, weights))
        .collect();
    let samples = labels.len() as f64;
    let mut loss = 0.0;
    let mut gradient = vec![0.0; weights.len()];
    for (part, part_gradient) in sums {
        loss += part;
        gradient
            .iter_mut()
            .zip(part_gradient)
            .for_each(|(sum, part)| *sum += part);
    }
    gradient.iter_mut().for_each(|sum| *sum /= samples);
    let penalized = weights.len() - classes;
    let mut square = 0.0;
    for (gradient, weight) in gradient.iter_mut().zip(&weights[..penalized]) {
        *gradient += PENALTY * weight;
        square += weight * weight;
    }
    (loss / samples + PENALTY / 2.0 * square, gradient)
}

/// Sums over samples of the loss and its gradient.
fn losses(x: &[f64], labels: &[u32], classes: usize, weights: &[f64]) -> (f64, Vec<f64>) {
    let width = x.len() / labels.len();
    let mut gradient = vec![0.0; weights.len()];
    let mut p = vec![0.0; classes];
    let mut loss = 0.0;
    for (x, &label) in x.chunks(width).zip(labels) {
        multiply(x, weights, &mut p);
        let label = label as usize;
        let (own, largest) = (
            p[label],
            p.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        );
        p.iter_mut()
            .for_each(|logit| *logit = (*logit - largest).exp());
        let total: f64 = p.iter().sum();
        loss += total.ln() - (own - largest);
        p.iter_mut().for_each(|p| *p /= total);
        p[label] -= 1.0;
        for (&x, row) in x.iter().zip(gradient.chunks_mut(classes)) {
            row.iter_mut().zip(&p).for_each(|(sum, p)| *sum += x * p);
        }
    }
    (loss, gradient)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers in −1 … 1 by a formula.
    fn numbers(count: usize) -> Vec<f64> {
        (0..count)
            .map(|i| ((i * i) as f64 * 0.7 + 1.0).sin())
            .collect()
    }

    fn labels(samples: usize, classes: usize) -> Vec<u32> {
        (0..samples)
            .map(|i| (i * 7 % 11 % classes) as u32)
            .collect()
    }

    #[test]
    fn the_gradient_is_that_of_central_differences() {
        let (x, labels, weights) = (numbers(20 * 4), labels(20, 3), numbers(4 * 3));
        let (_, gradient) = objective(&x, &labels, 3, &weights);
        for (index, found) in gradient.iter().enumerate() {
            let at = |step: f64| {
                let mut weights = weights.clone();
                weights[index] += step;
                objective(&x, &labels, 3, &weights).0
            };
            // Truncation of about 1e-10, rounding of 1e-16 / 1e-5.
            let expected = (at(1e-5) - at(-1e-5)) / 2e-5;
            assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
        }
    }

    #[test]
    fn without_features_the_biases_are_the_logs_of_the_shares() {
        let labels = [0, 0, 0, 1, 1, 2];
        let found = Softmax::train(&[5.0; 6], &labels, 3);
        assert_eq!(found.scale, [0.0]);
        let logits = found.logits(&[5.0]);
        for (class, share) in [3.0f64, 2.0, 1.0].into_iter().enumerate() {
            // A gradient below 1e-6 leaves each probability within 1e-6 of the share.
            let expected = (share / 3.0).ln();
            assert!((logits[class] - logits[0] - expected).abs() < 1e-5);
        }
    }

    #[test]
    fn features_are_standardised() {
        let (mean, scale) = standardization(&[1.0, 7.0, 3.0, 7.0], 2);
        assert_eq!((mean, scale), (vec![2.0, 7.0], vec![1.0, 0.0]));
    }
}
