//! Batch norm, and its fusion with ReLU and convolution, against the oracle.

use candle_core::{Device, Tensor, Var};

use super::oracle::{self, Sizes, Term, assert_close, terms};
use super::{numbers, uniform};
use crate::arch::forced;
use crate::blocks::RUN;
use crate::{ChannelStatistics, Norm, explicit};

const EPSILON: f64 = 1e-5;

/// Shapes [N, C, H, W].
const SHAPES: [[usize; 4]; 7] = [
    [2, 1, 1, 1],
    [3, 3, 5, 7],
    [2, 16, 8, 8],
    [2, 17, 3, 3],
    [5, 5, 2, 1],
    [1, 2, 33, 33],
    [2, 100, 2, 2],
];

/// The arguments of a test: x off its mean, parameters of both signs.
struct Arguments {
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor,
    variance: Tensor,
}

impl Arguments {
    fn new(shape: [usize; 4]) -> Self {
        let channels = [shape[1]];
        Self {
            x: (uniform(&shape, 1) + 0.25).unwrap(),
            gamma: uniform(&channels, 2),
            beta: uniform(&channels, 3),
            mean: uniform(&channels, 4),
            variance: (uniform(&channels, 5) + 1.5).unwrap(),
        }
    }

    fn batch(&self) -> Norm {
        let statistics = ChannelStatistics::of(&self.x).unwrap();
        Norm::batch(&statistics, &self.gamma, &self.beta, EPSILON).unwrap()
    }

    fn running(&self) -> Norm {
        let Self { mean, variance, .. } = self;
        Norm::running(mean, variance, &self.gamma, &self.beta, EPSILON).unwrap()
    }

