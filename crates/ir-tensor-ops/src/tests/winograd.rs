//! The error bound of the Winograd convolutions.
//!
//! They compute y = Aᵀ [Σ_i (G w G ᵀ) ⊙ (Bᵀ x B)] A, exact but for rounding, so the bound of
//! `oracle.rs` holds with the absolute values of *this* expression:
//!
//! ```text
//! |error of y| ≤ γ_k · |A|ᵀ [Σ_i (|G| |w| |G|ᵀ) ⊙ (|B|ᵀ |x| |B|)] |A|
//! ```
//!
//! and likewise for the weight gradient, |G|ᵀ [Σ_tiles (|A| |∂y| |A|ᵀ) ⊙ (|B|ᵀ |x| |B|)] |G|.
//! It is larger than Σ |x| |w| by what the maps amplify, and k, the most roundings on the way
//! of a number, is smaller. Without fused multiply-add, k is made of
//!
//! - 4 in each of the two directions of Bᵀ, A and Aᵀ: a product and a sum for the even or odd
//!   part, and again for the result;
//! - 2 for the transformed weight, which is computed in f64 and rounded (the one more is ample
//!   for f64's own);
//! - a product, and a sum for every term: the channels, or for the weight gradient the tiles,
//!   and the chunks of tiles, of which there are at most as many as rows of tiles;
//! - one for the bias; 2 for the last map of the weight gradient, in f64 as above.
//!
//! The matrices are written down here once more, from their definition in `transform.rs`.

use super::oracle::{Sizes, Term};
use crate::convolution::{Convolution, winograd};

type Matrix = Vec<Vec<f64>>;

/// |Aᵀ|, 4 × 6: the powers 0 to 3 of each point.
fn output() -> Matrix {
    vec![
        vec![1., 1., 1., 1., 1., 0.],
        vec![0., 0.75, 0.75, 1.5, 1.5, 0.],
        vec![0., 0.5625, 0.5625, 2.25, 2.25, 0.],
        vec![0., 0.421875, 0.421875, 3.375, 3.375, 1.],
    ]
}

/// |Bᵀ|, 6 × 6: the coefficients of the polynomials that vanish at all points but one.
fn input() -> Matrix {
    vec![
        vec![1.265625, 0., 2.8125, 0., 1., 0.],
        vec![0., 1.6875, 2.25, 0.75, 1., 0.],
        vec![0., 1.6875, 2.25, 0.75, 1., 0.],
        vec![0., 0.84375, 0.5625, 1.5, 1., 0.],
        vec![0., 0.84375, 0.5625, 1.5, 1., 0.],
        vec![0., 1.265625, 0., 2.8125, 0., 1.],
    ]
}

/// |G|, 6 × 3: the powers 0 to 2 of each point p over the product of its distances to the
/// other points.
fn weight() -> Matrix {
    let points = [0., 0.75, -0.75, 1.5, -1.5];
    let mut rows: Matrix = points
        .iter()
        .map(|&p: &f64| {
            let others = points.iter().filter(|&&q| q != p);
            let scale = 1. / others.map(|q| (p - q).abs()).product::<f64>();
            vec![scale, scale * p.abs(), scale * p * p]
        })
        .collect();
    rows.push(vec![0., 0., 1.]);
    rows
}

fn transposed(matrix: &Matrix) -> Matrix {
    (0..matrix[0].len())
        .map(|column| matrix.iter().map(|row| row[column]).collect())
        .collect()
}

fn product(a: &Matrix, b: &Matrix) -> Matrix {
    let columns = transposed(b);
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum();
    a.iter()
        .map(|row| columns.iter().map(|column| dot(row, column)).collect())
        .collect()
}

/// M X Mᵀ.
fn both_sides(map: &Matrix, x: &Matrix) -> Matrix {
    product(&product(map, x), &transposed(map))
}

