//! A data set in memory: two splits of 32 × 32 RGB images, each one block of bytes.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Height and width of an image in pixels.
pub const SIDE: usize = 32;
/// Number of colour channels: red, green, blue.
pub const CHANNELS: usize = 3;
/// Number of bytes of one channel of an image.
pub const PLANE: usize = SIDE * SIDE;
/// Number of bytes of one image.
pub const IMAGE: usize = CHANNELS * PLANE;

/// The images and labels of one split, in stored order.
///
/// Images are one block of u8, `[N, 3, 32, 32]` in row-major order: channel planes, as
/// CIFAR's own binaries have them and as batches need them. A clone shares the block.
///
/// ```
/// use ir_data::{IMAGE, Split};
///
/// # fn main() -> ir_data::Result<()> {
/// let split = Split::new(vec![0; 2 * IMAGE], vec![4, 9])?;
/// assert_eq!(split.len(), 2);
/// assert_eq!(split.labels(), [4, 9]);
/// assert_eq!(split.image(1).len(), 3 * 32 * 32);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    images: Arc<Vec<u8>>,
    labels: Arc<Vec<u8>>,
}

impl Split {
    /// A split of `labels.len()` images, `[N, 3, 32, 32]`.
    ///
    /// # Errors
    /// [`Error::Count`] if the images are not 3,072 bytes a label.
    pub fn new(images: Vec<u8>, labels: Vec<u8>) -> Result<Self> {
        if labels.len().checked_mul(IMAGE) != Some(images.len()) {
            return Err(Error::Count {
                what: "bytes of images (3,072 a label)",
                expected: labels.len().saturating_mul(IMAGE),
                found: images.len(),
            });
        }
        Ok(Self {
            images: Arc::new(images),
            labels: Arc::new(labels),
        })
    }

    /// Number of samples N.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// All images, `[N, 3, 32, 32]`.
    pub fn images(&self) -> &[u8] {
        &self.images
    }

    /// All labels, `[N]`.
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// One image, `[3, 32, 32]`.
    ///
    /// # Panics
    /// If `sample` is not below [`len`](Self::len), as indexing a slice does.
    pub fn image(&self, sample: usize) -> &[u8] {
        &self.images[sample * IMAGE..][..IMAGE]
    }

    /// The first `samples` samples in stored order, as a split of their own.
    ///
    /// # Errors
    /// [`Error::Samples`] if `samples` is 0 or more than there are.
    pub fn first(&self, samples: usize) -> Result<Self> {
        if samples == 0 || samples > self.len() {
            return Err(Error::Samples {
                asked: samples,
                available: self.len(),
            });
        }
        Self::new(
            self.images[..samples * IMAGE].to_vec(),
            self.labels[..samples].to_vec(),
        )
    }

    /// SHA-256 over all images (`[N, 3, 32, 32]`) followed by all labels (one byte each),
    /// in lower-case hexadecimal.
    ///
    /// The same images in the same order give the same checksum, whatever format they
    /// were read from.
    pub fn checksum(&self) -> String {
        let digest = Sha256::new()
            .chain_update(self.images())
            .chain_update(self.labels())
            .finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Number of samples of each of `classes` classes.
    pub fn class_counts(&self, classes: usize) -> Vec<usize> {
        let mut counts = vec![0; classes];
        for &label in self.labels() {
            if let Some(count) = counts.get_mut(usize::from(label)) {
                *count += 1;
            }
        }
        counts
    }
}

/// Mean and standard deviation per channel, on the scale where black is 0 and white is 1.
///
/// A normalised pixel is `(value / 255 − mean) / std`.
///
/// ```
/// use ir_data::{IMAGE, Normalization, PLANE, Split};
///
/// # fn main() -> ir_data::Result<()> {
/// // Red half black and half white, green and blue black.
/// let mut image = vec![0; IMAGE];
/// image[..PLANE / 2].fill(255);
/// let normalization = Normalization::of(&Split::new(image, vec![0])?);
/// assert_eq!(normalization.mean, [0.5, 0.0, 0.0]);
/// assert_eq!(normalization.std, [0.5, 0.0, 0.0]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Normalization {
    /// Mean of red, green and blue.
    pub mean: [f64; CHANNELS],
    /// Population standard deviation of red, green and blue.
    pub std: [f64; CHANNELS],
}

