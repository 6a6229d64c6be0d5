//! A training pass on a GPU against the same on the CPU, at full size: how far apart they come out.

use candle_core::{DType, Device, Tensor};
use ir_models::{
    Architecture, Kind, ResNet, Schedule, Sgd, Trainer, TrainingPass, TrainingSettings, gpu,
};
use ir_tensor_ops::gpu::{EpochOrder, Gpu, Precision, ResidentImages};
use ir_tensor_ops::random;
use rand::Rng;

use crate::worker::Result;
use crate::{labels, normal};

/// The most that loss and logits may be apart in f32.
pub const F32_BOUND: f64 = 1e-4;

/// The most that the loss may be apart in bf16.
pub const BF16_BOUND: f64 = 2e-2;

/// The most that all gradients together may be apart, as a multiple of what rounding alone does to those of the CPU; [`F32_BOUND`] is
/// always allowed. A ReLU whose input rounding takes past zero lets a gradient through or not, whole: in a deep network on a large batch
/// some are that near to zero, and gradients are further apart than the rounding of a number however they are computed.
pub const ROUNDINGS: f64 = 3.;

/// ‖gpu − cpu‖ / ‖cpu‖ of what one training pass comes to, from the same weights and images.
#[derive(Debug, Clone)]
pub struct Differences {
    /// The network's name.
    pub network: String,
    /// Images of the pass.
    pub batch: usize,
    /// What the GPU stores numbers as; the CPU computes in f32.
    pub precision: Precision,
    /// Of the mean cross-entropy.
    pub loss: f64,
    /// Of the logits.
    pub logits: f64,
    /// Of all gradients in one row. Those of the convolutions' biases are left out: a batch norm takes away what these add, and
    /// what remains is rounding.
    pub gradients: f64,
    /// The gradient that is furthest apart.
    pub worst_gradient: Worst,
    /// Of the means and variances of all batch norms in one row.
    pub statistics: f64,
    /// The batch norm whose means and variances are furthest apart.
    pub worst_statistics: Worst,
    /// What rounding does to all gradients at the least: those of the CPU with images, and for bf16 weights of convolutions, that are
    /// rounded, against those without. In f32 rounding is one up or down in the last place, or neither.
    pub rounding: f64,
}

/// The largest of some differences.
#[derive(Debug, Clone)]
pub struct Worst {
    /// Of which tensor.
    pub name: String,
    /// ‖gpu − cpu‖ / ‖cpu‖.
    pub difference: f64,
}

impl Differences {
    /// The names of what [`Differences::row`] gives.
    pub const HEADER: &str = "network,batch,precision,loss,logits,gradients,worst_gradient,worst_gradient_tensor,statistics,\
                              worst_statistics,worst_statistics_norm,gradients_by_rounding_alone";

    /// A line of CSV.
    pub fn row(&self) -> String {
        let Self {
            network,
            batch,
            loss,
            logits,
            gradients,
            worst_gradient,
            statistics,
            worst_statistics,
            rounding,
            ..
        } = self;
        let precision = self.precision.name();
        let worst = |worst: &Worst| format!("{:.2e},{}", worst.difference, worst.name);
        let (worst_gradient, worst_statistics) = (worst(worst_gradient), worst(worst_statistics));
        format!(
            "{network},{batch},{precision},{loss:.2e},{logits:.2e},{gradients:.2e},{worst_gradient},{statistics:.2e},\
             {worst_statistics},{rounding:.2e}"
        )
    }

    /// What is further apart than it may be, in words. What is not a number is.
    pub fn exceeded(&self) -> Vec<String> {
        let (loss, logits) = match self.precision {
            Precision::F32 => (F32_BOUND, F32_BOUND),
            Precision::Bf16 => (BF16_BOUND, f64::INFINITY),
        };
        let bounded = [
            ("loss", self.loss, loss),
            ("logits", self.logits, logits),
            (
                "gradients",
                self.gradients,
                F32_BOUND.max(ROUNDINGS * self.rounding),
            ),
        ];
        let too_far = bounded
            .iter()
            .filter(|(_, difference, bound)| difference.is_nan() || difference > bound);
        too_far
            .map(|(name, difference, bound)| {
                format!("{name}: {difference:.2e} apart, at most {bound:.2e}")
            })
            .collect()
    }
}

/// Sums for ‖x − y‖ / ‖y‖.
#[derive(Debug, Default, Clone, Copy)]
struct Gap {
    apart: f64,
    size: f64,
}

