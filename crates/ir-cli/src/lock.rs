//! One training run a folder.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use indicatif::HumanDuration;
use serde::{Deserialize, Serialize};

use crate::{machine, progress};

/// The file in a run's folder that its process holds locked. It stays there: the operating system
/// gives the lock back when the process ends, however it ends.
const NAME: &str = ".lock";

/// Who holds the lock, as the file says it.
#[derive(Serialize, Deserialize)]
struct Holder {
    pid: u32,
    host: String,
    /// When it began, in seconds since 1970.
    since: u64,
}

/// Holds the folder until dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Takes a folder for this process.
///
/// # Errors
/// Another process has it; the message says which one. The folder cannot be written to.
pub(crate) fn take(folder: &Path) -> Result<Lock> {
    let path = folder.join(NAME);
    let cannot = || format!("{}: cannot be locked", path.display());
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(&path).with_context(cannot)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => bail!(
            "{}: {} is training in this folder; wait for it, stop it, or give another --out",
            folder.display(),
            holder(&mut file).map_or_else(|| "another process".into(), describe)
        ),
        Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {
            progress::say(&format!(
                "warning: {}: this file system has no locks; see to it that no other run writes here",
                folder.display()
            ));
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(cannot),
    }
    let us = Holder {
        pid: std::process::id(),
        host: machine::host(),
        since: now(),
    };
    file.set_len(0)
        .and_then(|()| file.write_all(serde_json::to_string(&us)?.as_bytes()))
        .with_context(cannot)?;
    Ok(Lock { _file: file })
}

/// What the file says, as far as the other process has written it already.
fn holder(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(1 << 12).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

fn describe(holder: Holder) -> String {
    let Holder { pid, host, since } = holder;
    let age = Duration::from_secs(now().saturating_sub(since));
    format!(
        "process {pid} on {host}, which began {} ago,",
        HumanDuration(age)
    )
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
