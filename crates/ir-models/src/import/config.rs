//! What stands beside the weights: `config.json` of timm and of Hugging Face, and
//! `preprocessor_config.json`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::identify::StridePlacement;
use super::problem::ImportProblem;
use crate::error::{Error, Result};

/// The longest JSON file that is read; one with a thousand labels has 100 kB.
const MAX_CONFIG: u64 = 4 << 20;

/// Names of a file of weights in a folder, the better first.
const WEIGHTS: [&str; 3] = ["model.safetensors", "pytorch_model.bin", "model.pth"];

/// The files that make up a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFiles {
    /// The weights.
    pub weights: PathBuf,
    /// `config.json`, where it is there.
    pub config: Option<PathBuf>,
    /// `preprocessor_config.json`, where it is there.
    pub preprocessor: Option<PathBuf>,
}

impl ModelFiles {
    /// A file of weights and what is beside it, or a folder with `model.safetensors`,
    /// `pytorch_model.bin` or `model.pth`.
    ///
    /// # Errors
    /// [`Error::NotACheckpoint`] for a folder that holds none of them.
    ///
    /// ```
    /// use ir_models::import::ModelFiles;
    ///
    /// let folder = tempfile::tempdir()?;
    /// std::fs::write(folder.path().join("model.safetensors"), "")?;
    /// std::fs::write(folder.path().join("config.json"), "{}")?;
    /// let files = ModelFiles::find(folder.path())?;
    /// assert_eq!(files.weights, folder.path().join("model.safetensors"));
    /// assert!(files.config.is_some() && files.preprocessor.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn find(path: &Path) -> Result<Self> {
        let weights = if path.is_dir() {
            let named = WEIGHTS.map(|name| path.join(name));
            let there = named.into_iter().find(|file| file.is_file());
            there.ok_or_else(|| Error::NotACheckpoint {
                path: path.into(),
                reason: format!("the folder holds none of {}", WEIGHTS.join(", ")),
            })?
        } else {
            path.to_path_buf()
        };
        let beside = |name: &str| {
            let file = weights.with_file_name(name);
            file.is_file().then_some(file)
        };
        Ok(Self {
            config: beside("config.json"),
            preprocessor: beside("preprocessor_config.json"),
            weights,
        })
    }
}

/// How an image of any size becomes one of the input's size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fit {
    /// The shorter edge is scaled to the input's size divided by this fraction (rounded down), and
    /// the centre is cut out.
    Crop(f64),
    /// Both edges are scaled to the input's size.
    Exact,
}

/// How an image is scaled, as PIL names it; all but `Nearest` average over the pixels that fall
/// together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interpolation {
    /// The nearest pixel.
    Nearest,
    /// Linear in both directions.
    Bilinear,
    /// Cubic with a = −1/2.
    Bicubic,
    /// Lanczos with three lobes.
    Lanczos,
}

/// What is done to an image before the network sees it, as far as the files say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Preprocessing {
    /// Mean of red, green and blue on the 0–1 scale.
    pub mean: Option<[f64; 3]>,
    /// Standard deviation of red, green and blue on the 0–1 scale.
    pub std: Option<[f64; 3]>,
    /// Height and width of the input in pixels.
    pub input_size: Option<[usize; 2]>,
    /// How an image is brought to that size.
    pub fit: Option<Fit>,
    /// By what interpolation.
    pub interpolation: Option<Interpolation>,
}

/// What the files beside the weights say.
///
/// ```
/// use ir_models::import::ModelConfig;
///
/// let timm = r#"{"architecture": "resnet18", "pretrained_cfg": {"input_size": [3, 224, 224],
///     "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "crop_pct": 0.95,
///     "interpolation": "bicubic"}}"#;
/// let config = ModelConfig::parse(Some(timm), None)?;
/// assert_eq!(config.architecture.as_deref(), Some("resnet18"));
/// assert_eq!(config.preprocessing.input_size, Some([224, 224]));
/// # Ok::<(), ir_models::import::ImportProblem>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModelConfig {
    /// The name of the network: timm's `architecture`.
    pub architecture: Option<String>,
    /// Where the strides are.
    pub strides: StridePlacement,
    /// The classes in order of their indices: `label_names` of timm, `id2label` of Hugging Face.
    pub labels: Option<Vec<String>>,
    /// What is done to an image.
    pub preprocessing: Preprocessing,
}

impl ModelConfig {
    /// Reads the files that are there.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Import`] for an entry that cannot be taken.
    pub fn read(files: &ModelFiles) -> Result<Self> {
        let text = |file: &Option<PathBuf>| file.as_deref().map(read_text).transpose();
        let (config, preprocessor) = (text(&files.config)?, text(&files.preprocessor)?);
        let named = |file: &Option<PathBuf>| file.clone().unwrap_or_else(|| files.weights.clone());
        let parsed = Self::parse(config.as_deref(), None)
            .map_err(|problem| Error::import(&named(&files.config), problem))?;
        if preprocessor.is_none() {
            return Ok(parsed);
        }
        Self::parse(config.as_deref(), preprocessor.as_deref())
            .map_err(|problem| Error::import(&named(&files.preprocessor), problem))
    }

