//! The operations on tensors, on an emulated GPU and on the CPU: values and gradients agree.
//!
//! Both ways round sums of n terms in different orders. Terms of one size and random signs give results that are
//! within a few √n · 2⁻²⁴ of each other, norm-wise: less than 2·10⁻⁶ for the at most 200 terms here.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use candle_core::{Device, Tensor, Var};
use ir_emulation::{distance, gpus};
use ir_tensor_ops::{ChannelStatistics, Norm, Result, explicit};

const BOUND: f64 = 2e-6;

fn uniform(shape: &[usize]) -> Tensor {
    seeded(shape, 1)
}

fn seeded(shape: &[usize], seed: u64) -> Tensor {
    ir_emulation::uniform(shape, seed).unwrap()
}

/// The result of an operation, and the gradients of its arguments for a fixed gradient of the result.
fn run(operation: &dyn Fn(&[Var]) -> Result<Tensor>, arguments: &[Tensor]) -> Vec<Tensor> {
    let variables: Vec<Var> = arguments
        .iter()
        .map(|argument| Var::from_tensor(argument).unwrap())
        .collect();
    let y = operation(&variables).unwrap();
    let weights = Tensor::arange(0f32, y.elem_count() as f32, &Device::Cpu).unwrap();
    // As good as random: sums of neighbours do not cancel.
    let weights = (weights.sqr().unwrap() * 0.7).unwrap().cos().unwrap();
    let loss = (&y * weights.reshape(y.dims()).unwrap()).unwrap();
    let gradients = loss.sum_all().unwrap().backward().unwrap();
    let gradients = variables
        .iter()
        .filter_map(|variable| gradients.get(variable));
    std::iter::once(&y).chain(gradients).cloned().collect()
}

/// Compares values and gradients on all devices with those of the CPU.
#[track_caller]
fn agree(operation: &dyn Fn(&[Var]) -> Result<Tensor>, arguments: &[Tensor]) {
    let expected = run(operation, arguments);
    for gpu in gpus() {
        let found = gpu.in_place_of_the_cpu(|| run(operation, arguments));
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found.dims(), expected.dims());
            let apart = distance(found, expected);
            assert!(apart < BOUND, "{:?}: {apart}", found.dims());
        }
    }
}

#[test]
fn relu() {
    let x = Tensor::new(&[-1f32, 0., -0., 2., f32::INFINITY, -3.], &Device::Cpu).unwrap();
    for gpu in gpus() {
        let [y, dx] = gpu.in_place_of_the_cpu(|| {
            [
                explicit::relu(&x).unwrap(),
                explicit::relu_backward(&x, &x.ones_like().unwrap()).unwrap(),
            ]
        });
        let [y, dx] = [y, dx].map(|tensor| tensor.to_vec1::<f32>().unwrap());
        assert_eq!(y, [0., 0., 0., 2., f32::INFINITY, 0.]);
        assert_eq!(dx, [0., 0., 0., 1., 1., 0.]);
    }
    // Also one whose numbers do not lie in their order.
    let x = uniform(&[5, 7, 3]).transpose(0, 2).unwrap();
    agree(&|x| ir_tensor_ops::relu(x[0].as_tensor()), &[x]);
}

#[test]
fn add() {
    let [x, y] = [seeded(&[3, 4, 5], 1), seeded(&[3, 4, 5], 2)];
    let expected = explicit::add(&x, &y).unwrap();
    for gpu in gpus() {
        let found = gpu.in_place_of_the_cpu(|| explicit::add(&x, &y)).unwrap();
        assert_eq!(distance(&found, &expected), 0.);
    }
}

#[test]
fn linear() {
    let arguments = [uniform(&[7, 33]), uniform(&[10, 33]), uniform(&[10])];
    agree(&|x| ir_tensor_ops::linear(&x[0], &x[1], &x[2]), &arguments);
}

#[test]
fn cross_entropy() {
    let labels = Tensor::new(&[4u32, 0, 2, 2, 1], &Device::Cpu).unwrap();
    let logits = (uniform(&[5, 6]) * 20.).unwrap();
    agree(&|x| ir_tensor_ops::cross_entropy(&x[0], &labels), &[logits]);
}

