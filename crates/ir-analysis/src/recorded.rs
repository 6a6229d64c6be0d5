//! A function as Candle records it.

use candle_core::{Tensor, Var};

use crate::error::Result;

/// A function of one tensor as Candle recorded it, to send gradients back through many times.
pub(crate) struct Recorded {
    input: Var,
    output: Tensor,
}

impl Recorded {
    pub(crate) fn new(
        input: &Tensor,
        function: impl FnOnce(&Tensor) -> Result<Tensor>,
    ) -> Result<Self> {
        let input = Var::from_tensor(input)?;
        let output = function(&input)?;
        Ok(Self { input, output })
    }

    /// The gradient at the input of one at the output: 0 where the output does not depend on it,
    /// and the same tensor where it is the input.
    pub(crate) fn back(&self, gradient: &Tensor) -> candle_core::Result<Tensor> {
        if self.output.id() == self.input.id() {
            return Ok(gradient.clone());
        }
        // The derivative of Σ output · g with g held fixed is g.
        let mut found = (&self.output * gradient)?.sum_all()?.backward()?;
        match found.remove(&self.input) {
            Some(gradient) => Ok(gradient),
            None => self.input.zeros_like(),
        }
    }
}
