//! The operations on tensors of an NVIDIA GPU, against the CPU. They are built with the feature `cuda` alone, and fail without a GPU.
//!
//! Both ways round sums of n terms in different orders: with terms of one size and random signs the results are
//! within a few √n · 2⁻²⁴ of each other, norm-wise; for the at most 600 terms here that is less than 5·10⁻⁶.
#![cfg(feature = "cuda")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use candle_core::{Device, Tensor, Var};
use ir_tensor_ops::gpu::{Buffer, Convolution, CudnnConvolution, Gpu, Map, Precision, Weights};
use ir_tensor_ops::{ChannelStatistics, Error, Norm, Result, explicit, per_sample, random, tap};
use rand::Rng;

const BOUND: f64 = 5e-6;

/// The GPU, with a stream of its own. A test that was built for one and passed without it would say nothing.
fn cuda() -> Device {
    match Device::new_cuda_with_stream(0) {
        Ok(device) => device,
        Err(error) => panic!("built to test a GPU, and none can be used: {error}"),
    }
}

fn uniform(shape: &[usize], seed: u64) -> Tensor {
    let mut stream = random::stream(seed, 0, 0, 0);
    let count = shape.iter().product();
    let values: Vec<f32> = std::iter::repeat_with(|| stream.random_range(-1f32..1.))
        .take(count)
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn distance(x: &Tensor, y: &Tensor) -> f64 {
    let [x, y] = [x, y].map(|x| x.to_device(&Device::Cpu).unwrap().flatten_all().unwrap());
    let norm = |x: &Tensor| {
        let values = x.to_vec1::<f32>().unwrap();
        values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>()
    };
    (norm(&(&x - &y).unwrap()) / norm(&y)).sqrt()
}

/// An operation on variables of a device.
type Operation<'a> = &'a dyn Fn(&Device, &[Tensor]) -> Result<Tensor>;

/// The result and the gradients of all arguments that have one.
fn run(operation: Operation<'_>, device: &Device, arguments: &[Tensor]) -> Vec<Tensor> {
    let variables: Vec<Tensor> = arguments
        .iter()
        .map(|x| x.to_device(device).unwrap())
        .map(|x| Var::from_tensor(&x).unwrap().into_inner())
        .collect();
    let y = operation(device, &variables).unwrap();
    assert!(y.device().same_device(device));
    let weights = uniform(y.dims(), 99).to_device(device).unwrap();
    let loss = (&y * weights).unwrap().sum_all().unwrap();
    let gradients = loss.backward().unwrap();
    let gradients = variables.iter().filter_map(|x| gradients.get(x));
    std::iter::once(&y).chain(gradients).cloned().collect()
}

/// Compares an operation on the GPU with the same on the CPU.
#[track_caller]
fn agree(operation: Operation<'_>, arguments: &[Tensor]) {
    let device = cuda();
    let expected = run(operation, &Device::Cpu, arguments);
    let found = run(operation, &device, arguments);
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        let apart = distance(found, expected);
        assert!(apart < BOUND, "{:?}: {apart}", found.dims());
    }
}

#[test]
fn relu_add_and_tap() {
    let x = uniform(&[5, 7, 3], 1);
    agree(&|_, x| ir_tensor_ops::relu(&x[0]), std::slice::from_ref(&x));
    agree(&|_, x| Ok(tap(&x[0])?.0), std::slice::from_ref(&x));
    let device = cuda();
    let x = x.to_device(&device).unwrap();
    // Neither contiguous nor at the beginning of its memory.
    let part = x.transpose(0, 2).unwrap().narrow(1, 2, 4).unwrap();
    let twice = explicit::add(&part, &part).unwrap();
    assert!(distance(&twice, &(&part * 2.).unwrap()) < 1e-7);
}

#[test]
fn linear_and_loss() {
    let arguments = [
        uniform(&[7, 33], 1),
        uniform(&[10, 33], 2),
        uniform(&[10], 3),
    ];
    agree(
        &|_, x| ir_tensor_ops::linear(&x[0], &x[1], &x[2]),
        &arguments,
    );
    let labels = Tensor::new(&[4u32, 0, 2, 2, 1], &Device::Cpu).unwrap();
    let logits = (uniform(&[5, 6], 1) * 20.).unwrap();
    agree(
        &|device, x| ir_tensor_ops::cross_entropy(&x[0], &labels.to_device(device)?),
        &[logits],
    );
}

