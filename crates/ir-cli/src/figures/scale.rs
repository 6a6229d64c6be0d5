//! From values to places on an axis, and the ticks that a person would choose.

use std::fmt::Write as _;

/// About how many steps an axis has from tick to tick.
const STEPS: usize = 6;

/// An axis without its place on the page.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Scale {
    /// Even steps are even distances.
    Linear {
        /// Value at the low end.
        low: f64,
        /// Value at the high end.
        high: f64,
        /// From tick to tick.
        step: f64,
    },
    /// Even factors are even distances.
    Log {
        /// Value at the low end, above 0.
        low: f64,
        /// Value at the high end.
        high: f64,
    },
}

impl Scale {
    /// A linear scale from tick to tick that holds every finite value.
    pub(crate) fn linear(values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = extent(values).unwrap_or((0.0, 1.0));
        let margin = if low < high {
            0.0
        } else {
            low.abs().max(1.0) / 2.0
        };
        let (low, high) = (low - margin, high + margin);
        let step = nice_step(high - low, STEPS);
        // The rounding error of low / step must not cost a whole step.
        Self::Linear {
            low: (low / step + 1e-9).floor() * step,
            high: (high / step - 1e-9).ceil() * step,
            step,
        }
    }

    /// A linear scale with given ends.
    pub(crate) fn between(low: f64, high: f64) -> Self {
        let step = nice_step(high - low, STEPS);
        Self::Linear { low, high, step }
    }

    /// A logarithmic scale from tick to tick that holds every finite value above 0.
    pub(crate) fn log(values: impl IntoIterator<Item = f64>) -> Self {
        let positive = values.into_iter().filter(|&value| value > 1e-150);
        let (low, high) = extent(positive).unwrap_or((0.1, 1.0));
        let ladder = |value: f64, up: bool| {
            let decade = 10f64.powf(value.log10().floor());
            let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * decade);
            let tolerance = 1e-9 * decade;
            if up {
                steps.into_iter().find(|&s| s >= value - tolerance)
            } else {
                steps.into_iter().rev().find(|&s| s <= value + tolerance)
            }
        };
        let low = ladder(low, false).unwrap_or(low);
        let high = ladder(high, true).unwrap_or(high);
        let high = if high > low { high } else { 10.0 * low };
        Self::Log { low, high }
    }

    /// Logarithmic where the values are positive and span more than a factor of ten, otherwise
    /// linear from 0.
    pub(crate) fn for_ratios(values: &[f64]) -> Self {
        let positive = values.iter().copied().filter(|&value| value > 0.0);
        match extent(positive) {
            Some((low, high)) if high > 10.0 * low => Self::log(values.iter().copied()),
            _ => Self::linear(values.iter().copied().chain([0.0])),
        }
    }

    /// Where a value lies: 0 at the low end, 1 at the high end. A value beyond an end is put at
    /// that end.
    pub(crate) fn place(self, value: f64) -> f64 {
        let place = match self {
            Self::Linear { low, high, .. } => (value - low) / (high - low),
            Self::Log { low, high } => {
                let log = |value: f64| value.max(f64::MIN_POSITIVE).ln();
                (log(value) - log(low)) / (log(high) - log(low))
            }
        };
        place.clamp(0.0, 1.0)
    }

    /// Ticks: value and text.
    pub(crate) fn ticks(self) -> Vec<(f64, String)> {
        match self {
            Self::Linear { low, high, step } => linear_ticks(low, high, step),
            Self::Log { low, high } => log_ticks(low, high, STEPS),
        }
    }

    /// Ticks on whole numbers only, for counts and indices.
    pub(crate) fn whole_ticks(self, count: usize) -> Vec<(f64, String)> {
        let (Self::Linear { low, high, .. } | Self::Log { low, high }) = self;
        let step = nice_step(high - low, count).max(1.0).round();
        multiples(low, high, step)
            .map(|value| (value, format!("{value:.0}")))
            .collect()
    }
}

/// The least and the greatest of the values that a scale can hold. What is beyond is drawn at
/// the scale's end; differences and quotients of what is within stay finite.
fn extent(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let held = values.into_iter().filter(|value| value.abs() < 1e150);
    held.fold(None, |extent, value| {
        let (low, high) = extent.unwrap_or((value, value));
        Some((value.min(low), value.max(high)))
    })
}

/// The smallest of 1, 2, 5 times a power of ten that divides `span` into at most `count` steps.
fn nice_step(span: f64, count: usize) -> f64 {
    let raw = (span / count.max(1) as f64).max(f64::MIN_POSITIVE);
    let decade = 10f64.powf(raw.log10().floor());
    let steps = [1.0, 2.0, 5.0].map(|factor| factor * decade);
    let fits = |&step: &f64| step >= raw * (1.0 - 1e-9);
    steps.into_iter().find(fits).unwrap_or(10.0 * decade)
}

fn multiples(low: f64, high: f64, step: f64) -> impl Iterator<Item = f64> {
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    (first..=last).map(move |index| index as f64 * step)
}

fn linear_ticks(low: f64, high: f64, step: f64) -> Vec<(f64, String)> {
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    multiples(low, high, step)
        .map(|value| (value, minus(&format!("{value:.decimals$}"))))
        .collect()
}

