//! How the programs of this package say what went wrong.

use std::error::Error;
use std::fmt;

/// An error in its own words: what `main` returns is printed in its debug form.
///
/// ```
/// let failure = ir_benches::Failure::from("no task on stdin");
/// assert_eq!(format!("{failure:?}"), "no task on stdin");
/// ```
pub struct Failure(Box<dyn Error>);

impl<E: Into<Box<dyn Error>>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
