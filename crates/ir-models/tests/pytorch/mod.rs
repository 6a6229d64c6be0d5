//! What PyTorch found for the same weights and images, and how near to it we must come.
//!
//! `make_fixtures.py` beside this file made the fixtures; README.md says what is in them. Weights
//! and images are not stored: both sides compute them from the same formula.

#![allow(
    dead_code,
    reason = "included by the tests of two crates, neither of which calls all of it"
)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use ir_models::import::{ImportedResNet, ModelConfig, Strictness, TensorReport, Weights};
use ir_models::{Architecture, ResNet, ResidualNetwork, TensorSpec};
use safetensors::SafeTensors;
use serde::Deserialize;
use sha2::{Digest, Sha256};

pub(crate) mod formula;

/// The networks, by the names of their files.
pub(crate) const CASES: [&str; 7] = [
    "resnet-32",
    "single-representation-small",
    "avg-pooling-small",
    "wide-small",
    "shared-unshared-batch-norm",
    "shared-unshared-statistics",
    "shared-naive",
];

/// Other people's networks, of full size, by the names of their files.
pub(crate) const IMPORTED: [&str; 6] = [
    "imported-timm-resnet18",
    "imported-timm-resnet50",
    "imported-torchvision-resnet34",
    "imported-torchvision-resnext50",
    "imported-chenyaofo-resnet20",
    "imported-hugging-face-resnet50",
];

/// All of them.
pub(crate) fn all() -> impl Iterator<Item = &'static str> {
    CASES.into_iter().chain(IMPORTED)
}

/// How much larger than the yardstick our error may be.
///
/// The yardstick of a quantity is the largest of three errors against float64, as root mean
/// squares over its elements: that of PyTorch's own float32 run; that of float64 runs into which
/// every sum of K terms brings a random error of √K · 2⁻²⁴ of its size, forward and backward
/// (`rounding.py`); and 2⁻²⁴ of its size, by which a float32 is off in any case. The second is the
/// sensitivity of the quantity to rounding times the rounding of a plain sum of K rounded products
/// (Higham and Mary 2019), so a correct program that sums in any order stays near or below it.
/// The first two are draws of a random quantity, uncertain for those with few elements, which is
/// what the factor is for.
const FACTOR: f64 = 3.0;

/// What the metadata of a fixture says.
#[derive(Deserialize)]
struct Record {
    weight_seed: u64,
    seeds: HashMap<String, u64>,
    #[serde(flatten)]
    subject: Subject,
    weights_checksum: String,
    images_checksum: String,
    labels: HashMap<String, Vec<u32>>,
    unroll_scales: Vec<f64>,
    unroll_steps: usize,
    quantities: BTreeMap<String, Quantity>,
}

/// What the network is, and how the formula makes its weights.
#[derive(Deserialize)]
#[serde(untagged)]
enum Subject {
    Ours {
        classifier_damping: f32,
        architecture: serde_json::Value,
        trainable: usize,
        tensors: BTreeMap<String, Vec<usize>>,
    },
    Imported {
        /// Of an image.
        side: usize,
        /// The `config.json` beside the weights.
        config: Option<String>,
        /// Shape, offset and scale of each tensor.
        entries: BTreeMap<String, (Vec<usize>, f32, f32)>,
    },
}

/// A quantity, written as an array: its shape, which elements are stored (every `stride`-th), its
/// norm in float64, and its two yardsticks.
#[derive(Deserialize)]
struct Quantity {
    shape: Vec<usize>,
    stride: usize,
    norm: f64,
    pytorch: f64,
    rounding: f64,
}

/// One network's fixture.
pub(crate) struct Fixture {
    name: &'static str,
    record: Record,
    stored: HashMap<String, Vec<f32>>,
}

