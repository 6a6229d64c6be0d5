//! How much memory a command will need, estimated before it begins.
//!
//! The activations are counted from the architecture; the factors on them were fitted to measured
//! peaks of resident memory. They are within 15 % of the peak for resnet-32, resnet-110 and the
//! single-representation net, training at 128 images a batch and analysing at 20 and 100, each measure
//! alone and all together; and for torchvision's resnet18 and resnet50, analysing at 6 and 24.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use indicatif::HumanBytes;
use ir_analysis::Measure;
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

/// Activations of one image, in values.
struct Activations {
    /// All h_j.
    h: f64,
    /// What lies between the convolutions of all branches.
    inner: f64,
    /// The largest one.
    largest: f64,
    /// What the linear readouts read: the channels of all h_j.
    features: f64,
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
            h: 0.0,
            inner: 0.0,
            largest: stem,
            features: architecture.stem_channels as f64,
        };
        let mut size = [height, width];
        for block in architecture.blocks() {
            let own = sizes[block.stage];
            let h = values(
                block.input_channels,
                if block.transition { size } else { own },
            );
            let inner = values(block.channels, own);
            activations.h += h;
            activations.inner += inner;
            activations.features += block.channels as f64;
            activations.largest = activations.largest.max(h).max(inner);
            size = own;
        }
        activations
    }

    fn of_import(architecture: &ImportedArchitecture, size: [usize; 2]) -> Self {
        let halve = |size: [usize; 2]| size.map(|side| side.div_ceil(2));
        let values = |channels: usize, [height, width]: [usize; 2]| {
            channels as f64 * height as f64 * width as f64
        };
        let has_large_stem = architecture.stem_kernel > 3;
        let stem = if has_large_stem { halve(size) } else { size };
        let mut activations = Self {
            h: 0.0,
            inner: 0.0,
            // Before its pooling, only a few of the stem's size are alive, and none beside the blocks'.
            largest: values(architecture.stem_channels, stem) / 4.0,
            features: architecture.stem_channels as f64,
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
            let blocks = stage.blocks as f64;
            // The s_j of a transition is one tensor more, beside an h_j and a branch.
            let shortcuts = if stage.transition { 0.5 } else { 0.0 };
            activations.h += (blocks + shortcuts) * h;
            activations.inner += blocks * inner * between;
            activations.features += blocks * stage.channels as f64;
            activations.largest = activations.largest.max(h);
        }
        activations
    }
}

impl Activations {
    /// The features of all samples, in vectors that grew to them.
    fn of_readouts(&self, measures: &BTreeSet<Measure>, samples: usize) -> f64 {
        if measures.contains(&Measure::Readouts) {
            2.0 * VALUE * self.features * samples as f64
        } else {
            0.0
        }
    }
}

/// Whether the gradients of all blocks are kept.
fn takes_gradients(measures: &BTreeSet<Measure>) -> bool {
    measures.contains(&Measure::Cosine)
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
    let Activations {
        h, inner, largest, ..
    } = Activations::of(architecture);
    let image = BATCHES * image_values(architecture);
    let training = batch as f64 * (h + inner + IN_FLIGHT * largest + image);
    let evaluation = evaluation_batch as f64 * (EVALUATED * largest + image);
    let weights = 3.0 * architecture.parameters().all as f64;
    let measures = Measure::PAPER.into();
    let measuring = measured_batch as f64 * Footprint::of_ours(architecture, &measures, 0).image;
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
    /// Of these measures, on up to `samples` images of each split.
    pub(crate) fn of_analysis(
        subject: &Subject,
        images: &Images,
        measures: &BTreeSet<Measure>,
        samples: usize,
    ) -> Self {
        let mut footprint = match &subject.source {
            Source::Ours { checkpoint, .. } => {
                Self::of_ours(checkpoint.architecture(), measures, samples)
            }
            Source::Imported(imported) => {
                let architecture = imported.network.architecture();
                Self::of_import(architecture, images.size(), measures, samples)
            }
        };
        footprint.at_rest += images.dataset().map_or(0.0, of_data);
        footprint
    }

    /// For each image, of each block h_j and the branch and what passes between blocks, the gradient
    /// where it is taken, and for paths what the block's linear map reads.
    fn of_ours(architecture: &Architecture, measures: &BTreeSet<Measure>, samples: usize) -> Self {
        let activations = Activations::of(architecture);
        let kept = activations.h + activations.inner;
        let gradients = if takes_gradients(measures) { 0.5 } else { 0.0 };
        let paths = if measures.contains(&Measure::Paths) {
            1.0
        } else {
            0.0
        };
        let image = kept * (1.25 + gradients + paths)
            + IN_FLIGHT * activations.largest
            + BATCHES * image_values(architecture);
        let weights = VALUE * architecture.parameters().all as f64;
        Self {
            at_rest: PROGRAM + weights + activations.of_readouts(measures, samples),
            image: VALUE * image,
        }
    }

    /// As of ours, each counted for itself: the branch is of the size of h_{j+1}. The weights are there
    /// twice, as they were read and with the norms folded into them.
    fn of_import(
        architecture: &ImportedArchitecture,
        size: [usize; 2],
        measures: &BTreeSet<Measure>,
        samples: usize,
    ) -> Self {
        let tensors = architecture.tensors();
        let weights = tensors
            .iter()
            .map(|(_, shape)| shape.iter().product::<usize>());
        let activations = Activations::of_import(architecture, size);
        let Activations { h, inner, .. } = activations;
        let gradients = if takes_gradients(measures) { h } else { 0.0 };
        let paths = if measures.contains(&Measure::Paths) {
            h + inner
        } else {
            0.0
        };
        let image = 2.0 * h
            + gradients
            + paths
            + IN_FLIGHT * activations.largest
            + BATCHES * (3 * size[0] * size[1]) as f64;
        let weights = 2.0 * VALUE * weights.sum::<usize>() as f64;
        Self {
            at_rest: PROGRAM + weights + activations.of_readouts(measures, samples),
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
        let Activations {
            h,
            inner,
            largest,
            features,
        } = Activations::of(&network);
        // 5 blocks of 16×32×32 twice, then from 16×32×32 to 32×16×16, then 4 twice, and so on.
        let by_hand = 10 * 16384 + (16384 + 8192) + 8 * 8192 + (8192 + 4096) + 8 * 4096;
        assert_eq!((h + inner, largest), (f64::from(by_hand), 16384.0));
        assert_eq!(features, f64::from(6 * 16 + 5 * 32 + 5 * 64));
    }
}
