//! The tables, one a reader, and what makes their files.

pub(crate) mod architectures;
pub(crate) mod binary;
pub(crate) mod checkpoints;
pub(crate) mod folders;
pub(crate) mod hub;
pub(crate) mod images;
pub(crate) mod parquet;
pub(crate) mod python;
pub(crate) mod weights;

use std::fs;
use std::path::Path;

use crate::Case;

/// Writes a file and the folders on the way to it.
pub(crate) fn put(folder: &Path, name: &str, content: impl AsRef<[u8]>) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Writes a file that is mostly a hole: a head, then zeros up to a length.
pub(crate) fn put_sparse(folder: &Path, name: &str, head: &[u8], length: u64) {
    put(folder, name, head);
    let file = fs::OpenOptions::new().write(true).open(folder.join(name));
    file.unwrap().set_len(length).unwrap();
}

/// One case of a table.
pub(crate) const fn case(
    kind: &'static str,
    make: fn(&Path),
    says: &'static [&'static str],
) -> Case {
    Case { kind, make, says }
}
