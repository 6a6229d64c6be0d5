//! Batch norm, with or without the ReLU after it.

use candle_core::Tensor;
use rayon::prelude::*;

use crate::arch::{self, Kernel, Vector};
use crate::error::Result;
use crate::input::{self, Input, Output};
use crate::norm::Norm;
use crate::parallel;
use crate::planes::{self, GradientSums};

/// y = relu(norm(x)), x and y `[N, C, H, W]`.
///
/// # Errors
/// `Shape`, `DType` or `Device` if x does not fit the norm; with [`Norm::batch`] x must also
/// have the batch's count of values.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use ir_tensor_ops::{Norm, explicit};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let x = Tensor::new(&[-1f32, 3.], &Device::Cpu)?.reshape((1, 1, 1, 2))?;
/// let one = Tensor::new(&[1f32], &Device::Cpu)?;
/// let norm = Norm::running(&one, &one, &one, &one, 1e-12)?;
/// let y = explicit::norm_relu(&x, &norm)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [0., 3.]);
/// # Ok(())
/// # }
/// ```
pub fn norm_relu(x: &Tensor, norm: &Norm) -> Result<Tensor> {
    norm_output("norm_relu", x, norm, true)?.tensor()
}

/// The gradients of [`norm_relu`].
#[derive(Debug, Clone)]
pub struct NormReluGradients {
    /// ∂L/∂x `[N, C, H, W]`.
    pub x: Tensor,
    /// ∂L/∂γ `[C]`.
    pub gamma: Tensor,
    /// ∂L/∂β `[C]`.
    pub beta: Tensor,
}

/// The gradients of [`norm_relu`] from ∂L/∂y; through the statistics too if the norm is
/// [`Norm::batch`].
///
/// # Errors
/// As [`norm_relu`], and `Shape` if `grad_output` does not have x's shape.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use ir_tensor_ops::{ChannelStatistics, Norm, explicit};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let x = Tensor::new(&[-1f32, 1.], &Device::Cpu)?.reshape((1, 1, 1, 2))?;
/// let one = Tensor::new(&[1f32], &Device::Cpu)?;
/// let zero = Tensor::new(&[0f32], &Device::Cpu)?;
/// let norm = Norm::running(&zero, &one, &one, &zero, 1e-12)?;
/// let gradients = explicit::norm_relu_backward(&x, &norm, &x.ones_like()?)?;
/// assert_eq!(gradients.x.flatten_all()?.to_vec1::<f32>()?, [0., 1.]);
/// assert_eq!(gradients.beta.to_vec1::<f32>()?, [1.]);
/// # Ok(())
/// # }
/// ```
pub fn norm_relu_backward(
    x: &Tensor,
    norm: &Norm,
    grad_output: &Tensor,
) -> Result<NormReluGradients> {
    norm_backward("norm_relu_backward", x, norm, grad_output, true)
}

/// norm(x), or relu(norm(x)) if `relu`.
pub(crate) fn norm_output(op: &'static str, x: &Tensor, norm: &Norm, relu: bool) -> Result<Output> {
    norm.check(op, x)?;
    let [_, channels, height, width] = input::dims(op, "x", x, "[N, C, H, W]")?;
    let x = Input::new(op, "x", x)?;
    let (values, plane) = (x.values(), height * width);
    let values: &[f32] = &values;
    let size = channels * plane;
    let y = parallel::pieces(values.len(), size, |index, y| {
        arch::run(ApplyToImage {
            norm,
            relu,
            x: &values[index * size..][..size],
            y,
        });
    });
    Ok(Output::new(y, x.tensor().shape()))
}

