//! Batch norms on a GPU, and how gradients cross them.

use super::backend::Argument;
use super::map::{GROUP, Map};
use super::{Buffer, Gpu};
use crate::error::Result;
use crate::input;

/// The channels that a block of a finishing kernel takes, and the threads that share one of them: as in `norm.cuh`.
const FINISH: [u32; 2] = [8, 64];

/// A batch norm resolved for one pass, per channel: a = scale · (x − mean) + shift.
///
/// Each buffer has a number for every channel, padded with zeros to a multiple of 16.
#[derive(Debug, Clone)]
pub struct NormState {
    /// The mean of the batch, or the running one.
    pub mean: Buffer<f32>,
    /// The variance σ², the mean of the squared distances from the mean.
    pub variance: Buffer<f32>,
    /// γ / √(σ² + ε).
    pub scale: Buffer<f32>,
    /// β.
    pub shift: Buffer<f32>,
    /// 1 / √(σ² + ε).
    pub inverse_deviation: Buffer<f32>,
}

/// Threads of a block of `through_norm` in `kernels/norm.cuh`.
const THREADS: usize = 256;

/// Blocks for maps of so many places: each thread takes up to four times eight channels of a place, always the same ones, so that all threads together
/// are a multiple of those that a place takes.
fn through_norm_blocks(places: usize, channels: usize) -> u32 {
    let vectors = channels / 8;
    // What is left of them in the number of blocks, the threads of a block being a power of two.
    let odd = vectors >> vectors.trailing_zeros().min(THREADS.trailing_zeros());
    (places * vectors)
        .div_ceil(4 * THREADS)
        .next_multiple_of(odd) as u32
}

impl NormState {
    /// Room for one, which may hold anything.
    ///
    /// # Errors
    /// [`Error::Gpu`](crate::Error::Gpu) if there is not as much memory.
    pub fn new(gpu: &Gpu, channels: usize) -> Result<Self> {
        let buffer = || Buffer::new(gpu, padded(channels));
        Ok(Self {
            mean: buffer()?,
            variance: buffer()?,
            scale: buffer()?,
            shift: buffer()?,
            inverse_deviation: buffer()?,
        })
    }

    /// Resolves it with the statistics of a batch, whose moments a convolution has left: `moments` `[pieces][3][channels]`
    /// are count, mean and Σ(x − mean)² of pieces of the map. Overwrites all of it.
    ///
    /// # Errors
    /// `Shape` for buffers of other lengths.
    pub fn of_moments(
        &self,
        moments: &Buffer<f32>,
        pieces: usize,
        gamma: &Buffer<f32>,
        beta: &Buffer<f32>,
        epsilon: f32,
    ) -> Result<()> {
        const OP: &str = "NormState::of_moments";
        let channels = self.check(OP, &[("gamma", gamma), ("beta", beta)])?;
        at_least(OP, "moments", moments, pieces * 3 * channels)?;
        let arguments = [
            moments.into(),
            (pieces as i32).into(),
            (channels as i32).into(),
            gamma.into(),
            beta.into(),
            epsilon.into(),
            (&self.mean).into(),
            (&self.variance).into(),
            (&self.scale).into(),
            (&self.shift).into(),
            (&self.inverse_deviation).into(),
        ];
        // SAFETY: every buffer has as many numbers as the kernel takes of it for this many channels and pieces.
        unsafe { self.finish("finish_norm", channels, arguments) }
    }

    /// Resolves it with the mean and the variance that it has.
    ///
    /// # Errors
    /// `Shape` for buffers of other lengths.
    pub fn resolve(&self, gamma: &Buffer<f32>, beta: &Buffer<f32>, epsilon: f32) -> Result<()> {
        let channels = self.check("NormState::resolve", &[("gamma", gamma), ("beta", beta)])?;
        let arguments: [Argument; 8] = [
            (&self.variance).into(),
            gamma.into(),
            beta.into(),
            epsilon.into(),
            (channels as i32).into(),
            (&self.scale).into(),
            (&self.shift).into(),
            (&self.inverse_deviation).into(),
        ];
        // SAFETY: every buffer has this many channels.
        unsafe {
            self.gpu()
                .launch_for(channels, "resolve_norm".into(), arguments)
        }
    }

    /// The gradients of γ and β, and the rule of x, from the sums that a backward pass has left: `sums`
    /// `[pieces][2][channels]` are Σ g and Σ g (x − mean). `count` is the number of values that the statistics
    /// are of, 0 where they are constants. With `add`, the two gradients are added to what is there.
    ///
    /// # Errors
    /// `Shape` for buffers of other lengths.
    pub fn gradient(
        &self,
        sums: &Buffer<f32>,
        pieces: usize,
        count: usize,
        [gamma, beta]: [&Buffer<f32>; 2],
        add: bool,
        rule: &NormRule,
    ) -> Result<()> {
        const OP: &str = "NormState::gradient";
        let channels = self.check(
            OP,
            &[
                ("gamma", gamma),
                ("beta", beta),
                ("slope", &rule.slope),
                ("offset", &rule.offset),
            ],
        )?;
        at_least(OP, "sums", sums, pieces * 2 * channels)?;
        let arguments = [
            sums.into(),
            (pieces as i32).into(),
            (channels as i32).into(),
            (&self.scale).into(),
            (&self.inverse_deviation).into(),
            (count as i32).into(),
            i32::from(add).into(),
            gamma.into(),
            beta.into(),
            (&rule.slope).into(),
            (&rule.offset).into(),
        ];
        // SAFETY: every buffer has as many numbers as the kernel takes of it for this many channels and pieces.
        unsafe { self.finish("finish_norm_gradient", channels, arguments) }
    }

