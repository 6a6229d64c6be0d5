//! One file from the hub into its cache.
//!
//! The hub says by which SHA-256 it knows the file and of which commit it is. Both become parts
//! of paths and are therefore taken only as hexadecimal digits. The file gets its name once its
//! content has that SHA-256; until then it is `{sha256}.incomplete`, which a later transfer
//! goes on with.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::thread::sleep;
use std::time::Duration;

use sha2::{Digest, Sha256};
use ureq::Agent;
use ureq::http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, LOCATION, RANGE};
use ureq::http::{HeaderName, Response, StatusCode, Uri};

use super::FetchProgress;
use super::cache::Repository;

/// How often a broken transfer is taken up again.
const RETRIES: u32 = 3;

/// How often an address may lead to another one of the same host.
const REDIRECTIONS: usize = 5;

/// The largest file that is fetched; those of CIFAR have 120 MB.
const MAX_FILE: u64 = 1 << 30;

/// How long to wait for a connection, for an answer, and for each part of it.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the hub says about a file.
struct Announced {
    commit: String,
    sha256: String,
}

/// Fetches `file` of a repository, compares its checksum, and links it into the snapshot.
pub(super) fn fetch(
    endpoint: &str,
    repository: &Repository,
    file: &str,
    progress: &mut dyn FnMut(&FetchProgress),
) -> Result<(), String> {
    let address = format!("{endpoint}/{}/resolve/main/{file}", repository.address());
    let announced = announced(&address)?;
    let blob = repository.blob(&announced.sha256);
    let failed = |error: io::Error| format!("{}: {error}", blob.display());
    let unfinished = blob.with_extension("incomplete");
    fs::create_dir_all(repository.blobs()).map_err(failed)?;
    let mut options = OpenOptions::new();
    let mut out = options
        .create(true)
        .read(true)
        .append(true)
        .open(&unfinished)
        .map_err(failed)?;
    // Of two programs that fetch the same file the second waits and finds it.
    out.lock().map_err(failed)?;
    if !blob.exists() {
        let mut report = |done, total| {
            progress(&FetchProgress {
                file: file.into(),
                done,
                total,
            });
        };
        download(&address, &mut out, &mut report)?;
        out.seek(SeekFrom::Start(0)).map_err(failed)?;
        let found = sha256(&mut out).map_err(failed)?;
        if found != announced.sha256 {
            fs::remove_file(&unfinished).map_err(failed)?;
            return Err(format!(
                "{file}: expected SHA-256 {}, found {found}; the transfer was damaged, fetch again",
                announced.sha256
            ));
        }
        out.sync_all().map_err(failed)?;
        fs::rename(&unfinished, &blob).map_err(failed)?;
    } else {
        fs::remove_file(&unfinished).map_err(failed)?;
    }
    repository
        .link(&announced.commit, &announced.sha256, file)
        .map_err(failed)
}

fn agent(redirections: u32) -> Agent {
    Agent::config_builder()
        .max_redirects(redirections)
        .max_redirects_will_error(redirections > 0)
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .timeout_per_read(Some(PATIENCE))
        .user_agent(concat!("ir-data/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}

/// Asks for a file's commit and checksum. They stand in the first answer of the hub itself,
/// which leads to another host for the content; answers that lead to another address of the
/// hub, where a data set was renamed, are followed.
fn announced(address: &str) -> Result<Announced, String> {
    let agent = agent(0);
    let mut address = address.to_owned();
    for _ in 0..=REDIRECTIONS {
        let answer = agent.head(&address).call();
        let answer = answer.map_err(|error| error.to_string())?;
        if let Some(next) = same_host(&address, &answer) {
            address = next;
            continue;
        }
        let linked = HeaderName::from_static("x-linked-etag");
        let checksum = text(&answer, &linked).or_else(|| text(&answer, &ETAG));
        let commit = text(&answer, &HeaderName::from_static("x-repo-commit"));
        return Ok(Announced {
            commit: digits("commit", commit, 40)?,
            sha256: digits("SHA-256", checksum.map(|tag| tag.trim_matches('"')), 64)?,
        });
    }
    Err("the hub leads from one address to the next without end".into())
}

/// The address on the same host that an answer leads to.
fn same_host<B>(address: &str, answer: &Response<B>) -> Option<String> {
    let location = text(answer, &LOCATION).filter(|_| answer.status().is_redirection())?;
    let address: Uri = address.parse().ok()?;
    let is_path = location.starts_with('/') && !location.starts_with("//");
    is_path.then(|| {
        let (scheme, authority) = (address.scheme_str()?, address.authority()?);
        Some(format!("{scheme}://{authority}{location}"))
    })?
}

fn text<'a, B>(answer: &'a Response<B>, name: &HeaderName) -> Option<&'a str> {
    answer.headers().get(name)?.to_str().ok()
}

/// A value of so many hexadecimal digits, as the cache names its files by.
fn digits(what: &str, found: Option<&str>, count: usize) -> Result<String, String> {
    let is_hash = |text: &&str| text.len() == count && text.bytes().all(|b| b.is_ascii_hexdigit());
    match found.filter(is_hash) {
        Some(found) => Ok(found.to_ascii_lowercase()),
        None => Err(format!(
            "expected a {what} of {count} hexadecimal digits, found {:?}",
            found.unwrap_or("none")
        )),
    }
}

/// Fetches what is not there yet, several times if need be.
fn download(address: &str, out: &mut File, report: &mut dyn FnMut(u64, u64)) -> Result<(), String> {
    let agent = agent(10);
    let mut attempt = 0;
    loop {
        match download_once(&agent, address, out, report) {
            Ok(()) => return Ok(()),
            Err(error) if attempt == RETRIES => return Err(error),
            Err(_) => {
                attempt += 1;
                sleep(Duration::from_millis(100 << attempt));
            }
        }
    }
}

fn download_once(
    agent: &Agent,
    address: &str,
    out: &mut File,
    report: &mut dyn FnMut(u64, u64),
) -> Result<(), String> {
    let failed = |error: io::Error| error.to_string();
    let mut done = out.metadata().map_err(failed)?.len();
    let request = agent.get(address).header(RANGE, format!("bytes={done}-"));
    let answer = match request.call() {
        Ok(answer) => answer,
        // Nothing is left to fetch; the checksum tells whether it is right.
        Err(ureq::Error::StatusCode(416)) if done > 0 => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    if answer.status() != StatusCode::PARTIAL_CONTENT {
        out.set_len(0).map_err(failed)?;
        done = 0;
    }
    let total = match text(&answer, &CONTENT_RANGE) {
        Some(range) => range.rsplit('/').next(),
        None => text(&answer, &CONTENT_LENGTH),
    };
    let total = total.and_then(|total| total.parse::<u64>().ok());
    let total = total
        .filter(|&total| total <= MAX_FILE)
        .ok_or_else(|| format!("expected a size of at most {MAX_FILE} bytes, found {total:?}"))?;
    report(done, total);
    let mut body = answer.into_body().into_reader();
    let mut buffer = vec![0; 1 << 16];
    while done < total {
        let count = match body.read(&mut buffer).map_err(failed)? {
            0 => return Err(format!("the transfer ended after {done} of {total} bytes")),
            count => count.min(usize::try_from(total - done).unwrap_or(usize::MAX)),
        };
        out.write_all(&buffer[..count]).map_err(failed)?;
        done += count as u64;
        report(done, total);
    }
    Ok(())
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
