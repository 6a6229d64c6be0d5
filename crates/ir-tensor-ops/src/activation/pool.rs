//! Average pooling of activations, with or without the batch norm and ReLU before it.

use super::convolution::check_dims;
use super::{Activation, Gradient, NormGradients};
use crate::arch::{self, Kernel, Lanes, Vector};
use crate::blocks::{self, Affine, Sums};
use crate::error::Result;
use crate::explicit::Pooling;
use crate::norm::Norm;
use crate::parallel::{self, Pieces};
use crate::scratch::{Scratch, Use};

impl Activation {
    /// The mean over windows of kernel × kernel, side by side.
    ///
    /// # Errors
    /// As [`explicit::avg_pool2d`](crate::explicit::avg_pool2d).
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use ir_tensor_ops::{Activation, Workspace};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let x = Tensor::new(&[1f32, 2., 3., 6.], &Device::Cpu)?.reshape((1, 1, 2, 2))?;
    /// let x = Activation::from_tensor(&Workspace::default(), &x)?;
    /// let y = x.avg_pool2d(2)?;
    /// assert_eq!(y.to_tensor()?.flatten_all()?.to_vec1::<f32>()?, [3.]);
    /// let dx = y.avg_pool2d_backward(2, x.dims())?;
    /// assert_eq!(dx.to_tensor()?.flatten_all()?.to_vec1::<f32>()?, [0.75; 4]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn avg_pool2d(&self, kernel: usize) -> Result<Self> {
        self.pool("Activation::avg_pool2d", None, kernel)
    }

    /// The mean of relu(norm(x)) over windows of kernel × kernel: what a classifier reads.
    ///
    /// # Errors
    /// As [`explicit::norm_relu`](crate::explicit::norm_relu) and
    /// [`explicit::avg_pool2d`](crate::explicit::avg_pool2d).
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use ir_tensor_ops::{Activation, Norm, Workspace};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let x = Tensor::new(&[-1f32, 2., 3., 7.], &Device::Cpu)?.reshape((1, 1, 2, 2))?;
    /// let one = Tensor::new(&[1f32], &Device::Cpu)?;
    /// let zero = one.zeros_like()?;
    /// let norm = Norm::running(&zero, &one, &one, &zero, 1e-12)?;
    /// let x = Activation::from_tensor(&Workspace::default(), &x)?;
    /// let y = x.norm_relu_avg_pool2d(&norm, 2)?;
    /// assert_eq!(y.to_tensor()?.flatten_all()?.to_vec1::<f32>()?, [3.]);
    /// let (dx, gradients) = x.norm_relu_avg_pool2d_backward(&norm, 2, &y)?;
    /// let dx = dx.whole().to_tensor()?.flatten_all()?.to_vec1::<f32>()?;
    /// assert_eq!(dx, [0., 0.75, 0.75, 0.75]);
    /// assert_eq!(gradients.gamma.to_vec1::<f32>()?, [9.]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn norm_relu_avg_pool2d(&self, norm: &Norm, kernel: usize) -> Result<Self> {
        self.pool("Activation::norm_relu_avg_pool2d", Some(norm), kernel)
    }

    fn pool(&self, op: &'static str, norm: Option<&Norm>, kernel: usize) -> Result<Self> {
        if let Some(norm) = norm {
            norm.check(op, &self.dims)?;
        }
        let pooling = Pooling::new(op, self.dims, kernel)?;
        let mut y = Self::new(&self.workspace, pooling.out_shape);
        let (size, out_size) = (y.size(), self.extent().blocks() * pooling.out_plane);
        let pieces = Pieces::of(&mut y.lanes[..size], out_size);
        parallel::for_each(pieces, |index, y| {
            arch::run(PoolImage {
                pooling: &pooling,
                affine: norm.map(Norm::affine),
                x: self.image(index),
                y,
            });
        });
        Ok(y)
    }

    /// The gradient of x in [`Activation::avg_pool2d`], of the dimensions `x_dims`, where this is
    /// ∂L/∂y; see there for an example.
    ///
    /// # Errors
    /// As [`Activation::avg_pool2d`], and `Shape` if this does not have the result's dimensions.
    pub fn avg_pool2d_backward(&self, kernel: usize, x_dims: [usize; 4]) -> Result<Self> {
        let op = "Activation::avg_pool2d_backward";
        Ok(self.spread(op, kernel, x_dims, None)?.0)
    }

    /// The gradients of [`Activation::norm_relu_avg_pool2d`] from ∂L/∂y; see there for an
    /// example. Takes x, which the gradient keeps for as long as it needs it.
    ///
    /// # Errors
    /// As [`Activation::norm_relu_avg_pool2d`], and `Shape` if the gradient does not have the
    /// result's.
    pub fn norm_relu_avg_pool2d_backward(
        self,
        norm: &Norm,
        kernel: usize,
        grad_output: &Self,
    ) -> Result<(Gradient, NormGradients)> {
        const OP: &str = "Activation::norm_relu_avg_pool2d_backward";
        norm.check(OP, &self.dims)?;
        let behind = Some((&self, norm));
        let (dx, sums) = grad_output.spread(OP, kernel, self.dims, behind)?;
        let found = norm.gradients(&sums);
        let gradient = Gradient::behind_norm(dx, found.rules, self, None);
        Ok((gradient, NormGradients::new(found.gamma, found.beta)?))
    }

    /// Spreads this gradient over the windows; `behind` is the x whose norm and ReLU came first.
    fn spread(
        &self,
        op: &'static str,
        kernel: usize,
        x_dims: [usize; 4],
        behind: Option<(&Self, &Norm)>,
    ) -> Result<(Self, Vec<Sums>)> {
        let pooling = Pooling::new(op, x_dims, kernel)?;
        check_dims(op, "grad_output", self.dims, pooling.out_shape)?;
        let mut dx = Self::new(&self.workspace, x_dims);
        let (extent, size) = (dx.extent(), dx.size());
        let mut sums = vec![Sums::ZERO; x_dims[0] * extent.blocks()];
        let split = (
            Pieces::of(&mut dx.lanes[..size], extent.vectors()),
            Pieces::of(&mut sums, extent.blocks()),
        );
        parallel::for_each(split, |index, (dx, sums)| {
            arch::run(SpreadImage {
                pooling: &pooling,
                behind: behind.map(|(x, norm)| (x.image(index), norm.affine())),
                gradient: self.image(index),
                dx,
                sums,
            });
        });
        Ok((dx, sums))
    }

    fn image(&self, index: usize) -> &[Lanes] {
        let size = self.extent().vectors();
        &self.lanes[index * size..][..size]
    }
}

