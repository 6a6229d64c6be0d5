//! What is analysed: a checkpoint of ours, or someone else's network.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use indicatif::HumanBytes;
use ir_data::{Locations, Normalization};
use ir_models::import::{BlockKind, Imported, ImportedResNet, ModelFiles, Strictness, Weights};
use ir_models::{Checkpoint, ResNet, ResidualNetwork};
use serde_json::json;

use crate::checkpoints::NEWEST;
use crate::progress;

/// A network with what is known about it.
pub(crate) struct Subject {
    /// For people.
    pub(crate) name: String,
    /// The file that it is from.
    pub(crate) file: PathBuf,
    pub(crate) source: Source,
}

/// Where a network comes from.
pub(crate) enum Source {
    Ours {
        checkpoint: Box<Checkpoint>,
        network: Box<ResNet>,
    },
    Imported(Box<Imported>),
}

/// A resnet-32 trained on CIFAR-10, see `networks/README.md`.
const BUILT_IN: &[u8] = include_bytes!("../networks/resnet-32.safetensors");

impl Subject {
    /// The network that comes with this program.
    pub(crate) fn built_in() -> Result<Self> {
        let file = PathBuf::from("the built-in resnet-32");
        Self::ours(Checkpoint::from_bytes(&file, BUILT_IN)?, file)
    }

    /// Opens `hf:owner/name`, the newest checkpoint of a run's folder, another folder, or a file.
    pub(crate) fn open(reference: &Path, offline: bool, strictness: Strictness) -> Result<Self> {
        if let Some(hub) = reference.to_str().filter(|text| text.starts_with("hf:")) {
            let folder = fetch(hub, offline)?;
            return Self::import(&folder, Some(hub.trim_start_matches("hf:")), strictness);
        }
        let newest = reference.join(NEWEST);
        let reference = if newest.is_file() { &newest } else { reference };
        ensure!(
            reference.exists(),
            "{}: no such file or folder; give a checkpoint, the folder of a run, a file of weights, \
             a folder with one and its config.json, or hf:OWNER/NAME",
            reference.display()
        );
        let is_ours = !reference.is_dir()
            && !Weights::is_torch_file(reference)
            && Checkpoint::recognizes(reference)?;
        if !is_ours {
            return Self::import(reference, None, strictness);
        }
        Self::ours(Checkpoint::open(reference)?, reference.into())
    }

    fn ours(checkpoint: Checkpoint, file: PathBuf) -> Result<Self> {
        let network = checkpoint.network()?;
        Ok(Self {
            name: checkpoint.architecture().name.clone(),
            file,
            source: Source::Ours {
                checkpoint: Box::new(checkpoint),
                network: Box::new(network),
            },
        })
    }

    fn import(path: &Path, name: Option<&str>, strictness: Strictness) -> Result<Self> {
        let files = ModelFiles::find(path)?;
        let imported = ImportedResNet::open(&files, strictness)?;
        // `.` and `..` have a name only where they lead.
        let named = path.canonicalize().unwrap_or_else(|_| path.into());
        let stem = || {
            let stem = named.file_stem().or(files.weights.file_stem())?;
            Some(stem.to_string_lossy().into_owned())
        };
        let name = name.map(str::to_owned);
        let name = name
            .or_else(|| imported.config.architecture.clone())
            .or_else(stem);
        let subject = Self {
            name: name.context("the network has no name")?,
            file: files.weights,
            source: Source::Imported(Box::new(imported)),
        };
        subject.announce();
        Ok(subject)
    }

    /// Says what was found.
    fn announce(&self) {
        let Source::Imported(imported) = &self.source else {
            return;
        };
        let architecture = imported.network.architecture();
        let blocks: Vec<_> = architecture
            .stages
            .iter()
            .map(|s| s.blocks.to_string())
            .collect();
        let kind = match architecture.block {
            BlockKind::Basic => "basic",
            BlockKind::Bottleneck => "bottleneck",
        };
        progress::say(&format!(
            "{}: {} {kind} blocks in stages of {}, {} classes; {}, {} counters left out",
            self.file.display(),
            architecture.blocks(),
            blocks.join(", "),
            architecture.classes,
            imported.report,
            imported.report.ignored.len()
        ));
    }

    pub(crate) fn network(&self) -> &dyn ResidualNetwork {
        match &self.source {
            Source::Ours { network, .. } => network.as_ref(),
            Source::Imported(imported) => &imported.network,
        }
    }

    /// The training run, where it is one of ours.
    pub(crate) fn checkpoint(&self) -> Option<&Checkpoint> {
        match &self.source {
            Source::Ours { checkpoint, .. } => Some(checkpoint),
            Source::Imported(_) => None,
        }
    }

    pub(crate) fn imported(&self) -> Option<&Imported> {
        match &self.source {
            Source::Ours { .. } => None,
            Source::Imported(imported) => Some(imported),
        }
    }

    pub(crate) fn classes(&self) -> usize {
        match &self.source {
            Source::Ours { checkpoint, .. } => checkpoint.architecture().classes,
            Source::Imported(imported) => imported.network.architecture().classes,
        }
    }

    /// How its images were normalised, as far as it says.
    pub(crate) fn normalization(&self) -> Option<Normalization> {
        match &self.source {
            Source::Ours { checkpoint, .. } => {
                let known = checkpoint.data().normalization?;
                let (mean, std) = (known.mean, known.std);
                Some(Normalization { mean, std })
            }
            Source::Imported(imported) => {
                let known = &imported.config.preprocessing;
                let (mean, std) = known.mean.zip(known.std)?;
                Some(Normalization { mean, std })
            }
        }
    }

    /// Height and width of its images, as far as it says.
    pub(crate) fn input_size(&self) -> Option<[usize; 2]> {
        match &self.source {
            Source::Ours { checkpoint, .. } => {
                let [_, height, width] = checkpoint.architecture().image;
                Some([height, width])
            }
            Source::Imported(imported) => imported.config.preprocessing.input_size,
        }
    }

    /// What an import found, for the results.
    pub(crate) fn provenance(&self) -> serde_json::Value {
        self.imported().map_or(serde_json::Value::Null, |imported| {
            json!({
                "file": self.file.display().to_string(),
                "matched": imported.report.matched.len(),
                "ignored": imported.report.ignored.len(),
                "unexpected": imported.report.unexpected,
            })
        })
    }
}

/// The folder in the hub's cache that holds a model.
fn fetch(reference: &str, offline: bool) -> Result<PathBuf> {
    let spinner = progress::spinner(format!("looking for {reference}"));
    let mut locations = Locations::from_env();
    locations.offline |= offline;
    let folder = ir_data::fetch_model(reference, &locations, &mut |fetched| {
        let (done, total) = (HumanBytes(fetched.done), HumanBytes(fetched.total));
        spinner.set_message(format!("fetching {}: {done} of {total}", fetched.file));
    })?;
    spinner.finish_and_clear();
    Ok(folder)
}
