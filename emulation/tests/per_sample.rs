//! One value per sample, on an emulated GPU, against f64 sums and the CPU.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use candle_core::{Device, Tensor};
use ir_emulation::gpus;
use ir_tensor_ops::per_sample;

fn uniform(shape: &[usize], seed: u64) -> Tensor {
    ir_emulation::uniform(shape, seed).unwrap()
}

/// |x − y| ≤ bound · (1 + |y|) everywhere.
#[track_caller]
fn close(found: &[f64], expected: &[f64], bound: f64) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        let apart = (found - expected).abs();
        assert!(apart <= bound * (1. + expected.abs()), "{found} {expected}");
    }
}

/// n additions in f64 lose at most n · 2⁻⁵³ of Σ |terms|, here at most 4000 · 2⁻⁵³ · 4000 < 2e-9.
const SUM_BOUND: f64 = 2e-9;

#[test]
fn inner_products() {
    for shape in [&[3usize, 4, 5, 7][..], &[1, 1], &[2, 3999], &[5, 512]] {
        let [x, y] = [uniform(shape, 1), uniform(shape, 2)];
        let [xs, ys] = [&x, &y].map(|x| x.flatten_from(1).unwrap().to_vec2::<f32>().unwrap());
        let product = |x: &[Vec<f32>], y: &[Vec<f32>]| -> Vec<f64> {
            let dot = |(x, y): (&Vec<f32>, &Vec<f32>)| {
                x.iter()
                    .zip(y)
                    .map(|(&x, &y)| f64::from(x) * f64::from(y))
                    .sum()
            };
            x.iter().zip(y).map(dot).collect()
        };
        for gpu in gpus() {
            gpu.in_place_of_the_cpu(|| {
                let inner = per_sample::inner(&x, &y).unwrap();
                let dots: Vec<f64> = inner.iter().map(|inner| inner.dot).collect();
                close(&dots, &product(&xs, &ys), SUM_BOUND);
                let squares: Vec<f64> = inner.iter().map(|inner| inner.y_squared).collect();
                close(&squares, &product(&ys, &ys), SUM_BOUND);
                let squares: Vec<f64> = inner.iter().map(|inner| inner.x_squared).collect();
                assert_eq!(per_sample::squared_norm(&x).unwrap(), squares);
                assert_eq!(per_sample::dot(&x, &y).unwrap(), dots);
                let cosines = per_sample::cosine(&x, &y).unwrap();
                assert_eq!(cosines[0], inner[0].cosine());
            });
        }
    }
}

#[test]
fn a_sample_does_not_depend_on_the_others() {
    let [x, y] = [uniform(&[4, 700], 1), uniform(&[4, 700], 2)];
    for gpu in gpus() {
        gpu.in_place_of_the_cpu(|| {
            let all = per_sample::inner(&x, &y).unwrap();
            for (sample, expected) in all.iter().enumerate() {
                let [x, y] = [&x, &y].map(|x| x.narrow(0, sample, 1).unwrap());
                assert_eq!(per_sample::inner(&x, &y).unwrap(), [*expected]);
            }
        });
    }
}

#[test]
fn measures_of_logits() {
    // The CPU's way adds in the same order, so that only exp and ln may differ, by a few 2⁻⁵².
    const BOUND: f64 = 1e-13;
    let labels = Tensor::new(&[4u32, 0, 2, 2, 1, 6], &Device::Cpu).unwrap();
    let ties = Tensor::ones((6, 7), candle_core::DType::F32, &Device::Cpu).unwrap();
    let small = uniform(&[6, 7], 1);
    let large = (&small * 300.).unwrap();
    for logits in [small, large, ties] {
        let measures = || {
            [
                per_sample::entropy(&logits),
                per_sample::cross_entropy(&logits, &labels),
                per_sample::probability_margin(&logits, &labels),
                per_sample::correct(&logits, &labels).map(|correct| {
                    correct
                        .into_iter()
                        .map(|c| f64::from(u8::from(c)))
                        .collect()
                }),
            ]
            .map(Result::unwrap)
        };
        let expected = measures();
        for gpu in gpus() {
            let found = gpu.in_place_of_the_cpu(measures);
            for (found, expected) in found.iter().zip(&expected) {
                close(found, expected, BOUND);
            }
        }
    }
}

#[test]
fn what_is_not_a_number_stays_so() {
    let logits = Tensor::new(&[[1f32, f32::NAN, 2.]], &Device::Cpu).unwrap();
    let labels = Tensor::new(&[2u32], &Device::Cpu).unwrap();
    for gpu in gpus() {
        gpu.in_place_of_the_cpu(|| {
            assert!(per_sample::cross_entropy(&logits, &labels).unwrap()[0].is_nan());
            assert!(per_sample::probability_margin(&logits, &labels).unwrap()[0].is_nan());
            assert!(!per_sample::correct(&logits, &labels).unwrap()[0]);
        });
    }
}
