//! Loops over one channel plane: the H·W numbers of one channel of one image.
//!
//! A plane is at most a few kilobytes, so a second pass over it costs little. Sums run in 16
//! interleaved f32 lanes, element i into lane i mod 16, which are then added in f64: the order
//! is fixed, and a chain of additions is 16 times shorter than the plane. No fused
//! multiply-add is used, so the results are the same bits on every instruction set.

use crate::arch::LANES;

/// Σ term(xᵢ).
#[inline(always)]
fn sum(x: &[f32], term: impl Fn(f32) -> f32) -> f64 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut lanes = [0f32; LANES];
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += term(x);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane += term(x);
    }
    add_up(lanes)
}

/// Σ term(xᵢ, yᵢ).
#[inline(always)]
fn sum_pairs(x: &[f32], y: &[f32], term: impl Fn(f32, f32) -> f32) -> f64 {
    let ((xs, x_rest), (ys, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    let mut lanes = [0f32; LANES];
    for (x, y) in xs.iter().zip(ys) {
        for (lane, (&x, &y)) in lanes.iter_mut().zip(x.iter().zip(y)) {
            *lane += term(x, y);
        }
    }
    for (lane, (&x, &y)) in lanes.iter_mut().zip(x_rest.iter().zip(y_rest)) {
        *lane += term(x, y);
    }
    add_up(lanes)
}

#[inline(always)]
fn add_up(lanes: [f32; LANES]) -> f64 {
    let mut total = 0.;
    for lane in lanes {
        total += f64::from(lane);
    }
    total
}

/// Σ xᵢ.
#[inline(always)]
pub(crate) fn total(x: &[f32]) -> f64 {
    sum(x, |x| x)
}

/// Mean and Σ (xᵢ − mean)² of a plane.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moments {
    pub(crate) mean: f64,
    pub(crate) squares: f64,
}

/// The moments of a plane, in two passes.
///
/// The second pass subtracts the rounded mean m; the identity
/// Σ (x − mean)² = Σ (x − m)² − (Σ (x − m))² / n removes what the rounding of m put in, and
/// Σ (x − m) / n corrects the mean.
#[inline(always)]
pub(crate) fn moments(x: &[f32]) -> Moments {
    let count = x.len() as f64;
    let near_mean = (total(x) / count) as f32;
    let deviation = sum(x, |x| x - near_mean);
    let squares = sum(x, |x| (x - near_mean) * (x - near_mean));
    Moments {
        mean: f64::from(near_mean) + deviation / count,
        squares: (squares - deviation * deviation / count).max(0.),
    }
}

/// (x − mean) · scale + shift, the batch norm of one channel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Affine {
    pub(crate) mean: f32,
    pub(crate) scale: f32,
    pub(crate) shift: f32,
}

impl Affine {
    /// The value for one number.
    #[inline(always)]
    pub(crate) fn at(self, x: f32) -> f32 {
        (x - self.mean) * self.scale + self.shift
    }

    /// The same, with negative values set to 0. NaN stays NaN: a loss that is no number must
    /// not look like one.
    #[inline(always)]
    pub(crate) fn relu_at(self, x: f32) -> f32 {
        let value = self.at(x);
        if value <= 0. { 0. } else { value }
    }
}

/// y ← affine(x), with negative values set to 0 if `relu`.
#[inline(always)]
pub(crate) fn apply(affine: Affine, relu: bool, x: &[f32], y: &mut [f32]) {
    if relu {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = affine.relu_at(x);
        }
    } else {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = affine.at(x);
        }
    }
}

/// Σ g and Σ g·(x − mean) of one channel.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct GradientSums {
    pub(crate) plain: f64,
    pub(crate) centered: f64,
}

/// Sets gradient elements to 0 where relu(affine(x)) is 0 (if `relu`), and sums what is left.
#[inline(always)]
pub(crate) fn mask_and_sum(
    affine: Affine,
    relu: bool,
    x: &[f32],
    gradient: &mut [f32],
) -> GradientSums {
    if relu {
        for (g, &x) in gradient.iter_mut().zip(x) {
            *g = if affine.at(x) <= 0. { 0. } else { *g };
        }
    }
    GradientSums {
        plain: total(gradient),
        centered: sum_pairs(gradient, x, |g, x| g * (x - affine.mean)),
    }
}

/// How the gradient of one channel of batch norm's output becomes that of its input:
/// scale·g + slope·(x − mean) + offset.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InputGradient {
    pub(crate) mean: f32,
    pub(crate) scale: f32,
    pub(crate) slope: f32,
    pub(crate) offset: f32,
}

/// Turns the gradient of batch norm's output into that of its input, in place.
#[inline(always)]
pub(crate) fn input_gradient(rule: InputGradient, x: &[f32], gradient: &mut [f32]) {
    for (g, &x) in gradient.iter_mut().zip(x) {
        *g = *g * rule.scale + (rule.slope * (x - rule.mean) + rule.offset);
    }
}

/// y ← y + x.
#[inline(always)]
pub(crate) fn add(x: &[f32], y: &mut [f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += x;
    }
}

/// y ← y + factor · x.
#[inline(always)]
pub(crate) fn add_scaled(factor: f32, x: &[f32], y: &mut [f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += factor * x;
    }
}

/// Σ xᵢ yᵢ.
#[inline(always)]
pub(crate) fn dot(x: &[f32], y: &[f32]) -> f32 {
    sum_pairs(x, y, |x, y| x * y) as f32
}
