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
//! [`Architecture`]), `sha256`, and where known `dataset`, `normalization` (JSON, see [`Normalization`]) and
//! `training` (JSON: settings, position and what the caller adds).
//!
//! `sha256` is over the content: SHA-256 of every other entry of the metadata in order of keys (key,
//! value), then of every tensor in order of names (name, shape, bytes); each text and each tensor's
//! bytes are preceded by their length, a shape by the number of its dimensions, all numbers as 8
//! bytes, little endian. Version 1 of the format has no `sha256`.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Tensor;
use safetensors::Dtype;
use serde::{Deserialize, Serialize};

use crate::architecture::Architecture;
use crate::checksum::Checksum;
use crate::error::{Error, Result};
use crate::files;
use crate::mapped::TensorFile;
use crate::resnet::ResNet;
use crate::trainer::{Position, Trainer, TrainingSettings};

/// The version that this program writes; it reads no newer one.
pub const FORMAT_VERSION: u32 = 2;

/// The first version that has a checksum.
const CHECKSUM_SINCE: u32 = 2;

const CHECKSUM: &str = "sha256";

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
    file: TensorFile,
    architecture: Architecture,
    data: DataDescription,
    training: Option<Training>,
}

impl Checkpoint {
    /// Opens a checkpoint by memory map: compares its header with the file's length, copies its
    /// content, drops the map, and compares the copy with its checksum; tensors are made when a
    /// network is asked for.
    ///
    /// What becomes of the file afterwards does not matter. While this function runs the file must
    /// not be truncated in place: that may end the process with SIGBUS, which no check excludes.
    /// Overwriting it in place is found by the checksum, and replacing it by renaming, as saving
    /// does, is safe at any time. Memory is that of the file, up to 8 GiB, and is asked for when the
    /// header has announced as many bytes as there are.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::NotACheckpoint`] with what was found in place of what, as in a file
    /// that was cut off or whose length changed meanwhile; [`Error::Damaged`] if the content has
    /// changed since it was written.
    pub fn open(path: &Path) -> Result<Self> {
        Self::of(TensorFile::open(path)?)
    }

    /// Reads the content of a checkpoint that is in memory, as a program carries it; errors call it `name`.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    ///
    /// ```
    /// use std::path::Path;
    /// use ir_models::Checkpoint;
    ///
    /// let error = Checkpoint::from_bytes(Path::new("the built-in network"), &[]).err().unwrap();
    /// assert!(error.to_string().starts_with("the built-in network: "));
    /// ```
    pub fn from_bytes(name: &Path, bytes: &[u8]) -> Result<Self> {
        Self::of(TensorFile::from_bytes(name, bytes)?)
    }

    fn of(file: TensorFile) -> Result<Self> {
        let metadata = &file.metadata;
        let Some(architecture) = metadata.get("architecture") else {
            return Err(file.unusable("its metadata has no `architecture`".into()));
        };
        let version = metadata
            .get("format_version")
            .map_or("none", String::as_str);
        let Ok(version @ 1..=FORMAT_VERSION) = version.parse::<u32>() else {
            return Err(file.unusable(format!(
                "format_version {version}; this program reads 1 to {FORMAT_VERSION}"
            )));
        };
        verify(&file, version)?;
        let architecture = Architecture::from_json(architecture)
            .map_err(|error| file.unusable(format!("in its metadata: {error}")))?;
        let normalization = read_json(&file, "normalization")?;
        let training = read_json(&file, "training")?;
        let data = DataDescription {
            dataset: metadata.get("dataset").cloned(),
            normalization,
        };
        Ok(Self {
            file,
            architecture,
            data,
            training,
        })
    }

