//! Batches that a GPU makes itself: the images in its memory, and what happens to them in an epoch.

use ir_tensor_ops::gpu::{EpochOrder, Gpu, ResidentImages};

use crate::augment::PADDING;
use crate::batches::Loader;
use crate::dataset::SIDE;
use crate::error::Result;

impl Loader {
    /// The images and labels of the split in the memory of a GPU, 3 kB an image, with the normalised value of each byte.
    ///
    /// # Errors
    /// [`Error::Operation`](crate::Error::Operation) if there is not as much memory.
    ///
    /// ```
    /// # #[cfg(feature = "emulation")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use ir_data::{BatchOptions, Loader, synthetic};
    /// use ir_tensor_ops::gpu::Gpu;
    ///
    /// let dataset = synthetic::dataset(synthetic::Classes::Ten, 0, 20, 10)?;
    /// let options = BatchOptions::training(8, 42, dataset.normalization());
    /// let loader = Loader::new(dataset.train().clone(), options)?;
    /// let gpu = Gpu::emulated()?;
    /// assert_eq!(loader.resident_images(&gpu)?.len(), 20);
    /// let (samples, changes) = loader.resident_epoch(0);
    /// loader.resident_order(&gpu)?.write(&samples, &changes)?;
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "emulation"))]
    /// # fn main() {}
    /// ```
    pub fn resident_images(&self, gpu: &Gpu) -> Result<ResidentImages> {
        let split = self.split();
        let labels: Vec<u32> = split.labels().iter().copied().map(u32::from).collect();
        let lookup = self.lookup().values();
        let images = ResidentImages::new(gpu, split.images(), &labels, &lookup, SIDE)?;
        Ok(images)
    }

    /// Room on the GPU for the order of an epoch.
    ///
    /// # Errors
    /// As [`Loader::resident_images`].
    pub fn resident_order(&self, gpu: &Gpu) -> Result<EpochOrder> {
        let (epoch, images) = (self.order(0).len(), self.split().len());
        Ok(EpochOrder::new(gpu, epoch, images, PADDING)?)
    }

    /// The samples of an epoch in order, those of a dropped last batch included, and what happens to each, as
    /// [`EpochOrder::write`] takes them: the same images as in [`Loader::epoch`].
    pub fn resident_epoch(&self, epoch: u64) -> (Vec<u32>, Vec<u32>) {
        let change = |sample| {
            let augmentation = self.augmentation(epoch, sample);
            EpochOrder::change(augmentation.top, augmentation.left, augmentation.flip)
        };
        let order = self.order(epoch).into_iter();
        order.map(|sample| (sample as u32, change(sample))).unzip()
    }
}