/// The gradients of norm(x), or of relu(norm(x)) if `relu`.
pub(crate) fn norm_backward(
    op: &'static str,
    x: &Tensor,
    norm: &Norm,
    grad_output: &Tensor,
    relu: bool,
) -> Result<NormReluGradients> {
    norm.check(op, x)?;
    let gradient = Input::shaped(op, "grad_output", grad_output, x.dims())?;
    let x = Input::new(op, "x", x)?;
    let (values, gradient) = (x.values(), gradient.values());
    let (values, gradient): (&[f32], &[f32]) = (&values, &gradient);
    let size = values.len() / x.tensor().dims()[0];
    let (dx, sums) = parallel::pieces_with(values.len(), size, 0., |index, dx| {
        dx.copy_from_slice(&gradient[index * size..][..size]);
        mask_and_sum(norm, relu, &values[index * size..][..size], dx)
    });
    finish(norm, values, dx, &sums, None, x.tensor().dims())
}

/// Sets what the ReLU blocked to 0 (if `relu`) in the gradient of one image, and sums what is
/// left for each channel.
pub(crate) fn mask_and_sum(
    norm: &Norm,
    relu: bool,
    x: &[f32],
    gradient: &mut [f32],
) -> Vec<GradientSums> {
    arch::run(MaskAndSum {
        norm,
        relu,
        x,
        gradient,
    })
}

/// From the masked gradient of the norm's output to all gradients; `added` joins x's.
pub(crate) fn finish(
    norm: &Norm,
    x: &[f32],
    mut gradient: Vec<f32>,
    sums: &[Vec<GradientSums>],
    added: Option<&[f32]>,
    shape: &[usize],
) -> Result<NormReluGradients> {
    let parameters = norm.gradients(sums);
    let size = x.len() / sums.len();
    gradient
        .par_chunks_exact_mut(size)
        .enumerate()
        .for_each(|(index, gradient)| {
            let range = index * size..(index + 1) * size;
            arch::run(ToInput {
                rules: &parameters.rules,
                x: &x[range.clone()],
                gradient,
                added: added.map(|added| &added[range]),
            });
        });
    Ok(NormReluGradients {
        x: input::output(gradient, shape)?,
        gamma: input::output(parameters.gamma, norm.channels())?,
        beta: input::output(parameters.beta, norm.channels())?,
    })
}

struct ApplyToImage<'a> {
    norm: &'a Norm,
    relu: bool,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for ApplyToImage<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _vector: V) {
        let plane = self.x.len() / self.norm.channels();
        let planes = self
            .x
            .chunks_exact(plane)
            .zip(self.y.chunks_exact_mut(plane));
        for (&affine, (x, y)) in self.norm.affine().iter().zip(planes) {
            planes::apply(affine, self.relu, x, y);
        }
    }
}

struct MaskAndSum<'a> {
    norm: &'a Norm,
    relu: bool,
    x: &'a [f32],
    gradient: &'a mut [f32],
}

impl Kernel for MaskAndSum<'_> {
    type Output = Vec<GradientSums>;

    #[inline(always)]
    fn run<V: Vector>(self, _vector: V) -> Vec<GradientSums> {
        let plane = self.x.len() / self.norm.channels();
        let planes = self
            .x
            .chunks_exact(plane)
            .zip(self.gradient.chunks_exact_mut(plane));
        let mut sums = Vec::with_capacity(self.norm.channels());
        for (&affine, (x, gradient)) in self.norm.affine().iter().zip(planes) {
            sums.push(planes::mask_and_sum(affine, self.relu, x, gradient));
        }
        sums
    }
}

struct ToInput<'a> {
    rules: &'a [planes::InputGradient],
    x: &'a [f32],
    gradient: &'a mut [f32],
    added: Option<&'a [f32]>,
}

impl Kernel for ToInput<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _vector: V) {
        let plane = self.x.len() / self.rules.len();
        for (channel, &rule) in self.rules.iter().enumerate() {
            let range = channel * plane..(channel + 1) * plane;
            let gradient = &mut self.gradient[range.clone()];
            planes::input_gradient(rule, &self.x[range.clone()], gradient);
            if let Some(added) = self.added {
                planes::add(&added[range], gradient);
            }
        }
    }
}