/// Pools one image.
struct PoolImage<'a> {
    pooling: &'a Pooling,
    affine: Option<&'a [Affine]>,
    x: &'a [Lanes],
    y: &'a mut [Lanes],
}

impl Kernel for PoolImage<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, vector: V) {
        let (plane, out_plane) = (self.pooling.plane, self.pooling.out_plane);
        let scale = vector.splat(self.pooling.scale());
        let zero = vector.splat(0.);
        let mut scratch = Scratch::take(Use::Unit, plane);
        let blocks = self.x.chunks_exact(plane);
        for (block, (x, y)) in blocks.zip(self.y.chunks_exact_mut(out_plane)).enumerate() {
            let x = match self.affine {
                Some(affine) => {
                    blocks::normalize(vector, &affine[block], true, x, &mut scratch);
                    &scratch
                }
                None => x,
            };
            for (output, y) in y.iter_mut().enumerate() {
                let mut sum = zero;
                for line in self.pooling.lines(output) {
                    for x in &x[line] {
                        sum = vector.add(sum, vector.load(x));
                    }
                }
                vector.store(vector.multiply_add(sum, scale, zero), y);
            }
        }
    }
}

/// Spreads the gradient of one pooled image over its windows, and through the ReLU if there is
/// one.
struct SpreadImage<'a> {
    pooling: &'a Pooling,
    behind: Option<(&'a [Lanes], &'a [Affine])>,
    gradient: &'a [Lanes],
    dx: &'a mut [Lanes],
    sums: &'a mut [Sums],
}

impl Kernel for SpreadImage<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, vector: V) {
        let (plane, out_plane) = (self.pooling.plane, self.pooling.out_plane);
        let scale = vector.splat(self.pooling.scale());
        let zero = vector.splat(0.);
        // What fills no window has no part in the result.
        self.dx.fill(Lanes::ZERO);
        let planes = self.dx.chunks_exact_mut(plane);
        let gradients = self.gradient.chunks_exact(out_plane);
        for (block, (dx, gradient)) in planes.zip(gradients).enumerate() {
            for (output, gradient) in gradient.iter().enumerate() {
                let share = vector.multiply_add(vector.load(gradient), scale, zero);
                for line in self.pooling.lines(output) {
                    for dx in &mut dx[line] {
                        vector.store(share, dx);
                    }
                }
            }
            if let Some((x, affine)) = self.behind {
                let (x, sums) = (&x[block * plane..][..plane], &mut self.sums[block]);
                blocks::mask_and_sum(vector, &affine[block], true, x, dx, sums);
            }
        }
    }
}
