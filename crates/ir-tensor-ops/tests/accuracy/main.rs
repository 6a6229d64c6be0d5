//! Every operation within 2·10⁻⁵ of float64, in norm, relative: on random input, and on channels
//! whose sizes differ by six orders of magnitude and whose means are fifty times their size.
//!
//! The bound is what users are promised. A sum of K products in f32 is off by about √K · 2⁻²⁴ of its
//! size, which for the longest here, of 8,192, is 5·10⁻⁶; the Winograd algorithms by two to three times
//! as much. A mean that is kept in f32 is off by up to 2⁻²⁴ of itself: where it is fifty times the
//! deviation, every normalised value of the channel is off by 3·10⁻⁶ before anything else is.
//!
//! Activations are compared channel by channel, so that large channels do not hide small ones, and
//! weights by output channel, where no cancellation leaves one without digits.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod compare;
mod oracle;

use candle_core::{Device, Tensor};
use ir_tensor_ops::explicit::{self, Wanted};
use ir_tensor_ops::{ChannelStatistics, Norm};

use compare::{Comparison, DRAWS, Draw, Parts, drawn, tensor, tensor1, vector};
use oracle::{Array, Geometry, NormRelu};

const EPSILON: f64 = 1e-5;

/// Inputs of a ReLU keep this far from 0, where its gradient jumps and no bound holds.
const KINK: f64 = 1e-3;

/// A convolution: images, channels in and out, height and width, geometry.
struct Case {
    batch: usize,
    inputs: usize,
    outputs: usize,
    size: [usize; 2],
    geometry: Geometry,
}

const fn case(
    batch: usize,
    [inputs, outputs]: [usize; 2],
    size: [usize; 2],
    [kernel, stride, padding]: [usize; 3],
) -> Case {
    Case {
        batch,
        inputs,
        outputs,
        size,
        geometry: Geometry {
            kernel,
            stride,
            padding,
        },
    }
}

/// The first six have the shape for Winograd algorithms in all three passes, the sixth with so many
/// channels that it may be cut up in another way; the others are direct.
const CASES: [Case; 11] = [
    case(4, [16, 16], [32, 32], [3, 1, 1]),
    case(16, [32, 32], [16, 16], [3, 1, 1]),
    case(64, [64, 64], [8, 8], [3, 1, 1]),
    case(4, [100, 100], [32, 32], [3, 1, 1]),
    case(64, [20, 36], [7, 7], [3, 1, 1]),
    case(16, [256, 260], [8, 8], [3, 1, 1]),
    case(8, [3, 16], [32, 32], [3, 1, 1]),
    case(8, [16, 32], [32, 32], [3, 2, 1]),
    case(8, [16, 32], [32, 32], [1, 2, 0]),
    case(4, [16, 160], [16, 16], [1, 1, 0]),
    case(3, [10, 13], [5, 9], [3, 1, 1]),
];

/// What all operations on one case read.
struct Inputs {
    place: String,
    x: Array,
    weight: Array,
    bias: Vec<f64>,
    gradient: Array,
    residual: Array,
}

impl Inputs {
    fn new(index: u64, case: &Case, draw: Draw) -> Self {
        let Case {
            batch,
            inputs,
            outputs,
            size: [height, width],
            geometry,
        } = *case;
        let kernel = geometry.kernel;
        let out = [
            batch,
            outputs,
            geometry.output(height),
            geometry.output(width),
        ];
        let seed = 10 * index;
        Self {
            place: format!("{draw:?} {batch}×{inputs}×{height}×{width} to {outputs}, {geometry:?}"),
            x: drawn(seed, &[batch, inputs, height, width], draw),
            weight: drawn(seed + 1, &[outputs, inputs, kernel, kernel], Draw::Even),
            bias: vector(seed + 2, outputs, -1.0..1.0),
            gradient: drawn(seed + 3, &out, Draw::Even),
            residual: drawn(seed + 4, &out, draw),
        }
    }
}

fn every_input(mut visit: impl FnMut(Inputs, &Case)) {
    for (index, case) in CASES.iter().enumerate() {
        for draw in DRAWS {
            visit(Inputs::new(index as u64, case, draw), case);
        }
    }
}

#[test]
fn convolutions_are_those_of_float64() {
    let mut comparison = Comparison::default();
    every_input(|inputs, case| {
        let Inputs {
            place,
            x,
            weight,
            bias,
            gradient,
            ..
        } = &inputs;
        let Geometry {
            stride, padding, ..
        } = case.geometry;
        let (x_, weight_, gradient_) = (tensor(x), tensor(weight), tensor(gradient));
        let y = explicit::conv2d(&x_, &weight_, Some(&tensor1(bias)), stride, padding).unwrap();
        let exact = oracle::conv2d(x, weight, bias, case.geometry);
        comparison.check("conv2d", place, &y, &exact, Parts::Channels);
        let wanted = Wanted {
            x: true,
            weight: true,
        };
        let found =
            explicit::conv2d_backward(&x_, &weight_, stride, padding, &gradient_, wanted).unwrap();
        let exact = oracle::conv2d_backward(x, weight, case.geometry, gradient);
        comparison.check(
            "conv2d: x",
            place,
            &found.x.unwrap(),
            &exact.x,
            Parts::Channels,
        );
        // Beside a large mean a row is the sum of one gradient times that mean, which may cancel.
        comparison.check(
            "conv2d: weight",
            place,
            &found.weight.unwrap(),
            &exact.weight,
            Parts::Whole,
        );
        comparison.check(
            "conv2d: bias",
            place,
            &found.bias.unwrap(),
            &exact.bias,
            Parts::Whole,
        );
    });
    comparison.finish();
}

