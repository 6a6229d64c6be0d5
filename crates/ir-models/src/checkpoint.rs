//! Checkpoints: a network, and where its training is, in one safetensors file.
//!
//! # Format
//!
//! Tensors are f32, little endian, in PyTorch's layouts (convolution `[O, I, H, W]`, linear
//! `[out, in]`):
//!
//! ```text
//! stem.{weight,bias}
//! blocks.{j}.bn1.{weight,bias,running_mean,running_var}   blocks.{j}.conv1.{weight,bias}
//! blocks.{j}.bn2.{weight,bias,running_mean,running_var}   blocks.{j}.conv2.{weight,bias}
//! blocks.{j}.shortcut.{weight,bias}                       (transitions only)
//! head.bn.{weight,bias,running_mean,running_var}          head.fc.{weight,bias}
//! ```
//!
//! j counts blocks through all stages from 0. What the steps of a shared block have in common
//! stands once, under the first step's j. A checkpoint of a training run has, in addition, the
//! velocity of each trainable tensor under `momentum.{name}`.
//!
//! The header's `__metadata__` has `format_version`, `architecture` (JSON, see
//! [`Architecture`]), and where known `dataset`, `normalization` (JSON, see [`Normalization`]) and
//! `training` (JSON: settings, position and what the caller adds).

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::architecture::Architecture;
use crate::error::{Error, Result};
use crate::mapped::{self, to_tensor, unusable};
use crate::resnet::ResNet;
use crate::trainer::{Position, Trainer, TrainingSettings};

/// The version that this program writes; it reads no newer one.
pub const FORMAT_VERSION: u32 = 1;

const MOMENTUM: &str = "momentum.";

/// Per-channel normalisation of images on the 0–1 scale: (x − mean) / std.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Normalization {
    /// Mean of red, green and blue.
    pub mean: [f64; 3],
    /// Standard deviation of red, green and blue.
    pub std: [f64; 3],
}

/// What a checkpoint says about the data that its network is for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DataDescription {
    /// The data set's name.
    pub dataset: Option<String>,
    /// How images were normalised.
    pub normalization: Option<Normalization>,
}

/// The `training` entry of the metadata.
#[derive(Debug, Serialize, Deserialize)]
struct Training {
    settings: TrainingSettings,
    position: Position,
    /// Whatever the program that trains wants to find again.
    #[serde(default)]
    run: serde_json::Value,
}

/// An opened checkpoint.
///
/// ```
/// use ir_models::{Architecture, Checkpoint, DataDescription, ResNet};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("untrained.safetensors");
/// let network = ResNet::initialize(&Architecture::named("resnet-32", 10)?, 0)?;
/// Checkpoint::save_network(&path, &network, &DataDescription::default())?;
///
/// let checkpoint = Checkpoint::open(&path)?;
/// assert_eq!(checkpoint.architecture().name, "resnet-32");
/// let again = checkpoint.network()?;
/// assert_eq!(again.tensor("head.fc.bias").unwrap().dims(), [10]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Checkpoint {
    path: PathBuf,
    architecture: Architecture,
    data: DataDescription,
    training: Option<Training>,
    /// All tensors that the architecture asks for, by their names in the file.
    tensors: BTreeMap<String, Tensor>,
}

impl Checkpoint {
    /// Opens a checkpoint: maps it into memory, checks it, copies its tensors, and drops the map.
    ///
    /// What is opened stays as it is, whatever becomes of the file. The file must not be
    /// truncated or overwritten in place while this function runs: a truncated one may end the
    /// process with SIGBUS, which no check excludes, and an overwritten one may be read half old
    /// and half new. Saving replaces a file by renaming, which is safe at any time; a file whose
    /// length has changed meanwhile is an error.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NotACheckpoint`] with what was found in place of what,
    /// [`Error::TensorMismatch`] naming every missing, unexpected and misshapen tensor.
    pub fn open(path: &Path) -> Result<Self> {
        mapped::read(path, |header, tensors| {
            let metadata = header.metadata().clone().unwrap_or_default();
            let (architecture, data, training) = describe(path, &metadata)?;
            let mut checkpoint = Self {
                path: path.into(),
                architecture,
                data,
                training,
                tensors: BTreeMap::new(),
            };
            checkpoint.compare(tensors)?;
            for (name, view) in tensors.iter() {
                let tensor = to_tensor(&view)?;
                checkpoint.tensors.insert(name.into(), tensor);
            }
            Ok(checkpoint)
        })
    }

    /// The network's description.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// What the network was trained on.
    pub fn data(&self) -> &DataDescription {
        &self.data
    }

