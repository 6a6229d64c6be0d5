//! Naive f64 versions of the operations, with the error that f32 may make.
//!
//! The bound is the classic one for sums and products (Higham, Accuracy and Stability of
//! Numerical Algorithms, §3): if no number passes through more than k roundings on its way to
//! a result, the result is off by at most γ_k = k·u / (1 − k·u), u = 2⁻²⁴, times the same
//! expression with every term replaced by its absolute value and every difference by a sum. A
//! [`Term`] carries that expression along.

use std::ops::{Add, Mul, Sub};

use candle_core::Tensor;

use super::numbers;

/// A number, and the same expression in absolute values.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Term {
    pub(super) value: f64,
    pub(super) magnitude: f64,
}

impl From<f64> for Term {
    fn from(value: f64) -> Self {
        Self {
            value,
            magnitude: value.abs(),
        }
    }
}

impl Add for Term {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            value: self.value + other.value,
            magnitude: self.magnitude + other.magnitude,
        }
    }
}

impl Sub for Term {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            value: self.value - other.value,
            magnitude: self.magnitude + other.magnitude,
        }
    }
}

impl Mul for Term {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        Self {
            value: self.value * other.value,
            magnitude: self.magnitude * other.magnitude,
        }
    }
}

impl std::iter::Sum for Term {
    fn sum<I: Iterator<Item = Self>>(terms: I) -> Self {
        terms.fold(Self::default(), Add::add)
    }
}

/// The numbers of a tensor as exact terms.
pub(super) fn terms(tensor: &Tensor) -> Vec<Term> {
    let exact = |&value: &f32| Term::from(f64::from(value));
    numbers(tensor).iter().map(exact).collect()
}

/// Fails unless every number is within its bound after at most `roundings` roundings.
#[track_caller]
pub(super) fn assert_close(found: &[f32], expected: &[Term], roundings: usize) {
    let nu = roundings as f64 * 0.5 * f64::from(f32::EPSILON);
    let gamma = nu / (1. - nu);
    assert_eq!(found.len(), expected.len());
    for (index, (&found, expected)) in found.iter().zip(expected).enumerate() {
        // Rounding the exact result to f32 alone may already cost the smallest normal number.
        let bound = gamma * expected.magnitude + f64::from(f32::MIN_POSITIVE);
        let error = (f64::from(found) - expected.value).abs();
        assert!(
            error <= bound,
            "element {index}: found {found}, expected {}, error {error:e} > bound {bound:e}",
            expected.value
        );
    }
}

/// The sizes of a convolution.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) batch: usize,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) padding: usize,
}

impl Sizes {
    pub(super) fn x(&self) -> [usize; 4] {
        [self.batch, self.inputs, self.height, self.width]
    }

    pub(super) fn weight(&self) -> [usize; 4] {
        [self.outputs, self.inputs, self.kernel, self.kernel]
    }

    pub(super) fn y(&self) -> [usize; 4] {
        let out = |size| (size + 2 * self.padding - self.kernel) / self.stride + 1;
        [self.batch, self.outputs, out(self.height), out(self.width)]
    }

    /// Calls `visit(index in y, index in x, index in weight)` for every product.
    fn products(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let [batch, outputs, out_height, out_width] = self.y();
        for n in 0..batch {
            for o in 0..outputs {
                for i in 0..self.inputs {
                    for pixel in 0..out_height * out_width {
                        let (oy, ox) = (pixel / out_width, pixel % out_width);
                        for tap in 0..self.kernel * self.kernel {
                            let (ky, kx) = (tap / self.kernel, tap % self.kernel);
                            let y = (oy * self.stride + ky).wrapping_sub(self.padding);
                            let x = (ox * self.stride + kx).wrapping_sub(self.padding);
                            if y < self.height && x < self.width {
                                visit(
                                    (n * outputs + o) * out_height * out_width + pixel,
                                    ((n * self.inputs + i) * self.height + y) * self.width + x,
                                    (o * self.inputs + i) * self.kernel * self.kernel + tap,
                                );
                            }
                        }
                    }
                }
            }
        }
    }

    /// The convolution; `bias` has one term per output channel.
    pub(super) fn forward(&self, x: &[Term], weight: &[Term], bias: &[Term]) -> Vec<Term> {
        let [_, outputs, height, width] = self.y();
        let count: usize = self.y().iter().product();
        let mut y: Vec<Term> = (0..count)
            .map(|index| bias[index / (height * width) % outputs])
            .collect();
        self.products(|to, from, w| y[to] = y[to] + x[from] * weight[w]);
        if self.winograd() {
            self.set_forward_magnitudes(x, weight, bias, &mut y);
        }
        y
    }

    /// The gradients of x and weight.
    pub(super) fn backward(
        &self,
        x: &[Term],
        weight: &[Term],
        gradient: &[Term],
    ) -> (Vec<Term>, Vec<Term>) {
        let mut dx = vec![Term::default(); x.len()];
        let mut dw = vec![Term::default(); weight.len()];
        self.products(|to, from, w| {
            dx[from] = dx[from] + weight[w] * gradient[to];
            dw[w] = dw[w] + x[from] * gradient[to];
        });
        if self.winograd() {
            self.set_input_gradient_magnitudes(weight, gradient, &mut dx);
        }
        if self.winograd_weight_gradient() {
            self.set_weight_gradient_magnitudes(x, gradient, &mut dw);
        }
        (dx, dw)
    }

