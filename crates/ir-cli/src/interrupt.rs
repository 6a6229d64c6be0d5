//! SIGINT (Ctrl-C), SIGTERM and SIGHUP (the terminal has gone): the first asks the loop to stop at its next safe point, the second
//! ends the process at once.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// The number of the signal that came; 0 before.
static RECEIVED: OnceLock<Arc<AtomicUsize>> = OnceLock::new();

/// Starts listening.
pub(crate) fn listen() -> Result<()> {
    let received = RECEIVED.get_or_init(Arc::default);
    let asked = Arc::new(AtomicBool::new(false));
    let mut signals = vec![(SIGINT, 2), (SIGTERM, 15)];
    // What `nohup` starts is to outlive its terminal.
    if !is_ignored(SIGHUP) {
        signals.push((SIGHUP, 1));
    }
    for (signal, number) in signals {
        // In this order: a signal finds the flag as the one before it has left it.
        flag::register_conditional_shutdown(signal, 128 + signal, asked.clone())
            .and_then(|_| flag::register(signal, asked.clone()))
            .and_then(|_| flag::register_usize(signal, received.clone(), number))
            .context("listening for signals")?;
    }
    Ok(())
}

/// Whether whoever started this process has it ignore a signal, as far as the system tells: Linux
/// has a mask of these in hexadecimal.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut lines = status.lines();
    let mask = lines.find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// The exit status for whoever asked to stop: 128 and the signal's number, 129, 130 or 143.
pub(crate) fn requested() -> Option<u8> {
    let received = RECEIVED.get()?.load(Ordering::Relaxed);
    (received != 0).then_some(128 + u8::try_from(received).unwrap_or(0))
}
