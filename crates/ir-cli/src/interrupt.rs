//! SIGINT (Ctrl-C), SIGTERM and SIGHUP (the terminal has gone): the first asks the loop to stop at
//! its next safe point, another one later ends the process at once.

use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// A signal may come by several ways at once, from a terminal, a batch system and the process that
/// started this one: what comes this soon after the first is the same request.
const SAME: Duration = Duration::from_secs(1);

/// The exit status for the signal that came; 0 before.
static RECEIVED: AtomicU8 = AtomicU8::new(0);

/// Starts listening.
pub(crate) fn listen() -> Result<()> {
    let mut signals = vec![SIGINT, SIGTERM];
    // What `nohup` starts is to outlive its terminal.
    if !is_ignored(SIGHUP) {
        signals.push(SIGHUP);
    }
    let mut signals =
        signal_hook::iterator::Signals::new(signals).context("listening for signals")?;
    thread::spawn(move || {
        let mut first: Option<Instant> = None;
        for signal in signals.forever() {
            let status = 128 + signal;
            if first.get_or_insert_with(Instant::now).elapsed() > SAME {
                std::process::exit(status);
            }
            RECEIVED.store(u8::try_from(status).unwrap_or(1), Ordering::Relaxed);
        }
    });
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
    let status = RECEIVED.load(Ordering::Relaxed);
    (status != 0).then_some(status)
}
