//! Convolutions, alone and behind batch norm and ReLU.
//!
//! The kernels read maps, whose channels lie side by side: tensors are turned on their way in and out.

use candle_core::Tensor;

use super::norm::{self, finish, merged};
use super::{Buffer, Call, Gpu};
use crate::convolution::Convolution as Shape;
use crate::error::Result;
use crate::explicit::{
    Conv2dGradients, NormReluConv2dArguments as Arguments, NormReluConv2dGradients,
    NormReluGradients, Wanted,
};
use crate::gpu::norm::padded;
use crate::gpu::{Convolution, Map, NormState, Precision, Weights};
use crate::input::{self, Output};
use crate::norm::Norm;
use crate::statistics::ChannelStatistics;

/// conv(x, weight) + bias.
pub(crate) fn conv2d(
    gpu: &Gpu,
    op: &'static str,
    shape: &Shape,
    [x, weight]: [&Tensor; 2],
    bias: Option<&Tensor>,
) -> Result<Output> {
    let plain = Plain::new(gpu, op, shape, [x, weight])?;
    let y = plain.call.new_map(shape.output_shape())?;
    let bias = plain.bias(bias)?;
    let (x, weight) = (&plain.x, &plain.weight);
    plain
        .convolution
        .forward(x, None, weight, &bias, None, &y, None)?;
    plain.call.map_output(&y)
}

/// The gradients of [`conv2d`].
pub(crate) fn conv2d_backward(
    gpu: &Gpu,
    op: &'static str,
    shape: &Shape,
    [x, weight, grad_output]: [&Tensor; 3],
    wanted: Wanted,
) -> Result<Conv2dGradients> {
    let plain = Plain::new(gpu, op, shape, [x, weight])?;
    let gradient = plain.gradient(grad_output)?;
    let mut gradients = Conv2dGradients {
        x: None,
        weight: None,
        bias: None,
    };
    if wanted.x {
        let dx = plain.call.new_map(shape.input_shape())?;
        let convolution = &plain.convolution;
        convolution.input_gradient(&gradient, &plain.weight, &dx, None)?;
        gradients.x = Some(plain.call.map_output(&dx)?.tensor()?);
    }
    if wanted.weight {
        let [weight, bias] = plain.weight_gradient(None, &gradient)?;
        gradients.weight = Some(weight);
        gradients.bias = Some(bias);
    }
    Ok(gradients)
}

/// conv(relu(norm(x)), weight) + bias + residual.
pub(crate) fn norm_relu_conv2d(
    gpu: &Gpu,
    op: &'static str,
    arguments: &Arguments<'_>,
    bias: &Tensor,
    residual: Option<&Tensor>,
) -> Result<Output> {
    let fused = Fused::new(gpu, op, arguments)?;
    let y = fused.forward(bias, residual, None)?;
    fused.plain.call.map_output(&y)
}

/// [`norm_relu_conv2d`], and the statistics of the result.
pub(crate) fn norm_relu_conv2d_with_statistics(
    gpu: &Gpu,
    op: &'static str,
    arguments: &Arguments<'_>,
    bias: &Tensor,
    residual: Option<&Tensor>,
) -> Result<(Tensor, ChannelStatistics)> {
    let shape = &arguments.shape;
    let fused = Fused::new(gpu, op, arguments)?;
    let pieces = fused.plain.convolution.statistics_pieces();
    let moments = Buffer::new(gpu, pieces * 3 * padded(shape.outputs))?;
    let y = fused.forward(bias, residual, Some(&moments))?;
    let values = shape.batch * shape.out_height * shape.out_width;
    let statistics = merged(gpu, &moments, pieces, [shape.outputs, values])?;
    Ok((fused.plain.call.map_output(&y)?.tensor()?, statistics))
}

/// The gradients of [`norm_relu_conv2d`]; `added` is added to that of x.
pub(crate) fn norm_relu_conv2d_backward(
    gpu: &Gpu,
    op: &'static str,
    arguments: &Arguments<'_>,
    grad_output: &Tensor,
    added: Option<&Tensor>,
) -> Result<NormReluConv2dGradients> {
    let fused = Fused::new(gpu, op, arguments)?;
    let plain = &fused.plain;
    let gradient = plain.gradient(grad_output)?;
    let [weight, bias] = plain.weight_gradient(Some(&fused.state), &gradient)?;
    let through_norm = fused.input_gradient(&gradient, added)?;
    Ok(NormReluConv2dGradients {
        x: through_norm.x,
        gamma: through_norm.gamma,
        beta: through_norm.beta,
        weight,
        bias,
    })
}

/// The gradient of x alone in [`norm_relu_conv2d`].
pub(crate) fn norm_relu_conv2d_input_gradient(
    gpu: &Gpu,
    op: &'static str,
    arguments: &Arguments<'_>,
    grad_output: &Tensor,
) -> Result<Tensor> {
    let fused = Fused::new(gpu, op, arguments)?;
    let gradient = fused.plain.gradient(grad_output)?;
    Ok(fused.input_gradient(&gradient, None)?.x)
}