fn log_ticks(low: f64, high: f64, count: usize) -> Vec<(f64, String)> {
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let within = |factors: &[f64], every: usize| -> Vec<f64> {
        let decades = (first..=last).filter(|decade| decade.rem_euclid(every as i32) == 0);
        decades
            .flat_map(|decade| {
                factors
                    .iter()
                    .map(move |factor| factor * 10f64.powi(decade))
            })
            .filter(|&value| value >= low * (1.0 - 1e-9) && value <= high * (1.0 + 1e-9))
            .collect()
    };
    let finest = [
        within(&[1.0, 2.0, 5.0], 1),
        within(&[1.0, 3.0], 1),
        within(&[1.0], 1),
    ];
    let chosen = finest
        .into_iter()
        .find(|values| values.len() <= count.max(2) + 1);
    let chosen = chosen.unwrap_or_else(|| {
        let every = (last - first) as usize / count.max(1) + 1;
        within(&[1.0], every)
    });
    chosen
        .into_iter()
        .map(|value| (value, plain_or_power(value)))
        .collect()
}

fn plain_or_power(value: f64) -> String {
    let exponent = value.log10().floor();
    if (-3.0..3.0).contains(&exponent) {
        let decimals = (-exponent).max(0.0) as usize;
        return format!("{value:.decimals$}");
    }
    let factor = (value / 10f64.powf(exponent)).round();
    let mut text = if factor == 1.0 {
        String::new()
    } else {
        format!("{factor}·")
    };
    text.push_str("10");
    for character in format!("{exponent}").chars() {
        text.push(superscript(character));
    }
    text
}

fn superscript(character: char) -> char {
    match character {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        digit => digit
            .to_digit(10)
            .and_then(|digit| char::from_u32(0x2070 + digit))
            .unwrap_or(digit),
    }
}

/// A number's text with a true minus sign, and none before zero.
pub(crate) fn minus(text: &str) -> String {
    match text.strip_prefix('-') {
        Some(digits) if digits.chars().any(|c| c.is_ascii_digit() && c != '0') => {
            format!("−{digits}")
        }
        Some(digits) if digits.starts_with(|c: char| c.is_ascii_digit()) => digits.to_owned(),
        Some(rest) => format!("−{rest}"),
        None => text.to_owned(),
    }
}

/// A count with its thousands set apart: `1,742,762`.
pub(crate) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number to `digits` significant digits, as people write it: `0.0123`, `−4.6`, `1.2·10⁶`.
pub(crate) fn significant(value: f64, digits: usize) -> String {
    if value.is_nan() {
        return "not a number".into();
    }
    if value.is_infinite() {
        return if value > 0.0 {
            "∞".into()
        } else {
            "−∞".into()
        };
    }
    if value == 0.0 {
        return "0".into();
    }
    let exponent = value.abs().log10().floor() as i32;
    if (-4..5).contains(&exponent) {
        let decimals = (digits as i32 - 1 - exponent).max(0) as usize;
        return minus(&format!("{value:.decimals$}"));
    }
    let mut text = minus(&format!(
        "{:.*}",
        digits.saturating_sub(1),
        value / 10f64.powi(exponent)
    ));
    let _ = write!(text, "·10");
    text.extend(exponent.to_string().chars().map(superscript));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(ticks: Vec<(f64, String)>) -> Vec<String> {
        ticks.into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn ticks_are_those_a_person_would_choose() {
        let scale = Scale::linear([-0.31, 0.04]);
        assert_eq!(
            labels(scale.ticks()),
            ["−0.4", "−0.3", "−0.2", "−0.1", "0.0", "0.1"]
        );
        assert_eq!(
            labels(Scale::between(0.0, 100.0).ticks()),
            ["0", "20", "40", "60", "80", "100"]
        );
        assert_eq!(
            labels(Scale::log([0.06, 1.7]).ticks()),
            ["0.05", "0.1", "0.2", "0.5", "1", "2"]
        );
        assert_eq!(
            labels(Scale::log([0.5, 3e9]).ticks()),
            ["1", "100", "10⁴", "10⁶", "10⁸"]
        );
        assert_eq!(
            labels(Scale::between(0.0, 53.0).whole_ticks(8)),
            ["0", "10", "20", "30", "40", "50"]
        );
        assert_eq!(
            labels(Scale::between(0.0, 4.0).whole_ticks(8)),
            ["0", "1", "2", "3", "4"]
        );
    }

    #[test]
    fn a_scale_holds_its_values_and_keeps_others_at_its_ends() {
        let scale = Scale::linear([3.0, 3.0]);
        assert_eq!(scale.place(3.0), 0.5);
        assert_eq!(Scale::log([1.0, 100.0]).place(10.0), 0.5);
        assert_eq!(Scale::log([1.0, 100.0]).place(-1.0), 0.0);
        assert_eq!(Scale::linear([0.0, 1.0]).place(f64::INFINITY), 1.0);
        for extreme in [1e308, 1e-320, f64::MAX] {
            for scale in [
                Scale::linear([-extreme, extreme]),
                Scale::log([extreme, 1.0]),
            ] {
                assert!(scale.ticks().len() < 12);
                assert!((0.0..=1.0).contains(&scale.place(extreme)), "{scale:?}");
            }
        }
        assert_eq!(
            Scale::linear([f64::NAN, f64::INFINITY]),
            Scale::linear([0.0, 1.0])
        );
    }

    #[test]
    fn numbers_are_written_as_people_write_them() {
        for (value, text) in [
            (0.0123, "0.0123"),
            (-4.567, "−4.57"),
            (1_234_567.0, "1.23·10⁶"),
            (893_973.0, "8.94·10⁵"),
            (f64::NEG_INFINITY, "−∞"),
            (0.0, "0"),
        ] {
            assert_eq!(significant(value, 3), text);
        }
        assert_eq!(minus("-0.0"), "0.0");
        assert_eq!(thousands(1_742_762), "1,742,762");
        assert_eq!(thousands(100), "100");
    }
}
