//! One file from the hub into its cache, fetched by hf-hub.
//!
//! The library makes paths of the commit and the checksum that the hub answers, and puts a file in
//! place before its content is known. The same answer is therefore asked for and checked
//! first, and the content's checksum compared afterwards. What remains is the library's: a hub
//! that answers the same question in two ways is found out only after the second answer was
//! used; one that leads from an address back to the same address, or never answers, is waited for
//! until the program is ended.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use hf_hub::api::Progress;
use hf_hub::api::sync::{ApiBuilder, Metadata};
use hf_hub::{Cache, Repo, RepoType};
use sha2::{Digest, Sha256};

use super::FetchProgress;
use super::cache::Repository;
use crate::panics::caught;

/// How often a broken transfer is taken up again.
const RETRIES: usize = 3;

/// The largest file that is fetched; those of CIFAR have 120 MB.
const MAX_FILE: usize = 1 << 30;

/// Fetches `file` of a repository into its cache and compares its checksum.
pub(super) fn fetch(
    endpoint: &str,
    repository: &Repository,
    file: &str,
    progress: &mut dyn FnMut(&FetchProgress),
) -> Result<(), String> {
    // Public data needs no token, and an expired one would be refused.
    let api = ApiBuilder::from_cache(Cache::new(repository.cache().into()))
        .with_endpoint(endpoint.into())
        .with_token(None)
        .with_retries(RETRIES)
        .with_progress(false)
        .build()
        .map_err(|error| error.to_string())?;
    let repo = api.repo(Repo::new(repository.id().into(), RepoType::Dataset));
    let announced = caught(|| api.metadata(&repo.url(file)))
        .map_err(panicked)?
        .map_err(|error| error.to_string())?;
    check(&announced)?;
    let link = repository.link(announced.commit_hash(), file);
    let blob = repository.blob(announced.etag());
    prepare(&link, &blob, announced.size()).map_err(|error| error.to_string())?;
    let report = Report {
        progress,
        state: FetchProgress {
            file: file.into(),
            done: 0,
            total: announced.size() as u64,
        },
    };
    let fetched = caught(|| repo.download_with_progress(file, report))
        .map_err(panicked)?
        .map_err(|error| error.to_string())?;
    if fetched != link {
        return Err("the hub answers the same question in two ways".into());
    }
    let found = sha256(&link).map_err(|error| format!("{}: {error}", link.display()))?;
    if found.eq_ignore_ascii_case(announced.etag()) {
        return Ok(());
    }
    for path in [&link, &blob] {
        match fs::remove_file(path) {
            // Where links cannot be made, the file itself stands in the link's place.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(format!(
                    "{}: it is damaged and cannot be removed ({error}); remove it",
                    path.display()
                ));
            }
            _ => {}
        }
    }
    Err(format!(
        "{file}: expected SHA-256 {}, found {found}; the transfer was damaged, fetch again",
        announced.etag()
    ))
}

fn panicked(message: String) -> String {
    format!("an answer of the hub that hf-hub cannot take ({message})")
}

/// Checks what becomes part of a path, and the size.
fn check(announced: &Metadata) -> Result<(), String> {
    digits("commit", announced.commit_hash(), 40)?;
    digits("SHA-256", announced.etag(), 64)?;
    match announced.size() {
        0..=MAX_FILE => Ok(()),
        size => Err(format!(
            "expected a size of at most {MAX_FILE} bytes, found {size}"
        )),
    }
}

/// A value of so many hexadecimal digits, as the cache names its files by.
fn digits(what: &str, found: &str, count: usize) -> Result<(), String> {
    if found.len() == count && found.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(());
    }
    Err(format!(
        "expected a {what} of {count} hexadecimal digits, found {found:?}"
    ))
}

/// Takes away what hf-hub would stumble over for ever: a link that leads nowhere, and a partial
/// file with nothing left to fetch.
fn prepare(link: &Path, blob: &Path, size: usize) -> io::Result<()> {
    if link.is_symlink() && !link.exists() {
        fs::remove_file(link)?;
    }
    let partial = blob.with_extension("part");
    match fs::metadata(&partial) {
        Ok(metadata) if metadata.len() >= size as u64 => fs::remove_file(&partial),
        _ => Ok(()),
    }
}

/// SHA-256 of a file in lower-case hexadecimal.
fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
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
    /// Begins an attempt; what earlier ones have fetched comes as the first update.
    fn init(&mut self, size: usize, _file: &str) {
        self.state.total = size as u64;
        self.state.done = 0;
    }

    fn update(&mut self, size: usize) {
        self.state.done += size as u64;
        (self.progress)(&self.state);
    }

    fn finish(&mut self) {}
}
