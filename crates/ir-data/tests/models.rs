//! Models on the hub: what is fetched, what is found again, what cannot be had.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{assert_says, nowhere};
use ir_data::{Error, Locations, fetch_model};
use sha1::{Digest, Sha1};

const COMMIT: &str = "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f";
const MODEL: &str = "hf:owner/net-1.a_b";

/// A hub with these files, and how often it was asked.
fn hub(
    files: &'static [(&str, &str)],
    cache: &Path,
    damaged: bool,
) -> (Locations, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            count.fetch_add(1, Ordering::Relaxed);
            // A client may hang up early.
            let _ = answer(stream.unwrap(), files, damaged);
        }
    });
    let locations = Locations {
        hub_cache: Some(cache.into()),
        endpoint,
        offline: false,
        ..nowhere()
    };
    (locations, asked)
}

fn answer(mut stream: TcpStream, files: &[(&str, &str)], damaged: bool) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap()?;
    let headers = lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty());
    let range = headers
        .map(|line| line.to_lowercase())
        .find_map(|line| Some(line.strip_prefix("range: bytes=")?.to_owned()));
    let path = request.split(' ').nth(1).unwrap();
    if path.starts_with("/api/models/") {
        let siblings = files
            .iter()
            .map(|(name, _)| format!(r#"{{"rfilename":"{name}"}}"#));
        let siblings = siblings.collect::<Vec<_>>().join(",");
        let body = format!(r#"{{"sha":"{COMMIT}","siblings":[{siblings}]}}"#);
        let length = body.len();
        return write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
    }
    let name = path.rsplit('/').next().unwrap();
    let Some((_, content)) = files.iter().find(|(file, _)| *file == name) else {
        return write!(
            stream,
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
    };
    // What git calls a small file, as the hub gives it.
    let blob = Sha1::new().chain_update(format!("blob {}\0", content.len()));
    let etag: String = blob
        .chain_update(content)
        .finalize()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let range = range.unwrap();
    let (first, last) = range.split_once('-').unwrap();
    let first: usize = first.parse().unwrap();
    let last = last
        .parse()
        .unwrap_or(content.len() - 1)
        .min(content.len() - 1);
    let mut body = content.as_bytes()[first..=last].to_vec();
    if damaged {
        body[0] ^= 1;
    }
    write!(
        stream,
        "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes {first}-{last}/{}\r\nx-repo-commit: {COMMIT}\r\n\
         etag: \"{etag}\"\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        content.len(),
        body.len()
    )?;
    stream.write_all(&body)
}

fn read(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap()
}

#[test]
fn a_model_is_fetched_and_then_found_without_the_network() {
    let cache = tempfile::tempdir().unwrap();
    let files = &[
        ("README.md", "not fetched"),
        ("config.json", "{}"),
        ("model.safetensors", "weights"),
        ("preprocessor_config.json", "[1]"),
        ("pytorch_model.bin", "not fetched"),
    ];
    let (locations, asked) = hub(files, cache.path(), false);
    let mut fetched = Vec::new();
    let folder = fetch_model(MODEL, &locations, &mut |progress| {
        fetched.push(progress.file.clone());
    })
    .unwrap();
    fetched.dedup();
    assert_eq!(
        fetched,
        [
            "config.json",
            "preprocessor_config.json",
            "model.safetensors"
        ]
    );
    assert_eq!(read(&folder, "model.safetensors"), "weights");
    assert_eq!(read(&folder, "config.json"), "{}");
    assert!(!folder.join("pytorch_model.bin").exists());
    assert!(folder.ends_with(format!("models--owner--net-1.a_b/snapshots/{COMMIT}")));

    let before = asked.load(Ordering::Relaxed);
    for reference in [
        MODEL.to_owned(),
        format!("{MODEL}@{COMMIT}"),
        format!("{MODEL}@main"),
    ] {
        assert_eq!(
            fetch_model(&reference, &locations, &mut |_| {}).unwrap(),
            folder
        );
    }
    assert_eq!(asked.load(Ordering::Relaxed), before);
    let offline = Locations {
        offline: true,
        ..locations
    };
    assert_eq!(fetch_model(MODEL, &offline, &mut |_| {}).unwrap(), folder);
}

#[test]
fn a_pickle_is_taken_where_there_is_nothing_better() {
    let cache = tempfile::tempdir().unwrap();
    let (locations, _) = hub(&[("pytorch_model.bin", "pickle")], cache.path(), false);
    let folder = fetch_model(MODEL, &locations, &mut |_| {}).unwrap();
    assert_eq!(read(&folder, "pytorch_model.bin"), "pickle");
}

#[test]
fn a_model_that_cannot_be_had_is_one_sentence() {
    let cache = tempfile::tempdir().unwrap();
    let (locations, _) = hub(&[("tf_model.h5", "?")], cache.path(), false);
    let error = fetch_model(MODEL, &locations, &mut |_| {}).unwrap_err();
    assert_says(
        &error.to_string(),
        &["owner/net-1.a_b", "neither of model.safetensors"],
    );
    let offline = Locations {
        offline: true,
        ..locations
    };
    let error = fetch_model(MODEL, &offline, &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::ModelOffline { .. }), "{error}");
    for reference in [
        "hf:",
        "hf:x",
        "hf:../x",
        "hf:a/..",
        "hf:a/b/c",
        "hf:a/b@",
        "hf:a/b@../x",
        "a/b",
        "hf:a/b c",
    ] {
        let error = fetch_model(reference, &offline, &mut |_| {}).unwrap_err();
        assert!(
            matches!(error, Error::ModelReference { .. }),
            "{reference}: {error}"
        );
    }
}

#[test]
fn a_damaged_small_file_is_refused_and_not_kept() {
    let cache = tempfile::tempdir().unwrap();
    let (locations, _) = hub(&[("model.safetensors", "weights")], cache.path(), true);
    let error = fetch_model(MODEL, &locations, &mut |_| {}).unwrap_err();
    assert_says(
        &error.to_string(),
        &["expected the checksum", "fetch again"],
    );
    let offline = Locations {
        offline: true,
        ..locations
    };
    assert!(fetch_model(MODEL, &offline, &mut |_| {}).is_err());
}