impl Gap {
    fn of(x: &[f32], y: &[f32]) -> Self {
        let square = |value: f64| value * value;
        let both = x.iter().zip(y);
        Self {
            apart: match x.len() == y.len() {
                true => both
                    .map(|(&x, &y)| square(f64::from(x) - f64::from(y)))
                    .sum(),
                false => f64::NAN,
            },
            size: y.iter().map(|&y| square(f64::from(y))).sum(),
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            apart: self.apart + other.apart,
            size: self.size + other.size,
        }
    }

    fn relative(self) -> f64 {
        (self.apart / self.size).sqrt()
    }
}

/// What all come to together, and the worst. What is not a number is worse than any.
fn summary(gaps: Vec<(String, Gap)>) -> (f64, Worst) {
    let together = gaps
        .iter()
        .fold(Gap::default(), |sum, (_, gap)| sum.plus(*gap));
    let single = gaps.into_iter().map(|(name, gap)| Worst {
        name,
        difference: gap.relative(),
    });
    let worst = single.max_by(|a, b| a.difference.abs().total_cmp(&b.difference.abs()));
    let nothing = || Worst {
        name: String::new(),
        difference: f64::NAN,
    };
    (together.relative(), worst.unwrap_or_else(nothing))
}

/// One training pass of a network with drawn weights on drawn images, on the GPU and on the CPU.
///
/// # Errors
/// What the network, the CPU's operations and the device report.
///
/// ```
/// # fn main() -> ir_benches::worker::Result<()> {
/// use ir_benches::compare::compare;
/// use ir_models::Architecture;
/// use ir_tensor_ops::gpu::{Gpu, Precision};
///
/// let tiny = Architecture::from_json(r#"{
///     "name": "tiny", "classes": 2, "image": [3, 8, 8], "stem_channels": 4,
///     "stages": [{ "blocks": 1, "channels": 4 }]
/// }"#)?;
/// let found = compare(&Gpu::emulated()?, &tiny, 2, Precision::F32)?;
/// assert!(found.exceeded().is_empty());
/// # Ok(())
/// # }
/// ```
pub fn compare(
    gpu: &Gpu,
    architecture: &Architecture,
    batch: usize,
    precision: Precision,
) -> Result<Differences> {
    let network = ResNet::initialize(architecture, 0)?;
    let [channels, height, width] = architecture.image;
    let images = normal(1, (batch, channels, height, width))?;
    let labels = labels(batch, architecture.classes as u32)?;
    let here = network.training_pass(&images, &labels)?;
    let there = trainer(gpu, &network, batch, precision)?.training_pass(&images, &labels)?;
    let (gradients, worst_gradient) = summary(of_gradients(&there, &here, &network)?);
    let statistics = there.statistics(&network).zip(here.statistics(&network));
    let statistics = statistics.map(|((spec, there), (_, here))| {
        let name = spec.name.trim_end_matches(".running_mean").to_owned();
        let means = Gap::of(&there.mean, &here.mean);
        (name, means.plus(Gap::of(&there.variance, &here.variance)))
    });
    let (statistics, worst_statistics) = summary(statistics.collect());
    let moved = match precision {
        Precision::F32 => network.training_pass(&in_last_place(&images)?, &labels)?,
        Precision::Bf16 => rounded(&network)?.training_pass(&to_bf16(&images)?, &labels)?,
    };
    let (rounding, _) = summary(of_gradients(&moved, &here, &network)?);
    Ok(Differences {
        network: architecture.name.clone(),
        batch,
        precision,
        loss: (there.loss - here.loss).abs() / here.loss,
        logits: Gap::of(&values(&there.logits)?, &values(&here.logits)?).relative(),
        gradients,
        worst_gradient,
        statistics,
        worst_statistics,
        rounding,
    })
}

/// A trainer whose own images are of no account: passes are given theirs.
fn trainer(
    gpu: &Gpu,
    network: &ResNet,
    batch: usize,
    precision: Precision,
) -> Result<gpu::Trainer> {
    let [channels, side, _] = network.architecture().image;
    let images = vec![0; batch * channels * side * side];
    let (labels, lookup) = (vec![0; batch], vec![0.; channels * 256]);
    let images = gpu::TrainingImages {
        images: ResidentImages::new(gpu, &images, &labels, &lookup, side)?,
        order: EpochOrder::new(gpu, batch, batch, 0)?,
        samples: batch,
        batch_size: batch,
    };
    let settings = TrainingSettings {
        schedule: Schedule::constant(0.1),
        sgd: Sgd::default(),
    };
    let trainer = Trainer::new(network.clone(), settings)?;
    Ok(gpu::Trainer::new(gpu, trainer, images, precision)?)
}

