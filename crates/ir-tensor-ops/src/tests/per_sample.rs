//! Per-sample reductions against plain loops.

use candle_core::{Device, Tensor};
use proptest::prelude::*;

use super::{numbers, uniform};
use crate::per_sample::{self, Inner};

#[test]
fn inner_products_of_strided_tensors() {
    let x = uniform(&[3, 4, 5, 2], 1);
    let y = uniform(&[3, 4, 5, 2], 2);
    let strided = x.transpose(1, 3).unwrap().contiguous().unwrap();
    let strided = strided.transpose(1, 3).unwrap();
    assert_eq!(
        per_sample::inner(&x, &y).unwrap(),
        per_sample::inner(&strided, &y).unwrap()
    );
}

proptest! {
    /// Sums of n products of f32, which are exact in f64: off by at most n·2⁻⁵³ of Σ|xy|, here
    /// and in the loop compared with.
    #[test]
    fn inner_products(batch in 1..5usize, size in 1..70usize, purpose in 0..100u64) {
        let x = uniform(&[batch, size], purpose);
        let y = uniform(&[batch, size], purpose + 1000);
        let found = per_sample::inner(&x, &y).unwrap();
        let norms = per_sample::squared_norm(&x).unwrap();
        let (x, y) = (numbers(&x), numbers(&y));
        for sample in 0..batch {
            let row = sample * size..(sample + 1) * size;
            let product = |a: &[f32], b: &[f32]| -> (f64, f64) {
                let products = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b));
                (products.clone().sum(), products.map(f64::abs).sum())
            };
            let close = |found: f64, (expected, magnitude): (f64, f64)| {
                (found - expected).abs() <= 2. * size as f64 * f64::EPSILON / 2. * magnitude
            };
            let (x, y) = (&x[row.clone()], &y[row]);
            prop_assert!(close(found[sample].dot, product(x, y)));
            prop_assert!(close(found[sample].x_squared, product(x, x)));
            prop_assert!(close(found[sample].y_squared, product(y, y)));
            prop_assert_eq!(norms[sample], found[sample].x_squared);
        }
    }

    #[test]
    fn probabilities(batch in 1..5usize, classes in 1..12usize, purpose in 0..100u64) {
        let logits = (uniform(&[batch, classes], purpose) * 5.).unwrap();
        let labels: Vec<u32> = (0..batch).map(|n| (n * 7 % classes) as u32).collect();
        let label_tensor = Tensor::new(&labels[..], &Device::Cpu).unwrap();
        let entropy = per_sample::entropy(&logits).unwrap();
        let losses = per_sample::cross_entropy(&logits, &label_tensor).unwrap();
        let margins = per_sample::probability_margin(&logits, &label_tensor).unwrap();
        let correct = per_sample::correct(&logits, &label_tensor).unwrap();
        let logits = numbers(&logits);
        for (sample, row) in logits.chunks(classes).enumerate() {
            let sum: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
            let p: Vec<f64> = row.iter().map(|&logit| f64::from(logit).exp() / sum).collect();
            let label = labels[sample] as usize;
            let others = (0..classes).filter(|&class| class != label).map(|class| p[class]);
            let best_other = others.fold(0., f64::max);
            // Some dozens of f64 operations on numbers of order 1 (logits up to 5).
            let close = |a: f64, b: f64| (a - b).abs() < 1e-13;
            let plogp: f64 = p.iter().map(|p| p * p.ln()).sum();
            prop_assert!(close(entropy[sample], -plogp));
            prop_assert!(close(losses[sample], -p[label].ln()));
            prop_assert!(close(margins[sample], p[label] - best_other));
            prop_assert_eq!(correct[sample], p[label] > best_other);
        }
    }
}

#[test]
fn there_is_no_angle_to_nothing() {
    let cosine = |dot, x_squared, y_squared| {
        Inner {
            dot,
            x_squared,
            y_squared,
        }
        .cosine()
    };
    assert_eq!(cosine(0., 0., 1.), None);
    assert_eq!(cosine(0., 1., 0.), None);
    assert_eq!(cosine(f64::NAN, 1., 1.), None);
    assert_eq!(cosine(1., f64::INFINITY, 1.), None);
    // Rounding may push the quotient past 1.
    assert_eq!(cosine(1. + f64::EPSILON, 1., 1.), Some(1.));
    // Norms whose product of squares would vanish.
    assert_eq!(cosine(1e-200, 1e-200, 1e-200), Some(1.));
}

#[test]
fn a_label_that_ties_is_correct_only_if_first() {
    let logits = Tensor::new(
        &[[1f32, 2., 2.], [1., 2., 2.], [f32::NAN, 2., 1.]],
        &Device::Cpu,
    );
    let labels = Tensor::new(&[1u32, 2, 1], &Device::Cpu).unwrap();
    let correct = per_sample::correct(&logits.unwrap(), &labels).unwrap();
    assert_eq!(correct, [true, false, false]);
}
