//! The Hugging Face hub: its cache on this machine, and fetching into it.
//!
//! The cache is the one of the hub's own tools
//! (`datasets--uoft-cs--cifar10/{refs,snapshots,blobs}`), so what Python has fetched is
//! found here and the other way round.

mod cache;
mod model;
mod transfer;

use std::fs;
use std::path::{Path, PathBuf};

use self::cache::Repository;
use crate::classes::LabelSet;
use crate::error::{Error, Result};
use crate::locate::Locations;

pub use model::fetch_model;

/// The hub's address where `$HF_ENDPOINT` gives no other.
pub(crate) const ENDPOINT: &str = "https://huggingface.co";

/// How far a transfer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchProgress {
    /// The file, by its name on the hub.
    pub file: String,
    /// Bytes that are there.
    pub done: u64,
    /// Bytes of the whole file.
    pub total: u64,
}

/// Fetches CIFAR-10 or CIFAR-100 from the hub into its cache, about 145 MB each, unless it
/// is there; gives the folder that holds the parquet files.
///
/// `progress` is called as bytes arrive. An interrupted transfer goes on where it was. A file
/// is kept if it has the SHA-256 that the hub gives for it.
///
/// ```no_run
/// use ir_data::{LabelSet, Locations, fetch};
///
/// # fn main() -> ir_data::Result<()> {
/// let folder = fetch(LabelSet::Cifar10, &Locations::from_env(), &mut |progress| {
///     println!("{} of {} bytes", progress.done, progress.total);
/// })?;
/// println!("{}", folder.display());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::Offline`] if the network must not be used and the files are not there;
/// [`Error::Fetch`] if the transfer fails.
pub fn fetch(
    labels: LabelSet,
    locations: &Locations,
    progress: &mut dyn FnMut(&FetchProgress),
) -> Result<PathBuf> {
    let cache = locations.hub_cache.iter();
    let looked = cache.map(|cache| cache.display().to_string()).collect();
    fetch_after(labels, locations, looked, progress)
}

/// As [`fetch`], with the places that were `looked` at before for the message.
pub(crate) fn fetch_after(
    labels: LabelSet,
    locations: &Locations,
    looked: Vec<String>,
    progress: &mut dyn FnMut(&FetchProgress),
) -> Result<PathBuf> {
    let failed = |reason: String| Error::Fetch {
        name: labels.name().into(),
        endpoint: locations.endpoint.clone(),
        reason,
        looked: looked.clone(),
    };
    let offline = || Error::Offline {
        name: labels.name().into(),
        looked: looked.clone(),
    };
    let Some(cache) = &locations.hub_cache else {
        let reason = "no folder to put it in: neither HF_HOME nor HOME is set";
        return Err(if locations.offline {
            offline()
        } else {
            failed(reason.into())
        });
    };
    // hf-hub links its files by relative paths, which it makes of absolute ones.
    let cache = std::path::absolute(cache).map_err(|error| failed(error.to_string()))?;
    let repository = Repository::dataset(&cache, repository(labels));
    let files = files(labels);
    for file in files {
        if repository.file(file).is_some() {
            continue;
        }
        if locations.offline {
            return Err(offline());
        }
        transfer::fetch(&locations.endpoint, &repository, file, progress).map_err(failed)?;
    }
    let path = repository
        .file(files[0])
        .ok_or_else(|| failed("the files are not where they were put".into()))?;
    Ok(path.parent().map(Path::to_path_buf).unwrap_or(path))
}

/// The snapshot folders of the data set in the hub's cache, the one of `main` first.
pub(crate) fn snapshots(cache: &Path, labels: LabelSet) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for id in [repository(labels), labels.name()] {
        let repository = Repository::dataset(cache, id);
        let (snapshots, main) = (repository.snapshots(), repository.snapshot());
        let mut others: Vec<PathBuf> = fs::read_dir(&snapshots)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| Some(path) != main.as_ref())
            .collect();
        others.sort();
        if main.is_none() && others.is_empty() {
            folders.push(snapshots);
        }
        folders.extend(main);
        folders.extend(others);
    }
    folders
}

fn repository(labels: LabelSet) -> &'static str {
    match labels {
        LabelSet::Cifar10 => "uoft-cs/cifar10",
        LabelSet::Cifar100 => "uoft-cs/cifar100",
    }
}

/// Train and test, as the hub calls them.
fn files(labels: LabelSet) -> [&'static str; 2] {
    match labels {
        LabelSet::Cifar10 => [
            "plain_text/train-00000-of-00001.parquet",
            "plain_text/test-00000-of-00001.parquet",
        ],
        LabelSet::Cifar100 => [
            "cifar100/train-00000-of-00001.parquet",
            "cifar100/test-00000-of-00001.parquet",
        ],
    }
}