#[test]
fn wrong_arguments_are_refused_as_on_the_cpu() {
    let labels = Tensor::new(&[4u32, 0], &Device::Cpu).unwrap();
    let (logits, x) = (uniform(&[2, 3]), uniform(&[2, 4]));
    let attempts = || {
        [
            ir_tensor_ops::cross_entropy(&logits, &labels),
            ir_tensor_ops::cross_entropy(&logits, &logits),
            ir_tensor_ops::relu(&labels),
            explicit::add(&logits, &x),
            ir_tensor_ops::linear(&x, &logits, &x),
            ir_tensor_ops::linear(&x, &x, &uniform(&[3])),
        ]
        .map(|attempt| attempt.unwrap_err().to_string())
    };
    let expected = attempts();
    for gpu in gpus() {
        assert_eq!(gpu.in_place_of_the_cpu(attempts), expected);
    }
}

#[test]
fn copies() {
    let x = uniform(&[3, 4]);
    for gpu in gpus() {
        gpu.in_place_of_the_cpu(|| {
            let x = Var::from_tensor(&x).unwrap();
            let (y, tap) = ir_tensor_ops::tap(&x).unwrap();
            assert_eq!(distance(&y, &x), 0.);
            (y * 3.).unwrap().sum_all().unwrap().backward().unwrap();
            let three = (x.ones_like().unwrap() * 3.).unwrap();
            assert_eq!(distance(&tap.gradient().unwrap(), &three), 0.);
        });
    }
}

#[test]
fn average_pooling() {
    for (dims, kernel) in [([2, 3, 8, 8], 8), ([1, 17, 5, 7], 2), ([3, 1, 3, 3], 1)] {
        let x = uniform(&dims);
        agree(&|x| ir_tensor_ops::avg_pool2d(&x[0], kernel), &[x]);
    }
}

/// γ, β, a mean and a variance of C channels.
fn norm_parameters(channels: usize) -> [Tensor; 4] {
    let variance = (seeded(&[channels], 1).abs().unwrap() + 0.1).unwrap();
    let [gamma, beta, mean] = [2, 3, 4].map(|seed| seeded(&[channels], seed));
    [gamma, beta, mean, variance]
}

const DIMS: [[usize; 4]; 3] = [[4, 3, 6, 5], [2, 17, 3, 3], [3, 32, 9, 1]];

#[test]
fn batch_norm() {
    for dims in DIMS {
        let x = ((uniform(&dims) * 2.).unwrap() + 3.).unwrap();
        let [gamma, beta, mean, variance] = norm_parameters(dims[1]);
        let arguments = [x, gamma, beta];
        agree(
            &|x| ir_tensor_ops::batch_norm_eval(&x[0], &x[1], &x[2], &mean, &variance, 1e-5),
            &arguments,
        );
        // The statistics are rounded to f32 either way; where they differ by a unit in the last place, so does all
        // that follows. The gradient of x loses digits as its parts cancel, here less than one.
        agree(
            &|x| Ok(ir_tensor_ops::batch_norm_train(&x[0], &x[1], &x[2], 1e-5)?.0),
            &arguments,
        );
    }
}

#[test]
fn statistics() {
    for dims in DIMS {
        let x = ((uniform(&dims) * 2.).unwrap() + 3.).unwrap();
        let expected = ChannelStatistics::of(&x).unwrap();
        for gpu in gpus() {
            let found = gpu
                .in_place_of_the_cpu(|| ChannelStatistics::of(&x))
                .unwrap();
            assert_eq!(found.count, expected.count);
            // Two units in the last place, and for the variance what the CPU's f32 sums lose.
            for (found, expected) in found.mean.iter().zip(&expected.mean) {
                assert!((found - expected).abs() <= 2.4e-7 * expected.abs());
            }
            for (found, expected) in found.variance.iter().zip(&expected.variance) {
                assert!(
                    (found - expected).abs() <= 1e-5 * expected,
                    "{found} {expected}"
                );
            }
        }
    }
}

