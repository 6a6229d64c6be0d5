//! Faults made on purpose, for tests: a disk that is full, or a process that dies, at a chosen call.
//!
//! In a build with debug assertions `IR_FAULT=full:N` makes the Nth call that writes, links, flushes
//! or renames a file fail as a full disk does, and `IR_FAULT=abort:N` ends the process there. Other
//! builds have no faults.

use std::io;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// What happens at the chosen call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// The disk is full.
    Full,
    /// The process is no more.
    Abort,
}

impl Fault {
    pub(crate) fn happen(self) -> io::Result<()> {
        match self {
            Self::Full => Err(io::ErrorKind::StorageFull.into()),
            Self::Abort => std::process::abort(),
        }
    }
}

/// Stands before every call; an error is the call's.
pub(crate) fn before() -> io::Result<()> {
    due().map_or(Ok(()), Fault::happen)
}

/// The fault that is to happen at this call.
pub(crate) fn due() -> Option<Fault> {
    static CHOSEN: LazyLock<Option<(Fault, u64)>> = LazyLock::new(chosen);
    static CALLS: AtomicU64 = AtomicU64::new(0);

    if !cfg!(debug_assertions) {
        return None;
    }
    let (fault, call) = (*CHOSEN)?;
    (CALLS.fetch_add(1, Ordering::Relaxed) + 1 == call).then_some(fault)
}

/// What the environment asks for.
fn chosen() -> Option<(Fault, u64)> {
    let text = std::env::var("IR_FAULT").ok()?;
    let (fault, call) = text.split_once(':')?;
    let fault = match fault {
        "full" => Fault::Full,
        "abort" => Fault::Abort,
        _ => return None,
    };
    Some((fault, call.parse().ok()?))
}