    /// From the text of `config.json` and of `preprocessor_config.json`.
    ///
    /// # Errors
    /// [`ImportProblem::Config`] for an entry that cannot be taken, [`ImportProblem::Unsupported`]
    /// for a network that differs in what its tensors do not show.
    pub fn parse(config: Option<&str>, preprocessor: Option<&str>) -> Result<Self, ImportProblem> {
        let json = |name: &'static str, text: Option<&str>| {
            let parse = |text| serde_json::from_str(text);
            let parsed = text.map(parse).transpose();
            parsed.map_err(|error: serde_json::Error| ImportProblem::Config {
                entry: name.into(),
                expected: "JSON",
                found: error.to_string(),
            })
        };
        let config: Value = json("config.json", config)?.unwrap_or_default();
        let config = Entry::root(&config);
        let preprocessor: Option<Value> = json("preprocessor_config.json", preprocessor)?;
        let architecture = config.get("architecture").text()?;
        refuse_hidden(&config, architecture.as_deref())?;
        let preprocessing = match &preprocessor {
            Some(preprocessor) => hugging_face(&Entry::root(preprocessor))?,
            None => timm(&config)?,
        };
        Ok(Self {
            architecture,
            strides: StridePlacement {
                in_first_convolution: config.get("downsample_in_bottleneck").flag()?,
                in_first_stage: config.get("downsample_in_first_stage").flag()?,
            },
            labels: labels(&config)?,
            preprocessing,
        })
    }
}

/// Variants of timm whose layers without tensors are others, by what their names contain.
const HIDDEN: [(&str, &str); 2] = [
    ("blur", "anti-aliasing by blurring"),
    ("aa", "anti-aliasing by averaging"),
];

/// Refuses what the names of the tensors do not show.
fn refuse_hidden(config: &Entry<'_>, architecture: Option<&str>) -> Result<(), ImportProblem> {
    let unsupported = |entry: &str, what: &str| ImportProblem::Unsupported {
        tensor: entry.into(),
        what: what.into(),
    };
    let name = architecture.unwrap_or_default();
    // What follows the last "resnet" or "resnext" of a name says which variant it is.
    let variant = name.rfind("resne").map_or("", |start| &name[start + 5..]);
    if let Some((_, what)) = HIDDEN.iter().find(|(piece, _)| variant.contains(piece)) {
        return Err(unsupported(&format!("`{name}` in config.json"), what));
    }
    match config.get("hidden_act").text()? {
        Some(other) if other != "relu" => Err(unsupported(
            "`hidden_act` in config.json",
            &format!("a network with the activation {other}"),
        )),
        _ => Ok(()),
    }
}

/// timm's: in `pretrained_cfg`, or in older files at the top.
fn timm(config: &Entry<'_>) -> Result<Preprocessing, ImportProblem> {
    let inner = config.get("pretrained_cfg");
    let entry = |name: &str| match inner.get(name) {
        found if found.is_there() => found,
        _ => config.get(name),
    };
    let input_size = entry("input_size").numbers::<3>()?;
    let fraction = entry("crop_pct").number()?;
    let fit = match entry("crop_mode").text()?.as_deref() {
        Some("squash") => Some(Fit::Exact),
        None | Some("center") => fraction.map(Fit::Crop),
        Some(_) => return Err(entry("crop_mode").not("center or squash")),
    };
    Ok(Preprocessing {
        mean: entry("mean").numbers()?,
        std: entry("std").numbers()?,
        input_size: input_size.map(|[_, height, width]| [height as usize, width as usize]),
        fit,
        interpolation: match entry("interpolation").text()?.as_deref() {
            None => None,
            Some("nearest") => Some(Interpolation::Nearest),
            Some("bilinear") => Some(Interpolation::Bilinear),
            Some("bicubic") => Some(Interpolation::Bicubic),
            Some("lanczos") => Some(Interpolation::Lanczos),
            Some(_) => {
                let known = "nearest, bilinear, bicubic or lanczos";
                return Err(entry("interpolation").not(known));
            }
        },
    })
}

