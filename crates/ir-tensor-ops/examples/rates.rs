//! Times the kernels on four shapes of the paper's nets.
use candle_core::{Device, Tensor};
use ir_tensor_ops::explicit::{self, Wanted};
use ir_tensor_ops::{ChannelStatistics, Norm};
use std::time::Instant;

fn best(mut f: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..20 {
        let start = Instant::now();
        f();
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

#[allow(clippy::unwrap_used, clippy::print_stdout)]
fn main() {
    for (n, c, s) in [
        (128, 16, 32),
        (128, 32, 16),
        (128, 64, 8),
        (32, 100, 32),
        (32, 150, 16),
    ] {
        let x = Tensor::randn(0f32, 1., (n, c, s, s), &Device::Cpu).unwrap();
        let w = Tensor::randn(0f32, 0.1, (c, c, 3, 3), &Device::Cpu).unwrap();
        let b = Tensor::randn(0f32, 0.1, c, &Device::Cpu).unwrap();
        let statistics = ChannelStatistics::of(&x).unwrap();
        let norm = Norm::batch(&statistics, &b, &b, 1e-5).unwrap();
        let flops = (2 * 9 * c * c * s * s * n) as f64;
        let show = |name: &str, t: f64| {
            println!(
                "C{c} {s}x{s} b{n} {name}: {:.2} ms {:.0} GF/s",
                t * 1e3,
                flops / t / 1e9
            );
        };
        show(
            "forward",
            best(|| drop(explicit::conv2d(&x, &w, None, 1, 1).unwrap())),
        );
        show(
            "fused forward",
            best(|| {
                drop(
                    explicit::norm_relu_conv2d_with_statistics(&x, &norm, &w, &b, 1, 1, Some(&x))
                        .unwrap(),
                )
            }),
        );
        show(
            "dgrad",
            best(|| {
                drop(
                    explicit::conv2d_backward(
                        &x,
                        &w,
                        1,
                        1,
                        &x,
                        Wanted {
                            x: true,
                            weight: false,
                        },
                    )
                    .unwrap(),
                )
            }),
        );
        show(
            "wgrad",
            best(|| {
                drop(
                    explicit::conv2d_backward(
                        &x,
                        &w,
                        1,
                        1,
                        &x,
                        Wanted {
                            x: false,
                            weight: true,
                        },
                    )
                    .unwrap(),
                )
            }),
        );
        show(
            "fused backward",
            best(|| {
                drop(
                    explicit::norm_relu_conv2d_backward(&x, &norm, &w, 1, 1, &x, Some(&x)).unwrap(),
                )
            }),
        );
        show(
            "statistics",
            best(|| drop(ChannelStatistics::of(&x).unwrap())),
        );
    }
}