/// For each gradient that is more than rounding, how far it is from the other.
fn of_gradients(
    there: &TrainingPass,
    here: &TrainingPass,
    network: &ResNet,
) -> Result<Vec<(String, Gap)>> {
    let both = there.gradients(network).zip(here.gradients(network));
    let matter = both.filter(|((spec, _), _)| spec.kind != Kind::ConvolutionBias);
    matter
        .map(|((spec, there), (_, here))| {
            let gap = Gap::of(&values(there)?, &values(here)?);
            Ok((spec.name.clone(), gap))
        })
        .collect()
}

/// Each number as it is, or the next smaller or larger one.
fn in_last_place(images: &Tensor) -> Result<Tensor> {
    let mut stream = random::stream(2, 0, 0, 0);
    let moved = values(images)?
        .into_iter()
        .map(|value| match stream.random_range(0..3) {
            0 => value.next_down(),
            1 => value.next_up(),
            _ => value,
        });
    Ok(Tensor::from_iter(moved, &Device::Cpu)?.reshape(images.shape())?)
}

fn to_bf16(tensor: &Tensor) -> candle_core::Result<Tensor> {
    tensor.to_dtype(DType::BF16)?.to_dtype(DType::F32)
}

/// The network with weights of convolutions that are bfloat16.
fn rounded(network: &ResNet) -> Result<ResNet> {
    let mut tensors = network.tensors().map(|(spec, tensor)| match spec.kind {
        Kind::ConvolutionWeight => to_bf16(tensor),
        _ => Ok(tensor.clone()),
    });
    let network = ResNet::from_tensors(network.architecture(), |spec| {
        let next = tensors.next().unwrap_or_else(|| {
            let missing = format!("there is no {}", spec.name);
            Err(candle_core::Error::Msg(missing))
        });
        Ok(next?)
    })?;
    Ok(network)
}

fn values(tensor: &Tensor) -> candle_core::Result<Vec<f32>> {
    tensor
        .to_device(&Device::Cpu)?
        .flatten_all()?
        .to_vec1::<f32>()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn differences(precision: Precision, [loss, logits, gradients]: [f64; 3]) -> Differences {
        let worst = |name: &str| Worst {
            name: name.into(),
            difference: 0.5,
        };
        Differences {
            network: "some".into(),
            batch: 2,
            precision,
            loss,
            logits,
            gradients,
            worst_gradient: worst("stem.weight"),
            statistics: 0.25,
            worst_statistics: worst("head.bn"),
            rounding: 1e-3,
        }
    }

    #[test]
    fn what_is_too_far_apart_is_named() {
        let exceeded = |precision, found| differences(precision, found).exceeded();
        assert!(exceeded(Precision::F32, [1e-5, 1e-5, 2e-3]).is_empty());
        assert_eq!(
            exceeded(Precision::F32, [1e-5, 2e-4, 4e-3]),
            [
                "logits: 2.00e-4 apart, at most 1.00e-4",
                "gradients: 4.00e-3 apart, at most 3.00e-3"
            ]
        );
        assert_eq!(exceeded(Precision::F32, [f64::NAN; 3]).len(), 3);
        assert!(exceeded(Precision::Bf16, [1e-2, 0.5, 2e-3]).is_empty());
        assert_eq!(exceeded(Precision::Bf16, [1e-2, 0.5, 4e-3]).len(), 1);
        assert_eq!(exceeded(Precision::Bf16, [f64::NAN; 3]).len(), 3);
        // Hardly any rounding leaves what f32 may always be apart.
        let found = Differences {
            rounding: 1e-7,
            ..differences(Precision::F32, [1e-5, 1e-5, 9e-5])
        };
        assert!(found.exceeded().is_empty());
    }

    #[test]
    fn a_row_has_a_cell_for_each_name() {
        let row = differences(Precision::F32, [1e-5, 2e-5, 3e-5]).row();
        assert_eq!(
            row,
            "some,2,f32,1.00e-5,2.00e-5,3.00e-5,5.00e-1,stem.weight,2.50e-1,5.00e-1,head.bn,1.00e-3"
        );
        let cells = |line: &str| line.split(',').count();
        assert_eq!(cells(&row), cells(Differences::HEADER));
    }

    #[test]
    fn differences_are_those_of_norms() {
        let gap = |x: &[f32], y: &[f32]| Gap::of(x, y);
        assert_eq!(gap(&[6., 8.], &[3., 4.]).relative(), 1.);
        assert!(gap(&[1.], &[1., 2.]).relative().is_nan());
        let gaps = vec![
            ("near".to_owned(), gap(&[3., 4.], &[3., 4.])),
            ("far".to_owned(), gap(&[10., 0.], &[0., 0.])),
            ("between".to_owned(), gap(&[0., 10.], &[0., 5.])),
        ];
        let (together, worst) = summary(gaps);
        assert_eq!(together, (125f64 / 50.).sqrt());
        assert_eq!(worst.name, "far");
    }
}
