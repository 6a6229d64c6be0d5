//! Batches of an image folder, prepared ahead of the model.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::{ImageSplit, Preparation};
use crate::augment::Lookup;
use crate::batches::{Batch, Batches};
use crate::dataset::CHANNELS;
use crate::error::{Error, Result};

impl ImageSplit {
    /// The first `samples` images (all if `None`) in order, as batches of up to `batch_size`,
    /// prepared ahead on another thread; the images of a batch in parallel.
    ///
    /// # Errors
    /// [`Error::BatchSize`], [`Error::Samples`], and what [`Preparation::validate`] reports; in a
    /// batch, the first image in order that cannot be read.
    ///
    /// ```no_run
    /// use std::path::Path;
    /// use ir_data::{Fit, ImageFolder, Interpolation, Normalization, Preparation};
    ///
    /// let images = ImageFolder::open(Path::new("imagenette2/val"))?;
    /// let preparation = Preparation {
    ///     size: [224, 224],
    ///     fit: Fit::Crop(0.875),
    ///     interpolation: Interpolation::Bilinear,
    ///     normalization: Normalization { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] },
    /// };
    /// for split in images.test() {
    ///     for batch in split.batches(16, Some(1000), preparation)? {
    ///         println!("{:?}", batch?.images.dims()); // [16, 3, 224, 224]
    ///     }
    /// }
    /// # Ok::<(), ir_data::Error>(())
    /// ```
    pub fn batches(
        &self,
        batch_size: usize,
        samples: Option<usize>,
        preparation: Preparation,
    ) -> Result<Batches> {
        preparation.validate()?;
        let samples = samples.unwrap_or(self.len());
        if samples == 0 || samples > self.len() {
            return Err(Error::Samples {
                asked: samples,
                available: self.len(),
            });
        }
        if batch_size == 0 {
            return Err(Error::BatchSize {
                batch_size,
                samples,
            });
        }
        let lookup = Arc::new(Lookup::new(&preparation.normalization));
        let split = self.clone();
        Ok(Batches::ahead(
            0..samples.div_ceil(batch_size),
            move |batch| {
                let start = batch * batch_size;
                let indices = (start..(start + batch_size).min(samples)).collect();
                split.batch(indices, &preparation, &lookup)
            },
        ))
    }

    fn batch(
        &self,
        indices: Vec<usize>,
        preparation: &Preparation,
        lookup: &Lookup,
    ) -> Result<Batch> {
        let [height, width] = preparation.size;
        let image = CHANNELS * height * width;
        let prepare = |&index: &usize| {
            let mut values = Vec::with_capacity(image);
            preparation.append(&self.files[index], lookup, &mut values)?;
            Ok(values)
        };
        // Collected as results, so that of several errors it is the first in order that is told.
        let images: Vec<Result<Vec<f32>>> = indices.par_iter().map(prepare).collect();
        let mut values = Vec::with_capacity(indices.len() * image);
        for image in images {
            values.append(&mut image?);
        }
        let labels: Vec<u32> = indices.iter().map(|&index| self.labels[index]).collect();
        let shape = (indices.len(), CHANNELS, height, width);
        Ok(Batch {
            images: Tensor::from_vec(values, shape, &Device::Cpu)?,
            labels: Tensor::from_vec(labels, indices.len(), &Device::Cpu)?,
            indices,
        })
    }
}
