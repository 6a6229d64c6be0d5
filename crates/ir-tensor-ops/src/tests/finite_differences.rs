//! The oracle's gradients against central differences of the oracle's values, in f64.
//!
//! With a step h = 2⁻¹⁷ a central difference is off by h²/6 times a third derivative, and by
//! 2⁻⁵³·n·magnitude / h for the rounding of a sum of n terms: for the data here, with values
//! and derivatives of order 1 to 100, both stay below 1e-7 of the gradient's magnitude.

use super::oracle::{Norm, Sizes, Term, terms};
use super::uniform;

const STEP: f64 = 1. / (1 << 17) as f64;

/// Compares a gradient with central differences of `loss` around `at`.
pub(super) fn check(name: &str, at: &[Term], gradient: &[Term], loss: impl Fn(&[Term]) -> f64) {
    assert_eq!(at.len(), gradient.len());
    for (index, gradient) in gradient.iter().enumerate() {
        let shifted = |by: f64| {
            let mut point = at.to_vec();
            point[index] = Term::from(at[index].value + by);
            loss(&point)
        };
        let difference = (shifted(STEP) - shifted(-STEP)) / (2. * STEP);
        let error = (difference - gradient.value).abs();
        assert!(
            error <= 1e-7 * (1. + gradient.magnitude),
            "{name}[{index}]: gradient {}, difference {difference}",
            gradient.value
        );
    }
}

/// Σ y·g.
fn weighted(y: &[Term], gradient: &[Term]) -> f64 {
    y.iter().zip(gradient).map(|(y, g)| y.value * g.value).sum()
}

#[test]
fn the_convolution_oracle_is_differentiated_correctly() {
    for (kernel, stride, padding, height, width) in [
        (3, 1, 1, 3, 5),
        (3, 2, 1, 5, 4),
        (3, 1, 0, 3, 4),
        (1, 1, 0, 2, 3),
        (1, 2, 0, 3, 3),
        (3, 1, 1, 1, 1),
    ] {
        let sizes = Sizes {
            batch: 2,
            inputs: 3,
            outputs: 2,
            height,
            width,
            kernel,
            stride,
            padding,
        };
        let x = terms(&uniform(&sizes.x(), 1));
        let weight = terms(&uniform(&sizes.weight(), 2));
        let bias = terms(&uniform(&[2], 3));
        let g = terms(&uniform(&sizes.y(), 4));
        let (dx, dw) = sizes.backward(&x, &weight, &g);
        check("x", &x, &dx, |x| {
            weighted(&sizes.forward(x, &weight, &bias), &g)
        });
        check("weight", &weight, &dw, |weight| {
            weighted(&sizes.forward(&x, weight, &bias), &g)
        });
        check("bias", &bias, &sizes.bias_gradient(&g), |bias| {
            weighted(&sizes.forward(&x, &weight, bias), &g)
        });
    }
}

#[test]
fn the_norm_oracle_is_differentiated_correctly() {
    let (shape, plane) = ([3, 2, 2, 3], 6);
    let x = terms(&uniform(&shape, 1));
    let g = terms(&uniform(&shape, 2));
    let gamma = terms(&uniform(&[2], 3));
    let beta = terms(&uniform(&[2], 4));
    let mean = terms(&uniform(&[2], 5));
    let variance = [Term::from(0.5), Term::from(2.)];
    for relu in [false, true] {
        for running in [None, Some((&mean[..], &variance[..]))] {
            let loss = |x: &[Term], gamma: &[Term], beta: &[Term]| {
                let norm = Norm {
                    gamma,
                    beta,
                    running,
                    epsilon: 1e-3,
                    plane,
                    relu,
                };
                weighted(&norm.forward(x), &g)
            };
            let norm = Norm {
                gamma: &gamma,
                beta: &beta,
                running,
                epsilon: 1e-3,
                plane,
                relu,
            };
            let gradients = norm.backward(&x, &g);
            check("x", &x, &gradients.x, |x| loss(x, &gamma, &beta));
            check("gamma", &gamma, &gradients.gamma, |gamma| {
                loss(&x, gamma, &beta)
            });
            check("beta", &beta, &gradients.beta, |beta| {
                loss(&x, &gamma, beta)
            });
        }
    }
}
