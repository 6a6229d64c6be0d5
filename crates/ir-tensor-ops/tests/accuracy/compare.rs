//! Input, and how far results are from exact ones.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use ir_tensor_ops::random;
use rand::Rng;

use crate::oracle::Array;

/// How far a result may be from float64, in norm, relative.
const PROMISED: f64 = 2e-5;

/// How input is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Draw {
    /// Uniform in [-1, 1).
    Even,
    /// That, times 10^e with e uniform in [-3, 3) for each channel, about a mean of 50 times its size.
    Uneven,
}

pub(crate) const DRAWS: [Draw; 2] = [Draw::Even, Draw::Uneven];

/// Values that are f32 numbers; the channels are the second dimension, or the only one.
pub(crate) fn drawn(seed: u64, shape: &[usize], draw: Draw) -> Array {
    let mut stream = random::stream(seed, 0, 0, 0);
    let mut array = Array::zeros(shape);
    let plane = shape.iter().skip(2).product::<usize>();
    let channels = shape.get(1).copied().unwrap_or(1);
    let scales: Vec<f64> = (0..channels)
        .map(|_| 10f64.powf(stream.random_range(-3.0..3.0)))
        .collect();
    for (index, value) in array.values.iter_mut().enumerate() {
        let uniform = stream.random_range(-1f32..1.0);
        let scaled = match draw {
            Draw::Even => uniform,
            Draw::Uneven => ((f64::from(uniform) + 50.0) * scales[index / plane % channels]) as f32,
        };
        *value = f64::from(scaled);
    }
    array
}

pub(crate) fn vector(seed: u64, length: usize, range: std::ops::Range<f32>) -> Vec<f64> {
    let mut stream = random::stream(seed, 1, 0, 0);
    let values = (0..length).map(|_| f64::from(stream.random_range(range.clone())));
    values.collect()
}

pub(crate) fn tensor(array: &Array) -> Tensor {
    let values: Vec<f32> = array.values.iter().map(|&value| value as f32).collect();
    Tensor::from_vec(values, array.shape.as_slice(), &Device::Cpu).unwrap()
}

pub(crate) fn tensor1(values: &[f64]) -> Tensor {
    let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
    Tensor::new(values, &Device::Cpu).unwrap()
}

/// ‖found − exact‖ / ‖exact‖.
fn distance<'a>(
    found: impl Iterator<Item = f64>,
    exact: impl Iterator<Item = &'a f64> + Clone,
) -> f64 {
    let difference = found
        .zip(exact.clone())
        .map(|(found, exact)| (found - exact).powi(2));
    (difference.sum::<f64>() / exact.map(|exact| exact.powi(2)).sum::<f64>()).sqrt()
}

/// The largest distance of a part: of a channel, of an output channel's weights, of the whole.
fn largest_distance(found: &Tensor, exact: &Array, parts: Parts) -> f64 {
    assert_eq!(found.dims(), exact.shape);
    let found = Array {
        shape: exact.shape.clone(),
        values: found
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap()
            .into_iter()
            .map(f64::from)
            .collect(),
    };
    match parts {
        Parts::Channels => (0..exact.shape[1])
            .map(|c| distance(found.channel(c).copied(), exact.channel(c)))
            .fold(0.0, f64::max),
        Parts::Rows => {
            let row = exact.values.len() / exact.shape[0];
            let rows = found.values.chunks(row).zip(exact.values.chunks(row));
            rows.map(|(found, exact)| distance(found.iter().copied(), exact.iter()))
                .fold(0.0, f64::max)
        }
        Parts::Whole => distance(found.values.into_iter(), exact.values.iter()),
    }
}

#[derive(Clone, Copy)]
pub(crate) enum Parts {
    Channels,
    Rows,
    Whole,
}

/// Compares, and remembers the worst of each operation for the message.
#[derive(Default)]
pub(crate) struct Comparison {
    worst: BTreeMap<&'static str, (f64, String)>,
}

impl Comparison {
    pub(crate) fn check(
        &mut self,
        what: &'static str,
        where_: &str,
        found: &Tensor,
        exact: &Array,
        parts: Parts,
    ) {
        let distance = largest_distance(found, exact, parts);
        let worst = self.worst.entry(what).or_default();
        if distance > worst.0 || distance.is_nan() {
            *worst = (distance, where_.to_owned());
        }
    }

    #[allow(clippy::print_stdout, reason = "`--nocapture` shows the margins")]
    pub(crate) fn finish(self) {
        for (what, (distance, where_)) in &self.worst {
            println!("{what:26} {distance:.1e} at most, {where_}");
        }
        for (what, (distance, where_)) in &self.worst {
            assert!(
                *distance <= PROMISED,
                "{what} is off by {distance:.1e}: {where_}"
            );
        }
    }
}
