//! Batch norm, with or without the ReLU after it. What a [`Norm`] is has been computed on the CPU.

use candle_core::Tensor;

use super::{Buffer, Call, Gpu};
use crate::error::Result;
use crate::explicit::NormReluGradients;
use crate::gpu::backend::Argument;
use crate::gpu::norm::padded;
use crate::gpu::{NormRule, NormState};
use crate::input::Output;
use crate::norm::Norm;
use crate::statistics::ChannelStatistics;

/// The threads that share a plane: as in `tensors.cuh`.
const PLANE_THREADS: u32 = 128;

/// norm(x), or relu(norm(x)).
pub(crate) fn norm(
    gpu: &Gpu,
    op: &'static str,
    x: &Tensor,
    norm: &Norm,
    relu: bool,
) -> Result<Output> {
    let call = Call::new(gpu, op, x);
    let (state, shape, sizes) = (state(gpu, norm)?, x.shape(), sizes(x));
    let x = call.numbers("x", x)?;
    let y = call.room(x.len())?;
    let ends = [
        (&x).into(),
        (&state.mean).into(),
        (&state.scale).into(),
        (&state.shift).into(),
        (&y).into(),
        (x.len() as i32).into(),
    ];
    let relu = i32::from(relu).into();
    let arguments: Vec<Argument> = ends.into_iter().chain(sizes).chain([relu]).collect();
    // SAFETY: y is as large as x, and the norm has x's channels.
    unsafe { gpu.launch_for(x.len(), "normalize".into(), arguments)? };
    call.output(y, shape)
}

/// The gradients of [`norm`].
pub(crate) fn norm_backward(
    gpu: &Gpu,
    op: &'static str,
    x: &Tensor,
    norm: &Norm,
    grad_output: &Tensor,
    relu: bool,
) -> Result<NormReluGradients> {
    let call = Call::new(gpu, op, x);
    let gradient = call.shaped("grad_output", grad_output, x.dims())?;
    let (state, shape, channels) = (state(gpu, norm)?, x.shape(), norm.channels());
    let (images, plane) = (x.dims()[0], x.elem_count() / x.dims()[0] / channels);
    let sizes = sizes(x);
    let x = call.numbers("x", x)?;
    let dx = call.room(x.len())?;
    let sums = call.room(images * 2 * padded(channels))?;
    let arguments = [
        (&gradient).into(),
        (&x).into(),
        (&state.mean).into(),
        (&state.scale).into(),
        (&state.shift).into(),
        (&dx).into(),
        (&sums).into(),
        (channels as i32).into(),
        (padded(channels) as i32).into(),
        (plane as i32).into(),
        i32::from(relu).into(),
    ];
    let (grid, block) = ([(images * channels) as u32, 1, 1], [PLANE_THREADS, 1, 1]);
    // SAFETY: the maps have a plane for each block, the norm its channels, and `sums` two numbers of each plane.
    unsafe { gpu.launch("normalize_gradient".into(), grid, block, 0, arguments)? };
    let (rule, [gamma, beta]) = finish(&call, norm, &state, &sums, images)?;
    let ends = [
        (&dx).into(),
        (&x).into(),
        (&state.mean).into(),
        (&state.scale).into(),
        (&rule.slope).into(),
        (&rule.offset).into(),
        (x.len() as i32).into(),
    ];
    let arguments: Vec<Argument> = ends.into_iter().chain(sizes).collect();
    // SAFETY: as above.
    unsafe { gpu.launch_for(x.len(), "planes_through_norm".into(), arguments)? };
    Ok(NormReluGradients {
        x: call.tensor(dx, shape)?,
        gamma,
        beta,
    })
}

/// The rule of x and the gradients of γ and β, from sums in as many pieces.
pub(super) fn finish(
    call: &Call<'_>,
    norm: &Norm,
    state: &NormState,
    sums: &Buffer<f32>,
    pieces: usize,
) -> Result<(NormRule, [Tensor; 2])> {
    let channels = norm.channels();
    let rule = NormRule::new(call.gpu, channels)?;
    let gamma = call.room(padded(channels))?;
    let beta = call.room(padded(channels))?;
    state.gradient(sums, pieces, norm.count(), [&gamma, &beta], false, &rule)?;
    let vector = |buffer: Buffer<f32>| call.tensor(buffer.shortened(channels), channels);
    Ok((rule, [vector(gamma)?, vector(beta)?]))
}

/// The statistics of x; `sizes` are N, C and H·W.
pub(crate) fn statistics(
    gpu: &Gpu,
    op: &'static str,
    x: &Tensor,
    [images, channels, plane]: [usize; 3],
) -> Result<ChannelStatistics> {
    let x = Call::new(gpu, op, x).numbers("x", x)?;
    let moments = Buffer::new(gpu, images * 3 * padded(channels))?;
    let sizes = [channels, padded(channels), plane].map(|size| (size as i32).into());
    let arguments = [&[(&x).into(), (&moments).into()][..], &sizes].concat();
    let (grid, block) = ([(images * channels) as u32, 1, 1], [PLANE_THREADS, 1, 1]);
    // SAFETY: x has a plane for each block, and there is room for three numbers of each.
    unsafe { gpu.launch("plane_moments".into(), grid, block, 0, arguments)? };
    merged(gpu, &moments, images, [channels, images * plane])
}

/// The statistics of channels from the moments of their pieces; `count` is the number of values per channel.
pub(super) fn merged(
    gpu: &Gpu,
    moments: &Buffer<f32>,
    pieces: usize,
    [channels, count]: [usize; 2],
) -> Result<ChannelStatistics> {
    let state = NormState::new(gpu, channels)?;
    // Neither the mean nor the variance depends on what stands for γ, β and ε here.
    let any = &state.scale;
    state.of_moments(moments, pieces, any, any, 1.)?;
    let vector = |buffer: &Buffer<f32>| buffer.slice(0..channels)?.to_vec();
    Ok(ChannelStatistics {
        mean: vector(&state.mean)?,
        variance: vector(&state.variance)?,
        count,
    })
}

/// A norm in the memory of the GPU.
pub(super) fn state(gpu: &Gpu, norm: &Norm) -> Result<NormState> {
    let channels = padded(norm.channels());
    let mut values = Vec::with_capacity(4 * channels);
    let affine = norm.affine();
    values.extend(affine.iter().flat_map(|block| block.mean.0));
    values.extend(affine.iter().flat_map(|block| block.scale.0));
    values.extend(affine.iter().flat_map(|block| block.shift.0));
    values.extend(
        norm.inverse_deviation()
            .iter()
            .map(|&inverse| inverse as f32),
    );
    values.resize(4 * channels, 0.);
    let values = Buffer::from_slice(gpu, &values)?;
    let part = |index: usize| values.slice(index * channels..(index + 1) * channels);
    Ok(NormState {
        mean: part(0)?,
        scale: part(1)?,
        shift: part(2)?,
        inverse_deviation: part(3)?,
        // No kernel of the operations asks for it.
        variance: part(3)?,
    })
}

/// C and H·W of a tensor `[N, C, H, W]`.
fn sizes(x: &Tensor) -> [Argument; 2] {
    let dims = x.dims();
    let plane: usize = dims[2..].iter().product();
    [dims[1], plane].map(|size| (size as i32).into())
}