#[test]
fn pooling() {
    for (dims, kernel) in [([2, 3, 8, 8], 8), ([1, 17, 5, 7], 2)] {
        let x = uniform(&dims, 1);
        agree(&|_, x| ir_tensor_ops::avg_pool2d(&x[0], kernel), &[x]);
    }
}

/// γ, β, mean and variance.
fn parameters(channels: usize, device: &Device) -> [Tensor; 4] {
    let variance = (uniform(&[channels], 1).abs().unwrap() + 0.1).unwrap();
    let [gamma, beta, mean] = [2, 3, 4].map(|seed| uniform(&[channels], seed));
    [gamma, beta, mean, variance].map(|tensor| tensor.to_device(device).unwrap())
}

#[test]
fn batch_norm() {
    for dims in [[4, 3, 6, 5], [2, 17, 3, 3], [32, 16, 32, 32]] {
        let [gamma, beta, ..] = parameters(dims[1], &Device::Cpu);
        let arguments = [uniform(&dims, 5), gamma, beta];
        agree(
            &|_, x| Ok(ir_tensor_ops::batch_norm_train(&x[0], &x[1], &x[2], 1e-5)?.0),
            &arguments,
        );
        agree(
            &|device, x| {
                let [_, _, mean, variance] = parameters(dims[1], device);
                ir_tensor_ops::batch_norm_eval(&x[0], &x[1], &x[2], &mean, &variance, 1e-5)
            },
            &arguments,
        );
        agree(
            &|device, x| {
                let [gamma, beta, mean, variance] = parameters(dims[1], device);
                let norm = Norm::running(&mean, &variance, &gamma, &beta, 1e-5)?;
                ir_tensor_ops::frozen_norm_relu(&x[0], &norm)
            },
            &arguments[..1],
        );
    }
}

#[test]
fn running_statistics() {
    let device = cuda();
    let statistics = ChannelStatistics::of(&uniform(&[4, 3, 6, 5], 1)).unwrap();
    let [found, expected] = [device, Device::Cpu].map(|device| {
        let [_, _, mean, variance] = parameters(3, &device);
        statistics.update_running(&mean, &variance, 0.1).unwrap();
        [mean, variance].map(|x| x.to_vec1::<f32>().unwrap())
    });
    assert_eq!(found, expected);
}

/// x, weight, stride and padding.
const CONVOLUTIONS: [([usize; 4], [usize; 4], usize, usize); 5] = [
    ([2, 3, 8, 8], [16, 3, 3, 3], 1, 1),
    ([2, 17, 7, 6], [5, 17, 3, 3], 2, 1),
    ([1, 16, 5, 5], [32, 16, 1, 1], 2, 0),
    ([4, 64, 8, 8], [64, 64, 3, 3], 1, 1),
    ([4, 16, 32, 32], [32, 16, 3, 3], 2, 1),
];

#[test]
fn convolution() {
    for (x, weight, stride, padding) in CONVOLUTIONS {
        let bias = uniform(&[weight[0]], 3);
        let [x, weight] = [uniform(&x, 1), uniform(&weight, 2)];
        let arguments = [x, weight.clone(), bias.clone()];
        agree(
            &|_, x| ir_tensor_ops::conv2d(&x[0], &x[1], Some(&x[2]), stride, padding),
            &arguments,
        );
        agree(
            &|device, x| {
                let [gamma, beta, mean, variance] = parameters(x[0].dims()[1], device);
                let norm = Norm::running(&mean, &variance, &gamma, &beta, 1e-5)?;
                let (weight, bias) = (weight.to_device(device)?, bias.to_device(device)?);
                let x = &x[0];
                ir_tensor_ops::frozen_norm_relu_conv2d(x, &norm, &weight, &bias, stride, padding)
            },
            &arguments[..1],
        );
    }
}

#[test]
fn reductions_per_sample() {
    let device = cuda();
    let labels = Tensor::new(&[4u32, 0, 2, 2, 1, 6], &Device::Cpu).unwrap();
    let logits = (uniform(&[6, 7], 3) * 30.).unwrap();
    let [x, y] = [1, 2].map(|seed| uniform(&[6, 3, 40, 40], seed));
    let [found, expected] = [device, Device::Cpu].map(|device| {
        let on = |x: &Tensor| x.to_device(&device).unwrap();
        let (labels, logits) = (on(&labels), on(&logits));
        let inner = per_sample::inner(&on(&x), &on(&y)).unwrap();
        let correct = per_sample::correct(&logits, &labels).unwrap();
        [
            inner.iter().map(|inner| inner.dot).collect(),
            per_sample::squared_norm(&on(&y)).unwrap(),
            per_sample::entropy(&logits).unwrap(),
            per_sample::cross_entropy(&logits, &labels).unwrap(),
            per_sample::probability_margin(&logits, &labels).unwrap(),
            correct
                .into_iter()
                .map(|c| f64::from(u8::from(c)))
                .collect(),
        ]
    });
    for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
        // 4800 additions in f64, or an exp and a ln.
        assert!((found - expected).abs() < 1e-9 * (1. + expected.abs()));
    }
}

