//! Batch norm, with or without the ReLU after it.

use candle_core::Tensor;

use crate::arch::{self, Kernel, Vector};
use crate::blocks::{self, InputGradient, Sums};
use crate::dispatch::on_gpu;
use crate::error::Result;
use crate::images::{Extent, Images, ImagesMut};
use crate::input::{self, Input, Output};
use crate::norm::Norm;
use crate::parallel::{self, Pieces};
use crate::scratch::{self, Scratch, Use};

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

/// [`norm_relu`], or batch norm alone, under the name `op`.
pub(crate) fn norm_output(op: &'static str, x: &Tensor, norm: &Norm, relu: bool) -> Result<Output> {
    norm.check(op, x.dims())?;
    on_gpu!(x, norm::norm(op, x, norm, relu));
    let (batch, extent) = extent(op, x)?;
    let x = Input::new(op, "x", x)?;
    let mut y = parallel::zeros(batch * extent.numbers());
    let groups = ImagesMut::Planar(&mut y).groups(extent, 1);
    let images = Images::Planar(&x.values());
    parallel::for_each(groups, |index, y| {
        arch::run(NormalizeImage {
            norm,
            relu,
            extent,
            images,
            index,
            y,
        });
    });
    Ok(Output::new(y, x.tensor().shape()))
}

/// The gradients of [`norm_output`].
pub(crate) fn norm_backward(
    op: &'static str,
    x: &Tensor,
    norm: &Norm,
    grad_output: &Tensor,
    relu: bool,
) -> Result<NormReluGradients> {
    norm.check(op, x.dims())?;
    on_gpu!(x, norm::norm_backward(op, x, norm, grad_output, relu));
    let gradient = Input::shaped(op, "grad_output", grad_output, x.dims())?;
    let (batch, extent) = extent(op, x)?;
    let x = Input::new(op, "x", x)?;
    let mut dx = parallel::copied(&gradient.values());
    let mut sums = vec![Sums::ZERO; batch * extent.blocks()];
    let groups = ImagesMut::Planar(&mut dx).groups(extent, 1);
    let images = Images::Planar(&x.values());
    let split = (groups, Pieces::of(&mut sums, extent.blocks()));
    parallel::for_each(split, |index, (gradient, sums)| {
        arch::run(MaskImage {
            norm,
            relu,
            extent,
            images,
            index,
            gradient,
            sums,
        });
    });
    let parameters = norm.gradients(&sums);
    let rules = &parameters.rules;
    through_norm(rules, extent, images, None, ImagesMut::Planar(&mut dx));
    Ok(NormReluGradients {
        x: input::output(dx, x.tensor().shape())?,
        gamma: input::output(parameters.gamma, norm.channels())?,
        beta: input::output(parameters.beta, norm.channels())?,
    })
}

/// Turns gradients of a norm's output into those of its input x, in place, and adds to them
/// what reaches x on another way.
pub(crate) fn through_norm(
    rules: &[InputGradient],
    extent: Extent,
    x: Images<'_>,
    added: Option<Images<'_>>,
    gradient: ImagesMut<'_>,
) {
    parallel::for_each(gradient.groups(extent, 1), |index, gradient| {
        arch::run(ThroughNorm {
            rules,
            extent,
            x,
            added,
            index,
            gradient,
        });
    });
}

/// The batch and the sizes of its images.
fn extent(op: &'static str, x: &Tensor) -> Result<(usize, Extent)> {
    let [batch, channels, height, width] = input::dims(op, "x", x, "[N, C, H, W]")?;
    let plane = height * width;
    Ok((batch, Extent { channels, plane }))
}

/// y = norm(x), or relu(norm(x)), of one image.
struct NormalizeImage<'a> {
    norm: &'a Norm,
    relu: bool,
    extent: Extent,
    images: Images<'a>,
    index: usize,
    y: ImagesMut<'a>,
}

impl Kernel for NormalizeImage<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(mut self, vector: V) {
        let extent = self.extent;
        let sizes = [self.images.room(extent, 1), self.y.room(extent)];
        let mut scratch = Scratch::take(Use::Unit, sizes.iter().sum());
        let [x, turned] = scratch::split(&mut scratch, sizes);
        let x = self
            .images
            .blocked(vector, extent, self.index..self.index + 1, x);
        let y = self.y.blocked(turned).chunks_exact_mut(extent.plane);
        for (affine, (x, y)) in self.norm.affine().iter().zip(x.chunks(extent.plane).zip(y)) {
            blocks::normalize(vector, affine, self.relu, x, y);
        }
        self.y.finish(vector, extent, turned);
    }
}

/// Masks and sums the gradient of one image.
struct MaskImage<'a> {
    norm: &'a Norm,
    relu: bool,
    extent: Extent,
    images: Images<'a>,
    index: usize,
    gradient: ImagesMut<'a>,
    sums: &'a mut [Sums],
}

impl Kernel for MaskImage<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(mut self, vector: V) {
        let extent = self.extent;
        let sizes = [self.images.room(extent, 1), self.gradient.room(extent)];
        let mut scratch = Scratch::take(Use::Unit, sizes.iter().sum());
        let [x, turned] = scratch::split(&mut scratch, sizes);
        let x = self
            .images
            .blocked(vector, extent, self.index..self.index + 1, x);
        let gradient = self.gradient.loaded(vector, extent, turned);
        let blocks = x
            .chunks_exact(extent.plane)
            .zip(gradient.chunks_exact_mut(extent.plane));
        let norms = self.norm.affine().iter().zip(self.sums);
        for ((affine, sums), (x, gradient)) in norms.zip(blocks) {
            blocks::mask_and_sum(vector, affine, self.relu, x, gradient, sums);
        }
        self.gradient.finish(vector, extent, turned);
    }
}

/// Turns the gradient of one image.
struct ThroughNorm<'a> {
    rules: &'a [InputGradient],
    extent: Extent,
    x: Images<'a>,
    added: Option<Images<'a>>,
    index: usize,
    gradient: ImagesMut<'a>,
}

impl Kernel for ThroughNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(mut self, vector: V) {
        let extent = self.extent;
        let sizes = [
            self.x.room(extent, 1),
            self.added.map_or(0, |added| added.room(extent, 1)),
            self.gradient.room(extent),
        ];
        let mut scratch = Scratch::take(Use::Unit, sizes.iter().sum());
        let [x, added, turned] = scratch::split(&mut scratch, sizes);
        let range = self.index..self.index + 1;
        let x = self.x.blocked(vector, extent, range.clone(), x);
        let added = self
            .added
            .map(|images| images.blocked(vector, extent, range, added));
        let gradient = self.gradient.loaded(vector, extent, turned);
        for (block, rule) in self.rules.iter().enumerate() {
            let range = block * extent.plane..(block + 1) * extent.plane;
            let added = added.map(|added| &added[range.clone()]);
            blocks::input_gradient(vector, rule, &x[range.clone()], added, &mut gradient[range]);
        }
        self.gradient.finish(vector, extent, turned);
    }
}
