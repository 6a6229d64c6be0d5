//! Convolution against the oracle.

use candle_core::{Tensor, Var};
use proptest::prelude::*;

use super::oracle::{Sizes, assert_close, terms};
use super::{numbers, uniform};
use crate::arch::forced;
use crate::explicit::{self, Wanted};

/// Batch, inputs, outputs, height, width, kernel, stride, padding: the channels and sizes around
/// the widths of tiles and blocks, and the ones that the paper's networks have.
const CASES: [[usize; 8]; 30] = [
    [1, 1, 1, 1, 1, 1, 1, 0],
    [1, 1, 1, 1, 1, 3, 1, 1],
    [2, 3, 16, 5, 7, 3, 1, 1],
    [2, 16, 16, 8, 8, 3, 1, 1],
    [1, 16, 17, 33, 2, 3, 1, 1],
    [3, 17, 5, 7, 7, 3, 2, 1],
    [2, 5, 17, 1, 33, 3, 1, 1],
    [2, 100, 3, 5, 5, 3, 1, 1],
    [1, 3, 100, 3, 3, 3, 1, 1],
    [1, 16, 33, 33, 33, 3, 2, 1],
    [2, 17, 16, 8, 8, 1, 2, 0],
    [2, 16, 32, 7, 9, 1, 2, 0],
    [2, 3, 3, 2, 2, 3, 2, 1],
    [1, 5, 5, 3, 3, 3, 1, 0],
    [1, 4, 4, 3, 5, 3, 1, 2],
    [1, 4, 6, 5, 3, 3, 2, 2],
    [1, 3, 16, 16, 16, 1, 1, 0],
    [1, 32, 48, 4, 4, 3, 1, 1],
    [1, 9, 33, 1, 2, 3, 2, 1],
    [35, 2, 3, 2, 3, 3, 1, 1],
    [4, 16, 16, 32, 32, 3, 1, 1],
    [17, 32, 17, 16, 16, 3, 1, 1],
    [65, 17, 32, 8, 8, 3, 1, 1],
    [65, 33, 48, 7, 7, 3, 1, 1],
    [8, 100, 16, 16, 32, 3, 1, 1],
    [4, 17, 32, 33, 33, 3, 1, 1],
    [16, 16, 100, 16, 15, 3, 1, 1],
    [5, 48, 80, 7, 7, 3, 1, 1],
    [1, 17, 100, 7, 8, 3, 1, 1],
    [1, 100, 100, 4, 32, 3, 1, 1],
];

fn sizes(case: [usize; 8]) -> Sizes {
    let [
        batch,
        inputs,
        outputs,
        height,
        width,
        kernel,
        stride,
        padding,
    ] = case;
    Sizes {
        batch,
        inputs,
        outputs,
        height,
        width,
        kernel,
        stride,
        padding,
    }
}

/// Forward and backward of one case with the instruction set in force.
fn check(sizes: Sizes) {
    let Sizes {
        stride, padding, ..
    } = sizes;
    let x = uniform(&sizes.x(), 1);
    let weight = uniform(&sizes.weight(), 2);
    let bias = uniform(&[sizes.outputs], 3);
    let g = uniform(&sizes.y(), 4);
    let [_, _, out_height, out_width] = sizes.y();

    let y = explicit::conv2d(&x, &weight, Some(&bias), stride, padding).unwrap();
    assert_eq!(y.dims(), sizes.y());
    let expected = sizes.forward(&terms(&x), &terms(&weight), &terms(&bias));
    assert_close(&numbers(&y), &expected, sizes.forward_roundings());

    let both = Wanted {
        x: true,
        weight: true,
    };
    let gradients = explicit::conv2d_backward(&x, &weight, stride, padding, &g, both).unwrap();
    let (dx, dw) = sizes.backward(&terms(&x), &terms(&weight), &terms(&g));
    assert_close(
        &numbers(&gradients.x.unwrap()),
        &dx,
        sizes.input_gradient_roundings(),
    );
    assert_close(
        &numbers(&gradients.weight.unwrap()),
        &dw,
        sizes.weight_gradient_roundings(),
    );
    let db = sizes.bias_gradient(&terms(&g));
    assert_close(
        &numbers(&gradients.bias.unwrap()),
        &db,
        out_height * out_width + 1,
    );
}

#[test]
fn cases_agree_with_the_oracle() {
    forced::each(|level| {
        for case in CASES {
            println!("{level:?} {case:?}");
            check(sizes(case));
        }
    });
}

