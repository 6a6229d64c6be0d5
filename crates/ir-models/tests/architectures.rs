//! The paper's networks have the paper's parameter counts, to the last parameter, and tensors of
//! the names that other tools rely on.

#![expect(
    clippy::unwrap_used,
    reason = "what tests share fails by panicking, as they do"
)]

use candle_core::{DType, Device, Tensor};
use ir_models::{Architecture, Entrance, Error, ResNet, ResidualNetwork, Scope, Sharing};
use sha2::{Digest, Sha256};

fn named(name: &str, classes: usize) -> Architecture {
    Architecture::named(name, classes).unwrap()
}

/// Sets sharing from the sixth block of every stage on (paper, section 4.5).
fn shared(blocks: usize, classes: usize, sharing: &Sharing) -> Architecture {
    let mut architecture = named("resnet-110", classes);
    for stage in &mut architecture.stages {
        stage.blocks = blocks;
        stage.sharing = Some(sharing.clone());
    }
    architecture
}

fn unshared_batch_norm() -> Sharing {
    Sharing {
        first: 5,
        statistics: Scope::Step,
        affine: Scope::Step,
        initial_gamma: 0.1,
    }
}

#[test]
fn all_parameters_of_cifar_10_networks() {
    let counts = [
        ("resnet-110", 1_742_762),
        ("single-representation", 1_829_210),
        ("avg-pooling", 12_201_310),
        ("wide", 45_732_842),
    ];
    for (name, all) in counts {
        assert_eq!(named(name, 10).parameters().all, all, "{name}");
    }
}

#[test]
fn trainable_parameters() {
    let counts = [
        ("resnet-32", 467_946, 473_796),
        ("resnet-38", 565_386, 571_236),
        ("resnet-56", 857_706, 863_556),
        ("resnet-110", 1_734_666, 1_740_516),
    ];
    for (name, cifar10, cifar100) in counts {
        assert_eq!(
            named(name, 10).parameters().trainable,
            cifar10,
            "{name}, CIFAR-10"
        );
        assert_eq!(
            named(name, 100).parameters().trainable,
            cifar100,
            "{name}, CIFAR-100"
        );
    }
}

#[test]
fn trainable_parameters_of_shared_networks() {
    let counts = [
        ("resnet-110-ubn", 570_762, 576_612),
        ("resnet-146-ubn", 573_450, 579_300),
        ("resnet-182-ubn", 576_138, 581_988),
    ];
    for (name, cifar10, cifar100) in counts {
        assert_eq!(
            named(name, 10).parameters().trainable,
            cifar10,
            "{name}, CIFAR-10"
        );
        assert_eq!(
            named(name, 100).parameters().trainable,
            cifar100,
            "{name}, CIFAR-100"
        );
    }
}

#[test]
fn a_built_network_has_as_many_numbers_as_its_architecture_counts() {
    for name in ["resnet-32", "single-representation"] {
        let architecture = named(name, 10);
        let network = ResNet::initialize(&architecture, 0).unwrap();
        let numbers: usize = network
            .tensors()
            .map(|(_, tensor)| tensor.elem_count())
            .sum();
        assert_eq!(numbers, architecture.parameters().all);
    }
}

#[test]
fn tensors_have_the_documented_names() {
    let network = ResNet::initialize(&named("resnet-32", 10), 0).unwrap();
    let shape = |name: &str| network.tensor(name).map(|tensor| tensor.dims().to_vec());
    assert_eq!(shape("stem.weight"), Some(vec![16, 3, 3, 3]));
    assert_eq!(shape("blocks.0.bn1.running_var"), Some(vec![16]));
    assert_eq!(shape("blocks.0.shortcut.weight"), None);
    assert_eq!(shape("blocks.5.bn1.weight"), Some(vec![16]));
    assert_eq!(shape("blocks.5.conv1.weight"), Some(vec![32, 16, 3, 3]));
    assert_eq!(shape("blocks.5.bn2.weight"), Some(vec![32]));
    assert_eq!(shape("blocks.5.shortcut.weight"), Some(vec![32, 16, 1, 1]));
    assert_eq!(shape("blocks.14.conv2.bias"), Some(vec![64]));
    assert_eq!(shape("blocks.15.conv1.weight"), None);
    assert_eq!(shape("head.bn.running_mean"), Some(vec![64]));
    assert_eq!(shape("head.fc.weight"), Some(vec![10, 64]));
}

