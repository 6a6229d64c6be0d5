//! The hub's cache on this machine, in the layout of the hub's own tools.
//!
//! ```text
//! datasets--uoft-cs--cifar10/refs/main                     the commit, as text
//!                            snapshots/{commit}/{file}     a link to a blob
//!                            blobs/{sha256}                the content
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::formats::read_small;

/// The folder of one data set.
pub(super) struct Repository {
    id: &'static str,
    root: PathBuf,
}

impl Repository {
    /// The data set `id`, as `owner/name`, below a cache.
    pub(super) fn new(cache: &Path, id: &'static str) -> Self {
        let folder = format!("datasets--{}", id.replace('/', "--"));
        Self {
            id,
            root: cache.join(folder),
        }
    }

    /// Its place below the hub's address.
    pub(super) fn address(&self) -> String {
        format!("datasets/{}", self.id)
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    pub(super) fn blob(&self, sha256: &str) -> PathBuf {
        self.blobs().join(sha256)
    }

    pub(super) fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
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

    /// Makes a blob the file of a commit, and that commit the newest.
    pub(super) fn link(&self, commit: &str, sha256: &str, file: &str) -> io::Result<()> {
        let link = self.snapshots().join(commit).join(file);
        let parent = link.parent().unwrap_or(&self.root);
        fs::create_dir_all(parent)?;
        if !link.exists() {
            // A link that leads nowhere is there all the same.
            if link.is_symlink() {
                fs::remove_file(&link)?;
            }
            #[cfg(unix)]
            {
                let up: PathBuf = Path::new(file).components().map(|_| "..").collect();
                let blob = up.join("..").join("blobs").join(sha256);
                std::os::unix::fs::symlink(blob, &link)?;
            }
            #[cfg(not(unix))]
            fs::copy(self.blob(sha256), &link)?;
        }
        let refs = self.root.join("refs");
        fs::create_dir_all(&refs)?;
        let mut reference = tempfile::NamedTempFile::new_in(&refs)?;
        io::Write::write_all(&mut reference, commit.as_bytes())?;
        reference.persist(refs.join("main"))?;
        Ok(())
    }
}
