//! The five functions of a network and its gradients on a GPU are those on the CPU.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use candle_core::{Device, Tensor};
use ir_emulation::{distance, gpus, uniform};
use ir_models::{Architecture, Block, ResNet, ResidualNetwork, gpu};

/// A network with a transition, pooling, and features that are more than channels.
fn network() -> ResNet {
    let architecture = Architecture::from_json(
        r#"{"name": "mixed", "classes": 3, "image": [3, 8, 8], "stem_channels": 5, "head_pooling": 2,
            "stages": [{"blocks": 1, "channels": 5}, {"blocks": 2, "channels": 18, "entrance": {"transition": {"stride": 1}}},
                       {"blocks": 1, "channels": 18, "entrance": "average_pooling"}]}"#,
    )
    .unwrap();
    let network = ResNet::initialize(&architecture, 3).unwrap();
    // Running statistics as if it had been trained.
    ResNet::from_tensors(&architecture, |spec| {
        let tensor = network.tensor(&spec.name).unwrap();
        Ok(match spec.name.rsplit('.').next() {
            Some("running_mean") => uniform(&spec.shape, 3)?.affine(0.2, 0.0)?,
            Some("running_var") => uniform(&spec.shape, 4)?.affine(0.5, 1.0)?,
            _ => tensor.clone(),
        })
    })
    .unwrap()
}

#[test]
fn the_functions_and_gradients_agree() {
    let here = network();
    for gpu in gpus() {
        let there = gpu::Network::new(&gpu, &here).unwrap();
        assert_eq!(there.blocks(), here.blocks());
        let images = uniform(&[2, 3, 8, 8], 0).unwrap();
        let agree = |name: &str, there: Tensor, here: &Tensor| {
            let apart = distance(&there, here);
            assert_eq!(there.dims(), here.dims(), "{name}");
            assert!(apart < 1e-5, "{name}: {apart}");
        };
        let mut h = here.stem(&images).unwrap();
        agree("stem", there.stem(&images).unwrap(), &h);
        agree(
            "logits",
            there.logits(&images).unwrap(),
            &here.logits(&images).unwrap(),
        );
        let (ours, theirs) = (
            here.block_backward().unwrap(),
            there.block_backward().unwrap(),
        );
        for (j, Block { .. }) in here.blocks().into_iter().enumerate() {
            let name = |what: &str| format!("{what} {j}");
            agree(
                &name("branch"),
                there.branch(j, &h).unwrap(),
                &here.branch(j, &h).unwrap(),
            );
            agree(
                &name("shortcut"),
                there.shortcut(j, &h).unwrap(),
                &here.shortcut(j, &h).unwrap(),
            );
            let next = here.step(j, &h).unwrap();
            agree(&name("step"), there.step(j, &h).unwrap(), &next);
            let arriving = uniform(next.dims(), 1).unwrap();
            let [found, expected] =
                [theirs, ours].map(|backward| backward.gradients(j, &h, &arriving).unwrap());
            agree(&name("gradient of the sum"), found.sum, &expected.sum);
            agree(&name("gradient of h"), found.h, &expected.h);
            let from = here.logits_from(j, &h).unwrap();
            agree(
                &name("logits from"),
                there.logits_from(j, &h).unwrap(),
                &from,
            );
            h = next;
        }
        let logits = here.head(&h).unwrap();
        agree("head", there.head(&h).unwrap(), &logits);
        let arriving = uniform(logits.dims(), 2).unwrap();
        let [found, expected] =
            [theirs, ours].map(|backward| backward.head_gradient(&h, &arriving).unwrap());
        agree("gradient of the head", found, &expected);
    }
}

#[test]
fn a_recorded_tensor_is_refused() {
    let here = network();
    for gpu in gpus() {
        let there = gpu::Network::new(&gpu, &here).unwrap();
        let images =
            candle_core::Var::zeros((1, 3, 8, 8), candle_core::DType::F32, &Device::Cpu).unwrap();
        let error = there.stem(&images).unwrap_err();
        assert!(error.to_string().contains("block_backward"), "{error}");
    }
}
