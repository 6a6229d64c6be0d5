//! The operations in float64, written from their definitions and from nothing of the crate.

use rayon::prelude::*;

/// Numbers with their shape, row-major.
#[derive(Debug, Clone)]
pub(crate) struct Array {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f64>,
}

impl Array {
    pub(crate) fn zeros(shape: &[usize]) -> Self {
        let values = vec![0.0; shape.iter().product()];
        Self {
            shape: shape.to_vec(),
            values,
        }
    }

    /// The dimensions of an activation or of a convolution's weights.
    pub(crate) fn dims(&self) -> [usize; 4] {
        self.shape.as_slice().try_into().unwrap()
    }

    pub(crate) fn plus(&self, other: &Self) -> Self {
        assert_eq!(self.shape, other.shape);
        let pairs = self.values.iter().zip(&other.values);
        Self {
            shape: self.shape.clone(),
            values: pairs.map(|(a, b)| a + b).collect(),
        }
    }

    /// The values of one channel `[N, c, H, W]`, plane by plane.
    pub(crate) fn channel(&self, channel: usize) -> impl Iterator<Item = &f64> + Clone {
        let [_, channels, height, width] = self.dims();
        let planes = self.values.chunks_exact(height * width);
        planes.skip(channel).step_by(channels).flatten()
    }

    fn channel_mut(&mut self, channel: usize) -> impl Iterator<Item = &mut f64> {
        let [_, channels, height, width] = self.dims();
        let planes = self.values.chunks_exact_mut(height * width);
        planes.skip(channel).step_by(channels).flatten()
    }
}

/// A convolution's geometry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Geometry {
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) padding: usize,
}

impl Geometry {
    /// Height or width of the output.
    pub(crate) fn output(&self, input: usize) -> usize {
        (input + 2 * self.padding - self.kernel) / self.stride + 1
    }

    /// Calls `visit(weight index, input index, output index, length)` for every row of products of
    /// an input plane with an output plane: element j of the row has the input that lies
    /// `j · stride` behind the first, and the output that lies j behind.
    fn rows(&self, [height, width]: [usize; 2], mut visit: impl FnMut(usize, usize, usize, usize)) {
        let (out_height, out_width) = (self.output(height), self.output(width));
        for ky in 0..self.kernel {
            for kx in 0..self.kernel {
                // The outputs whose input is inside, not padding.
                let inside = |o: &usize, k: usize, size: usize| {
                    (self.padding..size + self.padding).contains(&(o * self.stride + k))
                };
                let Some(first) = (0..out_width).find(|o| inside(o, kx, width)) else {
                    continue;
                };
                let length = (first..out_width)
                    .take_while(|o| inside(o, kx, width))
                    .count();
                for oy in (0..out_height).filter(|o| inside(o, ky, height)) {
                    let y = oy * self.stride + ky - self.padding;
                    let x = first * self.stride + kx - self.padding;
                    let (from, to) = (y * width + x, oy * out_width + first);
                    visit(ky * self.kernel + kx, from, to, length);
                }
            }
        }
    }
}

/// y[n, o] = bias[o] + Σ_i weight[o, i] ∗ x[n, i].
pub(crate) fn conv2d(x: &Array, weight: &Array, bias: &[f64], geometry: Geometry) -> Array {
    let [batch, inputs, height, width] = x.dims();
    let [outputs, ..] = weight.dims();
    let (out_height, out_width) = (geometry.output(height), geometry.output(width));
    let mut y = Array::zeros(&[batch, outputs, out_height, out_width]);
    let (plane, area) = (height * width, geometry.kernel.pow(2));
    let planes = y.values.par_chunks_exact_mut(out_height * out_width);
    planes.enumerate().for_each(|(index, y)| {
        let (n, o) = (index / outputs, index % outputs);
        y.fill(bias[o]);
        for i in 0..inputs {
            let x = &x.values[(n * inputs + i) * plane..][..plane];
            let weight = &weight.values[(o * inputs + i) * area..][..area];
            geometry.rows([height, width], |k, from, to, length| {
                let row = x[from..].iter().step_by(geometry.stride);
                for (y, x) in y[to..to + length].iter_mut().zip(row) {
                    *y += weight[k] * x;
                }
            });
        }
    });
    y
}

/// The gradients of [`conv2d`].
pub(crate) struct Conv2dGradients {
    pub(crate) x: Array,
    pub(crate) weight: Array,
    pub(crate) bias: Array,
}

