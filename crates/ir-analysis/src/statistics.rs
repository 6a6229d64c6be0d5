//! Mean and standard deviation of a stream.

/// Count, mean and squared deviations of the values seen so far, by Welford's update, so that
/// nothing has to be kept per sample.
///
/// Values that are not finite are counted too: the mean is then what their sum is (`inf`,
/// `-inf`, or `nan`) and the standard deviation is `nan`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Moments {
    count: usize,
    mean: f64,
    squared_deviations: f64,
    /// Sum of the values that are not finite; 0 while there are none.
    non_finite: f64,
}

impl Moments {
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1;
        if !value.is_finite() {
            self.non_finite += value;
            return;
        }
        let before = value - self.mean;
        self.mean += before / self.count as f64;
        self.squared_deviations += before * (value - self.mean);
    }

    pub(crate) fn extend(&mut self, values: &[f64]) {
        for &value in values {
            self.add(value);
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The mean; `None` of nothing.
    pub(crate) fn mean(&self) -> Option<f64> {
        match self.count {
            0 => None,
            _ if self.non_finite != 0.0 => Some(self.non_finite),
            _ => Some(self.mean),
        }
    }

    /// The standard deviation of these very values (divided by N, not N − 1): it describes the
    /// samples measured and estimates nothing beyond them. 0 for one value, `None` of nothing.
    pub(crate) fn std(&self) -> Option<f64> {
        match self.count {
            0 => None,
            _ if self.non_finite != 0.0 => Some(f64::NAN),
            count => Some((self.squared_deviations / count as f64).sqrt()),
        }
    }
}

/// As [`Moments`], of a quantity that some samples do not have.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PartialMoments {
    pub(crate) defined: Moments,
    pub(crate) undefined: usize,
}

impl PartialMoments {
    pub(crate) fn add(&mut self, value: Option<f64>) {
        match value {
            Some(value) => self.defined.add(value),
            None => self.undefined += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn welford_agrees_with_two_passes() {
        // Far from 0, where the one-pass formula E[x²] − E[x]² loses everything.
        let values: Vec<f64> = (0..1000).map(|i| 1e9 + f64::from(i % 7)).collect();
        let mut moments = Moments::default();
        moments.extend(&values);
        let mean = values.iter().sum::<f64>() / 1000.0;
        let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 1000.0;
        // Each update rounds at 1e9 · 2⁻⁵³ ≈ 1.1e-7; a thousand of them stay below 1.2e-4.
        assert!((moments.mean().expect("not empty") - mean).abs() < 1.2e-4);
        assert!((moments.std().expect("not empty") - variance.sqrt()).abs() < 1.2e-4);
    }

    #[test]
    fn nothing_has_no_mean_and_one_value_no_spread() {
        let mut moments = Moments::default();
        assert_eq!((moments.mean(), moments.std()), (None, None));
        moments.add(3.5);
        assert_eq!((moments.mean(), moments.std()), (Some(3.5), Some(0.0)));
    }

    #[test]
    fn infinities_stay_what_they_are() {
        let mut moments = Moments::default();
        moments.extend(&[1.0, f64::INFINITY, 2.0, f64::INFINITY]);
        assert_eq!(moments.mean(), Some(f64::INFINITY));
        assert!(moments.std().expect("not empty").is_nan());
        moments.add(f64::NEG_INFINITY);
        assert!(moments.mean().expect("not empty").is_nan());
    }
}
