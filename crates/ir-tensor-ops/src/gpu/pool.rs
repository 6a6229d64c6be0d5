//! Average pooling of maps, and the moments of their channels.

use super::backend::Argument;
use super::map::{Map, Precision};
use super::norm::at_least;
use super::{Buffer, NormState};
use crate::error::Result;
use crate::input;

/// Numbers that lie side by side and are read together, as in `common.cuh`.
const WIDE: usize = 8;

impl Map {
    /// The mean over windows of kernel × kernel, side by side, written to `y` `[N, C, H / kernel, W / kernel]`.
    ///
    /// # Errors
    /// `Shape` if `y` is another size, `Setting` for a kernel that does not fit.
    pub fn avg_pool2d(&self, kernel: usize, y: &Self) -> Result<()> {
        const OP: &str = "Map::avg_pool2d";
        self.check_pooled(OP, "y", kernel, y)?;
        let arguments = [&[self.argument(), y.argument()][..], &self.sizes(&[kernel])].concat();
        // SAFETY: y has a number for every window of this map.
        unsafe { self.start("avg_pool", y.vectors(), arguments) }
    }

    /// The gradient of x in [`Map::avg_pool2d`], written to `dx`, where this is that of y.
    ///
    /// # Errors
    /// As [`Map::avg_pool2d`].
    pub fn avg_pool2d_gradient(&self, kernel: usize, dx: &Self) -> Result<()> {
        const OP: &str = "Map::avg_pool2d_gradient";
        dx.check_pooled(OP, "gradient", kernel, self)?;
        let arguments = [&[self.argument(), dx.argument()][..], &dx.sizes(&[kernel])].concat();
        // SAFETY: as above, the other way round.
        unsafe { self.start("avg_pool_gradient", dx.vectors(), arguments) }
    }

    /// Count, mean and Σ(x − mean)² of every channel of every image, `[N][3][padded channels]`: what
    /// [`NormState::of_moments`] takes, in N pieces.
    ///
    /// # Errors
    /// `Shape` if there is not as much room.
    pub fn moments(&self, found: &Buffer<f32>) -> Result<()> {
        let [images, _, height, width] = self.dims();
        let channels = self.padded_channels();
        at_least("Map::moments", "found", found, images * 3 * channels)?;
        let sizes = [images, height * width, channels].map(|size| (size as i32).into());
        let arguments = [&[self.argument(), found.into()][..], &sizes].concat();
        // SAFETY: there is room for three numbers of every channel and image.
        unsafe { self.start("moments", images * channels / WIDE * 32, arguments) }
    }

    /// The mean of relu(norm(x)) over windows of kernel × kernel, as features `[N][C · H / kernel · W / kernel]` in
    /// the order of a flattened tensor: what a classifier reads.
    ///
    /// # Errors
    /// `Shape` for a norm of other channels or too little room, `Setting` for a kernel that does not fit.
    pub fn features(&self, norm: &NormState, kernel: usize, features: &Buffer<f32>) -> Result<()> {
        const OP: &str = "Map::features";
        let sizes = self.check_features(OP, norm, kernel, features)?;
        let ends = [
            self.argument(),
            (&norm.mean).into(),
            (&norm.scale).into(),
            (&norm.shift).into(),
            features.into(),
        ];
        // SAFETY: the norm has this map's channels, and `features` room for as many windows.
        unsafe { self.start("features", features.len(), [&ends[..], &sizes].concat()) }
    }

    /// The gradient of x in [`Map::features`] up to the norm, masked where the ReLU is 0, written to `dx`; `sums`
    /// `[N][2][padded channels]` are those that [`NormState::gradient`] takes, in N pieces.
    ///
    /// # Errors
    /// As [`Map::features`], and `Shape` if `dx` is not as this map.
    pub fn features_gradient(
        &self,
        norm: &NormState,
        kernel: usize,
        gradient: &Buffer<f32>,
        dx: &Self,
        sums: &Buffer<f32>,
    ) -> Result<()> {
        const OP: &str = "Map::features_gradient";
        let sizes = self.check_features(OP, norm, kernel, gradient)?;
        self.check_same(OP, "dx", dx)?;
        let threads = self.dims()[0] * self.padded_channels();
        at_least(OP, "sums", sums, 2 * threads)?;
        let ends = [
            gradient.into(),
            self.argument(),
            (&norm.mean).into(),
            (&norm.scale).into(),
            (&norm.shift).into(),
            dx.argument(),
            sums.into(),
        ];
        // SAFETY: as in `features`; dx is as large as x, and there is room for two sums of every channel and image.
        unsafe { self.start("features_gradient", threads, [&ends[..], &sizes].concat()) }
    }

    fn check_features(
        &self,
        op: &'static str,
        norm: &NormState,
        kernel: usize,
        features: &Buffer<f32>,
    ) -> Result<Vec<Argument>> {
        if norm.check(op, &[])? != self.padded_channels() {
            let expected = format!("[N, {}, H, W], as its norm", norm.mean.len());
            return Err(input::wrong_sizes(op, "x", &self.dims(), expected));
        }
        let [images, channels, height, width] = self.dims();
        let (rows, columns) = self.windows(op, kernel)?;
        at_least(op, "features", features, images * channels * rows * columns)?;
        let sizes = [
            images,
            height,
            width,
            channels,
            self.padded_channels(),
            kernel,
        ];
        Ok(sizes.map(|size| (size as i32).into()).to_vec())
    }

    fn check_pooled(
        &self,
        op: &'static str,
        argument: &'static str,
        kernel: usize,
        pooled: &Self,
    ) -> Result<()> {
        let (rows, columns) = self.windows(op, kernel)?;
        let [images, channels, ..] = self.dims();
        let expected = [images, channels, rows, columns];
        if pooled.dims() == expected && pooled.precision() == self.precision() {
            return Ok(());
        }
        let expected = format!("{expected:?} of {}", self.precision().name());
        Err(input::wrong_sizes(op, argument, &pooled.dims(), expected))
    }

    /// How many windows there are in a column and a row.
    fn windows(&self, op: &'static str, kernel: usize) -> Result<(usize, usize)> {
        let [_, _, height, width] = self.dims();
        if kernel == 0 || kernel > height.min(width) {
            return Err(crate::Error::Setting {
                op,
                name: "kernel",
                expected: format!("1 to {}", height.min(width)),
                found: kernel as f64,
            });
        }
        Ok((height / kernel, width / kernel))
    }

    /// N, H, W and padded C, and what follows.
    fn sizes(&self, more: &[usize]) -> Vec<Argument> {
        let [images, _, height, width] = self.dims();
        let own = [images, height, width, self.padded_channels()];
        let all = own.iter().chain(more);
        all.map(|&size| (size as i32).into()).collect()
    }

    /// N · H · W.
    pub(super) fn places(&self) -> usize {
        let [images, _, height, width] = self.dims();
        images * height * width
    }

    /// Pieces of numbers that a thread takes together.
    fn vectors(&self) -> usize {
        self.places() * self.padded_channels() / WIDE
    }

    /// # Safety
    /// As [`Gpu::launch_for`](super::Gpu).
    pub(super) unsafe fn start(
        &self,
        kernel: &str,
        work: usize,
        arguments: impl Into<Vec<Argument>>,
    ) -> Result<()> {
        let precision: Precision = self.precision();
        let kernel = format!("{kernel}_{}", precision.name());
        // SAFETY: the caller answers for the arguments.
        unsafe { self.gpu().launch_for(work, kernel, arguments) }
    }
}