/// A convolution with its arguments on the GPU.
struct Plain<'a> {
    call: Call<'a>,
    shape: &'a Shape,
    convolution: Convolution,
    x: Map,
    weight: Weights,
}

impl<'a> Plain<'a> {
    fn new(
        gpu: &'a Gpu,
        op: &'static str,
        shape: &'a Shape,
        [x, weight]: [&'a Tensor; 2],
    ) -> Result<Self> {
        let call = Call::new(gpu, op, x);
        input::check_device(op, "weight", weight, call.device)?;
        Ok(Self {
            convolution: Convolution::new(
                shape.input_shape(),
                shape.outputs,
                shape.kernel,
                shape.stride,
                shape.padding,
                Precision::F32,
            )?,
            x: call.map("x", x)?,
            weight: Weights::from_tensor(gpu, weight, Precision::F32)?,
            call,
            shape,
        })
    }

    /// The bias with its padding, or as many zeros.
    fn bias(&self, bias: Option<&Tensor>) -> Result<Buffer<f32>> {
        let channels = self.shape.outputs;
        match bias {
            None => Buffer::zeros(self.call.gpu, padded(channels)),
            Some(bias) => {
                let bias = self.call.shaped("bias", bias, &[channels])?;
                self.call.padded(&bias)
            }
        }
    }

    /// The gradient of y.
    fn gradient(&self, grad_output: &Tensor) -> Result<Map> {
        let expected = self.shape.output_shape();
        input::check_shape(self.call.op, "grad_output", grad_output, &expected)?;
        self.call.map("grad_output", grad_output)
    }

    /// The gradients of weight and bias.
    fn weight_gradient(&self, norm: Option<&NormState>, gradient: &Map) -> Result<[Tensor; 2]> {
        let (call, shape, convolution) = (&self.call, self.shape, &self.convolution);
        let partials = call.room(convolution.partial_weight_len())?;
        let dw = call.room(convolution.weight_len())?;
        let db = call.room(padded(shape.outputs))?;
        convolution.weight_gradient(&self.x, norm, gradient, &partials, &dw, &db, false)?;
        let dims = shape.weight_shape();
        let dw = Weights::F32(dw).to_buffer(dims)?;
        Ok([
            call.tensor(dw, &dims)?,
            call.tensor(db.shortened(shape.outputs), shape.outputs)?,
        ])
    }
}

/// A convolution behind a norm, with its arguments on the GPU.
struct Fused<'a> {
    plain: Plain<'a>,
    norm: &'a Norm,
    state: NormState,
}

impl<'a> Fused<'a> {
    fn new(gpu: &'a Gpu, op: &'static str, arguments: &'a Arguments<'a>) -> Result<Self> {
        let tensors = [arguments.x, arguments.weight];
        Ok(Self {
            plain: Plain::new(gpu, op, &arguments.shape, tensors)?,
            norm: arguments.norm,
            state: norm::state(gpu, arguments.norm)?,
        })
    }

    fn forward(
        &self,
        bias: &Tensor,
        residual: Option<&Tensor>,
        moments: Option<&Buffer<f32>>,
    ) -> Result<Map> {
        let plain = &self.plain;
        let (call, dims) = (&plain.call, plain.shape.output_shape());
        let bias = plain.bias(Some(bias))?;
        let residual = residual
            .map(|residual| {
                input::check_shape(call.op, "residual", residual, &dims)?;
                call.map("residual", residual)
            })
            .transpose()?;
        let y = call.new_map(dims)?;
        let (norm, residual) = (Some(&self.state), residual.as_ref());
        plain
            .convolution
            .forward(&plain.x, norm, &plain.weight, &bias, residual, &y, moments)?;
        Ok(y)
    }

    /// The gradients of x, γ and β.
    fn input_gradient(&self, gradient: &Map, added: Option<&Tensor>) -> Result<NormReluGradients> {
        let Plain {
            call,
            shape,
            convolution,
            x,
            weight,
        } = &self.plain;
        let dims = shape.input_shape();
        let added = added
            .map(|added| {
                input::check_shape(call.op, "residual_gradient", added, &dims)?;
                call.map("residual_gradient", added)
            })
            .transpose()?;
        let dx = call.new_map(dims)?;
        let pieces = convolution.gradient_pieces();
        let sums = call.room(pieces * 2 * padded(shape.inputs))?;
        convolution.input_gradient(gradient, weight, &dx, Some((x, &self.state, &sums)))?;
        let (rule, [gamma, beta]) = finish(call, self.norm, &self.state, &sums, pieces)?;
        self.state
            .gradient_of_x(&rule, &dx, x, added.as_ref(), &dx)?;
        Ok(NormReluGradients {
            x: call.map_output(&dx)?.tensor()?,
            gamma,
            beta,
        })
    }
}
