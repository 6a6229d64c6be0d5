//! SIGINT (Ctrl-C) and SIGTERM: the first asks the loop to stop at its next safe point, the second
//! ends the process at once.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// The number of the signal that came; 0 before.
static RECEIVED: OnceLock<Arc<AtomicUsize>> = OnceLock::new();

/// Starts listening.
pub(crate) fn listen() -> Result<()> {
    let received = RECEIVED.get_or_init(Arc::default);
    let asked = Arc::new(AtomicBool::new(false));
    for (signal, number) in [(SIGINT, 2), (SIGTERM, 15)] {
        // In this order: a signal finds the flag as the one before it has left it.
        flag::register_conditional_shutdown(signal, 128 + signal, asked.clone())
            .and_then(|_| flag::register(signal, asked.clone()))
            .and_then(|_| flag::register_usize(signal, received.clone(), number))
            .context("listening for signals")?;
    }
    Ok(())
}

/// The exit status for whoever asked to stop: 128 and the signal's number, 130 or 143.
pub(crate) fn requested() -> Option<u8> {
    let received = RECEIVED.get()?.load(Ordering::Relaxed);
    (received != 0).then_some(128 + u8::try_from(received).unwrap_or(0))
}
