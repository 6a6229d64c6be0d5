//! What the tests share: fixtures, and folders put together from them.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "every test file uses a part, and a test fails by panicking"
)]

use std::fs;
use std::path::{Path, PathBuf};

use ir_data::{Dataset, Locations, Result};
use tempfile::TempDir;

/// A fixture's path.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// Nowhere to look and no network.
pub fn nowhere() -> Locations {
    Locations {
        ir_data: None,
        local: None,
        hub_cache: None,
        endpoint: "http://127.0.0.1:9".into(),
        offline: true,
    }
}

/// Opens a folder.
pub fn open(folder: &Path) -> Result<Dataset> {
    Dataset::open(folder.to_str().unwrap(), &nowhere())
}

/// A new folder with copies of fixtures: pairs of fixture and path in the folder.
pub fn folder_of(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in files {
        put(folder.path(), to, &fs::read(fixture(from)).unwrap());
    }
    folder
}

/// Writes a file and the folders on the way to it.
pub fn put(folder: &Path, name: &str, content: &[u8]) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// The message of the error that opening a folder must give.
pub fn refusal(folder: &Path) -> String {
    open(folder).unwrap_err().to_string()
}

/// Fails unless the message has all parts, in any order.
#[track_caller]
pub fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}
