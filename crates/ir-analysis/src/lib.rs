//! What the paper measures, on anything that is a residual network.

mod number;
pub mod results;

pub use number::Number;
