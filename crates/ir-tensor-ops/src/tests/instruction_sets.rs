//! Which operations have the same bits on every instruction set, and which do not.
//!
//! A fused multiply-add rounds once, a multiplication and an addition round twice. AVX2 and
//! AVX-512 have the one, the portable kernels the other; the order of every sum is the same on all.

use candle_core::Tensor;

use super::{numbers, uniform};
use crate::arch::{Level, forced};
use crate::{ChannelStatistics, Norm, explicit, per_sample};

/// Operations on one batch, by name, as bits.
type Results = Vec<(&'static str, Vec<u32>)>;

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Operations whose sums are of products in f32.
fn products() -> Results {
    let x = uniform(&[9, 20, 16, 7], 1);
    let weight = uniform(&[18, 20, 3, 3], 2);
    let bias = uniform(&[18], 3);
    let y = uniform(&[9, 18, 16, 7], 4);
    let (gamma, beta) = (uniform(&[20], 5), uniform(&[20], 6));
    let statistics = ChannelStatistics::of(&x).unwrap();
    let norm = Norm::batch(&statistics, &gamma, &beta, 1e-5).unwrap();
    let out = explicit::norm_relu_conv2d(&x, &norm, &weight, &bias, 1, 1, None).unwrap();
    let back = explicit::norm_relu_conv2d_backward(&x, &norm, &weight, 1, 1, &y, None).unwrap();
    vec![
        ("convolution", bits(&numbers(&out))),
        ("its input gradient", bits(&numbers(&back.x))),
        ("its weight gradient", bits(&numbers(&back.weight))),
        ("channel variances", bits(&statistics.variance)),
    ]
}

/// Operations that add up what is exact, or in f64.
fn others() -> Results {
    let x = uniform(&[9, 20, 16, 7], 1);
    let y = uniform(&[9, 20, 16, 7], 4);
    let statistics = ChannelStatistics::of(&x).unwrap();
    let features = x.flatten_from(1).unwrap();
    let head = uniform(&[10, features.dims()[1]], 7);
    let linear = explicit::linear(&features, &head, &uniform(&[10], 9)).unwrap();
    let logits = uniform(&[9, 10], 8);
    let labels = Tensor::from_vec(vec![3u32; 9], 9, x.device()).unwrap();
    let cosine = per_sample::cosine(&x, &y).unwrap();
    let cosine: Vec<f32> = cosine.iter().map(|cosine| cosine.unwrap() as f32).collect();
    let loss = explicit::cross_entropy(&logits, &labels).unwrap();
    let back = explicit::cross_entropy_backward(&logits, &labels).unwrap();
    vec![
        ("channel means", bits(&statistics.mean)),
        ("linear", bits(&numbers(&linear))),
        (
            "average pooling",
            bits(&numbers(&explicit::avg_pool2d(&x, 3).unwrap())),
        ),
        ("cross-entropy", bits(&numbers(&loss))),
        ("its gradient", bits(&numbers(&back))),
        ("cosine", bits(&cosine)),
    ]
}

/// What an operation gives on every instruction set of this CPU.
fn on_each(operations: fn() -> Results) -> Vec<(Level, Results)> {
    let mut all = Vec::new();
    forced::each(|level| all.push((level, operations())));
    all
}

#[test]
fn other_operations_are_the_same_on_every_instruction_set() {
    let all = on_each(others);
    for (level, results) in &all {
        assert!(*results == all[0].1, "{level:?}");
    }
}

#[test]
fn products_are_the_same_on_all_that_round_once() {
    let all = on_each(products);
    let (twice, once): (Vec<_>, Vec<_>) = all
        .iter()
        .partition(|(level, _)| matches!(level, Level::Portable(_)));
    for (level, results) in &once {
        assert!(*results == once[0].1, "{level:?}");
        // Were they the same, docs/determinism.md would say too little.
        for ((name, fused), (_, portable)) in results.iter().zip(&twice[0].1) {
            assert!(fused != portable, "{level:?}: {name}");
        }
    }
}
