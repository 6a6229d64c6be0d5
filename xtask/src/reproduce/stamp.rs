//! Stamps: what a step was started with, and whether it finished, kept beside the results.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::plan::Step;

/// What identifies the work of a step: the same arguments on the same inputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    /// The arguments of `ir`.
    arguments: Vec<String>,
    /// Size and time of change of every input.
    inputs: BTreeMap<PathBuf, Version>,
    /// Whether the step came to its end.
    finished: bool,
}

/// A file's content as far as its metadata tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Version {
    bytes: u64,
    modified_ns: u128,
}

/// What is to be done about a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// Its results are there.
    Skip,
    /// It was stopped and left a checkpoint from which it goes on.
    Resume,
    /// From the beginning.
    Start,
}

impl Stamp {
    /// The stamp of a step that starts now.
    pub(super) fn started(step: &Step) -> Result<Self> {
        let inputs = step.inputs.iter().map(|path| {
            let version =
                Version::of(path).with_context(|| format!("reading {}", path.display()))?;
            Ok((path.clone(), version))
        });
        Ok(Self {
            arguments: step.arguments.clone(),
            inputs: inputs.collect::<Result<_>>()?,
            finished: false,
        })
    }

    /// The same work, come to its end.
    pub(super) fn finished(self) -> Self {
        Self {
            finished: true,
            ..self
        }
    }

    /// Reads a stamp; one that is absent or unreadable says nothing.
    pub(super) fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    /// Writes the stamp whole or not at all.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let unfinished = path.with_extension("tmp");
        fs::write(&unfinished, serde_json::to_vec_pretty(self)?)
            .and_then(|()| fs::rename(&unfinished, path))
            .with_context(|| format!("writing {}", path.display()))
    }

    /// What is to be done about a step that would start with this stamp, if `earlier` is the
    /// stamp of the last time. Without one, a checkpoint comes from the same command given by
    /// hand, and `ir` itself judges whether it may go on from it.
    pub(super) fn decide(&self, earlier: Option<&Self>, step: &Step) -> Decision {
        let same_work = earlier.is_none_or(|earlier| {
            earlier.arguments == self.arguments && earlier.inputs == self.inputs
        });
        if !same_work {
            return Decision::Start;
        }
        let finished = earlier.is_some_and(|earlier| earlier.finished);
        if finished && step.outputs.iter().all(|path| path.exists()) {
            return Decision::Skip;
        }
        match &step.checkpoint {
            Some(checkpoint) if checkpoint.exists() => Decision::Resume,
            _ => Decision::Start,
        }
    }
}

impl Version {
    fn of(path: &Path) -> Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self {
            bytes: metadata.len(),
            modified_ns: metadata.modified()?.duration_since(UNIX_EPOCH)?.as_nanos(),
        })
    }
}

/// Removes what an earlier, different run of a step left, so that nobody takes it for the new.
pub(super) fn remove_outputs(step: &Step) -> Result<()> {
    for path in &step.outputs {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}