#[test]
fn a_block_that_is_not_there_is_an_error() {
    let network = ResNet::initialize(&named("resnet-32", 10), 0).unwrap();
    let h = Tensor::zeros((1, 64, 8, 8), DType::F32, &Device::Cpu).unwrap();
    for result in [
        network.shortcut(15, &h),
        network.branch(15, &h),
        network.after(15, &h),
    ] {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("blocks 0 to 14"), "{error}");
    }
}

#[test]
fn shared_tensors_stand_once_under_the_first_step() {
    let network = ResNet::initialize(&shared(7, 10, &unshared_batch_norm()), 0).unwrap();
    assert!(network.tensor("blocks.5.conv1.weight").is_some());
    assert!(network.tensor("blocks.6.conv1.weight").is_none());
    let gamma = network
        .tensor("blocks.6.bn1.weight")
        .unwrap()
        .to_vec1::<f32>()
        .unwrap();
    assert!(gamma.iter().all(|&value| value == 0.1));

    let statistics_only = Sharing {
        affine: Scope::Shared,
        ..unshared_batch_norm()
    };
    let network = ResNet::initialize(&shared(7, 10, &statistics_only), 0).unwrap();
    assert!(network.tensor("blocks.6.bn1.weight").is_none());
    assert!(network.tensor("blocks.6.bn1.running_mean").is_some());
}

#[test]
fn initial_weights_are_he_normal_and_a_function_of_the_seed() {
    let architecture = named("single-representation", 10);
    let weights = |seed| {
        let network = ResNet::initialize(&architecture, seed).unwrap();
        let weight = network.tensor("blocks.3.conv2.weight").unwrap();
        weight.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let values = weights(0);
    assert_eq!(values, weights(0));
    assert_ne!(values, weights(1));
    let n = values.len() as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let variance = values
        .iter()
        .map(|&v| (f64::from(v) - mean).powi(2))
        .sum::<f64>()
        / n;
    let expected = 2.0 / 900.0;
    // Five standard errors of the mean and of the variance of n normal numbers.
    assert!(mean.abs() < 5.0 * (expected / n).sqrt(), "mean {mean}");
    assert!(
        (variance / expected - 1.0).abs() < 5.0 * (2.0 / n).sqrt(),
        "variance {variance}"
    );
}

#[test]
fn initial_weights_are_the_same_on_every_machine() {
    // A change of these is a change of every run.
    let network = ResNet::initialize(&named("resnet-32", 10), 1).unwrap();
    let mut sum = Sha256::new();
    for (_, tensor) in network.tensors() {
        for value in tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap() {
            sum.update(value.to_le_bytes());
        }
    }
    let sum = sum.finalize();
    assert_eq!(sum[..8], [114, 78, 57, 44, 81, 54, 175, 180]);
}

#[test]
fn architectures_survive_json() {
    for name in ir_models::NAMES {
        let architecture = named(name, 100);
        let text = serde_json::to_string(&architecture).unwrap();
        assert_eq!(Architecture::from_json(&text).unwrap(), architecture);
    }
}

#[test]
fn what_cannot_be_built_is_refused_with_the_reason() {
    let valid = named("resnet-32", 10);
    let refused = |change: fn(&mut Architecture), reason: &str| {
        let mut architecture = valid.clone();
        change(&mut architecture);
        let text = serde_json::to_string(&architecture).unwrap();
        let error = Architecture::from_json(&text).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    };
    refused(|a| a.classes = 0, "classes");
    refused(|a| a.stages.clear(), "no stages");
    refused(|a| a.stages[1].blocks = 0, "stage 1");
    refused(|a| a.stages[2].channels = usize::MAX, "stage 2");
    refused(
        |a| a.stages[1].entrance = Entrance::Same,
        "only a transition",
    );
    refused(
        |a| a.stages[1].entrance = Entrance::Transition { stride: 3 },
        "stride 3",
    );
    refused(
        |a| a.stages[0].entrance = Entrance::AveragePooling,
        "stage 0",
    );
    refused(|a| a.head_pooling = 9, "smaller than the head");
    refused(|a| a.stages = vec![a.stages[0].clone(); 4000], "blocks");
    refused(|a| a.stages[2].channels = 16_384, "parameters");
    refused(
        |a| {
            a.stages[1].sharing = Some(Sharing {
                first: 0,
                ..unshared_batch_norm()
            });
        },
        "transition",
    );
    refused(
        |a| {
            a.stages[0].sharing = Some(Sharing {
                first: 5,
                ..unshared_batch_norm()
            });
        },
        "past the last",
    );
    assert!(matches!(
        Architecture::from_json("{"),
        Err(Error::ArchitectureJson(_))
    ));
    assert!(matches!(
        Architecture::named("resnet-1", 10),
        Err(Error::UnknownArchitecture { .. })
    ));
}
