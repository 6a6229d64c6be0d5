//! Batches of a split, prepared ahead of the model on another thread.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use candle_core::{Device, Tensor};
use ir_tensor_ops::random;
use rand::Rng;

use crate::augment::{Augmentation, Lookup};
use crate::dataset::{CHANNELS, IMAGE, Normalization, SIDE, Split};
use crate::error::{Error, Result};

/// Names the random numbers of the order of samples among all others of a run.
const SHUFFLE: u64 = u64::from_le_bytes(*b"shuffle\0");

/// Batches that are prepared before they are asked for.
const AHEAD: usize = 2;

/// Some samples of a split, ready for a network.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Normalised images, f32 `[N, 3, 32, 32]`, contiguous, on the CPU.
    pub images: Tensor,
    /// Labels, u32 `[N]`, on the CPU.
    pub labels: Tensor,
    /// Index of each sample in the split, `[N]`.
    pub indices: Vec<usize>,
}

/// Which samples come, in which order, and what is done to them.
///
/// ```
/// use ir_data::{BatchOptions, Normalization};
///
/// let normalization = Normalization { mean: [0.5; 3], std: [0.25; 3] };
/// let training = BatchOptions::training(128, 42, normalization);
/// let evaluation = BatchOptions { samples: Some(1000), ..BatchOptions::evaluation(500, normalization) };
/// assert!(training.shuffle && training.augment && training.drop_last);
/// assert!(!evaluation.shuffle && !evaluation.augment && !evaluation.drop_last);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct BatchOptions {
    /// Samples in a batch.
    pub batch_size: usize,
    /// Mean and standard deviation per channel.
    pub normalization: Normalization,
    /// Key of all random numbers.
    pub seed: u64,
    /// Whether every epoch has an order of its own; stored order otherwise.
    pub shuffle: bool,
    /// Whether images are shifted by up to 4 pixels and flipped at random.
    pub augment: bool,
    /// Whether a last batch of fewer samples is left out.
    pub drop_last: bool,
    /// Use only the first so many samples in stored order; all if `None`.
    pub samples: Option<usize>,
}

impl BatchOptions {
    /// Shuffled and augmented, complete batches only.
    pub fn training(batch_size: usize, seed: u64, normalization: Normalization) -> Self {
        Self {
            batch_size,
            normalization,
            seed,
            shuffle: true,
            augment: true,
            drop_last: true,
            samples: None,
        }
    }

    /// Every sample once, in stored order and as it is.
    pub fn evaluation(batch_size: usize, normalization: Normalization) -> Self {
        Self {
            batch_size,
            normalization,
            seed: 0,
            shuffle: false,
            augment: false,
            drop_last: false,
            samples: None,
        }
    }
}

/// A split together with the way to make batches of it.
///
/// # Example
///
/// ```
/// use ir_data::{BatchOptions, Loader, synthetic};
///
/// # fn main() -> ir_data::Result<()> {
/// let dataset = synthetic::dataset(synthetic::Classes::Ten, 0, 100, 20)?;
/// let options = BatchOptions::training(32, 42, dataset.normalization());
/// let loader = Loader::new(dataset.train().clone(), options)?;
/// assert_eq!(loader.batches(), 3);
/// for batch in loader.epoch(0) {
///     let batch = batch?;
///     assert_eq!(batch.images.dims(), [32, 3, 32, 32]);
///     assert_eq!(batch.labels.dims(), [32]);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Loader {
    split: Split,
    options: BatchOptions,
    samples: usize,
    lookup: Arc<Lookup>,
}

impl Loader {
    /// Checks that the options can be met.
    ///
    /// # Errors
    /// [`Error::Samples`] if more samples are asked for than there are, or none;
    /// [`Error::BatchSize`] if no batch could be made; [`Error::Normalization`] if it
    /// cannot be divided by.
    pub fn new(split: Split, options: BatchOptions) -> Result<Self> {
        let samples = options.samples.unwrap_or(split.len());
        if samples == 0 || samples > split.len() {
            return Err(Error::Samples {
                asked: samples,
                available: split.len(),
            });
        }
        let too_large = options.drop_last && options.batch_size > samples;
        if options.batch_size == 0 || too_large {
            return Err(Error::BatchSize {
                batch_size: options.batch_size,
                samples,
            });
        }
        options.normalization.validate()?;
        let lookup = Arc::new(Lookup::new(&options.normalization));
        Ok(Self {
            split,
            options,
            samples,
            lookup,
        })
    }

    /// The options.
    pub fn options(&self) -> &BatchOptions {
        &self.options
    }

    /// Number of batches of an epoch.
    pub fn batches(&self) -> usize {
        if self.options.drop_last {
            self.samples / self.options.batch_size
        } else {
            self.samples.div_ceil(self.options.batch_size)
        }
    }

    /// Number of samples that the batches of an epoch hold together.
    pub fn samples(&self) -> usize {
        (self.batches().saturating_mul(self.options.batch_size)).min(self.samples)
    }