impl Fixture {
    pub(crate) fn open(name: &'static str) -> Self {
        let folder =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../ir-models/tests/pytorch/fixtures");
        let bytes = std::fs::read(folder.join(format!("{name}.safetensors"))).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let record = &metadata.metadata().as_ref().unwrap()["fixture"];
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let stored = tensors.iter().map(|(name, view)| {
            let values = view
                .data()
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes(b.try_into().unwrap()));
            (name.to_owned(), values.collect())
        });
        Self {
            name,
            record: serde_json::from_str(record).unwrap(),
            stored: stored.collect(),
        }
    }

    pub(crate) fn architecture(&self) -> Architecture {
        match &self.record.subject {
            Subject::Ours { architecture, .. } => {
                Architecture::from_json(&architecture.to_string()).unwrap()
            }
            Subject::Imported { .. } => panic!("{} is not ours", self.name),
        }
    }

    /// The network with the formula's weights.
    pub(crate) fn network(&self) -> Box<dyn ResidualNetwork> {
        match &self.record.subject {
            Subject::Ours { .. } => Box::new(self.resnet()),
            Subject::Imported { .. } => Box::new(self.imported().0),
        }
    }

    /// One of ours.
    pub(crate) fn resnet(&self) -> ResNet {
        let Subject::Ours {
            classifier_damping, ..
        } = self.record.subject
        else {
            panic!("{} is not ours", self.name);
        };
        let weight = |spec: &TensorSpec| {
            let seed = self.record.weight_seed;
            let values = formula::parameter(seed, &spec.name, &spec.shape, classifier_damping);
            Ok(Tensor::from_vec(
                values,
                spec.shape.as_slice(),
                &Device::Cpu,
            )?)
        };
        ResNet::from_tensors(&self.architecture(), weight).unwrap()
    }

    /// Someone else's.
    pub(crate) fn imported(&self) -> (ImportedResNet, TensorReport) {
        let Subject::Imported { config, .. } = &self.record.subject else {
            panic!("{} is ours", self.name);
        };
        let config = ModelConfig::parse(config.as_deref(), None).unwrap();
        let weights = Weights::new(self.tensors_by_name());
        ImportedResNet::build(&weights, &config, Strictness::Strict).unwrap()
    }

    /// The tensors that a file of the network has.
    pub(crate) fn tensors_by_name(&self) -> BTreeMap<String, Tensor> {
        match &self.record.subject {
            Subject::Ours { .. } => {
                let network = self.resnet();
                let tensors = network.tensors();
                tensors
                    .map(|(spec, tensor)| (spec.name.clone(), tensor.clone()))
                    .collect()
            }
            Subject::Imported { entries, .. } => {
                let tensor =
                    |(name, (shape, offset, scale)): (&String, &(Vec<usize>, f32, f32))| {
                        let count = shape.iter().product();
                        let values = formula::uniform(self.record.weight_seed, name, count);
                        let values: Vec<f32> = values.map(|value| offset + value * scale).collect();
                        let tensor = Tensor::from_vec(values, shape.as_slice(), &Device::Cpu);
                        (name.clone(), tensor.unwrap())
                    };
                entries.iter().map(tensor).collect()
            }
        }
    }

    /// The images `[N, 3, H, W]` and labels `[N]` of `evaluation`, `step.1` or `step.2`.
    pub(crate) fn batch(&self, part: &str) -> (Tensor, Tensor) {
        let side = match self.record.subject {
            Subject::Ours { .. } => 32,
            Subject::Imported { side, .. } => side,
        };
        let labels = &self.record.labels[part];
        let images = formula::images(self.record.seeds[part], part, labels.len(), side);
        let images = Tensor::from_vec(images, (labels.len(), 3, side, side), &Device::Cpu).unwrap();
        (
            images,
            Tensor::new(labels.as_slice(), &Device::Cpu).unwrap(),
        )
    }

    /// Name and shape of every tensor that a checkpoint of this network has in Python.
    pub(crate) fn tensors(&self) -> &BTreeMap<String, Vec<usize>> {
        match &self.record.subject {
            Subject::Ours { tensors, .. } => tensors,
            Subject::Imported { .. } => panic!("{} is not ours", self.name),
        }
    }

    /// Number of parameters that PyTorch trains.
    pub(crate) fn trainable(&self) -> usize {
        match self.record.subject {
            Subject::Ours { trainable, .. } => trainable,
            Subject::Imported { .. } => panic!("{} is not ours", self.name),
        }
    }

    /// The factors of the unrolled branch, and the number of additional steps.
    pub(crate) fn unrolling(&self) -> (&[f64], usize) {
        (&self.record.unroll_scales, self.record.unroll_steps)
    }

    /// Shape of a quantity.
    pub(crate) fn shape(&self, quantity: &str) -> &[usize] {
        &self.record.quantities[quantity].shape
    }

    /// Checks that both sides work on the same bits.
    pub(crate) fn assert_same_inputs(&self) {
        assert_eq!(
            checksum(self.tensors_by_name().into_values()),
            self.record.weights_checksum,
            "{}",
            self.name
        );
        let parts = ["evaluation", "step.1", "step.2"];
        let parts = parts
            .into_iter()
            .filter(|&part| self.record.seeds.contains_key(part));
        assert_eq!(
            checksum(parts.map(|part| self.batch(part).0)),
            self.record.images_checksum,
            "{}",
            self.name
        );
    }

    /// Starts a comparison of the quantities that `covers` says are this test's.
    pub(crate) fn compare(&self, covers: impl Fn(&str) -> bool) -> Comparison<'_> {
        let names = self.record.quantities.keys().map(String::as_str);
        Comparison {
            fixture: self,
            open: names.filter(|name| covers(name)).collect(),
            found: Vec::new(),
        }
    }
}

