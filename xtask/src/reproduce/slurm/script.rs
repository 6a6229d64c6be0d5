//! The batch script of an array.

use std::fmt::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::super::graph::Graph;
use super::super::shell;
use super::arrays::Array;

/// An option of `sbatch`, for all jobs or for those of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct SlurmOption {
    kind: Option<String>,
    key: String,
    value: Option<String>,
}

impl FromStr for SlurmOption {
    type Err = String;

    /// `[KIND:]KEY[=VALUE]`
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let (kind, key) = match name.split_once(':') {
            Some((kind, key)) => (Some(kind), key),
            None => (None, name),
        };
        let is_word = |word: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
            word.starts_with(|c: char| c.is_ascii_alphabetic()) && word.chars().all(plain)
        };
        if !is_word(key) || !kind.is_none_or(is_word) {
            return Err("expected [KIND:]KEY[=VALUE], such as train:time=24:00:00".to_owned());
        }
        if SET_HERE.contains(&key) {
            return Err(format!("--{key} is set for each job by this command"));
        }
        if value.is_some_and(|value| value.contains(['"', '\\', '\n', '\r'])) {
            return Err("a script cannot hold quotes, backslashes or line ends in it".to_owned());
        }
        Ok(Self {
            kind: kind.map(str::to_owned),
            key: key.to_owned(),
            value: value.map(str::to_owned),
        })
    }
}

/// What the way of submitting rests on.
const SET_HERE: [&str; 5] = ["array", "dependency", "open-mode", "requeue", "signal"];

impl fmt::Display for SlurmOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, key, value } = self;
        if let Some(kind) = kind {
            write!(f, "{kind}:")?;
        }
        f.write_str(key)?;
        value.iter().try_for_each(|value| write!(f, "={value}"))
    }
}

impl SlurmOption {
    /// Whether it is for jobs of this kind.
    pub(super) fn concerns(&self, kind: &str) -> bool {
        self.kind.as_deref().is_none_or(|only| only == kind)
    }
}

/// Where a job finds what it needs.
pub(super) struct Place {
    pub(super) workspace: PathBuf,
    /// This program.
    pub(super) xtask: PathBuf,
    /// The plan as the jobs read it.
    pub(super) plan: PathBuf,
    /// The folder for what the jobs say.
    pub(super) logs: PathBuf,
}

/// The script for an array.
pub(super) fn text(array: &Array, graph: &Graph, place: &Place, options: &[SlurmOption]) -> String {
    let mut text = String::from(
        "#!/bin/bash\n\
         # Written and submitted by `cargo xtask reproduce --engine slurm`.\n",
    );
    for (key, value) in settings(array, place, options) {
        let value = value.map_or_else(String::new, |value| format!("={}", quoted(&value)));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "#SBATCH --{key}{value}");
    }
    text.push_str("\n# The tasks by their numbers.\nsteps=(\n");
    for name in array.names(graph) {
        let _ = writeln!(text, "    {}", shell::line(Path::new(&name), &[]));
    }
    let workspace = shell::line(&place.workspace, &[]);
    let step = ["step".to_owned(), place.plan.to_string_lossy().into_owned()];
    let _ = write!(
        text,
        ")\n\n\
         cd {workspace} || exit 1\n\
         # In place of this shell, which would not pass signals on.\n\
         exec {} \"${{steps[SLURM_ARRAY_TASK_ID]}}\" --threads \"${{SLURM_CPUS_ON_NODE:-1}}\"\n",
        shell::line(&place.xtask, &step)
    );
    text
}

/// The options of `sbatch`, those of the user in place of ours.
fn settings(
    array: &Array,
    place: &Place,
    options: &[SlurmOption],
) -> Vec<(String, Option<String>)> {
    // Slurm takes % for the beginning of a number to fill in.
    let logs = place.logs.to_string_lossy().replace('%', "%%");
    let mut settings = vec![
        ("job-name".to_owned(), Some(format!("ir-{}", array.kind))),
        (
            "output".to_owned(),
            Some(format!("{logs}/slurm-{}-%a.log", array.name)),
        ),
        // Both lives of a job that began again.
        ("open-mode".to_owned(), Some("append".to_owned())),
        ("requeue".to_owned(), None),
        ("cpus-per-task".to_owned(), Some("4".to_owned())),
        // Two minutes before the time limit: time for a checkpoint, and for asking to go on later.
        ("signal".to_owned(), Some("B:USR1@120".to_owned())),
    ];
    for option in options.iter().filter(|option| option.concerns(&array.kind)) {
        settings.retain(|(key, _)| *key != option.key);
        settings.push((option.key.clone(), option.value.clone()));
    }
    settings
}

/// A value as `sbatch` reads it.
fn quoted(value: &str) -> String {
    match value.contains(char::is_whitespace) {
        true => format!("\"{value}\""),
        false => value.to_owned(),
    }
}
