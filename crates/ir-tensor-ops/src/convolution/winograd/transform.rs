//! The linear maps of F(4×4, 3×3) for the points 0, ±a, ±b, ∞ with a = 3/4 and b = 3/2.
//!
//! In one dimension, 4 outputs y of 3 taps w on 6 inputs x are y = Aᵀ ((G w) ⊙ (Bᵀ x)):
//!
//! ```text
//! Aᵀ = 1 1  1  1  1  0    G = 1/(a²b²)  ·  1  0  0    Bᵀ = a²b²  0     −(a²+b²)  0         1  0
//!      0 a −a  b −b  0        1/N_a     ·  1  a  a²        0   −ab²    −b²       a         1  0
//!      0 a² a² b² b² 0        1/N_a     ·  1 −a  a²        0    ab²    −b²      −a         1  0
//!      0 a³−a³ b³−b³ 1        1/N_b     ·  1  b  b²        0   −a²b    −a²       b         1  0
//!                             1/N_b     ·  1 −b  b²        0    a²b    −a²      −b         1  0
//!                                          0  0  1         0    a²b²    0      −(a²+b²)    0  1
//! ```
//!
//! with N_a = 2a²(a² − b²) and N_b = 2b²(b² − a²): the rows of Bᵀ are the polynomials that
//! vanish at all points but one. In two dimensions each map is applied to columns, then rows.
//! Every constant of Aᵀ and Bᵀ is exact in f32; G is applied in f64 and the result rounded once.

use crate::arch::{LANES, Vector};

/// The inputs under a tile of outputs, in one dimension: the interpolation points.
pub(super) const POINTS: usize = 6;
/// The outputs of a tile, in one dimension.
pub(super) const OUTPUTS: usize = 4;
/// The numbers of a transformed tile.
pub(super) const POSITIONS: usize = POINTS * POINTS;

const TAPS: usize = 3;
const A: f32 = 0.75;
const B: f32 = 1.5;
const AA: f32 = A * A;
const BB: f32 = B * B;

const G: [[f64; TAPS]; POINTS] = {
    let (a, b) = (A as f64, B as f64);
    let (aa, bb) = (a * a, b * b);
    let (na, nb) = (2. * aa * (aa - bb), 2. * bb * (bb - aa));
    [
        [1. / (aa * bb), 0., 0.],
        [1. / na, a / na, aa / na],
        [1. / na, -a / na, aa / na],
        [1. / nb, b / nb, bb / nb],
        [1. / nb, -b / nb, bb / nb],
        [0., 0., 1.],
    ]
};

/// factor · x + y.
#[inline(always)]
fn scaled<V: Vector>(vector: V, factor: f32, x: V::Register, y: V::Register) -> V::Register {
    vector.multiply_add(vector.splat(factor), x, y)
}

/// Bᵀ x.
#[inline(always)]
pub(super) fn input<V: Vector>(vector: V, x: [V::Register; POINTS]) -> [V::Register; POINTS] {
    let (even_a, odd_a) = (
        scaled(vector, -BB, x[2], x[4]),
        scaled(vector, -BB, x[1], x[3]),
    );
    let (even_b, odd_b) = (
        scaled(vector, -AA, x[2], x[4]),
        scaled(vector, -AA, x[1], x[3]),
    );
    [
        scaled(
            vector,
            AA * BB,
            x[0],
            scaled(vector, -(AA + BB), x[2], x[4]),
        ),
        scaled(vector, A, odd_a, even_a),
        scaled(vector, -A, odd_a, even_a),
        scaled(vector, B, odd_b, even_b),
        scaled(vector, -B, odd_b, even_b),
        scaled(
            vector,
            AA * BB,
            x[1],
            scaled(vector, -(AA + BB), x[3], x[5]),
        ),
    ]
}

