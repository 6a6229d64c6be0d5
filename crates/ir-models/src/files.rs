//! Putting a file in place: its name stands for what was there before or for the whole new
//! content, whenever the process or the machine stops.
//!
//! The content goes to a temporary file in the same folder, is flushed to the disk, and takes the
//! name by renaming; then the folder is flushed. Everything of this workspace that replaces a file
//! does it here.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::faults;

/// Replaces the file at `path` by what `fill` writes, all of it or none.
///
/// `size` is how many bytes that will be, for the message where the disk is full.
///
/// # Errors
/// [`Error::DiskFull`], [`Error::Io`]; `path` is then as it was.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("numbers");
/// ir_models::files::replace(&path, 2, |out| out.write_all(b"1\n"))?;
/// assert_eq!(std::fs::read(&path)?, b"1\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn replace(
    path: &Path,
    size: u64,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
    prepare(path, size, fill)?.put_in_place()
}

/// A whole new file, flushed to the disk, that has yet to take its name. Dropped, it is removed.
///
/// Several that belong together are all prepared first: a full disk then leaves all the old ones.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
/// let first = ir_models::files::prepare(&a, 1, |out| out.write_all(b"1"))?;
/// let second = ir_models::files::prepare(&b, 1, |out| out.write_all(b"2"))?;
/// assert!(!a.exists());
/// first.put_in_place()?;
/// second.put_in_place()?;
/// assert_eq!(std::fs::read(&b)?, b"2");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "the file takes its name by `put_in_place`"]
pub struct Prepared {
    temporary: tempfile::TempPath,
    path: PathBuf,
    size: u64,
}

/// Writes what is to become the file at `path`, as [`replace`] does, and leaves it beside it.
///
/// # Errors
/// As [`replace`].
pub fn prepare(
    path: &Path,
    size: u64,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<Prepared> {
    let failed = |action| explain(path, size, action);
    faults::before().map_err(failed("creating a temporary file beside it"))?;
    let created = builder(&prefix(path)).tempfile_in(folder_of(path));
    let mut temporary = created.map_err(failed("creating a temporary file beside it"))?;
    let mut out = BufWriter::with_capacity(1 << 20, Watched(temporary.as_file_mut()));
    fill(&mut out)
        .and_then(|()| out.flush())
        .map_err(failed("writing it"))?;
    drop(out);
    faults::before()
        .and_then(|()| temporary.as_file().sync_all())
        .map_err(failed("flushing it to the disk"))?;
    Ok(Prepared {
        temporary: temporary.into_temp_path(),
        path: path.into(),
        size,
    })
}

impl Prepared {
    /// Gives the file its name.
    ///
    /// # Errors
    /// As [`replace`].
    pub fn put_in_place(self) -> Result<()> {
        let Self {
            temporary,
            path,
            size,
        } = self;
        let failed = |action| explain(&path, size, action);
        faults::before()
            .and_then(|()| temporary.persist(&path).map_err(|error| error.error))
            .map_err(failed("giving the finished file its name"))?;
        flush_folder(&path).map_err(failed("flushing its folder"))
    }
}

/// Gives the content of the file at `from` the name `to` as well, in place of what is there: by a
/// hard link, or by a copy where the file system has none.
///
/// # Errors
/// As [`replace`], of `to`; `from` cannot be read.
pub fn also_known_as(from: &Path, to: &Path) -> Result<()> {
    let size = std::fs::metadata(from).map_or(0, |metadata| metadata.len());
    let link = |name: &Path| {
        faults::before()?;
        std::fs::hard_link(from, name)
    };
    let Ok(linked) = builder(&prefix(to)).make_in(folder_of(to), link) else {
        let mut from = File::open(from).map_err(|source| Error::Io {
            path: from.into(),
            action: "reading it, to copy it",
            source,
        })?;
        let copy = |out: &mut dyn Write| io::copy(&mut from, out).map(drop);
        return replace(to, size, copy);
    };
    let temporary = linked.into_temp_path();
    let name = temporary.to_path_buf();
    let prepared = Prepared {
        temporary,
        path: to.into(),
        size,
    };
    prepared.put_in_place()?;
    // Where `to` was a name of this very file already, renaming has left both names.
    match std::fs::remove_file(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(explain(to, size, "removing a temporary name")(error))
        }
        _ => Ok(()),
    }
}

/// Removes from a folder what a process that was killed while it prepared files has left, as far as
/// `ours` says so of a file's name. Nobody else may be preparing those files meanwhile.
///
/// # Errors
/// [`Error::Io`].
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let left = folder.path().join(".numbers.unfinished-Ab12Cd");
/// std::fs::write(&left, "1")?;
/// ir_models::files::remove_unfinished(folder.path(), |name| name == "numbers")?;
/// assert!(!left.exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn remove_unfinished(folder: &Path, ours: impl Fn(&str) -> bool) -> Result<()> {
    let failed = |source| Error::Io {
        path: folder.into(),
        action: "removing files that an earlier process has left unfinished",
        source,
    };
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let becomes = name.to_str().and_then(|name| name.strip_prefix('.'));
        let becomes = becomes.and_then(|name| name.rsplit_once(UNFINISHED));
        if becomes.is_some_and(|(name, _)| ours(name)) {
            std::fs::remove_file(entry.path()).map_err(failed)?;
        }
    }
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// In the name of a temporary file, between the name that it is to get and random letters.
const UNFINISHED: &str = ".unfinished-";

/// How the name of a temporary file begins.
fn prefix(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    format!(".{name}{UNFINISHED}")
}

fn builder(prefix: &str) -> tempfile::Builder<'_, 'static> {
    let mut builder = tempfile::Builder::new();
    // As any file that a program writes: readable by whom the user's umask allows.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.prefix(prefix);
    builder
}

/// Elsewhere a folder cannot be opened as a file, and renaming is as durable as it gets.
#[cfg(unix)]
fn flush_folder(path: &Path) -> io::Result<()> {
    faults::before()?;
    File::open(folder_of(path))?.sync_all()
}

#[cfg(not(unix))]
fn flush_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

/// An error of the operating system with the file and what was being done; that there is no room
/// is an error of its own.
fn explain(path: &Path, needed: u64, action: &'static str) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Error::DiskFull {
                path,
                needed,
                source,
            }
        }
        _ => Error::Io {
            path,
            action,
            source,
        },
    }
}

/// A file whose writes may be made to fail.
struct Watched<'a>(&'a mut File);

impl Write for Watched<'_> {
    fn write(&mut self, content: &[u8]) -> io::Result<usize> {
        if let Some(fault) = faults::due() {
            // Whatever stops a write may have let part of it through.
            self.0.write_all(&content[..content.len() / 2])?;
            return fault.happen().map(|()| 0);
        }
        self.0.write(content)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