    /// The sum of a tensor of y's shape over N, H and W.
    pub(super) fn bias_gradient(&self, gradient: &[Term]) -> Vec<Term> {
        let [_, outputs, height, width] = self.y();
        channels(gradient, outputs, height * width)
            .iter()
            .map(|indices| indices.iter().map(|&index| gradient[index]).sum())
            .collect()
    }
}

/// The indices of every channel of an [N, C, plane] tensor.
pub(super) fn channels<T>(x: &[T], channels: usize, plane: usize) -> Vec<Vec<usize>> {
    let mut indices = vec![Vec::new(); channels];
    for index in 0..x.len() {
        indices[index / plane % channels].push(index);
    }
    indices
}

/// Batch norm of [N, C, plane], with statistics of its own or given ones.
pub(super) struct Norm<'a> {
    pub(super) gamma: &'a [Term],
    pub(super) beta: &'a [Term],
    /// Mean and variance per channel; `None` takes the batch's, and differentiates them.
    pub(super) running: Option<(&'a [Term], &'a [Term])>,
    pub(super) epsilon: f64,
    pub(super) plane: usize,
    pub(super) relu: bool,
}

/// What the oracle of batch norm gives.
pub(super) struct NormGradients {
    pub(super) x: Vec<Term>,
    pub(super) gamma: Vec<Term>,
    pub(super) beta: Vec<Term>,
}

impl Norm<'_> {
    /// Mean, variance and x − mean of every channel.
    pub(super) fn statistics(&self, x: &[Term]) -> (Vec<Term>, Vec<Term>) {
        channels(x, self.gamma.len(), self.plane)
            .iter()
            .map(|indices| {
                let share = Term::from(1. / indices.len() as f64);
                let mean = share * indices.iter().map(|&index| x[index]).sum();
                let square = |&index: &usize| (x[index] - mean) * (x[index] - mean);
                (mean, share * indices.iter().map(square).sum())
            })
            .unzip()
    }

    /// x̂ of every element, and 1 / √(σ² + ε) of every channel.
    fn normalise(&self, x: &[Term]) -> (Vec<Term>, Vec<Term>) {
        let (mean, variance) = match self.running {
            Some((mean, variance)) => (mean.to_vec(), variance.to_vec()),
            None => self.statistics(x),
        };
        // 1/√v inherits half of v's relative error, magnitude / value − 1 of which is beyond
        // what the roundings on the way account for.
        let inverse: Vec<Term> = variance
            .iter()
            .map(|variance| {
                let value = 1. / (variance.value + self.epsilon).sqrt();
                let relative =
                    (variance.magnitude + self.epsilon) / (variance.value + self.epsilon);
                Term {
                    value,
                    magnitude: value * relative,
                }
            })
            .collect();
        let channel = |index: usize| index / self.plane % self.gamma.len();
        let normalised = (0..x.len())
            .map(|index| (x[index] - mean[channel(index)]) * inverse[channel(index)])
            .collect();
        (normalised, inverse)
    }

    pub(super) fn forward(&self, x: &[Term]) -> Vec<Term> {
        let (normalised, _) = self.normalise(x);
        let channel = |index: usize| index / self.plane % self.gamma.len();
        normalised
            .iter()
            .enumerate()
            .map(|(index, &x)| {
                let y = x * self.gamma[channel(index)] + self.beta[channel(index)];
                if self.relu && y.value <= 0. {
                    Term::default()
                } else {
                    y
                }
            })
            .collect()
    }

    pub(super) fn backward(&self, x: &[Term], gradient: &[Term]) -> NormGradients {
        let (normalised, inverse) = self.normalise(x);
        let y = self.forward(x);
        let masked: Vec<Term> = gradient
            .iter()
            .zip(&y)
            .map(|(&g, y)| {
                if self.relu && y.value <= 0. {
                    Term::default()
                } else {
                    g
                }
            })
            .collect();
        let mut gradients = NormGradients {
            x: vec![Term::default(); x.len()],
            gamma: Vec::new(),
            beta: Vec::new(),
        };
        let groups = channels(x, self.gamma.len(), self.plane);
        for (channel, indices) in groups.iter().enumerate() {
            let beta: Term = indices.iter().map(|&index| masked[index]).sum();
            let gamma: Term = indices
                .iter()
                .map(|&index| masked[index] * normalised[index])
                .sum();
            let share = match self.running {
                Some(_) => Term::default(),
                None => Term::from(1. / indices.len() as f64),
            };
            for &index in indices {
                let through_statistics = share * (beta + normalised[index] * gamma);
                gradients.x[index] =
                    self.gamma[channel] * inverse[channel] * (masked[index] - through_statistics);
            }
            gradients.gamma.push(gamma);
            gradients.beta.push(beta);
        }
        gradients
    }
}