/// Aᵀ m.
#[inline(always)]
pub(super) fn output<V: Vector>(vector: V, m: [V::Register; POINTS]) -> [V::Register; OUTPUTS] {
    let zero = vector.splat(0.);
    let (even_a, odd_a) = (vector.add(m[1], m[2]), scaled(vector, -1., m[2], m[1]));
    let (even_b, odd_b) = (vector.add(m[3], m[4]), scaled(vector, -1., m[4], m[3]));
    [
        vector.add(m[0], vector.add(even_a, even_b)),
        scaled(vector, A, odd_a, scaled(vector, B, odd_b, zero)),
        scaled(vector, AA, even_a, scaled(vector, BB, even_b, zero)),
        scaled(vector, AA * A, odd_a, scaled(vector, BB * B, odd_b, m[5])),
    ]
}

/// A y, the adjoint of [`output`].
#[inline(always)]
pub(super) fn output_adjoint<V: Vector>(
    vector: V,
    y: [V::Register; OUTPUTS],
) -> [V::Register; POINTS] {
    let (even_a, odd_a) = (
        scaled(vector, AA, y[2], y[0]),
        scaled(vector, AA, y[3], y[1]),
    );
    let (even_b, odd_b) = (
        scaled(vector, BB, y[2], y[0]),
        scaled(vector, BB, y[3], y[1]),
    );
    [
        y[0],
        scaled(vector, A, odd_a, even_a),
        scaled(vector, -A, odd_a, even_a),
        scaled(vector, B, odd_b, even_b),
        scaled(vector, -B, odd_b, even_b),
        y[3],
    ]
}

/// Sixteen numbers in double precision.
pub(super) type Doubles = [f64; LANES];

/// G w Gᵀ.
#[inline(always)]
pub(super) fn weight(w: &[Doubles; TAPS * TAPS]) -> [Doubles; POSITIONS] {
    let mut columns = [[[0.; LANES]; POINTS]; TAPS];
    for (kx, column) in columns.iter_mut().enumerate() {
        *column = weight_line([&w[kx], &w[TAPS + kx], &w[2 * TAPS + kx]]);
    }
    let mut u = [[0.; LANES]; POSITIONS];
    for (i, row) in u.chunks_exact_mut(POINTS).enumerate() {
        let line = weight_line([&columns[0][i], &columns[1][i], &columns[2][i]]);
        row.copy_from_slice(&line);
    }
    u
}

/// G w. The rows for a and −a, and those for b and −b, share their even and odd parts.
#[inline(always)]
fn weight_line(w: [&Doubles; TAPS]) -> [Doubles; POINTS] {
    let mut line = [[0.; LANES]; POINTS];
    for lane in 0..LANES {
        let [w0, w1, w2] = [w[0][lane], w[1][lane], w[2][lane]];
        let (even_a, odd_a) = (G[1][0] * w0 + G[1][2] * w2, G[1][1] * w1);
        let (even_b, odd_b) = (G[3][0] * w0 + G[3][2] * w2, G[3][1] * w1);
        line[0][lane] = G[0][0] * w0;
        line[1][lane] = even_a + odd_a;
        line[2][lane] = even_a - odd_a;
        line[3][lane] = even_b + odd_b;
        line[4][lane] = even_b - odd_b;
        line[5][lane] = w2;
    }
    line
}

/// Gᵀ u G, the adjoint of [`weight`].
#[inline(always)]
pub(super) fn weight_adjoint(u: &[Doubles; POSITIONS]) -> [Doubles; TAPS * TAPS] {
    let mut rows = [[[0.; LANES]; TAPS]; POINTS];
    for (i, row) in rows.iter_mut().enumerate() {
        let line: [&Doubles; POINTS] = std::array::from_fn(|j| &u[i * POINTS + j]);
        *row = adjoint_line(line);
    }
    let mut w = [[0.; LANES]; TAPS * TAPS];
    for kx in 0..TAPS {
        let line: [&Doubles; POINTS] = std::array::from_fn(|i| &rows[i][kx]);
        let column = adjoint_line(line);
        for (ky, taps) in column.iter().enumerate() {
            w[ky * TAPS + kx] = *taps;
        }
    }
    w
}

