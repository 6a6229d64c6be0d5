//! Gradients of activations.

use super::Activation;
use crate::blocks::InputGradient;
use crate::convolution::{Incoming, Through};
use crate::explicit::through_norm;
use crate::images::Images;

/// ∂L/∂x for an [`Activation`] x `[N, C, H, W]`.
///
/// Behind a batch norm, a gradient needs sums over the whole batch, which are known only when
/// the backward pass that makes it is over. The last step, scale · g + slope · (x − mean) +
/// offset per channel, is then left to the next backward pass, which does it while it reads
/// the gradient anyway; until then, the gradient keeps x. [`Gradient::whole`] does it at once.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use ir_tensor_ops::{Activation, Gradient, Workspace};
///
/// # fn main() -> ir_tensor_ops::Result<()> {
/// let ones = Tensor::ones((1, 1, 1, 2), DType::F32, &Device::Cpu)?;
/// let gradient = Gradient::from(Activation::from_tensor(&Workspace::default(), &ones)?);
/// assert_eq!(gradient.dims(), [1, 1, 1, 2]);
/// assert_eq!(gradient.whole().to_tensor()?.dims(), [1, 1, 1, 2]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Gradient {
    values: Activation,
    pending: Option<Pending>,
}

/// What is still to be done.
#[derive(Debug)]
struct Pending {
    rules: Vec<InputGradient>,
    x: Activation,
    added: Option<Activation>,
}

impl From<Activation> for Gradient {
    fn from(values: Activation) -> Self {
        Self {
            values,
            pending: None,
        }
    }
}

impl Gradient {
    /// One that has yet to go through the norm of x, where `added` joins it.
    pub(super) fn behind_norm(
        values: Activation,
        rules: Vec<InputGradient>,
        x: Activation,
        added: Option<Activation>,
    ) -> Self {
        Self {
            values,
            pending: Some(Pending { rules, x, added }),
        }
    }

    /// N, C, H and W.
    pub fn dims(&self) -> [usize; 4] {
        self.values.dims
    }

    /// The gradient itself.
    pub fn whole(mut self) -> Activation {
        self.complete();
        self.values
    }

    /// Does what is still to be done.
    pub(super) fn complete(&mut self) {
        if let Some(Pending { rules, x, added }) = self.pending.take() {
            let added = added.as_ref().map(Activation::images);
            let extent = self.values.extent();
            through_norm(&rules, extent, x.images(), added, self.values.images_mut());
        }
    }

    /// The gradient for a pass over all its images, which must then be [`Gradient::completed`].
    pub(super) fn incoming(&mut self) -> Incoming<'_> {
        let size = self.values.size();
        match &self.pending {
            None => Incoming::Whole(Images::Blocked(&self.values.lanes[..size])),
            Some(pending) => {
                let through = Through {
                    rules: &pending.rules,
                    x: &pending.x.lanes[..size],
                    added: pending.added.as_ref().map(|added| &added.lanes[..size]),
                };
                Incoming::Pending(&mut self.values.lanes[..size], through)
            }
        }
    }

    /// Notes that a pass has done what was still to be done, and gives the images.
    pub(super) fn completed(&mut self) -> Images<'_> {
        self.pending = None;
        self.values.images()
    }
}
