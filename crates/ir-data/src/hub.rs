//! The Hugging Face hub: its cache on this machine, and fetching into it.
//!
//! The cache is the one of the hub's own tools
//! (`datasets--uoft-cs--cifar10/{refs,snapshots,blobs}`), so what Python has fetched is
//! found here and the other way round.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use hf_hub::api::Progress;
use hf_hub::api::sync::{ApiBuilder, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use sha2::{Digest, Sha256};

use crate::classes::LabelSet;
use crate::error::{Error, Result};
use crate::locate::Locations;

/// The hub's address where `$HF_ENDPOINT` gives no other.
pub(crate) const ENDPOINT: &str = "https://huggingface.co";

/// How often a broken transfer is taken up again.
const RETRIES: usize = 3;

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
/// `progress` is called as bytes arrive. An interrupted transfer goes on where it was. The
/// checksum that the hub gives for a file is compared.
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
    let files = files(labels);
    let cached = Cache::new(cache.clone()).repo(repo(labels));
    let missing: Vec<_> = files
        .iter()
        .filter(|file| cached.get(file).is_none())
        .collect();
    if locations.offline && !missing.is_empty() {
        return Err(offline());
    }
    if !missing.is_empty() {
        // Public data needs no token, and an expired one would be refused.
        let api = ApiBuilder::from_cache(Cache::new(cache))
            .with_endpoint(locations.endpoint.clone())
            .with_token(None)
            .with_retries(RETRIES)
            .with_progress(false)
            .build()
            .map_err(|error| failed(error.to_string()))?
            .repo(repo(labels));
        for file in missing {
            transfer(&api, file, progress).map_err(failed)?;
        }
    }
    let path = cached
        .get(files[0])
        .ok_or_else(|| failed("the files are not where they were put".into()))?;
    Ok(path.parent().map(Path::to_path_buf).unwrap_or(path))
}

/// The snapshot folders of the data set in the hub's cache, the one of `main` first.
pub(crate) fn snapshots(cache: &Path, labels: LabelSet) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for id in [repository(labels), labels.name()] {
        let root = cache.join(format!("datasets--{}", id.replace('/', "--")));
        let snapshots = root.join("snapshots");
        let main = fs::read_to_string(root.join("refs").join("main"))
            .map(|commit| snapshots.join(commit.trim()))
            .ok();
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

fn repo(labels: LabelSet) -> Repo {
    Repo::new(repository(labels).into(), RepoType::Dataset)
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

/// Fetches one file and compares its checksum.
fn transfer(
    api: &ApiRepo,
    file: &str,
    progress: &mut dyn FnMut(&FetchProgress),
) -> std::result::Result<(), String> {
    let report = Report {
        progress,
        state: FetchProgress {
            file: file.into(),
            done: 0,
            total: 0,
        },
    };
    let link = api
        .download_with_progress(file, report)
        .map_err(|error| error.to_string())?;
    verify(&link).map_err(|error| format!("{}: {error}", link.display()))
}

/// Compares a fetched file with the SHA-256 that is its name among the cache's blobs; takes
/// it out of the cache if it differs.
fn verify(link: &Path) -> io::Result<()> {
    let blob = link.canonicalize()?;
    let name = blob.file_name().unwrap_or_default().to_string_lossy();
    // Files outside the hub's large-file storage are named by another hash.
    if name.len() != 64 {
        return Ok(());
    }
    let digest = sha256(&mut fs::File::open(&blob)?)?;
    if name == digest {
        return Ok(());
    }
    fs::remove_file(link)?;
    fs::remove_file(&blob)?;
    Err(io::Error::other(format!(
        "expected SHA-256 {name}, found {digest}; the transfer was damaged, fetch again"
    )))
}

/// SHA-256 in lower-case hexadecimal.
fn sha256(file: &mut impl Read) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => hasher.update(&buffer[..count]),
        }
    }
    let digest = hasher.finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Passes hf-hub's progress on.
struct Report<'a> {
    progress: &'a mut dyn FnMut(&FetchProgress),
    state: FetchProgress,
}

impl Progress for Report<'_> {
    fn init(&mut self, size: usize, _file: &str) {
        self.state.total = size as u64;
        self.state.done = 0;
        (self.progress)(&self.state);
    }

    fn update(&mut self, size: usize) {
        self.state.done += size as u64;
        (self.progress)(&self.state);
    }

    fn finish(&mut self) {}
}
