//! A batch of labelled images, validated once.

use candle_core::{DType, Tensor};

use crate::error::{Error, Result};

/// Images `[N, …]` with their labels, N ≥ 1.
pub(crate) struct Batch {
    /// Place of the batch in its split, from 0, for messages.
    pub(crate) index: usize,
    pub(crate) images: Tensor,
    /// u32, `[N]`.
    pub(crate) labels: Tensor,
    /// The same on the host.
    pub(crate) label_values: Vec<u32>,
}

impl Batch {
    pub(crate) fn new(index: usize, images: Tensor, labels: Tensor) -> Result<Self> {
        let samples = images.dims().first().copied().unwrap_or(0);
        if samples == 0 || labels.dims() != [samples] || labels.dtype() != DType::U32 {
            return Err(Error::BatchShape {
                images: images.dims().to_vec(),
                labels: labels.dims().to_vec(),
                dtype: labels.dtype().as_str(),
            });
        }
        let label_values = labels.to_vec1()?;
        Ok(Self {
            index,
            images,
            labels,
            label_values,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.label_values.len()
    }

    /// Every label names one of `classes`.
    pub(crate) fn check_labels(&self, classes: usize) -> Result<()> {
        let out_of_range =
            |label: &u32| usize::try_from(*label).is_ok_and(|label| label >= classes);
        match self.label_values.iter().position(out_of_range) {
            None => Ok(()),
            Some(sample) => Err(Error::Label {
                sample,
                label: self.label_values[sample],
                classes,
            }),
        }
    }
}
