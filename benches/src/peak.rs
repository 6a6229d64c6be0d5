//! What the machine can do at best: multiply-adds a second, bytes a second.

use std::hint::black_box;
use std::time::Instant;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Independent sums: enough that two pipelines with a latency of four or five cycles never wait.
const SUMS: usize = 16;

/// Repetitions of which the fastest counts, since anything that disturbs a run slows it down.
const RUNS: usize = 50;

/// f32 operations a second on all of rayon's threads at once, a multiplication and an addition
/// each counted, from multiply-adds on registers in the widest vectors that the machine has.
///
/// ```
/// assert!(ir_benches::peak::operations_per_second() > 1e8);
/// ```
pub fn operations_per_second() -> f64 {
    const ROUNDS: usize = 1_000_000;
    fastest(|| {
        let arch = Arch::new();
        let lanes = rayon::broadcast(|_| arch.dispatch(MultiplyAdds { rounds: ROUNDS }));
        2 * SUMS * ROUNDS * lanes.iter().sum::<usize>()
    })
}

/// Bytes a second, read and written, of copying on all threads between buffers far larger than any cache.
///
/// ```
/// assert!(ir_benches::peak::bytes_per_second() > 1e8);
/// ```
pub fn bytes_per_second() -> f64 {
    const VALUES: usize = 1 << 25;
    let source = vec![1f32; VALUES];
    let mut target = vec![0f32; VALUES];
    let piece = VALUES.div_ceil(rayon::current_num_threads());
    fastest(|| {
        let pieces = target.par_chunks_mut(piece).zip(source.par_chunks(piece));
        pieces.for_each(|(target, source)| target.copy_from_slice(source));
        black_box(&mut target);
        2 * VALUES * size_of::<f32>()
    })
}

/// The highest rate of `run`, which returns how much it did, over several runs.
fn fastest(mut run: impl FnMut() -> usize) -> f64 {
    let rate = |_| {
        let start = Instant::now();
        let done = run();
        done as f64 / start.elapsed().as_secs_f64()
    };
    (0..RUNS).map(rate).fold(0.0, f64::max)
}

/// s ← s · a + b in vectors; returns their number of lanes.
struct MultiplyAdds {
    rounds: usize,
}

impl WithSimd for MultiplyAdds {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> usize {
        let a = simd.splat_f32s(black_box(0.5));
        let b = simd.splat_f32s(black_box(1.0));
        let mut sums = [b; SUMS];
        for _ in 0..self.rounds {
            for sum in &mut sums {
                *sum = simd.mul_add_f32s(*sum, a, b);
            }
        }
        for sum in sums {
            black_box(simd.reduce_sum_f32s(sum));
        }
        S::F32_LANES
    }
}
