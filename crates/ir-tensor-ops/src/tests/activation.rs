//! Activations give the bits that tensors give: only the layout of the operands differs.

use candle_core::Tensor;

use super::{numbers, uniform};
use crate::arch::forced;
use crate::explicit::{self, Wanted};
use crate::{Activation, ChannelStatistics, Conv2d, Norm, Workspace};

/// Batch, inputs, outputs, height, width, kernel, stride: through Winograd's path, the direct
/// one at both strides, and with channels and sizes that fill no block and no tile.
const SHAPES: [[usize; 7]; 6] = [
    [3, 16, 32, 8, 8, 3, 1],
    [5, 20, 17, 9, 10, 3, 1],
    [2, 3, 16, 8, 8, 3, 1],
    [2, 16, 32, 8, 6, 3, 2],
    [2, 17, 5, 5, 7, 1, 2],
    [9, 33, 20, 8, 8, 3, 1],
];

fn equal(activation: &Activation, tensor: &Tensor) {
    assert_eq!(&activation.dims(), tensor.dims());
    same(&activation.to_tensor().unwrap(), tensor);
}

/// Fails at the first number that differs.
fn same(found: &Tensor, expected: &Tensor) {
    let (found, expected) = (numbers(found), numbers(expected));
    assert_eq!(found.len(), expected.len());
    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert_eq!(found.to_bits(), expected.to_bits(), "number {index}");
    }
}

#[test]
fn a_tensor_comes_back_as_it_went() {
    forced::each(|_| compare_copies());
}

fn compare_copies() {
    for shape in [[1, 1, 1, 1], [2, 16, 4, 4], [3, 21, 5, 7]] {
        let x = uniform(&shape, 0);
        let activation = Activation::from_tensor(&Workspace::default(), &x).unwrap();
        equal(&activation, &x);
        assert_eq!(activation.statistics(), ChannelStatistics::of(&x).unwrap());
    }
}

#[test]
fn convolutions_have_the_bits_of_those_of_tensors() {
    forced::each(|_| compare_convolutions());
}

fn compare_convolutions() {
    for [n, i, o, height, width, kernel, stride] in SHAPES {
        let padding = kernel / 2;
        let x = uniform(&[n, i, height, width], 0);
        let weight = uniform(&[o, i, kernel, kernel], 1);
        let bias = uniform(&[o], 2);
        let layer = Conv2d {
            weight: &weight,
            bias: &bias,
            stride,
            padding,
        };
        let workspace = Workspace::default();
        let turned = |x: &Tensor| Activation::from_tensor(&workspace, x).unwrap();
        let norm = {
            let statistics = ChannelStatistics::of(&x).unwrap();
            Norm::batch(&statistics, &uniform(&[i], 3), &uniform(&[i], 4), 1e-5).unwrap()
        };

        let y = explicit::conv2d(&x, &weight, Some(&bias), stride, padding).unwrap();
        let activation = turned(&x);
        let found = activation.conv2d(layer).unwrap();
        equal(&found, &y);
        let gradient = uniform(y.dims(), 5);
        let wanted = Wanted {
            x: true,
            weight: true,
        };
        let expected =
            explicit::conv2d_backward(&x, &weight, stride, padding, &gradient, wanted).unwrap();
        let found = activation
            .conv2d_backward(layer, &mut turned(&gradient).into(), wanted)
            .unwrap();
        equal(&found.x.unwrap().whole(), &expected.x.unwrap());
        same(&found.weight.unwrap(), &expected.weight.unwrap());
        same(&found.bias.unwrap(), &expected.bias.unwrap());

        let residual = uniform(y.dims(), 6);
        let (y, statistics) = explicit::norm_relu_conv2d_with_statistics(
            &x,
            &norm,
            &weight,
            &bias,
            stride,
            padding,
            Some(&residual),
        )
        .unwrap();
        let (found, of_found) = activation
            .norm_relu_conv2d_with_statistics(&norm, layer, Some(&turned(&residual)))
            .unwrap();
        equal(&found, &y);
        assert_eq!(of_found, statistics);
        let added = uniform(x.dims(), 7);
        let expected = explicit::norm_relu_conv2d_backward(
            &x,
            &norm,
            &weight,
            stride,
            padding,
            &gradient,
            Some(&added),
        )
        .unwrap();
        let found = activation
            .norm_relu_conv2d_backward(
                &norm,
                layer,
                &mut turned(&gradient).into(),
                Some(turned(&added)),
            )
            .unwrap();
        equal(&found.x.unwrap().whole(), &expected.x);
        same(&found.weight.unwrap(), &expected.weight);
        same(&found.bias.unwrap(), &expected.bias);
        let of_norm = found.norm.unwrap();
        same(&of_norm.gamma, &expected.gamma);
        same(&of_norm.beta, &expected.beta);
    }
}

/// Pooling multiplies by the reciprocal on both ways and adds a window row by row.
#[test]
fn pooling_has_the_bits_of_that_of_tensors() {
    forced::each(|_| compare_pooling());
}

fn compare_pooling() {
    for ([n, c, height, width], kernel) in
        [([2, 20, 8, 8], 8), ([3, 16, 6, 4], 2), ([2, 5, 5, 7], 2)]
    {
        let x = uniform(&[n, c, height, width], 0);
        let statistics = ChannelStatistics::of(&x).unwrap();
        let norm = Norm::batch(&statistics, &uniform(&[c], 3), &uniform(&[c], 4), 1e-5).unwrap();
        let workspace = Workspace::default();
        let activation = Activation::from_tensor(&workspace, &x).unwrap();
        let pooled = explicit::avg_pool2d(&x, kernel).unwrap();
        equal(&activation.avg_pool2d(kernel).unwrap(), &pooled);
        let gradient = uniform(pooled.dims(), 5);
        let turned = Activation::from_tensor(&workspace, &gradient).unwrap();
        let spread = explicit::avg_pool2d_backward(x.dims(), kernel, &gradient).unwrap();
        equal(
            &turned
                .avg_pool2d_backward(kernel, activation.dims())
                .unwrap(),
            &spread,
        );

        let active = explicit::norm_relu(&x, &norm).unwrap();
        let pooled = explicit::avg_pool2d(&active, kernel).unwrap();
        equal(
            &activation.norm_relu_avg_pool2d(&norm, kernel).unwrap(),
            &pooled,
        );
        let expected = explicit::norm_relu_backward(&x, &norm, &spread).unwrap();
        let (dx, found) = activation
            .norm_relu_avg_pool2d_backward(&norm, kernel, &turned)
            .unwrap();
        equal(&dx.whole(), &expected.x);
        same(&found.gamma, &expected.gamma);
        same(&found.beta, &expected.beta);
    }
}

#[test]
fn memory_is_used_again() {
    let workspace = Workspace::default();
    let x = uniform(&[4, 16, 4, 4], 0);
    drop(Activation::from_tensor(&workspace, &x).unwrap());
    let idle = workspace.idle_bytes();
    let half = Activation::from_tensor(&workspace, &x.narrow(0, 0, 2).unwrap()).unwrap();
    assert_eq!(workspace.idle_bytes(), 0);
    drop(half);
    assert_eq!(workspace.idle_bytes(), idle);
}

#[test]
fn sizes_that_grow_do_not_pile_up() {
    let workspace = Workspace::default();
    let largest = 40;
    for batch in 1..=largest {
        drop(Activation::from_tensor(&workspace, &uniform(&[batch, 16, 4, 4], 1)).unwrap());
    }
    assert_eq!(workspace.idle_bytes(), largest * 16 * 4 * 4 * 4);
}