/// So many channels that all tiles of the batch take each step together. One case on one
/// instruction set: the oracle needs seconds for it.
#[test]
fn many_channels_agree_with_the_oracle() {
    let sizes = sizes([17, 257, 256, 7, 8, 3, 1, 1]);
    assert!(sizes.winograd_weight_gradient() && sizes.winograd_batched());
    check(sizes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_sizes_agree_with_the_oracle(
        (batch, inputs, outputs) in (1..4usize, 1..20usize, 1..36usize),
        (height, width) in (1..12usize, 1..20usize),
        (three, stride, padding) in (any::<bool>(), 1..3usize, 0..3usize),
    ) {
        let kernel = if three { 3 } else { 1 };
        let padding = padding.min(kernel - 1);
        let case = [batch, inputs, outputs, height, width, kernel, stride, padding];
        prop_assume!(height.min(width) + 2 * padding >= kernel);
        forced::each(|_| check(sizes(case)));
    }
}

#[test]
fn the_cases_take_both_paths() {
    let three_by_three = CASES.iter().filter(|case| case[5..] == [3, 1, 1]);
    let (winograd, direct) =
        three_by_three.partition::<Vec<&[usize; 8]>, _>(|&&case| sizes(case).winograd());
    assert!(winograd.len() >= 10 && direct.len() >= 6);
    let (winograd, direct): (Vec<_>, Vec<_>) = winograd
        .iter()
        .partition::<Vec<&[usize; 8]>, _>(|&&&case| sizes(case).winograd_weight_gradient());
    assert!(winograd.len() >= 7 && direct.len() >= 3);
}

#[test]
fn strides_other_than_the_usual_ones_give_the_same_bits() {
    // Both runs have to be on one instruction set.
    forced::each(|_| {
        let x = uniform(&[2, 7, 5, 6], 1);
        let weight = uniform(&[4, 7, 3, 3], 2);
        let turned = |t: &Tensor| {
            let turned = t.transpose(0, 3).unwrap().contiguous().unwrap();
            turned.transpose(0, 3).unwrap()
        };
        let (strided_x, strided_weight) = (turned(&x), turned(&weight));
        assert!(!strided_x.is_contiguous() && !strided_weight.is_contiguous());
        let y = explicit::conv2d(&x, &weight, None, 1, 1).unwrap();
        let same = explicit::conv2d(&strided_x, &strided_weight, None, 1, 1).unwrap();
        assert_eq!(numbers(&y), numbers(&same));
        let part = x.narrow(0, 1, 1).unwrap();
        let of_part = explicit::conv2d(&part, &weight, None, 1, 1).unwrap();
        assert_eq!(numbers(&y)[y.elem_count() / 2..], numbers(&of_part));
    });
}

#[test]
fn the_graph_gives_the_explicit_gradients() {
    // Both runs have to be on one instruction set.
    forced::each(|_| {
        let x = Var::from_tensor(&uniform(&[2, 3, 4, 5], 1)).unwrap();
        let weight = Var::from_tensor(&uniform(&[6, 3, 3, 3], 2)).unwrap();
        let bias = Var::from_tensor(&uniform(&[6], 3)).unwrap();
        let g = uniform(&[2, 6, 2, 3], 4);
        let y = crate::conv2d(&x, &weight, Some(&bias), 2, 1).unwrap();
        let grads = (&y * &g).unwrap().sum_all().unwrap().backward().unwrap();
        let both = Wanted {
            x: true,
            weight: true,
        };
        let explicit = explicit::conv2d_backward(&x, &weight, 2, 1, &g, both).unwrap();
        for (variable, gradient) in [
            (&x, explicit.x),
            (&weight, explicit.weight),
            (&bias, explicit.bias),
        ] {
            assert_eq!(
                numbers(grads.get(variable).unwrap()),
                numbers(&gradient.unwrap())
            );
        }
    });
}

#[test]
fn the_graph_skips_constants_and_keeps_the_way_to_strided_variables() {
    let x = Var::from_tensor(&uniform(&[1, 2, 3, 4], 1)).unwrap();
    let weight = uniform(&[2, 2, 3, 3], 2);
    let y = crate::conv2d(&x.transpose(2, 3).unwrap(), &weight, None, 1, 1).unwrap();
    let grads = y.sum_all().unwrap().backward().unwrap();
    assert!(grads.get(&weight).is_none());
    assert_eq!(grads.get(&x).unwrap().dims(), x.dims());
    let constant = crate::conv2d(&weight, &weight, None, 1, 1).unwrap();
    assert!(!constant.track_op());
}
