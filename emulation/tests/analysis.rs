//! The measures of a network on a GPU are those of the same network on the CPU.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use ir_analysis::{Measure, Options, analyze_split};
use ir_emulation::{gpus, uniform};
use ir_models::import::{
    BlockKind, Family, ImportedArchitecture, ImportedResNet, ImportedStage, ModelConfig,
    Strictness, Weights,
};
use ir_models::{Architecture, ResNet, ResidualNetwork, gpu};
use serde_json::Value;

/// What `ir analyze` would write about it.
fn measured(network: &dyn ResidualNetwork, images: &Tensor, labels: &Tensor) -> Value {
    let batches = (0..2).map(|batch| {
        let half = |tensor: &Tensor| tensor.narrow(0, 4 * batch, 4);
        Ok::<_, ir_analysis::Error>((half(images)?, half(labels)?))
    });
    // Readouts have to be trained first, on the images themselves.
    let others = Measure::NEIGHBOURS
        .into_iter()
        .filter(|&measure| measure != Measure::Readouts);
    let options = Options {
        measures: Measure::PAPER.into_iter().chain(others).collect(),
        draws: 2,
        ..Options::default()
    };
    let split = analyze_split(network, batches, &options, &mut |_| ()).unwrap();
    serde_json::to_value(split).unwrap()
}

/// Fails where two results differ by more than rounding.
fn compare(path: &str, there: &Value, here: &Value) {
    match (there, here) {
        (Value::Object(there), Value::Object(here)) => {
            assert!(there.keys().eq(here.keys()), "{path}");
            for (key, value) in there {
                compare(&format!("{path}.{key}"), value, &here[key]);
            }
        }
        (Value::Array(there), Value::Array(here)) => {
            assert_eq!(there.len(), here.len(), "{path}");
            for (index, (there, here)) in there.iter().zip(here).enumerate() {
                compare(&format!("{path}[{index}]"), there, here);
            }
        }
        (Value::Number(there), Value::Number(here)) => {
            let [there, here] = [there, here].map(|number| number.as_f64().unwrap());
            // What is near zero is a difference of things that are not. A block that is applied again and again
            // makes more of a rounding each time.
            let bound = if path.contains("unroll") { 1e-3 } else { 1e-4 };
            let apart = (there - here).abs();
            assert!(
                apart < bound * here.abs().max(0.1),
                "{path}: {there} {here}"
            );
        }
        _ => assert_eq!(there, here, "{path}"),
    }
}

fn labels() -> Tensor {
    let labels: Vec<u32> = (0..8).map(|i| i % 3).collect();
    Tensor::from_vec(labels, 8, &Device::Cpu).unwrap()
}

#[test]
fn every_measure_agrees() {
    let architecture = Architecture::from_json(
        r#"{"name": "small", "classes": 3, "image": [3, 8, 8], "stem_channels": 5, "head_pooling": 4,
            "stages": [{"blocks": 1, "channels": 5},
                       {"blocks": 4, "channels": 18, "entrance": {"transition": {"stride": 2}}}]}"#,
    );
    let network = ResNet::initialize(&architecture.unwrap(), 3).unwrap();
    let images = uniform(&[8, 3, 8, 8], 0).unwrap();
    let labels = labels();
    let here = measured(&network, &images, &labels);
    for gpu in gpus() {
        let there = gpu::Network::new(&gpu, &network).unwrap();
        let images = images.to_device(&gpu.device()).unwrap();
        compare("split", &measured(&there, &images, &labels), &here);
    }
}

/// A ResNeXt of two stages with the stem of ImageNet, whose numbers are as good as random.
fn imported() -> ImportedResNet {
    let stage = ImportedStage {
        blocks: 2,
        width: 8,
        channels: 16,
        groups: 2,
        stride: 1,
        transition: true,
    };
    let architecture = ImportedArchitecture {
        family: Family::Torchvision,
        block: BlockKind::Bottleneck,
        image_channels: 3,
        stem_channels: 8,
        stem_kernel: 7,
        stages: vec![
            stage.clone(),
            ImportedStage {
                width: 10,
                channels: 20,
                stride: 2,
                ..stage
            },
        ],
        stride_in_first: false,
        classes: 3,
    };
    let tensors = architecture.tensors().into_iter().zip(0u64..);
    let tensors: BTreeMap<String, Tensor> = tensors
        .map(|((name, shape), seed)| {
            let offset = if name.ends_with("running_var") {
                1.
            } else {
                0.
            };
            let values = uniform(&shape, seed).unwrap();
            (name, values.affine(0.5, offset).unwrap())
        })
        .collect();
    let config = ModelConfig::default();
    let (network, _) =
        ImportedResNet::build(&Weights::new(tensors), &config, Strictness::Strict).unwrap();
    assert_eq!(network.architecture(), &architecture);
    network
}

#[test]
fn every_measure_of_an_imported_network_agrees() {
    let network = imported();
    let images = uniform(&[8, 3, 16, 16], 0).unwrap();
    let labels = labels();
    let here = measured(&network, &images, &labels);
    for gpu in gpus() {
        let there = network.to_device(&gpu.device()).unwrap();
        let images = images.to_device(&gpu.device()).unwrap();
        let there = gpu.in_place_of_the_cpu(|| measured(&there, &images, &labels));
        compare("split", &there, &here);
    }
}
