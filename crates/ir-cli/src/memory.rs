//! How much memory a command will need, estimated before it begins.
//!
//! The activations are counted from the architecture; the factors on them were fitted to measured
//! peaks of resident memory. For resnet-32, resnet-110 and the single-representation net, training at
//! 128 images a batch and analysing at 20 and 100, the estimate is within 15 % of the peak.

use anyhow::{Result, ensure};
use indicatif::HumanBytes;
use ir_data::Dataset;
use ir_models::Architecture;
use ir_models::import::{BlockKind, ImportedArchitecture};

use crate::images::Images;
use crate::progress;
use crate::subject::{Source, Subject};

/// The program itself, its threads and what they keep, in bytes.
const PROGRAM: f64 = 16.0 * 1024.0 * 1024.0;

/// Bytes of an f32.
const VALUE: f64 = 4.0;

/// Tensors of the size of the largest activation that are alive beside what is kept: those between
/// two blocks, gradients on their way, scratch memory of the convolutions.
const IN_FLIGHT: f64 = 8.0;

/// Activations that evaluating has alive at a time: what a block reads, what is between its
/// convolutions, and what it writes.
const EVALUATED: f64 = 3.0;

/// Channels that lie together: an activation is filled up to a multiple of them.
const CHANNELS: usize = 16;

/// Batches that are ready, being made or being read.
const BATCHES: f64 = 4.0;

/// Activations of one image.
struct Activations {
    /// Values of h_j and of what lies between the convolutions, over all blocks.
    kept: f64,
    /// Values of the largest one.
    largest: f64,
}

impl Activations {
    fn of(architecture: &Architecture) -> Self {
        let sizes = architecture.stage_sizes();
        let values = |channels: usize, [height, width]: [usize; 2]| {
            channels.next_multiple_of(CHANNELS) as f64 * height as f64 * width as f64
        };
        let [_, height, width] = architecture.image;
        let stem = values(architecture.stem_channels, [height, width]);
        let mut activations = Self {
            kept: 0.0,
            largest: stem,
        };
        let mut size = [height, width];
        for block in architecture.blocks() {
            let own = sizes[block.stage];
            let h = values(
                block.input_channels,
                if block.transition { size } else { own },
            );
            let inner = values(block.channels, own);
            activations.kept += h + inner;
            activations.largest = activations.largest.max(h).max(inner);
            size = own;
        }
        activations
    }

    /// What is kept in a recorded pass through someone else's network: of each block four tensors of the
    /// size of h_{j+1} (itself, the branch, the sum, the gradient), and between the convolutions each
    /// result before and after its ReLU.
    fn of_import(architecture: &ImportedArchitecture, size: [usize; 2]) -> Self {
        let halve = |size: [usize; 2]| size.map(|side| side.div_ceil(2));
        let values = |channels: usize, [height, width]: [usize; 2]| {
            channels as f64 * height as f64 * width as f64
        };
        let has_large_stem = architecture.stem_kernel > 3;
        let stem = if has_large_stem { halve(size) } else { size };
        let mut activations = Self {
            kept: 0.0,
            largest: values(architecture.stem_channels, stem),
        };
        let mut size = if has_large_stem { halve(stem) } else { stem };
        for stage in &architecture.stages {
            let inner = match architecture.block {
                BlockKind::Basic => 1.0,
                BlockKind::Bottleneck => 2.0,
            };
            if stage.stride == 2 {
                size = halve(size);
            }
            let (h, between) = (values(stage.channels, size), values(stage.width, size));
            let block = 4.0 * h + 2.0 * inner * between;
            activations.kept += stage.blocks as f64 * block;
            activations.largest = activations.largest.max(h);
        }
        activations
    }
}

/// What training needs: data, weights with velocities and gradients, for each image of a batch two
/// activations a block, for each image of a batch that is evaluated a few, and for each of one
/// that is measured what an analysis needs: memory is not given back between them.
pub(crate) fn of_training(
    architecture: &Architecture,
    dataset: &Dataset,
    batch: usize,
    evaluation_batch: usize,
    measured_batch: usize,
) -> u64 {
    let Activations { kept, largest } = Activations::of(architecture);
    let image = BATCHES * image_values(architecture);
    let training = batch as f64 * (kept + IN_FLIGHT * largest + image);
    let evaluation = evaluation_batch as f64 * (EVALUATED * largest + image);
    let weights = 3.0 * architecture.parameters().all as f64;
    let measuring = measured_batch as f64 * Footprint::of_ours(architecture, 0.0).image;
    (PROGRAM + of_data(dataset) + VALUE * (weights + training + evaluation) + measuring) as u64
}

/// What an analysis needs, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Footprint {
    /// Whatever the batch.
    at_rest: f64,
    /// For each image of a batch.
    image: f64,
}

/// What images of someone else's network may take where nobody says how many go into a batch.
const DEFAULT_LIMIT: f64 = 2.0 * 1024.0 * 1024.0 * 1024.0;

