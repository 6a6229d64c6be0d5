//! A handful of times in three numbers.

use anyhow::{Result, ensure};

/// Median and spread of repeated measurements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Summary {
    /// The middle one, or the mean of the two in the middle.
    pub(super) median: f64,
    /// The smallest.
    pub(super) min: f64,
    /// The largest.
    pub(super) max: f64,
}

impl Summary {
    /// The summary of at least one measurement.
    pub(super) fn of(values: &[f64]) -> Result<Self> {
        ensure!(!values.is_empty(), "nothing was measured");
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Ok(Self {
            median: f64::midpoint(low, high),
            min: sorted[0],
            max: sorted[sorted.len() - 1],
        })
    }
}

/// `84.2 (83.1–90.4)`: the median and the range.
impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { median, min, max } = self;
        write!(f, "{median:.1} ({min:.1}–{max:.1})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_of_the_sorted_values() {
        let summary = Summary::of(&[3.0, 1.0, 10.0]).unwrap();
        assert_eq!((summary.median, summary.min, summary.max), (3.0, 1.0, 10.0));
        assert_eq!(Summary::of(&[4.0, 1.0, 2.0, 9.0]).unwrap().median, 3.0);
        assert_eq!(summary.to_string(), "3.0 (1.0–10.0)");
        assert!(Summary::of(&[]).is_err());
    }
}