impl Normalization {
    /// The figures of a split, from exact integer sums; NaN for a split without samples.
    pub fn of(split: &Split) -> Self {
        // 255² · 1024 · N stays below 2⁶⁴ for any N that fits into memory.
        let mut sums = [0u64; CHANNELS];
        let mut squares = [0u64; CHANNELS];
        for (index, plane) in split.images().chunks_exact(PLANE).enumerate() {
            let channel = index % CHANNELS;
            for &value in plane {
                sums[channel] += u64::from(value);
                squares[channel] += u64::from(value) * u64::from(value);
            }
        }
        let count = (split.len() * PLANE) as f64;
        let mean = sums.map(|sum| sum as f64 / count);
        let variance = |channel: usize| squares[channel] as f64 / count - mean[channel].powi(2);
        Self {
            mean: mean.map(|value| value / 255.0),
            std: [0, 1, 2].map(|channel| variance(channel).max(0.0).sqrt() / 255.0),
        }
    }

    /// Checks that the figures can be divided by.
    ///
    /// # Errors
    /// [`Error::Normalization`] if a mean is not finite or a standard deviation is not
    /// finite or not above 0.
    pub fn validate(&self) -> Result<()> {
        for (channel, (&mean, &std)) in self.mean.iter().zip(&self.std).enumerate() {
            if !mean.is_finite() || !std.is_finite() || std <= 0.0 {
                return Err(Error::Normalization { channel, mean, std });
            }
        }
        Ok(())
    }
}

/// The form in which a data set was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The hub's parquet files.
    Parquet,
    /// CIFAR's binary batches.
    Binary,
    /// CIFAR's python batches.
    Python,
    /// Drawn by [`synthetic`](crate::synthetic).
    Synthetic,
}

impl std::fmt::Display for Format {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Parquet => "parquet files",
            Self::Binary => "binary batches",
            Self::Python => "python batches",
            Self::Synthetic => "drawn on the spot",
        })
    }
}

/// A data set: its name, its classes and its two splits.
///
/// ```
/// use ir_data::{Dataset, Locations};
///
/// # fn main() -> ir_data::Result<()> {
/// let dataset = Dataset::open("synthetic", &Locations::from_env())?;
/// assert_eq!(dataset.classes().len(), 10);
/// println!("{} {:?}", dataset.train().checksum(), dataset.normalization());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Dataset {
    name: String,
    classes: Vec<String>,
    train: Split,
    test: Split,
    normalization: Normalization,
    format: Format,
    files: Vec<PathBuf>,
}

impl Dataset {
    /// A data set of two splits, from anywhere.
    ///
    /// `format` and `files` only say where it comes from.
    ///
    /// # Errors
    /// [`Error::EmptySplit`] if a split is empty, [`Error::Count`] if a label has no class.
    pub fn new(
        name: impl Into<String>,
        classes: Vec<String>,
        train: Split,
        test: Split,
        format: Format,
        files: Vec<PathBuf>,
    ) -> Result<Self> {
        for (name, split) in [("train", &train), ("test", &test)] {
            let Some(&largest) = split.labels().iter().max() else {
                return Err(Error::EmptySplit { split: name });
            };
            if usize::from(largest) >= classes.len() {
                return Err(Error::Count {
                    what: "class names, one for every label",
                    expected: usize::from(largest) + 1,
                    found: classes.len(),
                });
            }
        }
        Ok(Self {
            name: name.into(),
            classes,
            normalization: Normalization::of(&train),
            train,
            test,
            format,
            files,
        })
    }

    /// The name: `cifar10`, `cifar100`, `synthetic10` or `synthetic100`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The class names in label order.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The samples to learn from.
    pub fn train(&self) -> &Split {
        &self.train
    }

    /// The samples to be judged by.
    pub fn test(&self) -> &Split {
        &self.test
    }

    /// Mean and standard deviation per channel, of the train split.
    pub fn normalization(&self) -> Normalization {
        self.normalization
    }

    /// The form in which it was found.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The files it was read from, train before test; none for synthetic data.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }
}
