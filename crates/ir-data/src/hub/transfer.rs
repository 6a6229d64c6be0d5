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

use hf_hub::Cache;
use hf_hub::api::Progress;
use hf_hub::api::sync::{Api, ApiBuilder, Metadata};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::FetchProgress;
use super::cache::{COMMIT, Repository};
use crate::panics::caught;

/// How often a broken transfer is taken up again.
const RETRIES: usize = 3;

/// The largest file that is fetched; those of CIFAR have 120 MB, the weights of resnet152 240 MB.
const MAX_FILE: usize = 1 << 30;

/// Hexadecimal digits of the two checksums that the hub gives.
const SHA1: usize = 40;
const SHA256: usize = 64;

fn api(endpoint: &str, repository: &Repository) -> Result<Api, String> {
    // Public data needs no token, and an expired one would be refused.
    ApiBuilder::from_cache(Cache::new(repository.cache().into()))
        .with_endpoint(endpoint.into())
        .with_token(None)
        .with_retries(RETRIES)
        .with_progress(false)
        .build()
        .map_err(|error| error.to_string())
}

/// The names of the files that a repository has on the hub.
pub(super) fn list(endpoint: &str, repository: &Repository) -> Result<Vec<String>, String> {
    let repo = api(endpoint, repository)?.repo(repository.repo());
    let info = caught(|| repo.info())
        .map_err(panicked)?
        .map_err(|error| error.to_string())?;
    Ok(info
        .siblings
        .into_iter()
        .map(|file| file.rfilename)
        .collect())
}

/// Fetches `file` of a repository into its cache and compares its checksum.
pub(super) fn fetch(
    endpoint: &str,
    repository: &Repository,
    file: &str,
    progress: &mut dyn FnMut(&FetchProgress),
) -> Result<(), String> {
    let api = api(endpoint, repository)?;
    let repo = api.repo(repository.repo());
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
    let found = checksum(&link, announced.etag().len());
    let found = found.map_err(|error| format!("{}: {error}", link.display()))?;
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
        "{file}: expected the checksum {}, found {found}; the transfer was damaged, fetch again",
        announced.etag()
    ))
}

fn panicked(message: String) -> String {
    format!("an answer of the hub that hf-hub cannot take ({message})")
}

/// Checks what becomes part of a path, and the size.
fn check(announced: &Metadata) -> Result<(), String> {
    digits("commit", announced.commit_hash(), &[COMMIT])?;
    digits("checksum", announced.etag(), &[SHA1, SHA256])?;
    match announced.size() {
        0..=MAX_FILE => Ok(()),
        size => Err(format!(
            "expected a size of at most {MAX_FILE} bytes, found {size}"
        )),
    }
}

/// A value of so many hexadecimal digits, as the cache names its files by.
fn digits(what: &str, found: &str, counts: &[usize]) -> Result<(), String> {
    if counts.contains(&found.len()) && found.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(());
    }
    let counts: Vec<_> = counts.iter().map(usize::to_string).collect();
    Err(format!(
        "expected a {what} of {} hexadecimal digits, found {found:?}",
        counts.join(" or ")
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

/// The checksum of a file in lower-case hexadecimal, as long as the one that was announced: SHA-256
/// of a large file, and of a small one what git calls it, SHA-1 of `blob`, its length and content.
fn checksum(path: &Path, digits: usize) -> io::Result<String> {
    let mut file = File::open(path)?;
    if digits == SHA256 {
        return digest(&mut file, Sha256::new());
    }
    let git = Sha1::new().chain_update(format!("blob {}\0", file.metadata()?.len()));
    digest(&mut file, git)
}

fn digest<D: Digest>(file: &mut File, mut hasher: D) -> io::Result<String> {
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
