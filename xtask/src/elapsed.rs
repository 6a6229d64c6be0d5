//! Durations as a person reads them.

use std::fmt;
use std::time::Duration;

/// Writes a duration as `4.2 s`, `4 m 12 s` or `3 h 07 m`.
pub(crate) struct Elapsed(pub(crate) Duration);

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            0..60 => write!(f, "{:.1} s", self.0.as_secs_f64()),
            60..3600 => write!(f, "{} m {:02} s", seconds / 60, seconds % 60),
            _ => write!(f, "{} h {:02} m", seconds / 3600, seconds / 60 % 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_follows_the_size() {
        let text = |milliseconds| Elapsed(Duration::from_millis(milliseconds)).to_string();
        assert_eq!(text(4_230), "4.2 s");
        assert_eq!(text(252_000), "4 m 12 s");
        assert_eq!(text(3_600_000), "1 h 00 m");
        assert_eq!(text(11_220_000), "3 h 07 m");
    }
}