impl Footprint {
    pub(crate) fn of_analysis(subject: &Subject, images: &Images) -> Self {
        let data = images.dataset().map_or(0.0, of_data);
        match &subject.source {
            Source::Ours { checkpoint, .. } => Self::of_ours(checkpoint.architecture(), data),
            Source::Imported(imported) => {
                Self::of_import(imported.network.architecture(), images.size(), data)
            }
        }
    }

    /// For each image, of each block h_j, the branch, the gradient and what passes between blocks,
    /// together 7/4 of what training keeps.
    fn of_ours(architecture: &Architecture, data: f64) -> Self {
        let Activations { kept, largest } = Activations::of(architecture);
        let image = kept * 7.0 / 4.0 + IN_FLIGHT * largest + BATCHES * image_values(architecture);
        Self {
            at_rest: PROGRAM + data + VALUE * architecture.parameters().all as f64,
            image: VALUE * image,
        }
    }

    /// For each image, what the trace keeps and what Candle's record of a pass does: of each block
    /// four tensors of the size of h_j and the inputs and results of the operations between.
    fn of_import(architecture: &ImportedArchitecture, size: [usize; 2], data: f64) -> Self {
        let tensors = architecture.tensors();
        let weights = tensors
            .iter()
            .map(|(_, shape)| shape.iter().product::<usize>());
        let Activations { kept, largest } = Activations::of_import(architecture, size);
        let image = kept + IN_FLIGHT * largest + BATCHES * (3 * size[0] * size[1]) as f64;
        Self {
            at_rest: PROGRAM + data + VALUE * weights.sum::<usize>() as f64,
            image: VALUE * image,
        }
    }

    /// With so many images in a batch.
    pub(crate) fn of_batch(&self, batch: usize) -> u64 {
        (self.at_rest + batch as f64 * self.image) as u64
    }

    /// The largest batch, up to `most`, that stays within what is taken where nothing is asked for.
    pub(crate) fn default_batch(&self, most: usize) -> usize {
        ((DEFAULT_LIMIT / self.image) as usize).clamp(1, most)
    }

    /// The largest batch, up to `most`, with which an analysis stays within `limit` bytes.
    ///
    /// # Errors
    /// One image is too many already.
    pub(crate) fn batch_within(&self, limit: u64, most: usize) -> Result<usize> {
        let batch = ((limit as f64 - self.at_rest) / self.image) as usize;
        ensure!(
            batch > 0,
            "--memory-limit {}: this analysis needs about {} for images one at a time",
            HumanBytes(limit),
            HumanBytes(self.of_batch(1))
        );
        Ok(batch.min(most))
    }
}

/// Says what is needed, and warns where the system has less to give.
pub(crate) fn announce(needed: u64, batch: usize) {
    let needs = format!(
        "about {} of memory needed, at {batch} images a batch",
        HumanBytes(needed)
    );
    progress::say(&needs);
    if let Some(available) = available().filter(|available| *available < needed) {
        progress::say(&format!(
            "warning: the system has {} to give; a smaller --batch-size needs less",
            HumanBytes(available)
        ));
    }
}

/// Bytes that a program may still ask for, where Linux tells.
fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

fn image_values(architecture: &Architecture) -> f64 {
    architecture.image.iter().map(|&size| size as f64).product()
}

/// Images as bytes, and labels.
fn of_data(dataset: &Dataset) -> f64 {
    let splits = [dataset.train(), dataset.test()];
    let bytes = |split: &ir_data::Split| match split.len() {
        0 => 0.0,
        images => images as f64 * (split.image(0).len() as f64 + 1.0),
    };
    splits.into_iter().map(bytes).sum()
}

/// A size as people write it: `2GiB`, `500MB`, `1.5G`; K, M and G alone are powers of 1024.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let end = text.find(|c: char| c != '.' && !c.is_ascii_digit());
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let unit: f64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kib" => 1024.0,
        "m" | "mib" => 1024.0 * 1024.0,
        "g" | "gib" => 1024.0 * 1024.0 * 1024.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        _ => return Err("expected a number of bytes such as 500MB or 2GiB".into()),
    };
    match number.parse::<f64>() {
        Ok(number) if number > 0.0 && number * unit < 2f64.powi(63) => Ok((number * unit) as u64),
        _ => Err("expected a number of bytes such as 500MB or 2GiB".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, expected) in [
            ("4096", 4096),
            ("500MB", 500_000_000),
            ("2GiB", 2 << 30),
            ("1.5g", 3 << 29),
            ("64 KiB", 64 << 10),
        ] {
            assert_eq!(parse_size(text), Ok(expected), "{text}");
        }
        for text in ["", "GiB", "-1G", "1T", "0", "1.2.3M", "99999999999G"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn activations_follow_the_stages() {
        let network = Architecture::named("resnet-32", 10).expect("a network of the paper");
        let Activations { kept, largest } = Activations::of(&network);
        // 5 blocks of 16×32×32 twice, then from 16×32×32 to 32×16×16, then 4 twice, and so on.
        let by_hand = 10 * 16384 + (16384 + 8192) + 8 * 8192 + (8192 + 4096) + 8 * 4096;
        assert_eq!((kept, largest), (f64::from(by_hand), 16384.0));
    }
}
