//! Batch norm resolved for one pass: per channel, an affine function and how gradients cross it.

use candle_core::Tensor;

use crate::arch::LANES;
use crate::blocks::{Affine, InputGradient, Sums};
use crate::error::{Error, Result};
use crate::input;
use crate::statistics::ChannelStatistics;

/// One batch norm, y = γ (x − μ) / √(σ² + ε) + β per channel, ready for one pass.
///
/// [`Norm::batch`] normalises with the statistics of the very batch it is applied to, and its
/// gradient flows through them; [`Norm::running`] has constant statistics.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use ir_tensor_ops::{ChannelStatistics, Norm, explicit};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let x = Tensor::new(&[-1f32, 1.], &Device::Cpu)?.reshape((1, 1, 1, 2))?;
/// let gamma = Tensor::new(&[2f32], &Device::Cpu)?;
/// let beta = Tensor::new(&[0.5f32], &Device::Cpu)?;
/// let norm = Norm::batch(&ChannelStatistics::of(&x)?, &gamma, &beta, 1e-12)?;
/// let y = explicit::norm_relu(&x, &norm)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [0., 2.5]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Norm {
    /// One per block of 16 channels.
    affine: Vec<Affine>,
    /// 1 / √(σ² + ε).
    inverse_deviation: Vec<f64>,
    /// The number of values per channel, if the gradient flows through the statistics.
    batch_count: Option<usize>,
}

/// What a backward pass through a norm gives besides the gradient of x.
pub(crate) struct ParameterGradients {
    pub(crate) gamma: Vec<f32>,
    pub(crate) beta: Vec<f32>,
    /// One rule per block of 16 channels.
    pub(crate) rules: Vec<InputGradient>,
}

impl Norm {
    /// Batch norm with the statistics of the batch; γ and β are `[C]`, ε > 0.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::DType`], [`Error::Device`] for γ and β; [`Error::Setting`]
    /// for ε.
    pub fn batch(
        statistics: &ChannelStatistics,
        gamma: &Tensor,
        beta: &Tensor,
        epsilon: f64,
    ) -> Result<Self> {
        Self::new(
            "Norm::batch",
            [&statistics.mean, &statistics.variance],
            [gamma, beta],
            epsilon,
            Some(statistics.count),
        )
    }

    /// Batch norm with running statistics, which are constants; all four tensors are `[C]`,
    /// ε > 0.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::DType`], [`Error::Device`] for the tensors;
    /// [`Error::Setting`] for ε.
    pub fn running(
        running_mean: &Tensor,
        running_var: &Tensor,
        gamma: &Tensor,
        beta: &Tensor,
        epsilon: f64,
    ) -> Result<Self> {
        const OP: &str = "Norm::running";
        let [channels] = input::dims(OP, "running_mean", running_mean, "[C]")?;
        let mean = input::parameters(OP, "running_mean", running_mean, channels)?;
        let variance = input::parameters(OP, "running_var", running_var, channels)?;
        Self::new(OP, [&mean, &variance], [gamma, beta], epsilon, None)
    }

    fn new(
        op: &'static str,
        [mean, variance]: [&[f32]; 2],
        [gamma, beta]: [&Tensor; 2],
        epsilon: f64,
        batch_count: Option<usize>,
    ) -> Result<Self> {
        if !(epsilon > 0. && epsilon.is_finite()) {
            return Err(Error::Setting {
                op,
                name: "epsilon",
                expected: "a positive number".into(),
                found: epsilon,
            });
        }
        if variance.len() != mean.len() {
            let expected = format!("[{}], as the mean", mean.len());
            return Err(input::wrong_sizes(
                op,
                "variance",
                &[variance.len()],
                expected,
            ));
        }
        let gamma = input::parameters(op, "gamma", gamma, mean.len())?;
        let beta = input::parameters(op, "beta", beta, mean.len())?;
        let inverse_deviation: Vec<f64> = variance
            .iter()
            .map(|&variance| 1. / (f64::from(variance) + epsilon).sqrt())
            .collect();
        let mut affine = vec![Affine::ZERO; mean.len().div_ceil(LANES)];
        for channel in 0..mean.len() {
            let (block, lane) = (&mut affine[channel / LANES], channel % LANES);
            block.mean.0[lane] = mean[channel];
            block.scale.0[lane] = (f64::from(gamma[channel]) * inverse_deviation[channel]) as f32;
            block.shift.0[lane] = beta[channel];
        }
        Ok(Self {
            affine,
            inverse_deviation,
            batch_count,
        })
    }

