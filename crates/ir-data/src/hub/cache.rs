//! The hub's cache on this machine, in the layout of the hub's own tools.
//!
//! ```text
//! datasets--uoft-cs--cifar10/refs/main                     the commit, as text
//!                            snapshots/{commit}/{file}     a link to a blob
//!                            blobs/{sha256}                the content
//! ```

use std::path::{Path, PathBuf};

use hf_hub::{Repo, RepoType};

use crate::formats::read_small;

/// Digits of a commit.
pub(super) const COMMIT: usize = 40;

/// The folder of one data set or model, at one revision of it.
pub(super) struct Repository {
    kind: RepoType,
    id: String,
    revision: String,
    cache: PathBuf,
    root: PathBuf,
}

impl Repository {
    /// The data set `id`, as `owner/name`, below a cache.
    pub(super) fn dataset(cache: &Path, id: &str) -> Self {
        Self::new(cache, RepoType::Dataset, id, "main")
    }

    /// The model `id`, as `owner/name`, at a branch, a tag or a commit.
    pub(super) fn model(cache: &Path, id: &str, revision: &str) -> Self {
        Self::new(cache, RepoType::Model, id, revision)
    }

    fn new(cache: &Path, kind: RepoType, id: &str, revision: &str) -> Self {
        let prefix = match kind {
            RepoType::Model => "models",
            _ => "datasets",
        };
        let folder = format!("{prefix}--{}", id.replace('/', "--"));
        Self {
            kind,
            id: id.into(),
            revision: revision.into(),
            cache: cache.into(),
            root: cache.join(folder),
        }
    }

    /// As hf-hub calls it.
    pub(super) fn repo(&self) -> Repo {
        Repo::with_revision(self.id.clone(), self.kind, self.revision.clone())
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

    /// The snapshot of the revision, where the cache has one. A commit is hexadecimal digits: a
    /// text with `..` in it would lead elsewhere.
    pub(super) fn snapshot(&self) -> Option<PathBuf> {
        let is_commit =
            |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
        let of_commit = self.snapshots().join(&self.revision);
        if self.revision.len() == COMMIT && is_commit(&self.revision) && of_commit.is_dir() {
            return Some(of_commit);
        }
        let text = read_small(&self.root.join("refs").join(&self.revision))?;
        let commit = text.trim();
        is_commit(commit).then(|| self.snapshots().join(commit))
    }

    /// A file of the snapshot, where it is there and its link leads somewhere.
    pub(super) fn file(&self, file: &str) -> Option<PathBuf> {
        let path = self.snapshot()?.join(file);
        path.exists().then_some(path)
    }
}
