//! The hub's cache on this machine, in the layout of the hub's own tools.
//!
//! ```text
//! datasets--uoft-cs--cifar10/refs/main                     the commit, as text
//!                            snapshots/{commit}/{file}     a link to a blob
//!                            blobs/{sha256}                the content
//! ```

use std::path::{Path, PathBuf};

use crate::formats::read_small;

/// The folder of one data set.
pub(super) struct Repository {
    id: &'static str,
    cache: PathBuf,
    root: PathBuf,
}

impl Repository {
    /// The data set `id`, as `owner/name`, below a cache.
    pub(super) fn new(cache: &Path, id: &'static str) -> Self {
        let folder = format!("datasets--{}", id.replace('/', "--"));
        Self {
            id,
            cache: cache.into(),
            root: cache.join(folder),
        }
    }

    /// The name on the hub.
    pub(super) fn id(&self) -> &'static str {
        self.id
    }

    /// The cache that it is in.
    pub(super) fn cache(&self) -> &Path {
        &self.cache
    }

    pub(super) fn blob(&self, sha256: &str) -> PathBuf {
        self.root.join("blobs").join(sha256)
    }

    pub(super) fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    /// Where a commit has a file.
    pub(super) fn link(&self, commit: &str, file: &str) -> PathBuf {
        self.snapshots().join(commit).join(file)
    }

    /// The snapshot of the newest commit, where the cache names one. A commit is hexadecimal
    /// digits: a text with `..` in it would lead elsewhere.
    pub(super) fn main(&self) -> Option<PathBuf> {
        let text = read_small(&self.root.join("refs").join("main"))?;
        let commit = text.trim();
        let is_commit = !commit.is_empty() && commit.bytes().all(|b| b.is_ascii_hexdigit());
        is_commit.then(|| self.snapshots().join(commit))
    }

    /// A file of the newest snapshot, where it is there and its link leads somewhere.
    pub(super) fn file(&self, file: &str) -> Option<PathBuf> {
        let path = self.main()?.join(file);
        path.exists().then_some(path)
    }
}