/// sum ← sum + a ⊙ b.
fn add_products(a: &Matrix, b: &Matrix, sum: &mut Matrix) {
    for (sum, (a, b)) in sum.iter_mut().zip(a.iter().zip(b)) {
        for (sum, (a, b)) in sum.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
}

fn zeros() -> Matrix {
    vec![vec![0.; 6]; 6]
}

impl Sizes {
    /// Whether forward pass and input gradient take the Winograd path.
    pub(super) fn winograd(&self) -> bool {
        winograd::pays(&self.shape())
    }

    /// Whether the weight gradient does.
    pub(super) fn winograd_weight_gradient(&self) -> bool {
        winograd::weight_gradient_pays(&self.shape())
    }

    /// Whether all tiles of the batch take each step together.
    pub(super) fn winograd_batched(&self) -> bool {
        winograd::batched::pays(&self.shape())
    }

    fn shape(&self) -> Convolution {
        let [_, _, out_height, out_width] = self.y();
        let Self {
            batch,
            inputs,
            outputs,
            height,
            width,
            kernel,
            stride,
            padding,
        } = *self;
        Convolution {
            batch,
            inputs,
            outputs,
            height,
            width,
            kernel,
            stride,
            padding,
            out_height,
            out_width,
        }
    }

    /// The corners of the tiles of an image.
    fn corners(&self) -> Vec<(usize, usize)> {
        let rows = (0..self.height).step_by(4);
        rows.flat_map(|y| (0..self.width).step_by(4).map(move |x| (y, x)))
            .collect()
    }

    /// The magnitudes of `size` × `size` numbers of a plane, 0 outside.
    fn patch(&self, plane: &[Term], (top, left): (isize, isize), size: isize) -> Matrix {
        let at = |y: isize, x: isize| match (usize::try_from(y), usize::try_from(x)) {
            (Ok(y), Ok(x)) if y < self.height && x < self.width => {
                plane[y * self.width + x].magnitude
            }
            _ => 0.,
        };
        (top..top + size)
            .map(|y| (left..left + size).map(|x| at(y, x)).collect())
            .collect()
    }

    /// |B|ᵀ |x| |B| at the corner.
    fn transformed_input(&self, plane: &[Term], (y, x): (usize, usize)) -> Matrix {
        let patch = self.patch(plane, (y as isize - 1, x as isize - 1), 6);
        both_sides(&input(), &patch)
    }

    /// Replaces the magnitudes of `y` [N, targets, H, W] from x [N, sources, H, W] and
    /// `taps(target, source)`, 3 × 3.
    fn set_magnitudes(
        &self,
        x: &[Term],
        [sources, targets]: [usize; 2],
        taps: impl Fn(usize, usize) -> Matrix,
        y: &mut [Term],
    ) {
        let plane = self.height * self.width;
        let weights: Vec<Matrix> = (0..targets * sources)
            .map(|pair| both_sides(&weight(), &taps(pair / sources, pair % sources)))
            .collect();
        let images = x.chunks(sources * plane).zip(y.chunks_mut(targets * plane));
        for (x, y) in images {
            for corner in self.corners() {
                let inputs: Vec<Matrix> = x
                    .chunks(plane)
                    .map(|x| self.transformed_input(x, corner))
                    .collect();
                for (y, weights) in y.chunks_mut(plane).zip(weights.chunks(sources)) {
                    let mut sum = zeros();
                    for (weight, input) in weights.iter().zip(&inputs) {
                        add_products(weight, input, &mut sum);
                    }
                    let tile = both_sides(&output(), &sum);
                    for oy in corner.0..self.height.min(corner.0 + 4) {
                        for ox in corner.1..self.width.min(corner.1 + 4) {
                            y[oy * self.width + ox].magnitude = tile[oy - corner.0][ox - corner.1];
                        }
                    }
                }
            }
        }
    }

    /// The magnitudes of the Winograd forward pass.
    pub(super) fn set_forward_magnitudes(
        &self,
        x: &[Term],
        weight: &[Term],
        bias: &[Term],
        y: &mut [Term],
    ) {
        let channels = [self.inputs, self.outputs];
        let taps = |o: usize, i: usize| {
            let taps = &weight[(o * self.inputs + i) * 9..][..9];
            let row = |row: &[Term]| row.iter().map(|tap| tap.magnitude).collect();
            taps.chunks(3).map(row).collect()
        };
        self.set_magnitudes(x, channels, taps, y);
        for (index, y) in y.iter_mut().enumerate() {
            y.magnitude += bias[index / (self.height * self.width) % self.outputs].magnitude;
        }
    }

    /// The magnitudes of the Winograd input gradient.
    pub(super) fn set_input_gradient_magnitudes(
        &self,
        weight: &[Term],
        gradient: &[Term],
        dx: &mut [Term],
    ) {
        let channels = [self.outputs, self.inputs];
        let taps = |i: usize, o: usize| {
            let taps = &weight[(o * self.inputs + i) * 9..][..9];
            let row = |row: &[Term]| row.iter().rev().map(|tap| tap.magnitude).collect();
            taps.chunks(3).rev().map(row).collect()
        };
        self.set_magnitudes(gradient, channels, taps, dx);
    }

    /// The magnitudes of the Winograd weight gradient.
    pub(super) fn set_weight_gradient_magnitudes(
        &self,
        x: &[Term],
        gradient: &[Term],
        dw: &mut [Term],
    ) {
        let plane = self.height * self.width;
        let expand = transposed(&output());
        let mut sums = vec![zeros(); self.outputs * self.inputs];
        let images = x.chunks(self.inputs * plane);
        for (x, gradient) in images.zip(gradient.chunks(self.outputs * plane)) {
            for corner in self.corners() {
                let inputs: Vec<Matrix> = x
                    .chunks(plane)
                    .map(|x| self.transformed_input(x, corner))
                    .collect();
                for (gradient, sums) in gradient.chunks(plane).zip(sums.chunks_mut(self.inputs)) {
                    let patch = self.patch(gradient, (corner.0 as isize, corner.1 as isize), 4);
                    let gradient = both_sides(&expand, &patch);
                    for (input, sum) in inputs.iter().zip(sums) {
                        add_products(&gradient, input, sum);
                    }
                }
            }
        }
        for (taps, sum) in dw.chunks_mut(9).zip(&sums) {
            let magnitudes = both_sides(&transposed(&weight()), sum);
            for (tap, &magnitude) in taps.iter_mut().zip(magnitudes.iter().flatten()) {
                tap.magnitude = magnitude;
            }
        }
    }

    /// The most roundings of the forward pass.
    pub(super) fn forward_roundings(&self) -> usize {
        self.roundings(self.inputs)
    }

    /// The most roundings of the input gradient.
    pub(super) fn input_gradient_roundings(&self) -> usize {
        self.roundings(self.outputs)
    }

    /// The most roundings of the weight gradient.
    pub(super) fn weight_gradient_roundings(&self) -> usize {
        if self.winograd_weight_gradient() {
            let (rows, columns) = (self.height.div_ceil(4), self.width.div_ceil(4));
            8 + 8 + 1 + self.batch * rows * columns + self.batch * rows + 2
        } else {
            let [batch, _, out_height, out_width] = self.y();
            // A product, the additions after it, and the zeros from which the sums of images
            // and of slots start.
            batch * out_height * out_width + 3
        }
    }

    fn roundings(&self, channels: usize) -> usize {
        if self.winograd() {
            8 + 2 + (1 + channels) + 8 + 1
        } else {
            // A product and the additions after it.
            channels * self.kernel * self.kernel + 1
        }
    }
}
