//! The same bits on pools of 1, 2, 3 and 4 threads.

use candle_core::Tensor;

use super::{numbers, uniform};
use crate::arch::{Level, forced};
use crate::{ChannelStatistics, Norm, explicit, per_sample};

/// Everything that adds up numbers, on one batch that fills more than one slot of images.
fn results([height, width]: [usize; 2]) -> Vec<Vec<f32>> {
    let x = uniform(&[37, 20, height, width], 1);
    let weight = uniform(&[18, 20, 3, 3], 2);
    let bias = uniform(&[18], 3);
    let residual = uniform(&[37, 18, height, width], 4);
    let (gamma, beta) = (uniform(&[20], 5), uniform(&[20], 6));
    let statistics = ChannelStatistics::of(&x).unwrap();
    let norm = Norm::batch(&statistics, &gamma, &beta, 1e-5).unwrap();
    let (y, of_y) = explicit::norm_relu_conv2d_with_statistics(
        &x,
        &norm,
        &weight,
        &bias,
        1,
        1,
        Some(&residual),
    )
    .unwrap();
    let back =
        explicit::norm_relu_conv2d_backward(&x, &norm, &weight, 1, 1, &residual, Some(&x)).unwrap();
    let features = y.flatten_from(1).unwrap();
    let head = uniform(&[10, features.dims()[1]], 7);
    let linear = explicit::linear_backward(&features, &head, &uniform(&[37, 10], 8)).unwrap();
    let logits = explicit::linear(&features, &head, &uniform(&[10], 9)).unwrap();
    let labels = Tensor::from_vec(vec![3u32; 37], 37, y.device()).unwrap();
    let cosine = per_sample::cosine(&y, &residual).unwrap();
    vec![
        statistics.mean,
        statistics.variance,
        of_y.mean,
        of_y.variance,
        numbers(&y),
        numbers(&back.x),
        numbers(&back.gamma),
        numbers(&back.beta),
        numbers(&back.weight),
        numbers(&back.bias),
        numbers(&linear.x),
        numbers(&linear.weight),
        numbers(&linear.bias),
        numbers(&explicit::cross_entropy(&logits, &labels).unwrap()),
        numbers(&explicit::cross_entropy_backward(&logits, &labels).unwrap()),
        numbers(&explicit::avg_pool2d(&y, 3).unwrap()),
        cosine.iter().map(|cosine| cosine.unwrap() as f32).collect(),
    ]
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    // Sizes for the direct and for the Winograd convolutions.
    for size in [[9, 6], [16, 7]] {
        forced::each(|level| check(level, size));
    }
}

fn check(level: Level, size: [usize; 2]) {
    let on = |threads| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap()
            .install(|| results(size))
    };
    let bits = |results: Vec<Vec<f32>>| -> Vec<Vec<u32>> {
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
        results.into_iter().map(bits).collect()
    };
    let alone = bits(on(1));
    for threads in [2, 3, 4] {
        assert!(
            alone == bits(on(threads)),
            "{level:?}, {size:?}, {threads} threads"
        );
    }
}