    /// dx = scale · gradient + slope · (x − mean) + offset + added. `dx` may be `gradient`.
    ///
    /// # Errors
    /// `Shape` for maps of other dimensions, precisions or channels.
    pub fn gradient_of_x(
        &self,
        rule: &NormRule,
        gradient: &Map,
        x: &Map,
        added: Option<&Map>,
        dx: &Map,
    ) -> Result<()> {
        const OP: &str = "NormState::gradient_of_x";
        let channels = self.check(OP, &[("slope", &rule.slope), ("offset", &rule.offset)])?;
        for (argument, map) in [("x", Some(x)), ("added", added), ("dx", Some(dx))] {
            if let Some(map) = map {
                gradient.check_same(OP, argument, map)?;
            }
        }
        if gradient.padded_channels() != channels {
            let expected = format!("[N, {channels}, H, W], as the norm");
            return Err(input::wrong_sizes(
                OP,
                "gradient",
                &gradient.dims(),
                expected,
            ));
        }
        let [images, _, height, width] = gradient.dims();
        let places = images * height * width;
        let arguments = [
            gradient.argument(),
            x.argument(),
            added.map_or_else(Argument::null, Map::argument),
            (&self.scale).into(),
            (&self.mean).into(),
            (&rule.slope).into(),
            (&rule.offset).into(),
            dx.argument(),
            (places as i32).into(),
            (channels as i32).into(),
        ];
        let kernel = format!("through_norm_{}", gradient.precision().name());
        // SAFETY: the maps have one size and precision, and the buffers as many channels; the threads are a multiple of those
        // that a place takes.
        unsafe {
            let grid = [through_norm_blocks(places, channels), 1, 1];
            self.gpu()
                .launch(kernel, grid, [THREADS as u32, 1, 1], 0, arguments)
        }
    }

    fn gpu(&self) -> &Gpu {
        self.mean.gpu()
    }

    /// The padded channels that all buffers have.
    pub(super) fn check(
        &self,
        op: &'static str,
        others: &[(&'static str, &Buffer<f32>)],
    ) -> Result<usize> {
        let own = [
            ("variance", &self.variance),
            ("scale", &self.scale),
            ("shift", &self.shift),
            ("inverse_deviation", &self.inverse_deviation),
        ];
        for (argument, buffer) in own.iter().chain(others) {
            self.mean.check_length(op, argument, buffer.len())?;
        }
        if !self.mean.len().is_multiple_of(GROUP) {
            let expected = format!("a multiple of {GROUP}");
            return Err(input::wrong_sizes(op, "mean", &[self.mean.len()], expected));
        }
        Ok(self.mean.len())
    }

    /// # Safety
    /// As [`Gpu::launch`].
    unsafe fn finish(
        &self,
        kernel: &str,
        channels: usize,
        arguments: impl Into<Vec<Argument>>,
    ) -> Result<()> {
        let grid = [channels as u32 / FINISH[0], 1, 1];
        // SAFETY: the caller answers for the arguments.
        unsafe {
            self.gpu()
                .launch(kernel.into(), grid, [FINISH[0], FINISH[1], 1], 0, arguments)
        }
    }
}

/// How the gradient of x follows from that behind the norm, beside the norm's scale, per channel:
/// dx = scale · g + slope · (x − mean) + offset.
#[derive(Debug, Clone)]
pub struct NormRule {
    /// 0 where the statistics are constants.
    pub slope: Buffer<f32>,
    /// Likewise.
    pub offset: Buffer<f32>,
}

impl NormRule {
    /// Room for one, which may hold anything.
    ///
    /// # Errors
    /// [`Error::Gpu`](crate::Error::Gpu) if there is not as much memory.
    pub fn new(gpu: &Gpu, channels: usize) -> Result<Self> {
        Ok(Self {
            slope: Buffer::new(gpu, padded(channels))?,
            offset: Buffer::new(gpu, padded(channels))?,
        })
    }
}

/// Channels with their padding.
pub(super) fn padded(channels: usize) -> usize {
    channels.next_multiple_of(GROUP)
}

/// Fails unless a buffer has as many numbers.
pub(super) fn at_least<T: super::Element>(
    op: &'static str,
    argument: &'static str,
    buffer: &Buffer<T>,
    length: usize,
) -> Result<()> {
    if buffer.len() >= length {
        return Ok(());
    }
    let expected = format!("at least {length} numbers");
    Err(input::wrong_sizes(op, argument, &[buffer.len()], expected))
}
