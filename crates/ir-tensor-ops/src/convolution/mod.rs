//! Two-dimensional convolution on slices: forward, input gradient, weight gradient.

mod shape;

use rayon::prelude::*;

use crate::norm::Norm;
use crate::parallel;
use crate::planes;

pub(crate) use shape::Convolution;

/// What a convolution reads: x, or relu(norm(x)).
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) norm: Option<&'a Norm>,
}

impl Source<'_> {
    fn image(&self, shape: &Convolution, index: usize) -> Vec<f32> {
        let size = shape.inputs * shape.height * shape.width;
        let values = &self.values[index * size..][..size];
        let Some(norm) = self.norm else {
            return values.to_vec();
        };
        let mut image = vec![0.; size];
        let plane = shape.height * shape.width;
        for (channel, &affine) in norm.affine().iter().enumerate() {
            let range = channel * plane..(channel + 1) * plane;
            planes::apply(affine, true, &values[range.clone()], &mut image[range]);
        }
        image
    }
}

/// Calls `tap(output row start, input row start, length, ...)` for every overlap of a kernel tap.
fn overlaps(
    shape: &Convolution,
    (ky, kx): (usize, usize),
    mut row: impl FnMut(usize, usize, usize),
) {
    let first = |k: usize| shape.padding.saturating_sub(k).div_ceil(shape.stride);
    let end = |k: usize, input: usize, output: usize| {
        let reach = input + shape.padding;
        if reach <= k {
            0
        } else {
            ((reach - k - 1) / shape.stride + 1).min(output)
        }
    };
    let (x0, x1) = (first(kx), end(kx, shape.width, shape.out_width));
    for y in first(ky)..end(ky, shape.height, shape.out_height) {
        if x0 < x1 {
            let input_y = y * shape.stride + ky - shape.padding;
            let input_x = x0 * shape.stride + kx - shape.padding;
            row(
                y * shape.out_width + x0,
                input_y * shape.width + input_x,
                x1 - x0,
            );
        }
    }
}

/// The convolution of every image, each then given to `finish(index, image)`.
pub(crate) fn forward<T: Send>(
    shape: &Convolution,
    source: Source<'_>,
    weight: &[f32],
    bias: Option<&[f32]>,
    finish: impl Fn(usize, &mut [f32]) -> T + Sync,
) -> (Vec<f32>, Vec<T>) {
    let plane_out = shape.out_height * shape.out_width;
    let plane_in = shape.height * shape.width;
    let size = shape.outputs * plane_out;
    parallel::pieces_with(shape.batch * size, size, |index, output| {
        let image = source.image(shape, index);
        for (o, out) in output.chunks_exact_mut(plane_out).enumerate() {
            out.fill(bias.map_or(0., |bias| bias[o]));
            for (i, input) in image.chunks_exact(plane_in).enumerate() {
                for (ky, kx) in shape.taps() {
                    let w = weight[shape.weight_index(o, i, ky, kx)];
                    overlaps(shape, (ky, kx), |to, from, length| {
                        let from = input[from..].iter().step_by(shape.stride);
                        for (y, &x) in out[to..to + length].iter_mut().zip(from) {
                            *y += w * x;
                        }
                    });
                }
            }
        }
        finish(index, output)
    })
}

/// The gradient of x, each image then given to `finish(index, image)`.
pub(crate) fn input_gradient<T: Send>(
    shape: &Convolution,
    weight: &[f32],
    gradient: &[f32],
    finish: impl Fn(usize, &mut [f32]) -> T + Sync,
) -> (Vec<f32>, Vec<T>) {
    let plane_out = shape.out_height * shape.out_width;
    let plane_in = shape.height * shape.width;
    let size = shape.inputs * plane_in;
    parallel::pieces_with(shape.batch * size, size, |index, dx| {
        let image = &gradient[index * shape.outputs * plane_out..];
        for (i, dx) in dx.chunks_exact_mut(plane_in).enumerate() {
            for o in 0..shape.outputs {
                let dy = &image[o * plane_out..][..plane_out];
                for (ky, kx) in shape.taps() {
                    let w = weight[shape.weight_index(o, i, ky, kx)];
                    overlaps(shape, (ky, kx), |from, to, length| {
                        let to = dx[to..].iter_mut().step_by(shape.stride);
                        for (x, &y) in to.zip(&dy[from..from + length]) {
                            *x += w * y;
                        }
                    });
                }
            }
        }
        finish(index, dx)
    })
}

/// The gradient of the weight.
pub(crate) fn weight_gradient(shape: &Convolution, x: Source<'_>, gradient: &[f32]) -> Vec<f32> {
    let plane_out = shape.out_height * shape.out_width;
    let plane_in = shape.height * shape.width;
    let images: Vec<Vec<f32>> = (0..shape.batch)
        .into_par_iter()
        .map(|index| x.image(shape, index))
        .collect();
    let per_output = shape.inputs * shape.kernel * shape.kernel;
    parallel::pieces(shape.outputs * per_output, per_output, |o, dw| {
        for (index, image) in images.iter().enumerate() {
            let dy = &gradient[(index * shape.outputs + o) * plane_out..][..plane_out];
            for (i, input) in image.chunks_exact(plane_in).enumerate() {
                for (tap, (ky, kx)) in shape.taps().enumerate() {
                    let mut sum = 0.;
                    overlaps(shape, (ky, kx), |y, x, length| {
                        let x = input[x..].iter().step_by(shape.stride);
                        sum += dy[y..y + length]
                            .iter()
                            .zip(x)
                            .map(|(y, x)| y * x)
                            .sum::<f32>();
                    });
                    dw[i * shape.kernel * shape.kernel + tap] += sum;
                }
            }
        }
    })
}

/// The gradient of the bias: the sum of the output's gradient over N, H and W.
pub(crate) fn bias_gradient(shape: &Convolution, gradient: &[f32]) -> Vec<f32> {
    let plane = shape.out_height * shape.out_width;
    let sums: Vec<f64> = gradient.par_chunks(plane).map(planes::total).collect();
    (0..shape.outputs)
        .map(|o| sums[o..].iter().step_by(shape.outputs).sum::<f64>() as f32)
        .collect()
}
