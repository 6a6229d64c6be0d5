//! Results on stdout.

use std::io::Write;

use anyhow::Result;
use serde::Serialize;

/// Prints one JSON document.
///
/// # Errors
/// It cannot be written; a reader that has gone among others.
pub(crate) fn json(document: &impl Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, document)?;
    writeln!(out)?;
    Ok(())
}