#[test]
fn two_devices_are_refused() {
    let device = cuda();
    let [x, w] = [uniform(&[1, 2, 4, 4], 1), uniform(&[2, 2, 3, 3], 2)];
    let refused = ir_tensor_ops::conv2d(&x.to_device(&device).unwrap(), &w, None, 1, 1);
    assert!(matches!(
        refused,
        Err(Error::Device {
            argument: "weight",
            ..
        })
    ));
}

#[test]
fn maps_stay_on_the_device() {
    let device = cuda();
    let gpu = Gpu::new(&device).unwrap();
    for dims in [[2, 3, 5, 4], [1, 16, 3, 3], [3, 17, 1, 1]] {
        let x = uniform(&dims, 1).to_device(&device).unwrap();
        let map = Map::from_tensor(&gpu, &x, Precision::F32).unwrap();
        let y = map.to_tensor_on(&device).unwrap();
        assert!(y.device().same_device(&device));
        assert_eq!(distance(&y, &x), 0.);
        assert_eq!(distance(&map.to_tensor().unwrap(), &x), 0.);
    }
}

#[test]
fn cudnn_agrees_with_our_own() {
    let device = cuda();
    let gpu = Gpu::new(&device).unwrap();
    // bf16: half a unit in the last place of the results, 2⁻⁹, on top of different orders.
    for (precision, bound) in [(Precision::F32, BOUND), (Precision::Bf16, 4e-3)] {
        for (x, weight, stride, padding) in CONVOLUTIONS {
            let [outputs, _, kernel, _] = weight;
            let own = Convolution::new(x, outputs, kernel, stride, padding, precision).unwrap();
            let cudnn = CudnnConvolution::new(&gpu, x, outputs, kernel, stride, padding, precision);
            let cudnn = cudnn.unwrap();
            let map = |dims: [usize; 4], seed| {
                Map::from_tensor(&gpu, &uniform(&dims, seed), precision).unwrap()
            };
            let weights = Weights::from_tensor(&gpu, &uniform(&weight, 2), precision).unwrap();
            let [y_dims, room] = [own.output_dims(), own.weight_dims()];
            let (x, gradient) = (map(x, 1), map(y_dims, 3));
            let bias = Buffer::zeros(&gpu, outputs.next_multiple_of(16)).unwrap();
            let partials = Buffer::new(&gpu, own.partial_weight_len()).unwrap();

            let [y, same] = [0; 2].map(|_| Map::new(&gpu, y_dims, precision).unwrap());
            own.forward(&x, None, &weights, &bias, None, &y, None)
                .unwrap();
            cudnn.forward(&x, &weights, &same).unwrap();
            let [y, same] = [y, same].map(|map| map.to_tensor().unwrap());
            assert!(distance(&same, &y) < bound);

            let [dx, same] = [0; 2].map(|_| Map::new(&gpu, x.dims(), precision).unwrap());
            own.input_gradient(&gradient, &weights, &dx, None).unwrap();
            cudnn.input_gradient(&gradient, &weights, &same).unwrap();
            let [dx, same] = [dx, same].map(|map| map.to_tensor().unwrap());
            assert!(distance(&same, &dx) < bound);

            let [dw, same] = [0; 2].map(|_| Buffer::zeros(&gpu, own.weight_len()).unwrap());
            own.weight_gradient(&x, None, &gradient, &partials, &dw, &bias, false)
                .unwrap();
            // Once written and once added.
            cudnn.weight_gradient(&x, &gradient, &same, false).unwrap();
            cudnn.weight_gradient(&x, &gradient, &same, true).unwrap();
            let [dw, same] = [dw, same].map(|buffer| Weights::F32(buffer).to_tensor(room).unwrap());
            assert!(distance(&same, &(dw * 2.).unwrap()) < bound);
        }
    }
}
