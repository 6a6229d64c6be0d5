//! The fully connected layer, and the cross-entropy of labels.

use candle_core::Tensor;

use super::per_sample;
use super::{Buffer, Call, Gpu};
use crate::error::Result;
use crate::explicit::LinearGradients;
use crate::gpu::{Linear, Losses};
use crate::input::Output;

/// The threads of the block that takes a mean: as in `per_sample.cuh`.
const MEAN_THREADS: u32 = 512;

/// y = x · weightᵀ + bias; `sizes` are N, I and O.
pub(crate) fn linear(
    gpu: &Gpu,
    op: &'static str,
    [x, weight, bias]: [&Tensor; 3],
    [batch, inputs, outputs]: [usize; 3],
) -> Result<Output> {
    let call = Call::new(gpu, op, x);
    let layer = Linear {
        weight: call.numbers("weight", weight)?,
        bias: call.shaped("bias", bias, &[outputs])?,
        inputs,
        outputs,
    };
    let y = call.room(batch * outputs)?;
    layer.forward(batch, &call.numbers("x", x)?, &y)?;
    call.output(y, &[batch, outputs])
}

/// The gradients of [`linear`] from that of y.
pub(crate) fn linear_backward(
    gpu: &Gpu,
    op: &'static str,
    [x, weight, grad_output]: [&Tensor; 3],
    [batch, inputs, outputs]: [usize; 3],
) -> Result<LinearGradients> {
    let call = Call::new(gpu, op, x);
    let gradient = call.shaped("grad_output", grad_output, &[batch, outputs])?;
    let [dx, dw, db] = [batch * inputs, outputs * inputs, outputs].map(|length| call.room(length));
    let (dx, dw, db) = (dx?, dw?, db?);
    let layer = Linear {
        weight: call.numbers("weight", weight)?,
        // The gradients do not depend on it.
        bias: db.clone(),
        inputs,
        outputs,
    };
    layer.gradient_of_x(batch, &gradient, &dx)?;
    let x = call.numbers("x", x)?;
    layer.gradient_of_weight(batch, &x, &gradient, [&dw, &db])?;
    drop(layer);
    Ok(LinearGradients {
        x: call.tensor(dx, &[batch, inputs])?,
        weight: call.tensor(dw, &[outputs, inputs])?,
        bias: call.tensor(db, outputs)?,
    })
}

/// The mean cross-entropy of a batch, in nats.
pub(crate) fn cross_entropy(
    gpu: &Gpu,
    op: &'static str,
    logits: &Tensor,
    labels: &Tensor,
) -> Result<Output> {
    let call = Call::new(gpu, op, logits);
    let losses = per_sample::losses(&call, logits, labels)?;
    let mean = call.room(1)?;
    let arguments = [
        (&losses).into(),
        (&mean).into(),
        (losses.len() as i32).into(),
    ];
    // SAFETY: there are as many losses, and room for their mean.
    unsafe {
        gpu.launch("mean_of".into(), [1; 3], [MEAN_THREADS, 1, 1], 0, arguments)?;
    }
    call.output(mean, ())
}

/// The gradient of the logits `[batch, classes]` in [`cross_entropy`].
pub(crate) fn cross_entropy_backward(
    gpu: &Gpu,
    op: &'static str,
    logits: &Tensor,
    labels: &Tensor,
    [batch, classes]: [usize; 2],
) -> Result<Tensor> {
    let call = Call::new(gpu, op, logits);
    let labels: Buffer<u32> = call.labels(labels, batch, classes)?;
    let found = Losses::new(gpu, batch, classes)?;
    found.compute(batch, classes, &call.numbers("logits", logits)?, &labels)?;
    call.tensor(found.gradient, &[batch, classes])
}