#[test]
fn norm_and_relu() {
    for dims in DIMS {
        let [gamma, beta, mean, variance] = norm_parameters(dims[1]);
        let norm = Norm::running(&mean, &variance, &gamma, &beta, 1e-5).unwrap();
        let x = uniform(&dims);
        agree(
            &|x| ir_tensor_ops::frozen_norm_relu(&x[0], &norm),
            std::slice::from_ref(&x),
        );
        let gradient = seeded(&dims, 5);
        let batch = Norm::batch(&ChannelStatistics::of(&x).unwrap(), &gamma, &beta, 1e-5).unwrap();
        for norm in [norm, batch] {
            let backward = || {
                let gradients = explicit::norm_relu_backward(&x, &norm, &gradient).unwrap();
                [gradients.x, gradients.gamma, gradients.beta]
            };
            agree_explicit(&backward);
        }
    }
}

/// x, weight, stride and padding of convolutions.
const CONVOLUTIONS: [([usize; 4], [usize; 4], usize, usize); 4] = [
    ([2, 3, 8, 8], [16, 3, 3, 3], 1, 1),
    ([2, 17, 7, 6], [5, 17, 3, 3], 2, 1),
    ([1, 16, 5, 5], [32, 16, 1, 1], 2, 0),
    ([2, 8, 6, 9], [20, 8, 3, 3], 1, 0),
];

#[test]
fn convolution() {
    for (x, weight, stride, padding) in CONVOLUTIONS {
        let bias = uniform(&[weight[0]]);
        let [x, weight] = [uniform(&x), uniform(&weight)];
        agree(
            &|x| ir_tensor_ops::conv2d(&x[0], &x[1], Some(&x[2]), stride, padding),
            &[x.clone(), weight.clone(), bias],
        );
        agree(
            &|x| ir_tensor_ops::conv2d(&x[0], &x[1], None, stride, padding),
            &[x, weight],
        );
    }
}

#[test]
fn norm_relu_and_convolution() {
    for (x, weight, stride, padding) in CONVOLUTIONS {
        let [gamma, beta, mean, variance] = norm_parameters(x[1]);
        let bias = uniform(&[weight[0]]);
        let [x, weight] = [uniform(&x), uniform(&weight)];
        let constant = Norm::running(&mean, &variance, &gamma, &beta, 1e-5).unwrap();
        let batch = Norm::batch(&ChannelStatistics::of(&x).unwrap(), &gamma, &beta, 1e-5).unwrap();
        agree(
            &|x| {
                ir_tensor_ops::frozen_norm_relu_conv2d(
                    &x[0], &constant, &weight, &bias, stride, padding,
                )
            },
            std::slice::from_ref(&x),
        );
        for norm in [&constant, &batch] {
            let y = explicit::norm_relu_conv2d(&x, norm, &weight, &bias, stride, padding, None);
            let residual = seeded(y.unwrap().dims(), 5);
            agree_explicit(&|| {
                let residual = Some(&residual);
                let y =
                    explicit::norm_relu_conv2d(&x, norm, &weight, &bias, stride, padding, residual);
                let (same, statistics) = explicit::norm_relu_conv2d_with_statistics(
                    &x, norm, &weight, &bias, stride, padding, residual,
                )
                .unwrap();
                let [mean, variance] = [statistics.mean, statistics.variance]
                    .map(|values| Tensor::new(values, &Device::Cpu).unwrap());
                [y.unwrap(), same, mean, variance]
            });
            agree_explicit(&|| {
                let gradients = explicit::norm_relu_conv2d_backward(
                    &x,
                    norm,
                    &weight,
                    stride,
                    padding,
                    &residual,
                    Some(&x),
                )
                .unwrap();
                let [x, gamma, beta] = [gradients.x, gradients.gamma, gradients.beta];
                [x, gamma, beta, gradients.weight, gradients.bias]
            });
        }
    }
}

/// Compares what `work` gives on all devices with what it gives on the CPU.
#[track_caller]
fn agree_explicit<const N: usize>(work: &dyn Fn() -> [Tensor; N]) {
    let expected = work();
    for gpu in gpus() {
        let found = gpu.in_place_of_the_cpu(work);
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found.dims(), expected.dims());
            let apart = distance(found, expected);
            assert!(apart < BOUND, "{:?}: {apart}", found.dims());
        }
    }
}