pub(crate) fn conv2d_backward(
    x: &Array,
    weight: &Array,
    geometry: Geometry,
    gradient: &Array,
) -> Conv2dGradients {
    let [batch, inputs, height, width] = x.dims();
    let [_, outputs, out_height, out_width] = gradient.dims();
    let (plane, out_plane) = (height * width, out_height * out_width);
    let area = geometry.kernel.pow(2);
    let size = [height, width];

    let mut dx = Array::zeros(&x.shape);
    let planes = dx.values.par_chunks_exact_mut(plane);
    planes.enumerate().for_each(|(index, dx)| {
        let (n, i) = (index / inputs, index % inputs);
        for o in 0..outputs {
            let gradient = &gradient.values[(n * outputs + o) * out_plane..][..out_plane];
            let weight = &weight.values[(o * inputs + i) * area..][..area];
            geometry.rows(size, |k, to, from, length| {
                let row = dx[to..].iter_mut().step_by(geometry.stride);
                for (dx, g) in row.zip(&gradient[from..from + length]) {
                    *dx += weight[k] * g;
                }
            });
        }
    });
    let mut dw = Array::zeros(&weight.shape);
    let kernels = dw.values.par_chunks_exact_mut(area);
    kernels.enumerate().for_each(|(index, dw)| {
        let (o, i) = (index / inputs, index % inputs);
        for n in 0..batch {
            let x = &x.values[(n * inputs + i) * plane..][..plane];
            let gradient = &gradient.values[(n * outputs + o) * out_plane..][..out_plane];
            geometry.rows(size, |k, from, to, length| {
                let row = x[from..].iter().step_by(geometry.stride);
                let products = row.zip(&gradient[to..to + length]).map(|(x, g)| x * g);
                dw[k] += products.sum::<f64>();
            });
        }
    });
    let sums = (0..outputs).map(|o| gradient.channel(o).sum());
    Conv2dGradients {
        x: dx,
        weight: dw,
        bias: Array {
            shape: vec![outputs],
            values: sums.collect(),
        },
    }
}

/// Batch norm with the statistics of x, and ReLU.
pub(crate) struct NormRelu {
    pub(crate) mean: Vec<f64>,
    pub(crate) variance: Vec<f64>,
    pub(crate) gamma: Vec<f64>,
    pub(crate) epsilon: f64,
    /// γ (x − μ) / √(σ² + ε) + β.
    pub(crate) normalised: Array,
    /// The ReLU of that.
    pub(crate) active: Array,
}

/// The gradients of [`NormRelu`].
pub(crate) struct NormReluGradients {
    pub(crate) x: Array,
    pub(crate) gamma: Array,
    pub(crate) beta: Array,
}

impl NormRelu {
    pub(crate) fn new(x: &Array, gamma: &[f64], beta: &[f64], epsilon: f64) -> Self {
        let [batch, channels, height, width] = x.dims();
        let count = (batch * height * width) as f64;
        let mut normalised = x.clone();
        let (mut means, mut variances) = (Vec::new(), Vec::new());
        for channel in 0..channels {
            let mean = x.channel(channel).sum::<f64>() / count;
            let squares = x.channel(channel).map(|x| (x - mean).powi(2));
            let variance = squares.sum::<f64>() / count;
            let scale = gamma[channel] / (variance + epsilon).sqrt();
            for value in normalised.channel_mut(channel) {
                *value = (*value - mean) * scale + beta[channel];
            }
            means.push(mean);
            variances.push(variance);
        }
        let mut active = normalised.clone();
        active
            .values
            .iter_mut()
            .for_each(|value| *value = value.max(0.0));
        Self {
            mean: means,
            variance: variances,
            gamma: gamma.to_vec(),
            epsilon,
            normalised,
            active,
        }
    }

    /// With x̂ = (x − μ) / √(σ² + ε) and g the gradient behind the ReLU:
    /// ∂β = Σ g, ∂γ = Σ g x̂, ∂x = γ / √(σ² + ε) · (g − mean g − x̂ · mean (g x̂)).
    pub(crate) fn backward(&self, x: &Array, gradient: &Array) -> NormReluGradients {
        let [batch, channels, height, width] = x.dims();
        let count = (batch * height * width) as f64;
        let mut found = NormReluGradients {
            x: Array::zeros(&x.shape),
            gamma: Array::zeros(&[channels]),
            beta: Array::zeros(&[channels]),
        };
        for channel in 0..channels {
            let inverse = 1.0 / (self.variance[channel] + self.epsilon).sqrt();
            let mean = self.mean[channel];
            let passed = gradient
                .channel(channel)
                .zip(self.normalised.channel(channel));
            let passed = passed.map(|(g, z)| if *z > 0.0 { *g } else { 0.0 });
            let hat = x.channel(channel).map(|x| (x - mean) * inverse);
            let sum = passed.clone().sum::<f64>();
            let weighted = passed.clone().zip(hat.clone()).map(|(g, hat)| g * hat);
            let weighted = weighted.sum::<f64>();
            let scale = self.gamma[channel] * inverse;
            let terms = passed.zip(hat);
            for (dx, (g, hat)) in found.x.channel_mut(channel).zip(terms) {
                *dx = scale * (g - sum / count - hat * weighted / count);
            }
            found.beta.values[channel] = sum;
            found.gamma.values[channel] = weighted;
        }
        found
    }
}