/// x with every value whose normalised one is near a kink moved a little away from it.
fn away_from_kinks(mut x: Array, gamma: &[f64], beta: &[f64]) -> (Array, NormRelu) {
    let [_, channels, height, width] = x.dims();
    // Moving a value moves the statistics, by far less than it moves the value.
    for _ in 0..10 {
        let exact = NormRelu::new(&x, gamma, beta, EPSILON);
        if exact.normalised.values.iter().all(|z| z.abs() > KINK) {
            return (x, exact);
        }
        for (index, value) in x.values.iter_mut().enumerate() {
            let z = exact.normalised.values[index];
            if z.abs() < 1.5 * KINK {
                let c = index / (height * width) % channels;
                let deviation = (exact.variance[c] + EPSILON).sqrt();
                let wanted = (2.0 * KINK).copysign(z);
                let moved = exact.mean[c] + (wanted - beta[c]) / gamma[c] * deviation;
                *value = f64::from(moved as f32);
            }
        }
    }
    panic!("the values do not keep away from the kinks");
}

#[test]
fn fused_convolutions_are_those_of_float64() {
    let mut comparison = Comparison::default();
    every_input(|inputs, case| {
        let Inputs {
            place,
            x,
            weight,
            bias,
            gradient,
            residual,
        } = inputs;
        let Geometry {
            stride, padding, ..
        } = case.geometry;
        let gamma = vector(5, case.inputs, 0.5..1.5);
        let beta = vector(6, case.inputs, -0.5..0.5);
        let (x, before) = away_from_kinks(x, &gamma, &beta);
        let (x_, weight_, gradient_) = (tensor(&x), tensor(&weight), tensor(&gradient));
        let (gamma_, beta_) = (tensor1(&gamma), tensor1(&beta));
        let statistics = ChannelStatistics::of(&x_).unwrap();
        let norm = Norm::batch(&statistics, &gamma_, &beta_, EPSILON).unwrap();

        let (y, of_y) = explicit::norm_relu_conv2d_with_statistics(
            &x_,
            &norm,
            &weight_,
            &tensor1(&bias),
            stride,
            padding,
            Some(&tensor(&residual)),
        )
        .unwrap();
        let exact = oracle::conv2d(&before.active, &weight, &bias, case.geometry).plus(&residual);
        comparison.check("norm_relu_conv2d", &place, &y, &exact, Parts::Channels);
        let ones = vec![1.0; case.outputs];
        let after = NormRelu::new(&exact, &ones, &ones, EPSILON);
        let vector = |values: &[f32]| Tensor::new(values, &Device::Cpu).unwrap();
        let array = |values: &[f64]| Array {
            shape: vec![values.len()],
            values: values.to_vec(),
        };
        let (mean, variance) = (vector(&of_y.mean), vector(&of_y.variance));
        comparison.check(
            "norm_relu_conv2d: mean",
            &place,
            &mean,
            &array(&after.mean),
            Parts::Whole,
        );
        let exact = array(&after.variance);
        comparison.check(
            "norm_relu_conv2d: variance",
            &place,
            &variance,
            &exact,
            Parts::Whole,
        );

        let arriving = drawn(7, &x.shape, Draw::Even);
        let found = explicit::norm_relu_conv2d_backward(
            &x_,
            &norm,
            &weight_,
            stride,
            padding,
            &gradient_,
            Some(&tensor(&arriving)),
        )
        .unwrap();
        let inner = oracle::conv2d_backward(&before.active, &weight, case.geometry, &gradient);
        let outer = before.backward(&x, &inner.x);
        let dx = outer.x.plus(&arriving);
        comparison.check(
            "norm_relu_conv2d: x",
            &place,
            &found.x,
            &dx,
            Parts::Channels,
        );
        comparison.check(
            "norm_relu_conv2d: weight",
            &place,
            &found.weight,
            &inner.weight,
            Parts::Rows,
        );
        comparison.check(
            "norm_relu_conv2d: bias",
            &place,
            &found.bias,
            &inner.bias,
            Parts::Whole,
        );
        comparison.check(
            "norm_relu_conv2d: gamma",
            &place,
            &found.gamma,
            &outer.gamma,
            Parts::Whole,
        );
        comparison.check(
            "norm_relu_conv2d: beta",
            &place,
            &found.beta,
            &outer.beta,
            Parts::Whole,
        );
    });
    comparison.finish();
}

