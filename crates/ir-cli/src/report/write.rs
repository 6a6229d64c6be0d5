//! Putting files in place together.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};
use ir_models::files;

/// Writes files into a folder, which is made if it is not there, and removes `absent` ones that
/// an earlier report left.
///
/// All are first written and flushed beside their places, then renamed in the order given, so that
/// a full disk leaves what was there. Other files in the folder are not touched.
///
/// # Errors
/// The folder cannot be made or written to.
pub(crate) fn replace(folder: &Path, files: &[(String, Vec<u8>)], absent: &[String]) -> Result<()> {
    fs::create_dir_all(folder)
        .with_context(|| format!("{}: the folder cannot be made", folder.display()))?;
    let prepare = |(name, content): &(String, Vec<u8>)| {
        let place = folder.join(name);
        crate::files::remove_unfinished(&place)?;
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent)
                .with_context(|| format!("{}: the folder cannot be made", parent.display()))?;
        }
        let size = content.len() as u64;
        Ok(files::prepare(&place, size, |out| out.write_all(content))?)
    };
    let prepared = files.iter().map(prepare).collect::<Result<Vec<_>>>()?;
    for file in prepared {
        file.put_in_place()?;
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