/// The mean over windows of kernel × kernel, side by side.
pub(crate) fn avg_pool2d(x: &Array, kernel: usize) -> Array {
    let [batch, channels, height, width] = x.dims();
    let (out_height, out_width) = (height / kernel, width / kernel);
    let mut y = Array::zeros(&[batch, channels, out_height, out_width]);
    for (index, &x) in x.values.iter().enumerate() {
        if let Some(window) = window(index, [height, width], kernel) {
            y.values[window] += x / kernel.pow(2) as f64;
        }
    }
    y
}

/// The gradient of x under [`avg_pool2d`].
pub(crate) fn avg_pool2d_backward(shape: &[usize], kernel: usize, gradient: &Array) -> Array {
    let mut dx = Array::zeros(shape);
    let [_, _, height, width] = dx.dims();
    for (index, dx) in dx.values.iter_mut().enumerate() {
        if let Some(window) = window(index, [height, width], kernel) {
            *dx = gradient.values[window] / kernel.pow(2) as f64;
        }
    }
    dx
}

/// The index of the window that an element belongs to; rows and columns left over have none.
fn window(index: usize, [height, width]: [usize; 2], kernel: usize) -> Option<usize> {
    let (out_height, out_width) = (height / kernel, width / kernel);
    let (plane, y, x) = (
        index / (height * width),
        index / width % height,
        index % width,
    );
    let (y, x) = (y / kernel, x / kernel);
    let inside = y < out_height && x < out_width;
    inside.then_some((plane * out_height + y) * out_width + x)
}

/// x Wᵀ + b.
pub(crate) fn linear(x: &Array, weight: &Array, bias: &[f64]) -> Array {
    let (batch, features, classes) = (x.shape[0], x.shape[1], weight.shape[0]);
    let mut y = Array::zeros(&[batch, classes]);
    for (index, y) in y.values.iter_mut().enumerate() {
        let (n, k) = (index / classes, index % classes);
        let x = &x.values[n * features..][..features];
        let weight = &weight.values[k * features..][..features];
        *y = bias[k] + x.iter().zip(weight).map(|(x, w)| x * w).sum::<f64>();
    }
    y
}

/// The gradients of x, weight and bias under [`linear`].
pub(crate) fn linear_backward(x: &Array, weight: &Array, gradient: &Array) -> [Array; 3] {
    let (batch, features, classes) = (x.shape[0], x.shape[1], weight.shape[0]);
    let (mut dx, mut dw) = (Array::zeros(&x.shape), Array::zeros(&weight.shape));
    let mut db = Array::zeros(&[classes]);
    for n in 0..batch {
        for k in 0..classes {
            let g = gradient.values[n * classes + k];
            db.values[k] += g;
            for f in 0..features {
                dx.values[n * features + f] += g * weight.values[k * features + f];
                dw.values[k * features + f] += g * x.values[n * features + f];
            }
        }
    }
    [dx, dw, db]
}

/// The mean cross-entropy, `[1]`, and its gradient, softmax − one-hot over the batch.
pub(crate) fn cross_entropy(logits: &Array, labels: &[u32]) -> (Array, Array) {
    let (batch, classes) = (logits.shape[0], logits.shape[1]);
    let (mut loss, mut gradient) = (Array::zeros(&[1]), Array::zeros(&logits.shape));
    for (n, &label) in labels.iter().enumerate() {
        let row = &logits.values[n * classes..][..classes];
        let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = row.iter().map(|logit| (logit - largest).exp()).sum();
        loss.values[0] += (largest + sum.ln() - row[label as usize]) / batch as f64;
        for (k, logit) in row.iter().enumerate() {
            let probability = (logit - largest).exp() / sum;
            let one_hot = if k == label as usize { 1.0 } else { 0.0 };
            gradient.values[n * classes + k] = (probability - one_hot) / batch as f64;
        }
    }
    (loss, gradient)
}
