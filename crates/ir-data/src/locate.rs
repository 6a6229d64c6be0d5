//! From what stands after `--data` to a data set: a folder, or a name that is looked for.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::classes::LabelSet;
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::hub::FetchProgress;
use crate::synthetic::{self, Classes};
use crate::{folder, hub};

/// Where data sets are looked for and whether they may be fetched.
///
/// [`from_env`](Self::from_env) reads the variables that the hub's own tools read; tests
/// and programs with settings of their own fill in the fields.
///
/// ```
/// use ir_data::Locations;
///
/// let variables = |name: &str| match name {
///     "HF_HOME" => Some("/big/huggingface".into()),
///     "HF_HUB_OFFLINE" => Some("1".into()),
///     _ => None,
/// };
/// let locations = Locations::from_variables(variables);
/// assert_eq!(locations.hub_cache, Some("/big/huggingface/hub".into()));
/// assert!(locations.offline);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locations {
    /// `$IR_DATA`: a folder that holds `cifar10` and `cifar100`, or one of them itself.
    pub ir_data: Option<PathBuf>,
    /// The same, `data` in the working directory.
    pub local: Option<PathBuf>,
    /// The Hugging Face cache: `$HF_HUB_CACHE`, else `$HF_HOME/hub`, else
    /// `$XDG_CACHE_HOME/huggingface/hub`, else `~/.cache/huggingface/hub`.
    pub hub_cache: Option<PathBuf>,
    /// The hub's address: `$HF_ENDPOINT`, else `https://huggingface.co`.
    pub endpoint: String,
    /// Whether the network must not be used: `$HF_HUB_OFFLINE`.
    pub offline: bool,
}

impl Locations {
    /// As the environment says.
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var_os(name))
    }

    /// As the given variables say; an empty one counts as not set.
    pub fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let get = |name: &str| variable(name).filter(|value| !value.is_empty());
        let home = get("HOME")
            .or_else(|| get("USERPROFILE"))
            .map(PathBuf::from);
        let path = |name: &str| get(name).map(|value| expand_home(&value, home.as_deref()));
        let text = |name: &str| get(name).map(|value| value.to_string_lossy().into_owned());
        let is_true = |value: String| {
            let value = value.to_uppercase();
            matches!(value.as_str(), "1" | "ON" | "YES" | "TRUE")
        };
        let xdg_cache = path("XDG_CACHE_HOME").or_else(|| Some(home.as_ref()?.join(".cache")));
        let hub_home = path("HF_HOME").or_else(|| Some(xdg_cache?.join("huggingface")));
        Self {
            ir_data: path("IR_DATA"),
            local: Some("data".into()),
            hub_cache: path("HF_HUB_CACHE")
                .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
                .or_else(|| Some(hub_home?.join("hub"))),
            endpoint: text("HF_ENDPOINT")
                .map(|address| address.trim_end_matches('/').to_owned())
                .unwrap_or_else(|| hub::ENDPOINT.into()),
            offline: text("HF_HUB_OFFLINE")
                .or_else(|| text("TRANSFORMERS_OFFLINE"))
                .is_some_and(is_true),
        }
    }

    /// The folders where the named data set can be, the most particular first.
    fn folders(&self, labels: LabelSet) -> Vec<PathBuf> {
        let mut folders = Vec::new();
        for root in [&self.ir_data, &self.local].into_iter().flatten() {
            folders.push(root.join(labels.name()));
            folders.push(root.clone());
        }
        if let Some(cache) = &self.hub_cache {
            folders.extend(hub::snapshots(cache, labels));
        }
        folders
    }
}

impl Dataset {
    /// Reads the data set that `data` says: a folder, or a name.
    ///
    /// `synthetic10` (also `synthetic`) and `synthetic100` are drawn with seed 0.
    /// `cifar10` and `cifar100` are looked for in `$IR_DATA`, `./data` and the Hugging Face
    /// cache, and fetched into that cache if they are nowhere and the network may be used;
    /// drawn images are never taken for them.
    /// What is not one of these names is a folder.
    ///
    /// # Errors
    /// [`Error::UnknownName`] if it is neither; [`Error::Offline`] or [`Error::Fetch`] if
    /// a named data set cannot be had; [`Error::NoData`], [`Error::Ambiguous`],
    /// [`Error::MissingSplit`] and the errors of the readers for what is in a folder.
    pub fn open(data: &str, locations: &Locations) -> Result<Self> {
        Self::open_with_progress(data, locations, &mut |_| {})
    }

    /// As [`open`](Self::open), and tells `progress` how far a transfer is if one is needed.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with_progress(
        data: &str,
        locations: &Locations,
        progress: &mut dyn FnMut(&FetchProgress),
    ) -> Result<Self> {
        match data {
            "synthetic" | "synthetic10" => drawn(Classes::Ten),
            "synthetic100" => drawn(Classes::Hundred),
            _ => match LabelSet::from_name(data) {
                Some(labels) => open_named(labels, locations, progress),
                None if Path::new(data).is_dir() => folder::open(Path::new(data), None),
                None => Err(Error::UnknownName { data: data.into() }),
            },
        }
    }
}

fn drawn(classes: Classes) -> Result<Dataset> {
    synthetic::dataset(
        classes,
        0,
        synthetic::TRAIN_SAMPLES,
        synthetic::TEST_SAMPLES,
    )
}

fn open_named(
    labels: LabelSet,
    locations: &Locations,
    progress: &mut dyn FnMut(&FetchProgress),
) -> Result<Dataset> {
    let mut looked = Vec::new();
    for place in locations.folders(labels) {
        if !place.is_dir() {
            looked.push(format!("{} (no such folder)", place.display()));
            continue;
        }
        match folder::open(&place, Some(labels)) {
            // These say that the data set is not there; anything else, that it is damaged.
            Err(
                error @ (Error::NoData { .. }
                | Error::MissingSplit { .. }
                | Error::TooManyEntries { .. }),
            ) => looked.push(format!("{} ({})", place.display(), reason(&error))),
            // `data` may hold anything, in files that only look like those wanted.
            Err(error) if locations.local.as_ref() == Some(&place) => {
                looked.push(error.to_string());
            }
            other => return other,
        }
    }
    let folder = hub::fetch_after(labels, locations, looked, progress)?;
    folder::open(&folder, Some(labels))
}

fn reason(error: &Error) -> String {
    match error {
        Error::MissingSplit { missing, .. } => format!("without the {missing} split"),
        Error::TooManyEntries { limit, .. } => format!("more than {limit} entries"),
        _ => "no such data".into(),
    }
}

/// The path with a leading `~` replaced, as the hub's tools do.
fn expand_home(value: &OsString, home: Option<&Path>) -> PathBuf {
    let path = PathBuf::from(value);
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    }
}