    /// Both norms with their oracles.
    fn each(&self, relu: bool, mut body: impl FnMut(&Norm, &oracle::Norm<'_>)) {
        let (gamma, beta) = (terms(&self.gamma), terms(&self.beta));
        let (mean, variance) = (terms(&self.mean), terms(&self.variance));
        let plane = self.x.dims()[2..].iter().product();
        for (norm, running) in [
            (self.batch(), None),
            (self.running(), Some((&mean[..], &variance[..]))),
        ] {
            let oracle = oracle::Norm {
                gamma: &gamma,
                beta: &beta,
                running,
                epsilon: EPSILON,
                plane,
                relu,
            };
            body(&norm, &oracle);
        }
    }

    /// The most roundings on the way through statistics and normalisation: a chain of f32 sums three times (of x, of x², of
    /// what the gradient adds up), and twenty single operations. Chains are added up in f64.
    fn roundings(&self) -> usize {
        let plane: usize = self.x.dims()[2..].iter().product();
        3 * chain(plane) + 20
    }
}

#[test]
fn statistics_agree_with_the_oracle() {
    forced::each(|_| {
        for shape in SHAPES {
            let arguments = Arguments::new(shape);
            let found = ChannelStatistics::of(&arguments.x).unwrap();
            arguments.each(false, |_, oracle| {
                let (mean, variance) = oracle.statistics(&terms(&arguments.x));
                assert_close(&found.mean, &mean, arguments.roundings());
                assert_close(&found.variance, &variance, arguments.roundings());
            });
            assert_eq!(found.count, shape[0] * shape[2] * shape[3]);
        }
    });
}

/// Additions in f32 of one of four chains, which end after at most so many numbers, and of the four.
fn chain(numbers: usize) -> usize {
    numbers.min(RUN).div_ceil(4) + 2
}

/// Means of a thousand and of a million standard deviations. The mean of squares minus the
/// square of the mean would lose every digit of the variance.
#[test]
fn statistics_survive_a_large_mean() {
    let unit = 0.5 * f64::from(f32::EPSILON);
    for shift in [1000., f64::from(1 << 20)] {
        let x = (uniform(&[2, 3, 16, 16], 1) + shift).unwrap();
        let found = ChannelStatistics::of(&x).unwrap();
        let exact = (x.to_dtype(candle_core::DType::F64).unwrap() - shift).unwrap();
        let exact: Vec<f64> = exact.flatten_all().unwrap().to_vec1().unwrap();
        for (channel, indices) in oracle::channels(&exact, 3, 256).iter().enumerate() {
            let count = indices.len() as f64;
            let mean = indices.iter().map(|&i| exact[i]).sum::<f64>() / count;
            let squares: f64 = indices.iter().map(|&i| (exact[i] - mean).powi(2)).sum();
            let variance = squares / count;
            // Sums of d = x − x_0 and of d², x_0 being the first number of a plane: E d² less the square of E d, whose
            // relative error counts twice. E d² is the variance of the plane and the square of x_0's distance from its mean.
            let planes = indices.chunks(256).map(|plane| exact[plane[0]]);
            let apart = planes.map(|first| (first - mean).abs()).fold(0., f64::max);
            let roundings = 3 * (chain(256) + 2);
            let bound = roundings as f64 * unit * (variance + apart * apart);
            let error = (f64::from(found.variance[channel]) - variance).abs();
            assert!(error <= bound, "{shift}: {error:e} > {bound:e}");
        }
    }
}

#[test]
fn running_statistics_move_as_in_pytorch() {
    let batch = ChannelStatistics {
        mean: vec![1., -2.],
        variance: vec![3., 0.5],
        count: 4,
    };
    let mean = Tensor::new(&[0.5f32, 0.5], &Device::Cpu).unwrap();
    let variance = Tensor::new(&[1f32, 2.], &Device::Cpu).unwrap();
    batch.update_running(&mean, &variance, 0.25).unwrap();
    // 0.75·0.5 + 0.25·1, …; 0.75·1 + 0.25·3·4/3, …
    assert_eq!(numbers(&mean), [0.625, -0.125]);
    assert_eq!(numbers(&variance), [1.75, (1.5 + 0.125 * 4. / 3.) as f32]);
}

#[test]
fn norm_relu_agrees_with_the_oracle() {
    forced::each(|_| {
        for shape in SHAPES {
            let arguments = Arguments::new(shape);
            let g = uniform(&shape, 6);
            let x = &arguments.x;
            arguments.each(true, |norm, oracle| {
                let y = explicit::norm_relu(x, norm).unwrap();
                let roundings = arguments.roundings();
                assert_close(&numbers(&y), &oracle.forward(&terms(x)), roundings);
                let found = explicit::norm_relu_backward(x, norm, &g).unwrap();
                let expected = oracle.backward(&terms(x), &terms(&g));
                // The sums of the gradient come on top.
                let roundings = 2 * roundings;
                assert_close(&numbers(&found.x), &expected.x, roundings);
                assert_close(&numbers(&found.gamma), &expected.gamma, roundings);
                assert_close(&numbers(&found.beta), &expected.beta, roundings);
            });
        }
    });
}

#[test]
fn batch_norm_in_the_graph_agrees_with_the_oracle() {
    let shape = [3, 5, 4, 3];
    let arguments = Arguments::new(shape);
    let g = uniform(&shape, 6);
    let x = Var::from_tensor(&arguments.x).unwrap();
    let gamma = Var::from_tensor(&arguments.gamma).unwrap();
    let beta = Var::from_tensor(&arguments.beta).unwrap();
    arguments.each(false, |norm, oracle| {
        let y = if norm.differentiates_statistics() {
            crate::batch_norm_train(&x, &gamma, &beta, EPSILON)
                .unwrap()
                .0
        } else {
            let Arguments { mean, variance, .. } = &arguments;
            crate::batch_norm_eval(&x, &gamma, &beta, mean, variance, EPSILON).unwrap()
        };
        let roundings = arguments.roundings();
        assert_close(&numbers(&y), &oracle.forward(&terms(&x)), roundings);
        let grads = (&y * &g).unwrap().sum_all().unwrap().backward().unwrap();
        let expected = oracle.backward(&terms(&x), &terms(&g));
        for (variable, expected) in [
            (&x, expected.x),
            (&gamma, expected.gamma),
            (&beta, expected.beta),
        ] {
            assert_close(
                &numbers(grads.get(variable).unwrap()),
                &expected,
                2 * roundings,
            );
        }
    });
}

/// Batch, inputs, outputs, height, width, kernel, stride, padding.
const FUSED: [[usize; 8]; 10] = [
    [2, 3, 16, 5, 7, 3, 1, 1],
    [2, 16, 16, 8, 8, 3, 1, 1],
    [3, 17, 5, 7, 7, 3, 2, 1],
    [2, 5, 17, 1, 3, 3, 1, 1],
    [2, 8, 33, 9, 9, 3, 2, 1],
    [2, 17, 16, 8, 8, 1, 2, 0],
    [1, 2, 3, 33, 33, 1, 1, 0],
    [17, 17, 32, 16, 16, 3, 1, 1],
    [5, 32, 17, 7, 8, 3, 1, 1],
    [1, 16, 100, 33, 7, 3, 1, 1],
];

#[test]
fn norm_relu_conv2d_agrees_with_the_oracle() {
    forced::each(|_| FUSED.into_iter().for_each(check_fused));
}

fn check_fused(
    [
        batch,
        inputs,
        outputs,
        height,
        width,
        kernel,
        stride,
        padding,
    ]: [usize; 8],
) {
    let sizes = Sizes {
        batch,
        inputs,
        outputs,
        height,
        width,
        kernel,
        stride,
        padding,
    };
    let arguments = Arguments::new(sizes.x());
    let x = &arguments.x;
    let weight = uniform(&sizes.weight(), 6);
    let bias = uniform(&[outputs], 7);
    let residual = uniform(&sizes.y(), 8);
    let g = uniform(&sizes.y(), 9);
    let added = uniform(&sizes.x(), 10);
    let [_, _, out_height, out_width] = sizes.y();
    arguments.each(true, |norm, oracle| {
        let z = oracle.forward(&terms(x));
        let y = sizes.forward(&z, &terms(&weight), &terms(&bias));
        let with_residual: Vec<Term> = y
            .iter()
            .zip(terms(&residual))
            .map(|(&y, r)| y + r)
            .collect();
        let roundings = arguments.roundings() + sizes.forward_roundings() + 1;
        let plain =
            explicit::norm_relu_conv2d(x, norm, &weight, &bias, stride, padding, None).unwrap();
        assert_close(&numbers(&plain), &y, roundings);
        let (sum, statistics) = explicit::norm_relu_conv2d_with_statistics(
            x,
            norm,
            &weight,
            &bias,
            stride,
            padding,
            Some(&residual),
        )
        .unwrap();
        assert_close(&numbers(&sum), &with_residual, roundings);
        assert_eq!(statistics, ChannelStatistics::of(&sum).unwrap());

        let found = explicit::norm_relu_conv2d_backward(
            x,
            norm,
            &weight,
            stride,
            padding,
            &g,
            Some(&added),
        )
        .unwrap();
        let (dz, dw) = sizes.backward(&z, &terms(&weight), &terms(&g));
        let through_norm = oracle.backward(&terms(x), &dz);
        let dx: Vec<Term> = through_norm
            .x
            .iter()
            .zip(terms(&added))
            .map(|(&dx, added)| dx + added)
            .collect();
        let pixels = batch * out_height * out_width;
        assert_close(
            &numbers(&found.weight),
            &dw,
            arguments.roundings() + sizes.weight_gradient_roundings(),
        );
        let db = sizes.bias_gradient(&terms(&g));
        assert_close(&numbers(&found.bias), &db, pixels + 1);
        let roundings = 2 * arguments.roundings() + sizes.input_gradient_roundings() + 1;
        assert_close(&numbers(&found.x), &dx, roundings);
        assert_close(&numbers(&found.gamma), &through_norm.gamma, roundings);
        assert_close(&numbers(&found.beta), &through_norm.beta, roundings);
    });
}

#[test]
fn frozen_operations_differentiate_x_alone() {
    let sizes = Sizes {
        batch: 2,
        inputs: 5,
        outputs: 3,
        height: 4,
        width: 5,
        kernel: 3,
        stride: 1,
        padding: 1,
    };
    let arguments = Arguments::new(sizes.x());
    let x = Var::from_tensor(&arguments.x).unwrap();
    let weight = Var::from_tensor(&uniform(&sizes.weight(), 6)).unwrap();
    let bias = uniform(&[3], 7);
    let (g, z_gradient) = (uniform(&sizes.y(), 8), uniform(&sizes.x(), 9));
    arguments.each(true, |norm, oracle| {
        // With its statistics frozen, a batch norm is one with those running statistics.
        let (mean, variance) = match oracle.running {
            Some((mean, variance)) => (mean.to_vec(), variance.to_vec()),
            None => oracle.statistics(&terms(&x)),
        };
        let frozen = oracle::Norm {
            running: Some((&mean, &variance)),
            ..*oracle
        };
        let roundings = 2 * arguments.roundings() + 3 * 9 + 2;
        let y = crate::frozen_norm_relu_conv2d(&x, norm, &weight, &bias, 1, 1).unwrap();
        let grads = (&y * &g).unwrap().sum_all().unwrap().backward().unwrap();
        assert!(grads.get(&weight).is_none());
        let z = frozen.forward(&terms(&x));
        let (dz, _) = sizes.backward(&z, &terms(&weight), &terms(&g));
        let dx = frozen.backward(&terms(&x), &dz).x;
        assert_close(&numbers(grads.get(&x).unwrap()), &dx, roundings);

        let z = crate::frozen_norm_relu(&x, norm).unwrap();
        let grads = (&z * &z_gradient)
            .unwrap()
            .sum_all()
            .unwrap()
            .backward()
            .unwrap();
        let dx = frozen.backward(&terms(&x), &terms(&z_gradient)).x;
        assert_close(&numbers(grads.get(&x).unwrap()), &dx, roundings);
    });
}

#[test]
fn nan_is_passed_on() {
    let x = Tensor::new(&[f32::NAN, 1., -1., 2.], &Device::Cpu).unwrap();
    let x = x.reshape((1, 1, 2, 2)).unwrap();
    let one = Tensor::new(&[1f32], &Device::Cpu).unwrap();
    let zero = one.zeros_like().unwrap();
    let norm = Norm::running(&zero, &one, &one, &zero, EPSILON).unwrap();
    let weight = one.reshape((1, 1, 1, 1)).unwrap();
    forced::each(|_| {
        let y = explicit::norm_relu(&x, &norm).unwrap();
        let convolved = explicit::norm_relu_conv2d(&x, &norm, &weight, &zero, 1, 0, None).unwrap();
        for y in [numbers(&y), numbers(&convolved)] {
            assert!(y[0].is_nan() && y[2] == 0. && y[1] > 0.);
        }
        assert!(ChannelStatistics::of(&x).unwrap().variance[0].is_nan());
    });
}