#[test]
fn norms_are_those_of_float64() {
    let mut comparison = Comparison::default();
    every_input(|inputs, case| {
        let Inputs { place, x, .. } = inputs;
        let gamma = vector(5, case.inputs, 0.5..1.5);
        let beta = vector(6, case.inputs, -0.5..0.5);
        let (x, exact) = away_from_kinks(x, &gamma, &beta);
        let x_ = tensor(&x);
        let statistics = ChannelStatistics::of(&x_).unwrap();
        let norm = Norm::batch(&statistics, &tensor1(&gamma), &tensor1(&beta), EPSILON).unwrap();
        let y = explicit::norm_relu(&x_, &norm).unwrap();
        // Channels that the shift nearly closes have no digits of their own left to compare.
        comparison.check("norm_relu", &place, &y, &exact.active, Parts::Whole);
        let gradient = drawn(8, &x.shape, Draw::Even);
        let found = explicit::norm_relu_backward(&x_, &norm, &tensor(&gradient)).unwrap();
        let exact = exact.backward(&x, &gradient);
        comparison.check("norm_relu: x", &place, &found.x, &exact.x, Parts::Channels);
        comparison.check(
            "norm_relu: gamma",
            &place,
            &found.gamma,
            &exact.gamma,
            Parts::Whole,
        );
        comparison.check(
            "norm_relu: beta",
            &place,
            &found.beta,
            &exact.beta,
            Parts::Whole,
        );
    });
    comparison.finish();
}

/// Features, classes and images of the heads.
#[test]
fn heads_are_those_of_float64() {
    let mut comparison = Comparison::default();
    for (batch, channels, size, pooling) in [(128, 64, 8, 8), (32, 100, 32, 8), (7, 13, 6, 2)] {
        for draw in DRAWS {
            let place = format!("{draw:?} {batch}×{channels}×{size}×{size} pooled by {pooling}");
            let x = drawn(9, &[batch, channels, size, size], draw);
            let pooled = oracle::avg_pool2d(&x, pooling);
            let y = explicit::avg_pool2d(&tensor(&x), pooling).unwrap();
            comparison.check("avg_pool2d", &place, &y, &pooled, Parts::Channels);
            let gradient = drawn(10, &pooled.shape, draw);
            let dx = explicit::avg_pool2d_backward(&x.shape, pooling, &tensor(&gradient)).unwrap();
            let exact = oracle::avg_pool2d_backward(&x.shape, pooling, &gradient);
            comparison.check("avg_pool2d: x", &place, &dx, &exact, Parts::Channels);

            let features = x.values.len() / batch / 64;
            let x = drawn(11, &[batch, features], draw);
            let weight = drawn(12, &[10, features], Draw::Even);
            let bias = vector(13, 10, -1.0..1.0);
            let logits = explicit::linear(&tensor(&x), &tensor(&weight), &tensor1(&bias)).unwrap();
            let exact = oracle::linear(&x, &weight, &bias);
            comparison.check("linear", &place, &logits, &exact, Parts::Whole);
            let gradient = drawn(14, &[batch, 10], Draw::Even);
            let found =
                explicit::linear_backward(&tensor(&x), &tensor(&weight), &tensor(&gradient))
                    .unwrap();
            let [dx, dw, db] = oracle::linear_backward(&x, &weight, &gradient);
            comparison.check("linear: x", &place, &found.x, &dx, Parts::Rows);
            comparison.check("linear: weight", &place, &found.weight, &dw, Parts::Whole);
            comparison.check("linear: bias", &place, &found.bias, &db, Parts::Whole);
        }
    }
    comparison.finish();
}

/// Logits of usual and of extreme size: the largest must not overflow, nor the sum lose it.
#[test]
fn losses_are_those_of_float64() {
    let mut comparison = Comparison::default();
    for (classes, size) in [(10, 1.0), (100, 10.0), (10, 1e3), (7, 1e-3)] {
        let place = format!("{classes} classes, logits up to {size}");
        let mut logits = drawn(15, &[32, classes], Draw::Even);
        for value in &mut logits.values {
            *value = f64::from((*value * size + 5.0) as f32);
        }
        let labels: Vec<u32> = (0..32).map(|sample| sample * 3 % classes as u32).collect();
        let (loss, gradient) = oracle::cross_entropy(&logits, &labels);
        let labels = Tensor::new(labels, &Device::Cpu).unwrap();
        let found = explicit::cross_entropy(&tensor(&logits), &labels).unwrap();
        let found = found.flatten_all().unwrap();
        comparison.check("cross_entropy", &place, &found, &loss, Parts::Whole);
        let found = explicit::cross_entropy_backward(&tensor(&logits), &labels).unwrap();
        comparison.check(
            "cross_entropy: logits",
            &place,
            &found,
            &gradient,
            Parts::Whole,
        );
    }
    comparison.finish();
}