    /// Whether a safetensors file says of itself that it is a checkpoint of this program; a file of
    /// other weights is for [`crate::import`].
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NotACheckpoint`] for what is no safetensors file.
    pub fn recognizes(path: &Path) -> Result<bool> {
        Ok(TensorFile::metadata_of(path)?.contains_key("architecture"))
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

    /// The network.
    ///
    /// # Errors
    /// [`Error::TensorMismatch`] naming every missing, unexpected and misshapen tensor.
    pub fn network(&self) -> Result<ResNet> {
        self.compare()?;
        ResNet::from_tensors(&self.architecture, |spec| self.tensor(&spec.name))
    }

    /// The training run, ready to go on.
    ///
    /// # Errors
    /// As [`Checkpoint::network`]; [`Error::NotACheckpoint`] where it is only a network.
    pub fn trainer(&self) -> Result<Trainer> {
        let Some(training) = &self.training else {
            return Err(self
                .file
                .unusable("it holds a network but no training run to go on with".into()));
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
    fn compare(&self) -> Result<()> {
        let mut expected: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for spec in crate::layout::Layout::new(&self.architecture).specs {
            if self.training.is_some() && spec.kind.is_trainable() {
                expected.insert(format!("{MOMENTUM}{}", spec.name), spec.shape.clone());
            }
            expected.insert(spec.name, spec.shape);
        }
        let mut complaints = Vec::new();
        for (name, stored) in &self.file.tensors {
            match expected.remove(name) {
                None => complaints.push(format!("unexpected {name}")),
                Some(_) if stored.dtype != Dtype::F32 => {
                    complaints.push(format!("{name} is {:?}, expected F32", stored.dtype));
                }
                Some(shape) if stored.shape != shape => {
                    complaints.push(format!(
                        "{name} has shape {:?}, expected {shape:?}",
                        stored.shape
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
        let (path, architecture) = (self.file.path().into(), self.architecture.name.clone());
        Err(Error::TensorMismatch {
            path,
            architecture,
            report,
        })
    }

    fn tensor(&self, name: &str) -> Result<Tensor> {
        let stored = self.file.tensors.get(name);
        let stored = stored.ok_or_else(|| self.file.unusable(format!("it has no {name}")))?;
        Ok(stored.to_tensor()?)
    }
}

fn read_json<T: serde::de::DeserializeOwned>(file: &TensorFile, key: &str) -> Result<Option<T>> {
    let parse = |text: &String| serde_json::from_str(text);
    let parsed = file.metadata.get(key).map(parse).transpose();
    parsed.map_err(|error| file.unusable(format!("`{key}` in its metadata: {error}")))
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
    mut metadata: BTreeMap<&'static str, String>,
) -> Result<()> {
    let tensors: BTreeMap<String, &Tensor> = tensors.collect();
    let mut checksum = Checksum::default();
    for (key, value) in &metadata {
        checksum.entry(key, value);
    }
    for (name, tensor) in &tensors {
        checksum.tensor(name, tensor.dims(), &bytes(tensor)?);
    }
    metadata.insert(CHECKSUM, checksum.finish());
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

    let size = 8 + header.len() + offset;
    files::replace(path, size as u64, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        tensors
            .values()
            .try_for_each(|tensor| out.write_all(&bytes(tensor).map_err(std::io::Error::other)?))
    })
}

/// A tensor's values, little endian.
fn bytes(tensor: &Tensor) -> candle_core::Result<Vec<u8>> {
    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
    Ok(values.into_iter().flat_map(f32::to_le_bytes).collect())
}

/// Compares a file's content with its checksum.
fn verify(file: &TensorFile, version: u32) -> Result<()> {
    let Some(expected) = file.metadata.get(CHECKSUM) else {
        return match version {
            CHECKSUM_SINCE.. => Err(file.unusable(format!("its metadata has no `{CHECKSUM}`"))),
            _ => Ok(()),
        };
    };
    let mut checksum = Checksum::default();
    let entries: BTreeMap<_, _> = file.metadata.iter().collect();
    for (key, value) in entries.into_iter().filter(|(key, _)| *key != CHECKSUM) {
        checksum.entry(key, value);
    }
    for (name, stored) in &file.tensors {
        checksum.tensor(name, &stored.shape, &stored.content);
    }
    let found = checksum.finish();
    if found == *expected {
        return Ok(());
    }
    Err(Error::Damaged {
        path: file.path().into(),
        expected: expected.clone(),
        found,
    })
}
