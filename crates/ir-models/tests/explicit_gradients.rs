//! A network's own gradients are those that Candle takes through its recorded functions.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod pytorch;

use candle_core::{Tensor, Var};
use ir_models::{Architecture, BlockBackward, ResNet, ResidualNetwork};
use pytorch::{Fixture, all};

/// Both ways through a block are sums of at most 9 · 512 products in two or three layers, in another
/// order each: 2 · 3 · 4608 · 2⁻²⁴ of what is added, which cancellation makes a small multiple of
/// what comes out. The forward passes are the same bits, so no ReLU differs.
const BOUND: f64 = 2e-3;

fn largest(x: &Tensor) -> f64 {
    let largest = x.abs().unwrap().flatten_all().unwrap().max(0).unwrap();
    f64::from(largest.to_scalar::<f32>().unwrap())
}

fn assert_close(what: &str, found: &Tensor, expected: &Tensor) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let (error, scale) = (largest(&(found - expected).unwrap()), largest(expected));
    assert!(
        scale > 0.0 && error < BOUND * scale,
        "{what}: {error} of {scale}"
    );
}

/// Something to take the gradient of a function along.
fn upstream(like: &Tensor) -> Tensor {
    let count = like.elem_count() as f32;
    let ramp = Tensor::arange(0f32, count, like.device()).unwrap();
    let waves = ramp.affine(0.7, 0.3).unwrap().sin().unwrap();
    waves.reshape(like.shape()).unwrap()
}

/// The gradient at h of function(h) · `gradient`, as Candle records it.
fn recorded(
    h: &Tensor,
    gradient: &Tensor,
    function: impl FnOnce(&Tensor) -> candle_core::Result<Tensor>,
) -> Tensor {
    let h = Var::from_tensor(h).unwrap();
    let output = (function(&h).unwrap() * gradient).unwrap();
    let mut found = output.sum_all().unwrap().backward().unwrap();
    found.remove(&h).unwrap()
}

fn check_block(
    name: &str,
    network: &dyn ResidualNetwork,
    backward: &dyn BlockBackward,
    block: usize,
    h: &Tensor,
) -> Tensor {
    let what = |way: &str| format!("{name}, block {block}, {way}");
    let (s, branch) = (
        network.shortcut(block, h).unwrap().detach(),
        network.branch(block, h).unwrap().detach(),
    );
    let sum = (&s + &branch).unwrap();
    let next = network.after(block, &sum).unwrap();
    let gradient = upstream(&next);
    let after = |sum: Tensor| network.after(block, &sum);
    let of_branch = recorded(h, &gradient, |h| after((network.branch(block, h)? + &s)?));
    let linearized = backward.linearized(block, h).unwrap().unwrap();
    let found = linearized.back_through_branch(&gradient).unwrap();
    assert_close(&what("branch"), &found, &of_branch);
    let of_shortcut = recorded(h, &gradient, |h| {
        after((network.shortcut(block, h)? + &branch)?)
    });
    let found = linearized.back_through_shortcut(&gradient).unwrap();
    assert_close(&what("shortcut"), &found, &of_shortcut);
    let found = backward.gradients(block, h, &gradient).unwrap();
    assert_close(
        &what("whole"),
        &found.h,
        &recorded(h, &gradient, |h| network.step(block, h)),
    );
    assert_close(
        &what("sum"),
        &found.sum,
        &recorded(&sum, &gradient, |sum| network.after(block, sum)),
    );
    assert_eq!(
        largest(&(network.step(block, h).unwrap() - &next).unwrap()),
        0.0
    );
    next
}

#[test]
fn explicit_gradients_are_those_of_the_recorded_functions() {
    for case in all() {
        let fixture = Fixture::open(case);
        let network = fixture.network();
        let (images, _) = fixture.batch("evaluation");
        let backward = network.block_backward().unwrap();
        let mut h = network.stem(&images.narrow(0, 0, 1).unwrap()).unwrap();
        for block in 0..network.blocks().len() {
            h = check_block(case, &*network, backward, block, &h);
        }
        let gradient = upstream(&network.head(&h).unwrap());
        let found = backward.head_gradient(&h, &gradient).unwrap();
        let expected = recorded(&h, &gradient, |h| network.head(h));
        assert_close(&format!("{case}, head"), &found, &expected);
    }
}

#[test]
fn the_ways_to_the_logits_record_what_candle_asks_for() {
    let network = ResNet::initialize(&Architecture::named("resnet-8", 10).unwrap(), 0).unwrap();
    let images = Tensor::randn(0f32, 1., (2, 3, 32, 32), &candle_core::Device::Cpu).unwrap();
    let logits = network.logits(&images).unwrap();
    let along = upstream(&logits);
    let h = network.stem(&images).unwrap();
    let from_h = recorded(&h, &along, |h| network.logits_from(0, h));
    let stepwise = recorded(&h, &along, |h| {
        let mut h = h.clone();
        for block in 0..network.blocks().len() {
            h = network.step(block, &h)?;
        }
        network.head(&h)
    });
    let values = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(values(&from_h), values(&stepwise));
    assert!(values(&from_h).iter().any(|&value| value != 0.0));
    let from_images = recorded(&images, &along, |images| network.logits(images));
    assert!(values(&from_images).iter().any(|&value| value != 0.0));
}
