//! Signals from the user, and signals to children.

use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// A signal may come by several ways at once, from a terminal, a batch system or a parent: what comes
/// this soon after the first is the same request.
const SAME: Duration = Duration::from_secs(1);

static ASKED: AtomicBool = AtomicBool::new(false);

/// Listens for Ctrl-C and SIGTERM from now on. The first is for [`asked_to_stop`], so that children can
/// end well; another one later ends this command at once.
pub(crate) fn listen() -> Result<()> {
    let first: Mutex<Option<Instant>> = Mutex::new(None);
    let heard = move || {
        ASKED.store(true, Ordering::Relaxed);
        let mut first = first
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if first.get_or_insert_with(Instant::now).elapsed() > SAME {
            std::process::exit(130);
        }
    };
    ctrlc::set_handler(heard).context("setting the handler for Ctrl-C")
}

/// Whether a signal has come.
pub(crate) fn asked_to_stop() -> bool {
    ASKED.load(Ordering::Relaxed)
}

/// Asks a child that has not been waited for to end: SIGTERM.
#[cfg(unix)]
pub(crate) fn terminate(child: &Child) {
    use rustix::process::{Pid, Signal, kill_process};
    // One that has ended already needs no signal; until it is waited for, its number is its own.
    let _ = kill_process(Pid::from_child(child), Signal::TERM);
}

/// Elsewhere Ctrl-C reaches every process of the console, and nothing else asks a process to end.
#[cfg(not(unix))]
pub(crate) fn terminate(_: &Child) {}

/// Listens for SIGUSR1, by which a cluster is asked to say that a job's time is nearly over, and gives
/// what tells whether it has come.
#[cfg(unix)]
pub(crate) fn listen_for_the_end_of_a_job() -> Result<impl Fn() -> bool> {
    let come = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGUSR1, come.clone())
        .context("listening for SIGUSR1")?;
    Ok(move || come.load(Ordering::Relaxed))
}

/// Elsewhere there is no such signal.
#[cfg(not(unix))]
pub(crate) fn listen_for_the_end_of_a_job() -> Result<impl Fn() -> bool> {
    Ok(|| false)
}
