//! A convolution and the batch norm behind it, as one convolution.

use candle_core::{DType, Device, Tensor};
use ir_tensor_ops::conv2d;
use ir_tensor_ops::explicit::conv2d_backward;

use super::architecture::{Layer, NORM};
use super::problem::ImportProblem;
use super::weights::Weights;
use crate::backward::OF_X;
use crate::resnet::EPSILON;

/// γ (conv(x) − mean) / √(variance + ε) + β, with running statistics: a convolution of the weight
/// γ/√(variance + ε) · weight and the bias β − mean · γ/√(variance + ε).
#[derive(Debug, Clone)]
pub(super) struct FoldedConvolution {
    /// `[O, I / groups, K, K]`, f32.
    weight: Tensor,
    /// `[O]`, f32.
    bias: Tensor,
    stride: usize,
    groups: usize,
}

impl FoldedConvolution {
    /// Reads the layer's tensors, which are there and have their shapes; computes in f64.
    ///
    /// # Errors
    /// [`ImportProblem::Values`] where a norm divides by what is no positive number.
    pub(super) fn read(weights: &Weights, layer: &Layer) -> Result<Self, ImportProblem> {
        let name = |tensor: &str| format!("{}.{tensor}", layer.norm);
        let [gamma, beta, mean, variance] = NORM.map(name);
        let vector = |name: &str| weights.values(name);
        let (gamma, beta) = (vector(&gamma)?, vector(&beta)?);
        let (mean, variances) = (vector(&mean)?, vector(&variance)?);
        if let Some(found) = variances
            .iter()
            .find(|&v| !(v + EPSILON > 0.0 && v.is_finite()))
        {
            return Err(ImportProblem::Values {
                tensor: variance,
                reason: format!("expected variances, which are 0 or more, found {found}"),
            });
        }
        let scale = gamma.iter().zip(&variances);
        let scale: Vec<f64> = scale.map(|(g, v)| g / (v + EPSILON).sqrt()).collect();
        let bias = beta.iter().zip(mean.iter().zip(&scale));
        let bias: Vec<f64> = bias.map(|(b, (m, s))| b - m * s).collect();
        let outputs = scale.len();
        let scale = Tensor::from_vec(scale, (outputs, 1, 1, 1), &Device::Cpu)?;
        let bias = Tensor::from_vec(bias, outputs, &Device::Cpu)?;
        let weight = weights.get(&layer.weight())?.to_dtype(DType::F64)?;
        Ok(Self {
            weight: weight.broadcast_mul(&scale)?.to_dtype(DType::F32)?,
            bias: bias.to_dtype(DType::F32)?,
            stride: layer.stride,
            groups: layer.groups,
        })
    }

    pub(super) fn to_device(&self, device: &Device) -> candle_core::Result<Self> {
        Ok(Self {
            weight: self.weight.to_device(device)?,
            bias: self.bias.to_device(device)?,
            ..*self
        })
    }

    /// `[N, I, H, W]` to `[N, O, ⌈H / stride⌉, ⌈W / stride⌉]`, differentiable with respect to x.
    pub(super) fn apply(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let kernel = self.weight.dim(2)?;
        let padding = kernel / 2;
        if kernel > 3 {
            let bias = self.bias.reshape((1, self.bias.elem_count(), 1, 1))?;
            let y = x.conv2d(&self.weight, padding, self.stride, 1, self.groups)?;
            return y.broadcast_add(&bias);
        }
        let layer = |x: &Tensor, weight: &Tensor, bias: &Tensor| {
            conv2d(x, weight, Some(bias), self.stride, padding)
        };
        if self.groups == 1 {
            return Ok(layer(x, &self.weight, &self.bias)?);
        }
        let (xs, weights, biases) = (
            self.parts(x, 1)?,
            self.parts(&self.weight, 0)?,
            self.parts(&self.bias, 0)?,
        );
        let groups = xs.iter().zip(weights.iter().zip(&biases));
        let outputs = groups.map(|(x, (weight, bias))| layer(x, weight, bias));
        Tensor::cat(&outputs.collect::<Result<Vec<_>, _>>()?, 1)
    }

    /// ∂L/∂x from x and ∂L/∂y; the kernel is at most 3×3, as in every block.
    pub(super) fn input_gradient(
        &self,
        x: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<Tensor> {
        let padding = self.weight.dim(2)? / 2;
        let of_x = |x: &Tensor, weight: &Tensor, gradient: &Tensor| {
            let found = conv2d_backward(x, weight, self.stride, padding, gradient, OF_X)?;
            Ok(found.x.expect("it was wanted"))
        };
        if self.groups == 1 {
            return of_x(x, &self.weight, gradient);
        }
        let (xs, weights, gradients) = (
            self.parts(x, 1)?,
            self.parts(&self.weight, 0)?,
            self.parts(gradient, 1)?,
        );
        let groups = xs.iter().zip(weights.iter().zip(&gradients));
        let found = groups.map(|(x, (weight, gradient))| of_x(x, weight, gradient));
        Tensor::cat(&found.collect::<candle_core::Result<Vec<_>>>()?, 1)
    }

    /// The groups of a tensor along a dimension.
    fn parts(&self, tensor: &Tensor, dim: usize) -> candle_core::Result<Vec<Tensor>> {
        let parts = tensor.chunk(self.groups, dim)?;
        parts.iter().map(Tensor::contiguous).collect()
    }
}
