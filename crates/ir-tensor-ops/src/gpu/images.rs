//! A data set in the memory of a GPU, and batches from it.

use super::backend::Argument;
use super::norm::at_least;
use super::{Buffer, Gpu, Map, StepState};
use crate::error::{Error, Result};
use crate::input;

/// All images of a split with their labels: square, a byte a value.
#[derive(Debug, Clone)]
pub struct ResidentImages {
    images: Buffer<u8>,
    labels: Buffer<u32>,
    /// The normalised values of a byte, for each channel.
    lookup: Buffer<f32>,
    channels: usize,
    side: usize,
}

impl ResidentImages {
    /// Takes images `[N][channels][side][side]` with N labels to the device. `lookup` `[channels][256]` says what a
    /// byte is as a normalised number.
    ///
    /// # Errors
    /// `Shape` where the lengths do not fit.
    pub fn new(
        gpu: &Gpu,
        images: &[u8],
        labels: &[u32],
        lookup: &[f32],
        side: usize,
    ) -> Result<Self> {
        const OP: &str = "ResidentImages::new";
        let channels = lookup.len() / 256;
        if channels == 0 || !lookup.len().is_multiple_of(256) {
            let expected = "a multiple of 256 numbers".into();
            return Err(input::wrong_sizes(OP, "lookup", &[lookup.len()], expected));
        }
        let size = labels.len() * channels * side * side;
        if images.len() != size || size == 0 {
            let expected = format!("{} images of {channels}·{side}·{side} bytes", labels.len());
            return Err(input::wrong_sizes(OP, "images", &[images.len()], expected));
        }
        Ok(Self {
            images: Buffer::from_slice(gpu, images)?,
            labels: Buffer::from_slice(gpu, labels)?,
            lookup: Buffer::from_slice(gpu, lookup)?,
            channels,
            side,
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Never: there is at least one.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The batch that `state` has come to in an epoch, as many images as `map` `[N, channels, side, side]` has, with
    /// their labels. Behind the epoch's last batch, something.
    ///
    /// # Errors
    /// `Shape` where the sizes do not fit.
    pub fn take(
        &self,
        order: &EpochOrder,
        state: &StepState,
        map: &Map,
        labels: &Buffer<u32>,
    ) -> Result<()> {
        const OP: &str = "ResidentImages::take";
        let [count, ..] = map.dims();
        let expected = [count, self.channels, self.side, self.side];
        if map.dims() != expected {
            return Err(input::wrong_sizes(
                OP,
                "map",
                &map.dims(),
                format!("{expected:?}"),
            ));
        }
        if order.images > self.len() {
            let expected = format!("{} images, as the order is of", order.images);
            return Err(input::wrong_sizes(OP, "images", &[self.len()], expected));
        }
        at_least(OP, "samples of the epoch", &order.samples, count)?;
        at_least(OP, "labels", labels, count)?;
        let [count_argument, length, channels, padded, side, border]: [Argument; 6] = [
            count,
            order.samples.len(),
            self.channels,
            map.padded_channels(),
            self.side,
            order.border,
        ]
        .map(|size| (size as i32).into());
        let arguments = [
            (&self.labels).into(),
            (&order.samples).into(),
            state.argument(),
            count_argument.clone(),
            length.clone(),
            labels.into(),
        ];
        let gpu = self.labels.gpu();
        // SAFETY: every sample of an order is one of the images (`EpochOrder::write`), and the kernel stays in the order.
        unsafe { gpu.launch_for(count, "take_labels".into(), arguments)? };
        let arguments = [
            (&self.images).into(),
            (&self.lookup).into(),
            (&order.samples).into(),
            (&order.changes).into(),
            state.argument(),
            count_argument,
            length,
            channels,
            padded,
            side,
            border,
            map.argument(),
        ];
        // SAFETY: likewise; a byte is below 256, the map has `count` images, and pixels outside an image are not read.
        unsafe { map.start("take_images", map.places(), arguments) }
    }
}

/// In which order an epoch takes the images, and how it changes each.
#[derive(Debug, Clone)]
pub struct EpochOrder {
    samples: Buffer<u32>,
    changes: Buffer<u32>,
    border: usize,
    /// Every sample is below.
    images: usize,
}

impl EpochOrder {
    /// Room for an epoch of `length` samples of as many images; until it is written, all are sample 0, unchanged. Crops
    /// reach up to `border` pixels over the edges.
    ///
    /// # Errors
    /// [`Error::Gpu`] if there is not as much memory, `Setting` for a border above 127.
    pub fn new(gpu: &Gpu, length: usize, images: usize, border: usize) -> Result<Self> {
        if border > 127 {
            return Err(Error::Setting {
                op: "EpochOrder::new",
                name: "border",
                expected: "0 to 127".into(),
                found: border as f64,
            });
        }
        let unchanged = Self::change(border, border, false);
        Ok(Self {
            samples: Buffer::zeros(gpu, length)?,
            changes: Buffer::from_slice(gpu, &vec![unchanged; length])?,
            border,
            images,
        })
    }

    /// What happens to an image, as [`EpochOrder::write`] takes it: a crop from row `top` and column `left` of the image
    /// with its border on, mirrored or not.
    ///
    /// ```
    /// # #[cfg(any(feature = "cuda", feature = "emulation"))]
    /// assert_eq!(ir_tensor_ops::gpu::EpochOrder::change(4, 8, true), 0x0001_0804);
    /// ```
    pub fn change(top: usize, left: usize, flip: bool) -> u32 {
        (top as u32 & 255) | (left as u32 & 255) << 8 | u32::from(flip) << 16
    }

    /// Overwrites it: the index of each sample, and its change.
    ///
    /// # Errors
    /// `Shape` for another number of samples, or an index that no image has; then nothing is written.
    pub fn write(&self, samples: &[u32], changes: &[u32]) -> Result<()> {
        const OP: &str = "EpochOrder::write";
        let found = samples
            .iter()
            .find(|&&sample| sample as usize >= self.images);
        if let Some(&found) = found {
            let expected = format!("indices below {}", self.images);
            return Err(input::wrong_sizes(
                OP,
                "samples",
                &[found as usize],
                expected,
            ));
        }
        self.changes.check_length(OP, "changes", changes.len())?;
        self.samples.write(samples)?;
        self.changes.write(changes)
    }
}
