//! The gradient of a whole step of resnet-110 against PyTorch's in float64: whether rounding
//! errors stay small through 110 layers and back.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod pytorch;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use ir_models::{Architecture, Kind, ResNet, TensorSpec};
use pytorch::formula;
use serde::Deserialize;

/// How far the gradient of all tensors together may be from the float64 one, in norm, relative:
/// the smaller of this, which is what users are promised, and of [`FACTOR`] times PyTorch's own
/// float32 error.
const PROMISED: f64 = 1e-4;

/// Winograd convolutions err 2 to 3 times as much as direct ones (each is bounded by itself in
/// ir-tensor-ops), so that the whole is expected at 2 to 3 times PyTorch's error. The norm of the
/// difference is estimated from few projections, which for a single tensor may be off by 2.
const FACTOR: f64 = 10.0;

/// What `pytorch/deep_gradient.py` wrote; it says what each part is.
#[derive(Deserialize)]
struct Record {
    seed: u64,
    labels: Vec<u32>,
    loss: f64,
    pytorch_error: f64,
    pytorch_largest_error: f64,
    betas: BTreeMap<String, Vec<f32>>,
    gradients: BTreeMap<String, Digest>,
}

#[derive(Deserialize)]
struct Digest {
    norm: f64,
    projections: Vec<f64>,
}

impl Record {
    fn read() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pytorch/fixtures");
        let text = std::fs::read_to_string(folder.join("resnet-110-gradient.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn network(&self) -> ResNet {
        let architecture = Architecture::named("resnet-110", 10).unwrap();
        ResNet::from_tensors(&architecture, |spec| {
            let values = self.values(spec);
            Ok(Tensor::from_vec(
                values,
                spec.shape.as_slice(),
                &Device::Cpu,
            )?)
        })
        .unwrap()
    }

    fn values(&self, spec: &TensorSpec) -> Vec<f32> {
        let count = spec.shape.iter().product();
        match spec.kind {
            Kind::ConvolutionWeight | Kind::LinearWeight => {
                let scale = formula::weight_scale(&spec.shape);
                let values = formula::uniform(self.seed, &spec.name, count);
                values.map(|value| value * scale).collect()
            }
            Kind::Beta => self.betas[&spec.name].clone(),
            Kind::Gamma | Kind::RunningVariance => vec![1.0; count],
            _ => vec![0.0; count],
        }
    }

    fn images(&self) -> Tensor {
        let images = formula::images(self.seed, "step", self.labels.len(), 32);
        Tensor::from_vec(images, (self.labels.len(), 3, 32, 32), &Device::Cpu).unwrap()
    }

    /// An estimate of the squared norm of the difference between `gradient` and PyTorch's.
    fn squared_difference(&self, name: &str, gradient: &[f32]) -> f64 {
        let exact = &self.gradients[name].projections;
        let squares = exact.iter().enumerate().map(|(k, exact)| {
            let vector =
                formula::uniform(self.seed, &format!("projection.{k}/{name}"), gradient.len());
            let products = gradient
                .iter()
                .zip(vector)
                .map(|(&g, r)| f64::from(g) * f64::from(r));
            (products.sum::<f64>() - exact).powi(2)
        });
        3.0 * squares.sum::<f64>() / exact.len() as f64
    }
}

#[test]
fn the_gradient_of_resnet_110_is_that_of_float64() {
    let record = Record::read();
    let network = record.network();
    let labels = Tensor::new(record.labels.as_slice(), &Device::Cpu).unwrap();
    let pass = network.training_pass(&record.images(), &labels).unwrap();
    assert!((pass.loss - record.loss).abs() < 1e-6 * record.loss);

    let (mut difference, mut whole, mut largest, mut compared) = (0.0, 0.0, 0f64, 0);
    for (spec, gradient) in pass.gradients(&network) {
        let gradient = gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        if spec.kind == Kind::ConvolutionBias {
            // Its gradient is 0, and what rounding leaves is nothing beside that of its weights.
            let norm = gradient.iter().map(|g| g.powi(2)).sum::<f32>().sqrt();
            assert!(norm < 1e-5, "{}: {norm}", spec.name);
            continue;
        }
        let squared = record.squared_difference(&spec.name, &gradient);
        let norm = record.gradients[&spec.name].norm;
        let relative = squared.sqrt() / norm;
        let bound = FACTOR * record.pytorch_largest_error;
        assert!(
            relative < bound,
            "{}: {relative:.2e}, at most {bound:.2e}",
            spec.name
        );
        largest = largest.max(relative);
        difference += squared;
        whole += norm.powi(2);
        compared += 1;
    }
    assert_eq!(compared, record.gradients.len());
    let relative = (difference / whole).sqrt();
    let bound = PROMISED.min(FACTOR * record.pytorch_error);
    assert!(relative < bound, "{relative:.2e}, at most {bound:.2e}");
    println!(
        "resnet-110: gradient off by {relative:.2e}, its worst tensor by {largest:.2e}; PyTorch's by {:.2e} and {:.2e}",
        record.pytorch_error, record.pytorch_largest_error
    );
}
