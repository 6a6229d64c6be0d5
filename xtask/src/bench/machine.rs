//! What a number means nothing without: the machine, the compiler, the revision.

use std::env;
use std::fs;
use std::path::Path;
use std::thread;

use super::first_line;

/// Cores that this process may use.
pub(super) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Name and value of everything that is known of the machine and the build.
pub(super) fn description() -> Vec<(&'static str, String)> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let unknown = || "unknown".to_owned();
    vec![
        ("processor", processor().unwrap_or_else(unknown)),
        ("cores", cores().to_string()),
        ("load before", load().unwrap_or_else(unknown)),
        (
            "rustc",
            first_line(Path::new(&rustc), &["--version"]).unwrap_or_else(unknown),
        ),
        (
            "flags",
            format!(
                "release profile, RUSTFLAGS=\"{}\"",
                env::var("RUSTFLAGS").unwrap_or_default()
            ),
        ),
        ("revision", revision()),
    ]
}

/// The commit, marked where the working tree differs from it; where there is no repository, what IR_REVISION says.
pub(super) fn revision() -> String {
    if let Ok(revision) = env::var("IR_REVISION") {
        return revision;
    }
    let git = |arguments: &[&str]| first_line(Path::new("git"), arguments);
    let commit = git(&["rev-parse", "--short", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    match git(&["status", "--porcelain", "--untracked-files=no"]) {
        Some(_) => format!("{commit}-modified"),
        None => commit,
    }
}

/// The processor's name, where Linux tells.
fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Runnable processes over the last minute, where Linux tells: other work disturbs a timing.
fn load() -> Option<String> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    Some(text.split_whitespace().next()?.to_owned())
}