/// Hugging Face's image processors. Those with a `crop_pct` scale an image of 384 pixels or more
/// without cutting.
fn hugging_face(config: &Entry<'_>) -> Result<Preprocessing, ImportProblem> {
    const UNCUT: usize = 384;
    let size = config.get("size");
    let shortest = match size.get("shortest_edge").number()? {
        Some(edge) => Some(edge),
        None if size.is_number() => size.number()?,
        None => None,
    };
    let shortest = shortest.map(|edge| edge as usize);
    let pair = |entry: &Entry<'_>| -> Result<Option<[usize; 2]>, ImportProblem> {
        let (height, width) = (entry.get("height").number()?, entry.get("width").number()?);
        Ok(height.zip(width).map(|(h, w)| [h as usize, w as usize]))
    };
    let exact = pair(&size)?;
    let crop = pair(&config.get("crop_size"))?.filter(|_| config.get("do_center_crop").is_true());
    let fraction = config.get("crop_pct").number()?;
    let (input_size, fit) = match (shortest, crop, fraction) {
        (Some(edge), Some(crop), _) if edge > 0 => {
            (Some(crop), Some(Fit::Crop(crop[0] as f64 / edge as f64)))
        }
        (Some(edge), None, Some(fraction)) if edge < UNCUT => {
            (Some([edge; 2]), Some(Fit::Crop(fraction)))
        }
        (Some(edge), None, _) => (Some([edge; 2]), Some(Fit::Exact)),
        _ => (exact, exact.map(|_| Fit::Exact)),
    };
    Ok(Preprocessing {
        mean: config.get("image_mean").numbers()?,
        std: config.get("image_std").numbers()?,
        input_size,
        fit,
        interpolation: match config.get("resample").number()?.map(|code| code as i64) {
            None => None,
            Some(0) => Some(Interpolation::Nearest),
            Some(1) => Some(Interpolation::Lanczos),
            Some(2) => Some(Interpolation::Bilinear),
            Some(3) => Some(Interpolation::Bicubic),
            Some(_) => return Err(config.get("resample").not("one of PIL's filters 0 to 3")),
        },
    })
}

/// The classes by index, where the file gives every index one.
fn labels(config: &Entry<'_>) -> Result<Option<Vec<String>>, ImportProblem> {
    let names = config.get("label_names");
    if let Some(Value::Array(names)) = names.value {
        let names: Option<Vec<_>> = names.iter().map(Value::as_str).collect();
        return Ok(names.map(|names| names.into_iter().map(str::to_owned).collect()));
    }
    let entry = config.get("id2label");
    let Some(Value::Object(by_id)) = entry.value else {
        return Ok(None);
    };
    let mut labels = Vec::with_capacity(by_id.len());
    for id in 0..by_id.len() {
        let label = by_id.get(&id.to_string()).and_then(Value::as_str);
        labels.push(
            label
                .ok_or_else(|| entry.not("a label for every id from 0 on"))?
                .to_owned(),
        );
    }
    Ok(Some(labels))
}

/// An entry of a JSON file, there or not, with the way to it.
struct Entry<'a> {
    path: String,
    value: Option<&'a Value>,
}

impl<'a> Entry<'a> {
    fn root(value: &'a Value) -> Self {
        let path = String::new();
        Self {
            path,
            value: Some(value),
        }
    }

    fn get(&self, name: &str) -> Entry<'a> {
        let path = match self.path.as_str() {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        };
        let value = self.value.and_then(|value| value.get(name));
        Entry {
            path,
            value: value.filter(|value| !value.is_null()),
        }
    }

    fn is_there(&self) -> bool {
        self.value.is_some()
    }

    fn is_number(&self) -> bool {
        self.value.is_some_and(Value::is_number)
    }

    fn is_true(&self) -> bool {
        self.value == Some(&Value::Bool(true))
    }

    fn text(&self) -> Result<Option<String>, ImportProblem> {
        self.read(|value| value.as_str().map(str::to_owned), "a text")
    }

    fn flag(&self) -> Result<bool, ImportProblem> {
        Ok(self.read(Value::as_bool, "true or false")?.unwrap_or(false))
    }

    fn number(&self) -> Result<Option<f64>, ImportProblem> {
        self.read(not_negative, "a number from 0 to 10⁹")
    }

    fn numbers<const N: usize>(&self) -> Result<Option<[f64; N]>, ImportProblem> {
        let read = |value: &Value| {
            let numbers: Option<Vec<f64>> = value.as_array()?.iter().map(Value::as_f64).collect();
            let numbers: [f64; N] = numbers?.try_into().ok()?;
            numbers
                .iter()
                .all(|number| number.is_finite())
                .then_some(numbers)
        };
        self.read(read, "three numbers")
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&Value) -> Option<T>,
        expected: &'static str,
    ) -> Result<Option<T>, ImportProblem> {
        match self.value {
            None => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| self.not(expected)),
        }
    }

    /// The error that something else stands here.
    fn not(&self, expected: &'static str) -> ImportProblem {
        const LONGEST: usize = 60;
        let found = self
            .value
            .map_or_else(|| "nothing".into(), Value::to_string);
        ImportProblem::Config {
            entry: self.path.clone(),
            expected,
            found: found.chars().take(LONGEST).collect(),
        }
    }
}

fn not_negative(value: &Value) -> Option<f64> {
    value
        .as_f64()
        .filter(|&number| (0.0..1e9).contains(&number))
}

fn read_text(path: &Path) -> Result<String> {
    let failed = |source| Error::Io {
        path: path.into(),
        action: "reading a description of a model",
        source,
    };
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    let read = file.take(MAX_CONFIG + 1).read_to_string(&mut text);
    if read.map_err(failed)? as u64 > MAX_CONFIG {
        let message =
            format!("it has more than {MAX_CONFIG} bytes, which no such description needs");
        return Err(failed(std::io::Error::other(message)));
    }
    Ok(text)
}