/// Gᵀ u, the adjoint of [`weight_line`].
#[inline(always)]
fn adjoint_line(u: [&Doubles; POINTS]) -> [Doubles; TAPS] {
    let mut line = [[0.; LANES]; TAPS];
    for lane in 0..LANES {
        let (sum_a, difference_a) = (u[1][lane] + u[2][lane], u[1][lane] - u[2][lane]);
        let (sum_b, difference_b) = (u[3][lane] + u[4][lane], u[3][lane] - u[4][lane]);
        line[0][lane] = G[0][0] * u[0][lane] + G[1][0] * sum_a + G[3][0] * sum_b;
        line[1][lane] = G[1][1] * difference_a + G[3][1] * difference_b;
        line[2][lane] = G[1][2] * sum_a + G[3][2] * sum_b + u[5][lane];
    }
    line
}

#[cfg(test)]
mod tests {
    //! The error bound of the whole convolution is far above what a slightly wrong constant
    //! does; here the maps themselves are exact.

    use super::*;
    use crate::arch::{self, Kernel, Lanes, forced};

    /// The columns of Bᵀ, Aᵀ and A.
    struct Columns;

    impl Kernel for Columns {
        type Output = ([[f64; 6]; 6], [[f64; 4]; 6], [[f64; 6]; 4]);

        #[inline(always)]
        fn run<V: Vector>(self, vector: V) -> Self::Output {
            (
                std::array::from_fn(|i| numbers(vector, input(vector, unit(vector, i)))),
                std::array::from_fn(|i| numbers(vector, output(vector, unit(vector, i)))),
                std::array::from_fn(|i| numbers(vector, output_adjoint(vector, unit(vector, i)))),
            )
        }
    }

    /// The unit vector `index`, in every lane.
    fn unit<V: Vector, const N: usize>(vector: V, index: usize) -> [V::Register; N] {
        std::array::from_fn(|i| vector.splat(f32::from(u8::from(i == index))))
    }

    /// The first lanes.
    fn numbers<V: Vector, const N: usize>(vector: V, registers: [V::Register; N]) -> [f64; N] {
        registers.map(|register| {
            let mut lanes = Lanes::ZERO;
            vector.store(register, &mut lanes);
            f64::from(lanes.0[0])
        })
    }

    /// Σ_p Aᵀ[y, p] G[p, tap] Bᵀ[p, x] is 1 where x = y + tap and 0 elsewhere: the maps make a
    /// correlation. Aᵀ and Bᵀ are exact on unit vectors; each of the six products is off by at
    /// most eight roundings in f64, six of them those of G.
    #[test]
    fn the_maps_make_a_correlation() {
        forced::each(|level| {
            let (input, output, adjoint) = arch::run(Columns);
            for (y, adjoint) in adjoint.iter().enumerate() {
                assert_eq!(&output.map(|column| column[y]), adjoint);
            }
            for (x, input) in input.iter().enumerate() {
                for pair in 0..OUTPUTS * TAPS {
                    let (y, tap) = (pair / TAPS, pair % TAPS);
                    let product = |p: usize| output[p][y] * G[p][tap] * input[p];
                    let sum: f64 = (0..POINTS).map(product).sum();
                    let magnitude: f64 = (0..POINTS).map(|p| product(p).abs()).sum();
                    let error = (sum - f64::from(u8::from(x == y + tap))).abs();
                    let bound = 14. * 0.5 * f64::EPSILON * magnitude;
                    assert!(error <= bound, "{level:?}: {y}, {tap}, {x}: {error:e}");
                }
            }
        });
    }

    /// The weight's maps on unit vectors: each number is one product of two numbers of G.
    #[test]
    fn the_weight_maps_are_g_on_both_sides() {
        for tap in 0..TAPS * TAPS {
            let mut w = [[0.; LANES]; TAPS * TAPS];
            w[tap] = [1.; LANES];
            let transformed = weight(&w);
            for position in 0..POSITIONS {
                let expected = G[position / POINTS][tap / TAPS] * G[position % POINTS][tap % TAPS];
                assert_eq!(transformed[position], [expected; LANES]);
                let mut u = [[0.; LANES]; POSITIONS];
                u[position] = [1.; LANES];
                assert_eq!(weight_adjoint(&u)[tap], [expected; LANES]);
            }
        }
    }
}