    /// The number of channels C.
    pub fn channels(&self) -> usize {
        self.inverse_deviation.len()
    }

    /// Whether the gradient flows through the statistics, as after [`Norm::batch`].
    pub fn differentiates_statistics(&self) -> bool {
        self.batch_count.is_some()
    }

    /// The same function with its statistics taken as constants.
    pub(crate) fn frozen(&self) -> Self {
        Self {
            batch_count: None,
            ..self.clone()
        }
    }

    /// The number of values that the statistics are of; 0 if they are constants.
    #[cfg(any(feature = "cuda", feature = "emulation"))]
    pub(crate) fn count(&self) -> usize {
        self.batch_count.unwrap_or(0)
    }

    /// 1 / √(σ² + ε) of every channel.
    #[cfg(any(feature = "cuda", feature = "emulation"))]
    pub(crate) fn inverse_deviation(&self) -> &[f64] {
        &self.inverse_deviation
    }

    /// The function of every block of channels.
    pub(crate) fn affine(&self) -> &[Affine] {
        &self.affine
    }

    /// Fails unless x, of these dimensions, has the norm's channels and is the batch that it is
    /// for.
    pub(crate) fn check(&self, op: &'static str, dims: &[usize]) -> Result<()> {
        let [batch, channels, height, width] = input::sizes(op, "x", dims, "[N, C, H, W]")?;
        let of_batch = self
            .batch_count
            .is_none_or(|count| count == batch * height * width);
        if channels == self.channels() && of_batch {
            return Ok(());
        }
        let expected = match self.batch_count {
            None => format!("[N, {}, H, W], as its norm", self.channels()),
            Some(count) => format!(
                "[N, {}, H, W] with N·H·W = {count}, as the statistics of its norm",
                self.channels()
            ),
        };
        Err(input::wrong_sizes(op, "x", dims, expected))
    }

    /// The gradients of γ and β, and the rule for the gradient of x, from the sums Σ g and
    /// Σ g (x − μ) of each image's blocks over their output gradients g:
    ///
    /// ∂β = Σ g,  ∂γ = Σ g x̂,  ∂x = γ/√(σ² + ε) · (g − [mean g + x̂ · mean(g x̂)]),
    ///
    /// x̂ = (x − μ)/√(σ² + ε); the bracket is 0 where the statistics are constants.
    pub(crate) fn gradients(&self, images: &[Sums]) -> ParameterGradients {
        let mut totals = vec![Sums::ZERO; self.affine.len()];
        for image in images.chunks_exact(totals.len()) {
            for (total, sums) in totals.iter_mut().zip(image) {
                for lane in 0..LANES {
                    total.first[lane] += sums.first[lane];
                    total.second[lane] += sums.second[lane];
                }
            }
        }
        let mut gradients = ParameterGradients {
            gamma: Vec::with_capacity(self.channels()),
            beta: Vec::with_capacity(self.channels()),
            rules: vec![InputGradient::ZERO; self.affine.len()],
        };
        for (channel, inverse_deviation) in self.inverse_deviation.iter().enumerate() {
            let (block, lane) = (channel / LANES, channel % LANES);
            let (affine, rule) = (&self.affine[block], &mut gradients.rules[block]);
            let (plain, centered) = (totals[block].first[lane], totals[block].second[lane]);
            gradients.beta.push(plain as f32);
            gradients.gamma.push((centered * inverse_deviation) as f32);
            let scale = affine.scale.0[lane];
            let per_value = self
                .batch_count
                .map_or(0., |count| -f64::from(scale) / count as f64);
            rule.mean.0[lane] = affine.mean.0[lane];
            rule.scale.0[lane] = scale;
            rule.slope.0[lane] = (per_value * inverse_deviation.powi(2) * centered) as f32;
            rule.offset.0[lane] = (per_value * plain) as f32;
        }
        gradients
    }
}
