//! Putting files in place together.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use anyhow::{Context, Result};

/// Writes files into a folder, which is made if it is not there, and removes `absent` ones that
/// an earlier report left.
///
/// All are first written and flushed into a temporary folder beside their places, then renamed
/// in the order given, so that a full disk leaves what was there. Other files in the folder are
/// not touched.
///
/// # Errors
/// The folder cannot be made or written to.
pub(crate) fn replace(folder: &Path, files: &[(String, Vec<u8>)], absent: &[String]) -> Result<()> {
    fs::create_dir_all(folder)
        .with_context(|| format!("{}: the folder cannot be made", folder.display()))?;
    let draft = tempfile::Builder::new()
        .prefix(".report-")
        .tempdir_in(folder)
        .with_context(|| format!("{}: the folder cannot be written to", folder.display()))?;
    for (name, content) in files {
        let path = draft.path().join(name);
        write(&path, content).with_context(|| format!("{}: cannot be written", path.display()))?;
    }
    for (name, _) in files {
        let place = folder.join(name);
        make_parent(&place)
            .and_then(|()| fs::rename(draft.path().join(name), &place))
            .with_context(|| format!("{}: cannot be replaced", place.display()))?;
    }
    for name in absent {
        let place = folder.join(name);
        match fs::remove_file(&place) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| {
                    format!("{}: an earlier figure cannot be removed", place.display())
                });
            }
            _ => {}
        }
    }
    Ok(())
}

fn make_parent(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

fn write(path: &Path, content: &[u8]) -> std::io::Result<()> {
    make_parent(path)?;
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}
