//! Activations in the layout of the kernels, in memory that is used again.
//!
//! A training pass makes and drops hundreds of activations a second. As Candle tensors, each
//! would be turned from planes to blocks and back for every operation, and would lie in fresh
//! memory, whose first touch costs more than the convolution that fills it. An [`Activation`]
//! stays in blocks of 16 channels (images.rs) and takes its memory from a [`Workspace`], to
//! which it goes back when it is dropped.
//!
//! The operations are methods of [`Activation`], with the same kernels behind them as those on
//! tensors ([`explicit`](crate::explicit)): only the layout of the operands differs.

mod convolution;
mod gradient;
mod pool;

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Tensor;

use crate::arch::{self, Kernel, Lanes, Vector};
use crate::error::Result;
use crate::images::{Extent, Images, ImagesMut};
use crate::input::{self, Input};
use crate::parallel;
use crate::statistics::ChannelStatistics;

pub use convolution::{ActivationGradients, Conv2d, NormGradients};
pub use gradient::Gradient;

/// The memory of activations: what one drops, the next one takes.
///
/// Holds about as much as was ever in use at a time; clones share it. A network keeps one for its
/// lifetime.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use ir_tensor_ops::{Activation, Workspace};
///
/// # fn main() -> ir_tensor_ops::Result<()> {
/// let workspace = Workspace::default();
/// let x = Tensor::ones((2, 16, 8, 8), DType::F32, &Device::Cpu)?;
/// drop(Activation::from_tensor(&workspace, &x)?);
/// // 2 · 16 · 8 · 8 numbers of 4 bytes lie ready.
/// assert_eq!(workspace.idle_bytes(), 8192);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Workspace(Arc<Mutex<Vec<Vec<Lanes>>>>);

impl Workspace {
    /// The bytes that wait for the next activations.
    pub fn idle_bytes(&self) -> usize {
        self.idle(|idle| idle.iter().map(Vec::len).sum::<usize>() * size_of::<Lanes>())
    }

    fn idle<T>(&self, look: impl FnOnce(&mut Vec<Vec<Lanes>>) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Some vectors that hold whatever was last in them: the smallest that suffices, of at most
    /// four times the size, so that the last batch of an epoch finds room in that of a full one.
    /// Of equals the one that came back last: it may still be in the cache.
    fn take(&self, size: usize) -> Vec<Lanes> {
        let found = self.idle(|idle| {
            let fitting = idle
                .iter()
                .enumerate()
                .rev()
                .filter(|(_, lanes)| (size..=4 * size).contains(&lanes.len()));
            if let Some((index, _)) = fitting.min_by_key(|(_, lanes)| lanes.len()) {
                return Some(idle.remove(index));
            }
            // In place of what is too small, the largest of which goes: sizes that grow would pile up.
            let small = idle
                .iter()
                .enumerate()
                .filter(|(_, lanes)| lanes.len() < size);
            let (index, _) = small.max_by_key(|(_, lanes)| lanes.len())?;
            idle.remove(index);
            None
        });
        found.unwrap_or_else(|| vec![Lanes::ZERO; size])
    }
}

/// An activation `[N, C, H, W]` of f32 on the CPU, in blocks of 16 channels.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use ir_tensor_ops::{Activation, Workspace};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let x = Tensor::new(&[1f32, 2., 3., 4.], &Device::Cpu)?.reshape((1, 2, 1, 2))?;
/// let activation = Activation::from_tensor(&Workspace::default(), &x)?;
/// assert_eq!(activation.dims(), [1, 2, 1, 2]);
/// assert_eq!(activation.statistics().mean, [1.5, 3.5]);
/// assert_eq!(activation.to_tensor()?.flatten_all()?.to_vec1::<f32>()?, [1., 2., 3., 4.]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Activation {
    /// At least as many vectors as the images have.
    lanes: Vec<Lanes>,
    dims: [usize; 4],
    workspace: Workspace,
}

impl Activation {
    /// A copy of a tensor `[N, C, H, W]`.
    ///
    /// # Errors
    /// `Shape`, `DType` or `Device`.
    pub fn from_tensor(workspace: &Workspace, tensor: &Tensor) -> Result<Self> {
        const OP: &str = "Activation::from_tensor";
        let dims = input::dims(OP, "tensor", tensor, "[N, C, H, W]")?;
        let tensor = Input::new(OP, "tensor", tensor)?;
        let mut activation = Self::new(workspace, dims);
        let (extent, values) = (activation.extent(), tensor.values());
        let from = Images::Planar(&values);
        parallel::for_each(activation.images_mut().groups(extent, 1), |index, to| {
            arch::run(CopyImage {
                from,
                extent,
                index,
                to,
            });
        });
        Ok(activation)
    }

    /// A copy as a tensor.
    ///
    /// # Errors
    /// None that depend on the activation.
    pub fn to_tensor(&self) -> Result<Tensor> {
        let (from, extent) = (self.images(), self.extent());
        let size = self.dims.iter().product();
        let values = parallel::pieces(size, extent.numbers(), |index, to| {
            arch::run(CopyImage {
                from,
                extent,
                index,
                to: ImagesMut::Planar(to),
            });
        });
        input::output(values, &self.dims)
    }

    /// N, C, H and W.
    pub fn dims(&self) -> [usize; 4] {
        self.dims
    }

    /// Mean and variance of every channel.
    pub fn statistics(&self) -> ChannelStatistics {
        ChannelStatistics::of_images(self.images(), self.extent(), self.dims[0])
    }

    /// One whose numbers are yet to be written.
    fn new(workspace: &Workspace, dims: [usize; 4]) -> Self {
        Self {
            lanes: workspace.take(dims[0] * extent(dims).vectors()),
            dims,
            workspace: workspace.clone(),
        }
    }

    fn extent(&self) -> Extent {
        extent(self.dims)
    }

    fn size(&self) -> usize {
        self.dims[0] * self.extent().vectors()
    }

    fn images(&self) -> Images<'_> {
        Images::Blocked(&self.lanes[..self.size()])
    }

    fn images_mut(&mut self) -> ImagesMut<'_> {
        let size = self.size();
        ImagesMut::Blocked(&mut self.lanes[..size])
    }
}

impl Drop for Activation {
    fn drop(&mut self) {
        let lanes = mem::take(&mut self.lanes);
        self.workspace.idle(|idle| idle.push(lanes));
    }
}

fn extent([_, channels, height, width]: [usize; 4]) -> Extent {
    Extent {
        channels,
        plane: height * width,
    }
}

/// Copies one image from one layout to the other.
struct CopyImage<'a> {
    from: Images<'a>,
    extent: Extent,
    index: usize,
    to: ImagesMut<'a>,
}

impl Kernel for CopyImage<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, vector: V) {
        let range = self.index..self.index + 1;
        match self.to {
            ImagesMut::Blocked(to) => {
                self.from.blocked(vector, self.extent, range, to);
            }
            ImagesMut::Planar(_) => {
                let from = self.from.blocked(vector, self.extent, range, &mut []);
                self.to.finish(vector, self.extent, from);
            }
        }
    }
}