/// SHA-256 of tensors' bytes, one after the other, little endian.
fn checksum(tensors: impl IntoIterator<Item = Tensor>) -> String {
    let mut digest = Sha256::new();
    for tensor in tensors {
        for value in values(&tensor) {
            digest.update((value as f32).to_le_bytes());
        }
    }
    digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn values(tensor: &Tensor) -> Vec<f64> {
    let flat = tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap();
    flat.to_vec1().unwrap()
}

/// The quantities compared so far, and those still to come.
pub(crate) struct Comparison<'a> {
    fixture: &'a Fixture,
    open: BTreeSet<&'a str>,
    /// Name, our error over the yardstick, and what to print.
    found: Vec<(String, f64, String)>,
}

impl Comparison<'_> {
    /// Compares a tensor with the quantity of this name.
    pub(crate) fn tensor(&mut self, name: &str, ours: &Tensor) {
        assert_eq!(ours.dims(), self.fixture.shape(name), "shape of {name}");
        self.values(name, &values(ours));
    }

    /// Compares numbers, row by row, with the quantity of this name: the root mean square of the
    /// difference over the elements that the fixture holds, and the norm over all.
    pub(crate) fn values(&mut self, name: &str, ours: &[f64]) {
        let Fixture { record, stored, .. } = self.fixture;
        let quantity = &record.quantities[name];
        assert_eq!(
            ours.len(),
            quantity.shape.iter().product::<usize>(),
            "elements of {name}"
        );
        assert!(
            self.open.remove(name),
            "{name} is not this test's, or was compared before"
        );

        let stride = quantity.stride;
        let theirs = &stored[name];
        assert_eq!(
            theirs.len(),
            ours.len().div_ceil(stride),
            "stored elements of {name}"
        );
        let thinned = ours.iter().step_by(stride);
        let squares = thinned
            .zip(theirs)
            .map(|(a, &b)| (a - f64::from(b)).powi(2))
            .sum::<f64>();
        let error = (squares / theirs.len() as f64).sqrt();

        let norm = ours.iter().map(|x| x * x).sum::<f64>().sqrt();
        // The fixture's norm is rounded to f32, by at most 2⁻²⁴ of itself.
        let beyond_rounding = (norm - quantity.norm).abs() - quantity.norm * 2f64.powi(-24);
        let norm_error = beyond_rounding.max(0.0) / (ours.len() as f64).sqrt();

        let size = quantity.norm / (ours.len() as f64).sqrt();
        let line = format!(
            "{name}: error {error:.2e}, of the norm {norm_error:.2e}, PyTorch's {:.2e}, rounding {:.2e}, size {size:.2e}",
            quantity.pytorch, quantity.rounding
        );
        let yardstick = quantity
            .pytorch
            .max(quantity.rounding)
            .max(size * 2f64.powi(-24));
        // No error at all passes where all of it is 0. NaN never passes.
        let worst = error.max(norm_error);
        let ratio = if worst == 0.0 { 0.0 } else { worst / yardstick };
        self.found.push((
            name.to_owned(),
            if error.is_nan() { error } else { ratio },
            line,
        ));
    }

    /// Fails if a quantity is too far off or was never compared, and prints the worst.
    #[allow(
        clippy::print_stdout,
        reason = "how near the comparison came is its result"
    )]
    pub(crate) fn finish(mut self) {
        let name = self.fixture.name;
        assert!(
            self.open.is_empty(),
            "{name}: never compared: {:?}",
            self.open
        );
        assert!(!self.found.is_empty(), "{name}: nothing compared");
        self.found.sort_by(|a, b| b.1.total_cmp(&a.1));
        let passed = |ratio: f64| ratio <= FACTOR;
        let failed: Vec<_> = self
            .found
            .iter()
            .filter(|(_, ratio, _)| !passed(*ratio))
            .collect();
        let (_, worst, line) = &self.found[0];
        println!(
            "{name}: {} quantities, worst {worst:.2} of the yardstick: {line}",
            self.found.len()
        );
        let lines: Vec<_> = failed
            .iter()
            .map(|(_, ratio, line)| format!("  {ratio:.2} × {line}"))
            .collect();
        assert!(
            failed.is_empty(),
            "{name}: beyond {FACTOR} × the yardstick:\n{}",
            lines.join("\n")
        );
    }
}
