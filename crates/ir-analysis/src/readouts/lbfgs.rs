//! Minimisation of a smooth convex function by L-BFGS (Nocedal and Wright, Numerical Optimization,
//! algorithms 7.4 and 3.1), in f64.

use std::collections::VecDeque;

/// Pairs of steps and gradient changes that stand for the Hessian.
const MEMORY: usize = 20;

/// Share of the decrease that the slope promises which a step has to bring (Armijo's condition).
const SUFFICIENT: f64 = 1e-4;

/// Halvings of a step before the search gives up: rounding then hides any decrease.
const HALVINGS: usize = 40;

/// Where a minimisation ended.
pub(super) struct Minimum {
    pub(super) place: Vec<f64>,
    /// Euclidean norm of the gradient there.
    pub(super) gradient_norm: f64,
    pub(super) iterations: usize,
}

/// A step s with the change y of the gradient over it.
struct Pair {
    step: Vec<f64>,
    change: Vec<f64>,
    /// 1 / ⟨s, y⟩.
    rho: f64,
}

/// Goes down from `place` until the gradient's norm is at most `tolerance`, no step lowers the
/// function any more, or `most` steps are made. `function` gives value and gradient.
pub(super) fn minimize(
    function: impl Fn(&[f64]) -> (f64, Vec<f64>),
    mut place: Vec<f64>,
    tolerance: f64,
    most: usize,
) -> Minimum {
    let (mut value, mut gradient) = function(&place);
    let mut pairs: VecDeque<Pair> = VecDeque::new();
    let mut iterations = 0;
    while iterations < most && norm(&gradient) > tolerance {
        let direction = direction(&pairs, &gradient);
        // Without a Hessian the first step is at most of length 1.
        let first = if pairs.is_empty() {
            1.0 / norm(&gradient).max(1.0)
        } else {
            1.0
        };
        let slope = dot(&direction, &gradient);
        let mut tries = (0..HALVINGS).map(|halvings| first * 0.5f64.powi(halvings as i32));
        let better = tries.find_map(|length| {
            let there = moved(&place, &direction, length);
            let (lower, new) = function(&there);
            (lower <= value + SUFFICIENT * length * slope).then_some((there, lower, new))
        });
        let Some((there, lower, new)) = better else {
            break;
        };
        let step: Vec<f64> = there.iter().zip(&place).map(|(a, b)| a - b).collect();
        let change: Vec<f64> = new.iter().zip(&gradient).map(|(a, b)| a - b).collect();
        let curvature = dot(&step, &change);
        // Positive for a convex function, but for rounding.
        if curvature > f64::EPSILON * norm(&step) * norm(&change) {
            pairs.push_back(Pair {
                step,
                change,
                rho: 1.0 / curvature,
            });
            if pairs.len() > MEMORY {
                pairs.pop_front();
            }
        }
        (place, value, gradient) = (there, lower, new);
        iterations += 1;
    }
    Minimum {
        gradient_norm: norm(&gradient),
        place,
        iterations,
    }
}

/// −H g, where H stands for the inverse Hessian: the two-loop recursion.
fn direction(pairs: &VecDeque<Pair>, gradient: &[f64]) -> Vec<f64> {
    let mut direction: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut weights = Vec::with_capacity(pairs.len());
    for pair in pairs.iter().rev() {
        let weight = pair.rho * dot(&pair.step, &direction);
        direction = moved(&direction, &pair.change, -weight);
        weights.push(weight);
    }
    if let Some(last) = pairs.back() {
        let scale = 1.0 / (last.rho * dot(&last.change, &last.change));
        direction.iter_mut().for_each(|d| *d *= scale);
    }
    for (pair, weight) in pairs.iter().zip(weights.into_iter().rev()) {
        let correction = pair.rho * dot(&pair.change, &direction);
        direction = moved(&direction, &pair.step, weight - correction);
    }
    direction
}

/// x + length · d.
fn moved(x: &[f64], d: &[f64], length: f64) -> Vec<f64> {
    x.iter().zip(d).map(|(x, d)| x + length * d).collect()
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

fn norm(x: &[f64]) -> f64 {
    dot(x, x).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quadratic_of_any_shape() {
        // Σ c_i (x_i − i)² / 2 with curvatures over six decades: the minimum is at x_i = i.
        let curvatures: Vec<f64> = (0..12)
            .map(|i| 10f64.powf(f64::from(i) / 2.0 - 3.0))
            .collect();
        let function = |x: &[f64]| {
            let gradient = x.iter().zip(&curvatures).enumerate();
            let gradient: Vec<f64> = gradient.map(|(i, (x, c))| c * (x - i as f64)).collect();
            let value = gradient
                .iter()
                .zip(&curvatures)
                .map(|(g, c)| g * g / c / 2.0);
            (value.sum(), gradient)
        };
        let found = minimize(function, vec![0.0; 12], 1e-9, 1000);
        assert!(
            found.gradient_norm <= 1e-9,
            "after {} steps",
            found.iterations
        );
        for (i, x) in found.place.iter().enumerate() {
            // |x_i − i| = |g_i| / c_i.
            assert!((x - i as f64).abs() <= 1e-9 / curvatures[i]);
        }
    }

    #[test]
    fn what_starts_at_the_minimum_stays() {
        let found = minimize(|x| (x[0] * x[0], vec![2.0 * x[0]]), vec![0.0], 1e-9, 10);
        assert_eq!((found.iterations, found.place), (0, vec![0.0]));
    }
}