    /// Where training is; `None` in a checkpoint that is only a network.
    pub fn position(&self) -> Option<&Position> {
        self.training.as_ref().map(|training| &training.position)
    }

    /// What the program that trained had it keep; null in a checkpoint that is only a network.
    pub fn run(&self) -> &serde_json::Value {
        self.training
            .as_ref()
            .map_or(&serde_json::Value::Null, |training| &training.run)
    }

    /// The network, with tensors of its own.
    ///
    /// # Errors
    /// [`Error::Candle`] if a tensor cannot be copied.
    pub fn network(&self) -> Result<ResNet> {
        ResNet::from_tensors(&self.architecture, |spec| self.tensor(&spec.name))
    }

    /// The training run, ready to go on.
    ///
    /// # Errors
    /// As [`Checkpoint::network`]; [`Error::NotACheckpoint`] where it is only a network.
    pub fn trainer(&self) -> Result<Trainer> {
        let Some(training) = &self.training else {
            let reason = "it holds a network but no training run to go on with";
            return Err(unusable(&self.path, reason.into()));
        };
        let network = self.network()?;
        let velocity = |name: &str| self.tensor(&format!("{MOMENTUM}{name}"));
        let velocities = network
            .tensors()
            .map(|(spec, _)| {
                spec.kind
                    .is_trainable()
                    .then(|| velocity(&spec.name))
                    .transpose()
            })
            .collect::<Result<_>>()?;
        Ok(Trainer::resume(
            network,
            training.settings.clone(),
            velocities,
            training.position,
        ))
    }

    /// Saves a network alone.
    ///
    /// The file is written beside `path`, flushed to the disk and renamed: `path` holds either
    /// what it held before or the whole new checkpoint.
    ///
    /// # Errors
    /// [`Error::Io`]; `path` is then as it was.
    pub fn save_network(path: &Path, network: &ResNet, data: &DataDescription) -> Result<()> {
        let tensors = network
            .tensors()
            .map(|(spec, tensor)| (spec.name.clone(), tensor));
        write(path, tensors, metadata(network, data))
    }

    /// Saves a training run, with whatever `run` the caller wants to find again; as
    /// [`Checkpoint::save_network`].
    ///
    /// # Errors
    /// [`Error::Io`]; `path` is then as it was.
    pub fn save_training(
        path: &Path,
        trainer: &Trainer,
        data: &DataDescription,
        run: serde_json::Value,
    ) -> Result<()> {
        let network = trainer.network();
        let training = Training {
            settings: trainer.settings().clone(),
            position: *trainer.position(),
            run,
        };
        let mut metadata = metadata(network, data);
        metadata.insert("training", to_json(&training));
        let tensors = network
            .tensors()
            .map(|(spec, tensor)| (spec.name.clone(), tensor));
        let velocities = trainer
            .velocities()
            .map(|(name, velocity)| (format!("{MOMENTUM}{name}"), velocity));
        write(path, tensors.chain(velocities), metadata)
    }

    /// Compares the file's tensors with those that the architecture asks for.
    fn compare(&self, tensors: &SafeTensors<'_>) -> Result<()> {
        let mut expected: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for spec in crate::layout::Layout::new(&self.architecture).specs {
            if self.training.is_some() && spec.kind.is_trainable() {
                expected.insert(format!("{MOMENTUM}{}", spec.name), spec.shape.clone());
            }
            expected.insert(spec.name, spec.shape);
        }
        let mut complaints = Vec::new();
        for (name, view) in tensors.iter() {
            match expected.remove(name) {
                None => complaints.push(format!("unexpected {name}")),
                Some(_) if view.dtype() != Dtype::F32 => {
                    complaints.push(format!("{name} is {:?}, expected F32", view.dtype()));
                }
                Some(shape) if view.shape() != shape => {
                    complaints.push(format!(
                        "{name} has shape {:?}, expected {shape:?}",
                        view.shape()
                    ));
                }
                Some(_) => {}
            }
        }
        complaints.extend(expected.into_keys().map(|name| format!("missing {name}")));
        if complaints.is_empty() {
            return Ok(());
        }
        complaints.sort();
        let (shown, more) = (complaints.len().min(6), complaints.len().saturating_sub(6));
        let mut report = complaints[..shown].join("; ");
        if more > 0 {
            report += &format!("; and {more} more");
        }
        let (path, architecture) = (self.path.clone(), self.architecture.name.clone());
        Err(Error::TensorMismatch {
            path,
            architecture,
            report,
        })
    }

    /// A copy of a tensor, since training changes its tensors in place.
    fn tensor(&self, name: &str) -> Result<Tensor> {
        let tensor = self.tensors.get(name);
        let tensor = tensor.ok_or_else(|| unusable(&self.path, format!("no tensor {name}")))?;
        Ok(tensor.copy()?)
    }
}

