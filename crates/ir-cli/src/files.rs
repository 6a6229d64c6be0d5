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
