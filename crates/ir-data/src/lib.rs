//! CIFAR-10 and CIFAR-100 from every format users hold, a synthetic stand-in, and batches.
//!
//! ```text
//! files on disk ─ Dataset::open ─→ Dataset { train, test: Split }      u8 [N, 3, 32, 32]
//! Split ─ Loader::epoch ─→ Batches ─→ Batch { images, labels, indices } f32 [N, 3, 32, 32]
//! ```
//!
//! [`Dataset::open`] takes what stands after `--data`: a folder with the hub's parquet
//! files, the binary batches or the python batches, found by their content; or a name that
//! is looked for on this machine and fetched if need be; or `synthetic`. A data set is
//! decoded once, on all cores. [`Loader`] shifts, flips and normalises it into batches on
//! a thread of its own. Every random number is a function of (seed, epoch, sample,
//! purpose), so neither the number of threads nor a restart changes a batch.
//!
//! The crate knows no model.

mod augment;
mod batches;
mod classes;
mod dataset;
mod error;
mod export;
mod folder;
mod formats;
mod hub;
mod image_folder;
mod locate;
mod panics;
#[cfg(any(feature = "cuda", feature = "emulation"))]
mod resident;
pub mod synthetic;

pub use augment::{Augmentation, PADDING};
pub use batches::{Batch, BatchOptions, Batches, Loader};
pub use classes::LabelSet;
pub use dataset::{CHANNELS, Dataset, Format, IMAGE, Normalization, PLANE, SIDE, Split};
pub use error::{Error, Result};
pub use export::write_binary;
pub use hub::{FetchProgress, fetch, fetch_model};
pub use image_folder::{Fit, ImageFolder, ImageSplit, Interpolation, Preparation};
pub use locate::Locations;