/// What a header's `__metadata__` says about the network, its data and its training.
fn describe(
    path: &Path,
    metadata: &HashMap<String, String>,
) -> Result<(Architecture, DataDescription, Option<Training>)> {
    let Some(architecture) = metadata.get("architecture") else {
        return Err(unusable(path, "its metadata has no `architecture`".into()));
    };
    let version = metadata.get("format_version").map(String::as_str);
    if !matches!(version.map(str::parse::<u32>), Some(Ok(1..=FORMAT_VERSION))) {
        let found = version.unwrap_or("none");
        return Err(unusable(
            path,
            format!("format_version {found}; this program reads 1 to {FORMAT_VERSION}"),
        ));
    }
    let architecture = Architecture::from_json(architecture)
        .map_err(|error| unusable(path, format!("in its metadata: {error}")))?;
    let data = DataDescription {
        dataset: metadata.get("dataset").cloned(),
        normalization: read_json(path, metadata, "normalization")?,
    };
    let training = read_json(path, metadata, "training")?;
    Ok((architecture, data, training))
}

fn read_json<T: serde::de::DeserializeOwned>(
    path: &Path,
    metadata: &HashMap<String, String>,
    key: &str,
) -> Result<Option<T>> {
    let parse = |text: &String| serde_json::from_str(text);
    let parsed = metadata.get(key).map(parse).transpose();
    parsed.map_err(|error| unusable(path, format!("`{key}` in its metadata: {error}")))
}

fn metadata(network: &ResNet, data: &DataDescription) -> BTreeMap<&'static str, String> {
    let mut metadata = BTreeMap::from([
        ("format_version", FORMAT_VERSION.to_string()),
        ("architecture", to_json(network.architecture())),
    ]);
    metadata.extend(data.dataset.clone().map(|dataset| ("dataset", dataset)));
    metadata.extend(
        data.normalization
            .map(|normalization| ("normalization", to_json(&normalization))),
    );
    metadata
}

fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain data with string keys always has a JSON form")
}

/// A tensor's entry in the header.
#[derive(Serialize)]
struct Entry<'a> {
    dtype: &'static str,
    shape: &'a [usize],
    data_offsets: [usize; 2],
}

/// Writes the safetensors format: the length of the header (8 bytes, little endian), the header
/// (JSON, padded with spaces to a multiple of 8), the tensors' bytes in the header's order.
///
/// The library's own writer keeps the metadata in a map of random order; here equal content gives
/// equal bytes.
fn write<'a>(
    path: &Path,
    tensors: impl Iterator<Item = (String, &'a Tensor)>,
    metadata: BTreeMap<&'static str, String>,
) -> Result<()> {
    let tensors: BTreeMap<String, &Tensor> = tensors.collect();
    let mut header =
        serde_json::Map::from_iter([("__metadata__".into(), serde_json::json!(metadata))]);
    let mut offset = 0;
    for (name, tensor) in &tensors {
        let end = offset + 4 * tensor.elem_count();
        let entry = Entry {
            dtype: "F32",
            shape: tensor.dims(),
            data_offsets: [offset, end],
        };
        header.insert(name.clone(), serde_json::json!(entry));
        offset = end;
    }
    let mut header = to_json(&header).into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');

    let io = |action| {
        move |source| Error::Io {
            path: path.into(),
            action,
            source,
        }
    };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    // As any file that a program writes: readable by whom the user's umask allows.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let temporary = builder.prefix(".checkpoint-").tempfile_in(folder);
    let mut temporary = temporary.map_err(io("creating a temporary file beside it"))?;
    let mut out = std::io::BufWriter::with_capacity(1 << 20, temporary.as_file_mut());
    out.write_all(&(header.len() as u64).to_le_bytes())
        .map_err(io("writing a checkpoint"))?;
    out.write_all(&header).map_err(io("writing a checkpoint"))?;
    for tensor in tensors.values() {
        for value in tensor.flatten_all()?.to_vec1::<f32>()? {
            out.write_all(&value.to_le_bytes())
                .map_err(io("writing a checkpoint"))?;
        }
    }
    out.flush().map_err(io("writing a checkpoint"))?;
    drop(out);
    temporary
        .as_file()
        .sync_all()
        .map_err(io("flushing a checkpoint to the disk"))?;
    temporary
        .persist(path)
        .map_err(|error| io("renaming the finished checkpoint")(error.error))?;
    // Elsewhere a folder cannot be opened as a file, and renaming is as durable as it gets.
    #[cfg(unix)]
    std::fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(io("flushing its folder"))?;
    Ok(())
}