    /// The samples of an epoch in order, those of a dropped last batch included: a function
    /// of `(seed, epoch)` and of nothing else.
    pub fn order(&self, epoch: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.samples).collect();
        if self.options.shuffle {
            let mut random = random::stream(self.options.seed, epoch, 0, SHUFFLE);
            for last in (1..order.len()).rev() {
                order.swap(last, random.random_range(0..=last));
            }
        }
        order
    }

    /// The batches of an epoch, in order, two of them prepared ahead.
    ///
    /// The same epoch gives the same batches, bit for bit, however often and on however
    /// many threads.
    pub fn epoch(&self, epoch: u64) -> Batches {
        self.epoch_from(epoch, 0)
    }

    /// The batches of an epoch without the first `done` ones, which are not made: what is left
    /// of an epoch that was interrupted.
    ///
    /// ```
    /// use ir_data::{BatchOptions, Loader, synthetic};
    ///
    /// # fn main() -> ir_data::Result<()> {
    /// let dataset = synthetic::dataset(synthetic::Classes::Ten, 0, 40, 10)?;
    /// let options = BatchOptions::training(10, 42, dataset.normalization());
    /// let loader = Loader::new(dataset.train().clone(), options)?;
    /// let whole: Vec<_> = loader.epoch(3).collect::<ir_data::Result<_>>()?;
    /// let rest: Vec<_> = loader.epoch_from(3, 2).collect::<ir_data::Result<_>>()?;
    /// assert_eq!(rest.len(), 2);
    /// assert_eq!(rest[0].indices, whole[2].indices);
    /// # Ok(())
    /// # }
    /// ```
    pub fn epoch_from(&self, epoch: u64, done: usize) -> Batches {
        let done = done.min(self.batches());
        let (loader, order) = (self.clone(), self.order(epoch));
        Batches::ahead(done..self.batches(), move |batch| {
            let start = batch * loader.options.batch_size;
            let end = (start + loader.options.batch_size).min(order.len());
            loader.batch(epoch, &order, start..end)
        })
    }

    /// What is done to a sample in an epoch.
    pub(crate) fn augmentation(&self, epoch: u64, sample: usize) -> Augmentation {
        match self.options.augment {
            true => Augmentation::random(self.options.seed, epoch, sample as u64),
            false => Augmentation::NONE,
        }
    }

    #[cfg(any(feature = "cuda", feature = "emulation"))]
    pub(crate) fn split(&self) -> &Split {
        &self.split
    }

    #[cfg(any(feature = "cuda", feature = "emulation"))]
    pub(crate) fn lookup(&self) -> &Lookup {
        &self.lookup
    }

    fn batch(&self, epoch: u64, order: &[usize], range: Range<usize>) -> Result<Batch> {
        let indices = order[range].to_vec();
        let mut values = Vec::with_capacity(indices.len() * IMAGE);
        for &sample in &indices {
            let augmentation = self.augmentation(epoch, sample);
            self.lookup
                .append(self.split.image(sample), augmentation, &mut values);
        }
        let labels: Vec<u32> = indices
            .iter()
            .map(|&sample| u32::from(self.split.labels()[sample]))
            .collect();
        let shape = (indices.len(), CHANNELS, SIDE, SIDE);
        Ok(Batch {
            images: Tensor::from_vec(values, shape, &Device::Cpu)?,
            labels: Tensor::from_vec(labels, indices.len(), &Device::Cpu)?,
            indices,
        })
    }
}

/// The batches of one epoch; ends after the last one or after the first error.
///
/// Dropping it early ends the thread that prepares them.
#[derive(Debug)]
pub struct Batches {
    receiver: Option<Receiver<Result<Batch>>>,
    worker: Option<JoinHandle<()>>,
    remaining: usize,
}

impl Batches {
    /// Makes batches one after another on a thread of their own, until all are sent, one fails, or
    /// nobody waits for them any more.
    pub(crate) fn ahead(
        batches: Range<usize>,
        mut make: impl FnMut(usize) -> Result<Batch> + Send + 'static,
    ) -> Self {
        let (sender, receiver) = sync_channel(AHEAD);
        let remaining = batches.len();
        let prepare = move || {
            for batch in batches {
                let made = make(batch);
                let failed = made.is_err();
                if sender.send(made).is_err() || failed {
                    return;
                }
            }
        };
        // Where no thread can be started the sender is dropped, and the first batch is
        // `Error::Worker`.
        let worker = std::thread::Builder::new().name("batches".into());
        Self {
            receiver: Some(receiver),
            worker: worker.spawn(prepare).ok(),
            remaining,
        }
    }

    /// Number of batches that are still to come, unless one fails.
    pub fn remaining(&self) -> usize {
        self.remaining
    }
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.remaining == 0 {
            return None;
        }
        let next = match self.receiver.as_ref().map(Receiver::recv) {
            Some(Ok(next)) => next,
            _ => Err(Error::Worker),
        };
        self.remaining = if next.is_ok() { self.remaining - 1 } else { 0 };
        Some(next)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining.min(1), Some(self.remaining))
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        // Without a receiver the next send fails, which ends the thread.
        self.receiver = None;
        if let Some(worker) = self.worker.take() {
            // A panic of the thread has been reported as `Error::Worker`.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::{Classes, dataset};

    #[test]
    fn leaving_early_ends_the_thread() {
        let drawn = dataset(Classes::Ten, 0, 100, 10).unwrap();
        let options = BatchOptions::training(1, 0, drawn.normalization());
        let loader = Loader::new(drawn.train().clone(), options).unwrap();
        for taken in 0..5 {
            let mut batches = loader.epoch(0);
            for _ in 0..taken {
                batches.next().unwrap().unwrap();
            }
            drop(batches);
            // The thread has a share of its own as long as it runs.
            assert_eq!(Arc::strong_count(&loader.lookup), 1);
        }
    }

    #[test]
    fn a_thread_that_ends_too_soon_is_an_error_and_the_last_item() {
        let (sender, receiver) = sync_channel(AHEAD);
        drop(sender);
        let mut batches = Batches {
            receiver: Some(receiver),
            worker: None,
            remaining: 3,
        };
        assert!(matches!(batches.next(), Some(Err(Error::Worker))));
        assert!(batches.next().is_none());
    }
}
