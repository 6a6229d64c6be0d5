//! The gradients of a network on a GPU, by explicit rules.

use candle_core::Tensor;
use ir_tensor_ops::gpu::{Buffer, Map, NormRule, NormState};

use super::network::{Found, Network, tensor};
use crate::error::Result;
use crate::layout::{self, BlockLayers};
use crate::network::{BlockBackward, BlockGradients, LinearizedBlock};

impl Network {
    /// The gradient of a convolution's input, and what is left to do at the norm before it, which it does.
    fn input_gradient(
        &self,
        of: &layout::Convolution,
        gradient: &Map,
        x: &Map,
        norm: Option<&NormState>,
        added: Option<&Map>,
    ) -> Result<Map> {
        let shape = self.shape(of, x.dims())?;
        let dx = self.room(x.dims())?;
        let weight = self.weights.convolution(of.weight)?;
        let Some(norm) = norm else {
            shape.input_gradient(gradient, &weight, &dx, None)?;
            return Ok(dx);
        };
        let channels = norm.mean.len();
        let sums = Buffer::new(&self.gpu, 2 * shape.gradient_pieces() * channels)?;
        shape.input_gradient(gradient, &weight, &dx, Some((x, norm, &sums)))?;
        self.through_norm(norm, x, added, &dx)?;
        Ok(dx)
    }

    /// The gradient of x in place of that behind its norm, whose statistics are constants.
    fn through_norm(&self, norm: &NormState, x: &Map, added: Option<&Map>, dx: &Map) -> Result<()> {
        let channels = norm.mean.len();
        let rule = NormRule {
            slope: Buffer::zeros(&self.gpu, channels)?,
            offset: Buffer::zeros(&self.gpu, channels)?,
        };
        Ok(norm.gradient_of_x(&rule, dx, x, added, dx)?)
    }

    fn gradient_of_head(&self, h: &Map, gradient: &Tensor) -> Result<Tensor> {
        let (rows, device) = (h.dims()[0], gradient.device());
        let (found, expected) = (gradient.dims(), [rows, self.classifier.outputs]);
        if found != expected {
            let message = format!("the gradient of the logits is {found:?}, expected {expected:?}");
            return Err(candle_core::Error::Msg(message).into());
        }
        let gradient = gradient.flatten_all()?.to_vec1::<f32>()?;
        let of_logits = Buffer::from_slice(&self.gpu, &gradient)?;
        let of_features = self.features_of(h)?;
        self.classifier
            .gradient_of_x(rows, &of_logits, &of_features)?;
        let dx = self.room(h.dims())?;
        let sums = Buffer::new(&self.gpu, 2 * rows * self.head_norm.mean.len())?;
        let pooling = self.architecture.head_pooling;
        h.features_gradient(&self.head_norm, pooling, &of_features, &dx, &sums)?;
        self.through_norm(&self.head_norm, h, None, &dx)?;
        Ok(dx.to_tensor_on(device)?)
    }
}

/// A block as it is at one h_j.
struct Linearized<'a> {
    network: &'a Network,
    layers: &'a BlockLayers,
    norms: &'a [NormState; 2],
    h: Map,
    inner: Map,
}

impl<'a> Linearized<'a> {
    fn new(network: &'a Network, block: usize, h: Map) -> Result<Self> {
        let (layers, norms) = network.layers(block)?;
        let inner = network.convolve(&layers.conv1, &h, Some(&norms[0]), None)?;
        Ok(Self {
            network,
            layers,
            norms,
            h,
            inner,
        })
    }

    /// ∂L/∂(s_j + F_j) from ∂L/∂h_{j+1}.
    fn of_sum(&self, gradient: &Tensor) -> Result<Map> {
        let arriving = self.network.map(gradient)?;
        if !self.layers.pooled {
            return Ok(arriving);
        }
        let shape = self.network.shape(&self.layers.conv2, self.inner.dims())?;
        let spread = self.network.room(shape.output_dims())?;
        arriving.avg_pool2d_gradient(2, &spread)?;
        Ok(spread)
    }

    /// The gradient of h through the branch, and what is added to it.
    fn through_branch(&self, of_sum: &Map, added: Option<&Map>) -> Result<Map> {
        let (network, layers) = (self.network, self.layers);
        let [norm1, norm2] = self.norms;
        let of_inner =
            network.input_gradient(&layers.conv2, of_sum, &self.inner, Some(norm2), None)?;
        network.input_gradient(&layers.conv1, &of_inner, &self.h, Some(norm1), added)
    }

    /// The gradient of h through the shortcut.
    fn through_shortcut(&self, of_sum: Map) -> Result<Map> {
        match &self.layers.shortcut {
            Some(of) => self
                .network
                .input_gradient(of, &of_sum, &self.h, None, None),
            None => Ok(of_sum),
        }
    }

    fn gradients(&self, gradient: &Tensor) -> Result<BlockGradients> {
        let of_sum = self.of_sum(gradient)?;
        let sum = match self.layers.pooled {
            true => of_sum.to_tensor_on(gradient.device())?,
            false => gradient.clone(),
        };
        let through_shortcut = self.through_shortcut(of_sum.clone())?;
        let of_h = self.through_branch(&of_sum, Some(&through_shortcut))?;
        Ok(BlockGradients {
            sum,
            h: of_h.to_tensor_on(gradient.device())?,
        })
    }
}

impl LinearizedBlock for Linearized<'_> {
    fn back_through_branch(&self, gradient: &Tensor) -> Found<Tensor> {
        let of_h = self
            .of_sum(gradient)
            .and_then(|of_sum| self.through_branch(&of_sum, None));
        tensor(of_h, gradient.device())
    }

    fn back_through_shortcut(&self, gradient: &Tensor) -> Found<Tensor> {
        if self.layers.shortcut.is_none() && !self.layers.pooled {
            return Ok(gradient.clone());
        }
        let of_h = self
            .of_sum(gradient)
            .and_then(|of_sum| self.through_shortcut(of_sum));
        tensor(of_h, gradient.device())
    }
}

impl BlockBackward for Network {
    fn gradients(&self, block: usize, h: &Tensor, gradient: &Tensor) -> Found<BlockGradients> {
        let linearized = Linearized::new(self, block, self.map(h)?);
        linearized
            .and_then(|block| block.gradients(gradient))
            .map_err(candle_core::Error::from)
    }

    fn linearized<'a>(
        &'a self,
        block: usize,
        h: &Tensor,
    ) -> Found<Option<Box<dyn LinearizedBlock + 'a>>> {
        let linearized =
            Linearized::new(self, block, self.map(h)?).map_err(candle_core::Error::from)?;
        Ok(Some(Box::new(linearized)))
    }

    fn head_gradient(&self, h: &Tensor, gradient: &Tensor) -> Found<Tensor> {
        let h = self.map(h)?;
        self.gradient_of_head(&h, gradient)
            .map_err(candle_core::Error::from)
    }
}
