//! The images of an analysis: a data set of CIFAR's form, or a folder of image files.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use ir_data::{
    Batches, Dataset, Error, Fit, ImageFolder, ImageSplit, Interpolation, Normalization,
    Preparation,
};
use ir_models::import;

use crate::arguments::{Analyze, InterpolationName, SplitName};
use crate::data;
use crate::subject::Subject;

/// The fraction of an image that is cut out where nothing says so, as torchvision evaluates.
const CROP: f64 = 0.875;

/// Images up to this size are not cut.
const SMALL: usize = 64;

/// Images where they are, before they are prepared.
pub(crate) enum Found {
    Cifar(Dataset),
    Folder(ImageFolder),
}

impl Found {
    /// Opens a named data set, or a folder in CIFAR's form or of image files.
    pub(crate) fn open(data: &str, offline: bool) -> Result<Self> {
        if Path::new(data).is_dir() {
            match ImageFolder::open(Path::new(data)) {
                // Then it may hold CIFAR's files.
                Err(Error::NoImages { .. }) => {}
                found => return Ok(Self::Folder(found?)),
            }
        }
        Ok(Self::Cifar(data::open_named(data, offline)?))
    }
}

/// Images as the network reads them.
pub(crate) enum Images {
    Cifar {
        dataset: Dataset,
        normalization: Normalization,
    },
    Folder {
        folder: ImageFolder,
        preparation: Preparation,
    },
}

impl Images {
    /// The images that `--data` names, prepared as the flags, the network's own files and the data
    /// set say, in this order.
    pub(crate) fn open(arguments: &Analyze, subject: &Subject) -> Result<Self> {
        let source = &arguments.source;
        match Found::open(&source.data, source.offline)? {
            Found::Cifar(dataset) => Self::cifar(arguments, subject, dataset),
            Found::Folder(folder) => Self::folder(arguments, subject, &folder),
        }
    }

    fn cifar(arguments: &Analyze, subject: &Subject, dataset: Dataset) -> Result<Self> {
        let (found, expected) = (dataset.classes().len(), subject.classes());
        ensure!(
            found == expected,
            "{}: its network has {expected} classes and {} has {found}; give the data that it was trained on",
            subject.file.display(),
            dataset.name()
        );
        let side = ir_data::SIDE;
        let size = asked_size(arguments).or(subject.input_size());
        if let Some([height, width]) = size.filter(|size| *size != [side, side]) {
            bail!(
                "{}: its network reads images of {height}×{width} pixels, and those of {} have {side}×{side}; \
                 give a folder of images, or --input-size {side} to analyse it on these as they are",
                subject.file.display(),
                dataset.name()
            );
        }
        let own = || subject.normalization().unwrap_or(dataset.normalization());
        let normalization = asked_normalization(arguments)?.unwrap_or_else(own);
        Ok(Self::Cifar {
            dataset,
            normalization,
        })
    }

    fn folder(arguments: &Analyze, subject: &Subject, folder: &ImageFolder) -> Result<Self> {
        let config = subject.imported().map(|imported| &imported.config);
        let names = config.and_then(|config| config.labels.as_deref());
        let map = arguments.import.classes.as_deref();
        let labels = folder.labels_of(subject.classes(), names, map)?;
        let preparation = preparation(arguments, subject)?;
        if let (None, Some(size)) = (subject.imported(), subject.input_size()) {
            let [height, width] = size;
            let [asked_height, asked_width] = preparation.size;
            ensure!(
                preparation.size == size,
                "--input-size: {} reads images of {height}×{width} pixels, not of {asked_height}×{asked_width}",
                subject.file.display()
            );
        }
        Ok(Self::Folder {
            preparation,
            folder: folder.relabel(&labels)?,
        })
    }

