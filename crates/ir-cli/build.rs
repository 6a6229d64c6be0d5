//! Gives `ir --version` a checksum of the sources, since what a run comes to follows from them: the
//! stamps of `cargo xtask reproduce` compare it.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use sha2::{Digest, Sha256};

/// What decides about results besides this crate, from its folder.
const SOURCES: [&str; 6] = [
    "src",
    "../ir-analysis/src",
    "../ir-data/src",
    "../ir-models/src",
    "../ir-tensor-ops/src",
    "../../Cargo.lock",
];

fn main() -> io::Result<()> {
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    // Outside the workspace the version says it all: what is published does not change.
    let version = match SOURCES.iter().all(|path| Path::new(path).exists()) {
        true => format!("{version} (sources {})", checksum()?),
        false => version,
    };
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=IR_VERSION={version}");
    Ok(())
}

/// The beginning of the SHA-256 over every file's name and content.
fn checksum() -> io::Result<String> {
    let mut hash = Sha256::new();
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
        for file in files(Path::new(source))? {
            let content = fs::read(&file)?;
            hash.update(file.to_string_lossy().replace('\\', "/"));
            hash.update((content.len() as u64).to_le_bytes());
            hash.update(content);
        }
    }
    let bytes = hash.finalize();
    Ok(bytes[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// The file, or all files below the folder, by name.
fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.into()]);
    }
    let entries = fs::read_dir(path)?;
    let mut entries = entries
        .map(|e| Ok(e?.path()))
        .collect::<io::Result<Vec<_>>>()?;
    entries.sort();
    let below = entries
        .iter()
        .map(|entry| files(entry))
        .collect::<io::Result<Vec<_>>>()?;
    Ok(below.concat())
}
