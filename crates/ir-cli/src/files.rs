//! Files that are either as they were or whole and new, see [`ir_models::files`].

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

/// Replaces a file by this content.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<()> {
    let size = content.len() as u64;
    Ok(ir_models::files::replace(path, size, |out| {
        out.write_all(content)
    })?)
}

/// Replaces a file by a value as readable JSON.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    write(path, text.as_bytes())
}

/// Removes what an earlier process that was killed while it wrote this file has left beside it.
pub(crate) fn remove_unfinished(path: &Path) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        return Ok(());
    }
    let ours = |name: &str| path.file_name().is_some_and(|file| file == name);
    Ok(ir_models::files::remove_unfinished(folder, ours)?)
}
