//! Stamps: what a step was started with, and whether it finished, kept beside the results.
//!
//! What a step comes to follows from its arguments, the content of its inputs, its images and the code
//! of `ir`. A stamp knows all but the images, for which `ir` itself answers. Where only the code has
//! changed, a training counts as done all the same, since repeating it may take days, and one under
//! way goes on if `ir` accepts the checkpoint; both are said. Everything else is done again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::graph::Step;

/// What identifies the work of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    /// The arguments of `ir`.
    arguments: Vec<String>,
    /// SHA-256 of every input.
    inputs: BTreeMap<PathBuf, String>,
    /// What `ir --version` says.
    ir: String,
    /// Whether the step came to its end.
    finished: bool,
}

/// What is to be done about a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// Its results are there; with the `ir` that they are of, if that is another one.
    Skip(Option<String>),
    /// It was stopped and left a checkpoint from which it goes on; with the `ir` that wrote it, if
    /// that is known and another one.
    Resume(Option<String>),
    /// From the beginning.
    Start,
}

impl Stamp {
    /// The stamp of a step that starts now with the `ir` that says this of itself.
    pub(super) fn started(step: &Step, ir: &str) -> Result<Self> {
        let inputs = step.inputs.iter().map(|path| {
            let content = sha256(path).with_context(|| format!("reading {}", path.display()))?;
            Ok((path.clone(), content))
        });
        Ok(Self {
            arguments: step.arguments.clone(),
            inputs: inputs.collect::<Result<_>>()?,
            ir: ir.to_owned(),
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
        let Some(earlier) = earlier else {
            return self.resume_or_start(None, step);
        };
        let same_code = earlier.ir == self.ir;
        let same_work = earlier.arguments == self.arguments && earlier.inputs == self.inputs;
        if !same_work || !(same_code || step.checkpoint.is_some()) {
            return Decision::Start;
        }
        let another = (!same_code).then(|| earlier.ir.clone());
        if earlier.finished && step.outputs.iter().all(|path| path.exists()) {
            return Decision::Skip(another);
        }
        self.resume_or_start(another, step)
    }

    fn resume_or_start(&self, another: Option<String>, step: &Step) -> Decision {
        match &step.checkpoint {
            Some(checkpoint) if checkpoint.exists() => Decision::Resume(another),
            _ => Decision::Start,
        }
    }
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => hash.update(&buffer[..count]),
        }
    }
    let bytes = hash.finalize();
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Removes what an earlier, different run of a step left, so that nobody takes it for the new.
pub(super) fn remove_outputs(step: &Step) -> Result<()> {
    step.outputs.iter().try_for_each(|path| remove(path))
}

/// Removes a file if it is there.
pub(super) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}