    /// For people.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Cifar { dataset, .. } => dataset.name().into(),
            Self::Folder { folder, .. } => folder.name(),
        }
    }

    pub(crate) fn dataset(&self) -> Option<&Dataset> {
        match self {
            Self::Cifar { dataset, .. } => Some(dataset),
            Self::Folder { .. } => None,
        }
    }

    pub(crate) fn normalization(&self) -> Normalization {
        match self {
            Self::Cifar { normalization, .. } => *normalization,
            Self::Folder { preparation, .. } => preparation.normalization,
        }
    }

    /// Height and width of what the network reads.
    pub(crate) fn size(&self) -> [usize; 2] {
        match self {
            Self::Cifar { .. } => [ir_data::SIDE; 2],
            Self::Folder { preparation, .. } => preparation.size,
        }
    }

    /// Number of images of a split; `None` where there is no such split.
    pub(crate) fn len(&self, split: SplitName) -> Option<usize> {
        match self {
            Self::Cifar { dataset, .. } => Some(match split {
                SplitName::Train => dataset.train().len(),
                SplitName::Test => dataset.test().len(),
            }),
            Self::Folder { folder, .. } => in_folder(folder, split).map(ImageSplit::len),
        }
    }

    /// The first `samples` images of a split in order.
    pub(crate) fn batches(
        &self,
        split: SplitName,
        samples: Option<usize>,
        batch_size: usize,
    ) -> Result<Batches> {
        match self {
            Self::Cifar {
                dataset,
                normalization,
            } => {
                let split = match split {
                    SplitName::Train => dataset.train(),
                    SplitName::Test => dataset.test(),
                };
                Ok(data::evaluation(split, samples, batch_size, *normalization)?.epoch(0))
            }
            Self::Folder {
                folder,
                preparation,
            } => {
                let Some(images) = in_folder(folder, split) else {
                    bail!(
                        "{}: it has no {} split",
                        folder.root().display(),
                        split.name()
                    );
                };
                let samples = samples.map(|samples| samples.min(images.len()));
                Ok(images.batches(batch_size, samples, *preparation)?)
            }
        }
    }

    /// The checksums of what is there, as results carry them.
    pub(crate) fn checksum(&self) -> String {
        match self {
            Self::Cifar { dataset, .. } => data::checksum(dataset),
            Self::Folder { folder, .. } => {
                let named = [("train", folder.train()), ("test", folder.test())];
                let there = named.iter().filter_map(|(name, split)| {
                    Some(format!("{name} {}", split.as_ref()?.checksum()))
                });
                let there: Vec<_> = there.collect();
                format!("sha256 of names and lengths {}", there.join(" "))
            }
        }
    }
}

fn in_folder(folder: &ImageFolder, split: SplitName) -> Option<&ImageSplit> {
    match split {
        SplitName::Train => folder.train(),
        SplitName::Test => folder.test(),
    }
}

fn asked_size(arguments: &Analyze) -> Option<[usize; 2]> {
    arguments.import.input_size.map(|side| [side; 2])
}

fn asked_normalization(arguments: &Analyze) -> Result<Option<Normalization>> {
    match (arguments.import.mean, arguments.import.std) {
        (Some(mean), Some(std)) => Ok(Some(Normalization { mean, std })),
        (None, None) => Ok(None),
        _ => bail!("--mean and --std go together"),
    }
}

/// What is done to the images of a folder.
fn preparation(arguments: &Analyze, subject: &Subject) -> Result<Preparation> {
    let known = subject
        .imported()
        .map(|imported| &imported.config.preprocessing);
    let size = asked_size(arguments).or(subject.input_size());
    let normalization = asked_normalization(arguments)?.or(subject.normalization());
    let missing: Vec<_> = [
        (normalization.is_none(), "--mean R,G,B --std R,G,B"),
        (size.is_none(), "--input-size PIXELS"),
    ]
    .iter()
    .filter_map(|&(missing, flag)| missing.then_some(flag))
    .collect();
    let (Some(size), Some(normalization)) = (size, normalization) else {
        bail!(
            "{}: neither it nor a config.json beside it says how images are prepared; give {}",
            subject.file.display(),
            missing.join(" ")
        );
    };
    let default = if size[0] > SMALL { CROP } else { 1.0 };
    let fit = arguments.import.crop.map(Fit::Crop);
    let fit = fit.or_else(|| match known?.fit? {
        import::Fit::Crop(fraction) => Some(Fit::Crop(fraction)),
        import::Fit::Exact => Some(Fit::Exact),
    });
    let asked = arguments.import.interpolation.map(|name| match name {
        InterpolationName::Nearest => Interpolation::Nearest,
        InterpolationName::Bilinear => Interpolation::Bilinear,
        InterpolationName::Bicubic => Interpolation::Bicubic,
        InterpolationName::Lanczos => Interpolation::Lanczos,
    });
    let interpolation = asked.or_else(|| {
        Some(match known?.interpolation? {
            import::Interpolation::Nearest => Interpolation::Nearest,
            import::Interpolation::Bilinear => Interpolation::Bilinear,
            import::Interpolation::Bicubic => Interpolation::Bicubic,
            import::Interpolation::Lanczos => Interpolation::Lanczos,
        })
    });
    let preparation = Preparation {
        size,
        fit: fit.unwrap_or(Fit::Crop(default)),
        interpolation: interpolation.unwrap_or(Interpolation::Bilinear),
        normalization,
    };
    preparation.validate()?;
    Ok(preparation)
}
