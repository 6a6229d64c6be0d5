//! The checkpoints in a run's folder: the last few and the best, and the newest one that is whole.
//!
//! | file | what it is |
//! |---|---|
//! | `checkpoint.safetensors` | the newest |
//! | `checkpoint-000001234.safetensors` | an earlier one, after 1234 steps |
//! | `best.safetensors` | the one with the highest test accuracy, the earliest of equals |
//!
//! All of them hold a run that can go on.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use ir_models::{Checkpoint, DataDescription, Trainer, files};
use serde_json::Value;

use crate::progress;
use crate::training::Settings;

/// The newest checkpoint of a run, in its folder.
pub(crate) const NEWEST: &str = "checkpoint.safetensors";
const BEST: &str = "best.safetensors";

/// The checkpoints of one run.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    folder: PathBuf,
    /// How many are kept besides the best, the newest among them.
    keep: usize,
    /// The last one known to be whole, and its step.
    last: Option<(PathBuf, u64)>,
}

impl Checkpoints {
    pub(crate) fn new(folder: &Path, keep: usize) -> Self {
        Self {
            folder: folder.into(),
            keep,
            last: None,
        }
    }

    /// The run as the newest whole checkpoint has it, after a warning about each that is newer and
    /// cannot be used; `None` if there are no checkpoints.
    ///
    /// # Errors
    /// None of them can be used; or one that can is of a run with other settings or data.
    pub(crate) fn restore(&mut self, settings: &Settings) -> Result<Option<Trainer>> {
        let candidates = self.candidates()?;
        for path in &candidates {
            let opened = Checkpoint::open(path);
            let restored = opened.and_then(|checkpoint| Ok((checkpoint.trainer()?, checkpoint)));
            match restored {
                Ok((trainer, checkpoint)) => {
                    require_same_run(path, &checkpoint, &trainer, settings)?;
                    let step = trainer.position().step;
                    if path != &candidates[0] {
                        let path = path.display();
                        progress::say(&format!("going on from {path}, step {step}"));
                    }
                    self.last = Some((path.clone(), step));
                    return Ok(Some(trainer));
                }
                Err(error) => progress::say(&format!("warning: {error}")),
            }
        }
        ensure!(
            candidates.is_empty(),
            "{}: no checkpoint in it can be used; remove them to begin again",
            self.folder.display()
        );
        Ok(None)
    }

    /// Makes the run as it is now the newest checkpoint, and removes those that are one too many.
    pub(crate) fn save(
        &mut self,
        trainer: &Trainer,
        data: &DataDescription,
        run: Value,
    ) -> Result<()> {
        let newest = self.folder.join(NEWEST);
        let step = trainer.position().step;
        if let Some((last, before)) = &self.last
            && *last == newest
            && *before != step
            && self.keep > 1
        {
            files::also_known_as(last, &self.folder.join(earlier(*before)))?;
        }
        Checkpoint::save_training(&newest, trainer, data, run)?;
        self.last = Some((newest, step));
        self.prune(step)
    }

    /// Keeps the last checkpoint as the best one too.
    pub(crate) fn keep_as_best(&self) -> Result<()> {
        match &self.last {
            Some((last, _)) if *last != self.folder.join(BEST) => {
                Ok(files::also_known_as(last, &self.folder.join(BEST))?)
            }
            _ => Ok(()),
        }
    }

    /// Removes what a killed process has left half written.
    pub(crate) fn remove_unfinished(&self) -> Result<()> {
        let files = [
            NEWEST,
            BEST,
            crate::config::NAME,
            "run.json",
            "history.jsonl",
            "blocks.csv",
            "exits.csv",
        ];
        let ours = |name: &str| files.contains(&name) || step_of(name).is_some();
        Ok(files::remove_unfinished(&self.folder, ours)?)
    }

    /// The last good checkpoint in words.
    pub(crate) fn last_good(&self) -> String {
        match &self.last {
            Some((path, step)) => format!(
                "{} is the last good checkpoint, at step {step}",
                path.display()
            ),
            None => "no checkpoint was written yet".into(),
        }
    }

    /// Every checkpoint there is, newest first.
    fn candidates(&self) -> Result<Vec<PathBuf>> {
        let mut candidates = vec![self.folder.join(NEWEST)];
        candidates.extend(self.earlier()?.into_iter().map(|(_, path)| path));
        candidates.push(self.folder.join(BEST));
        candidates.retain(|path| path.exists());
        Ok(candidates)
    }

    /// The earlier checkpoints with their steps, the last first.
    fn earlier(&self) -> Result<Vec<(u64, PathBuf)>> {
        let cannot = || format!("{}: cannot be read", self.folder.display());
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.folder).with_context(cannot)? {
            let entry = entry.with_context(cannot)?;
            if let Some(step) = entry.file_name().to_str().and_then(step_of) {
                found.push((step, entry.path()));
            }
        }
        found.sort_unstable_by(|a, b| b.cmp(a));
        Ok(found)
    }

    /// Removes what a run that this one does not go on with has left: none of it is to be taken
    /// for this one's.
    pub(crate) fn clear(&self) -> Result<()> {
        self.candidates()?.iter().try_for_each(|path| remove(path))
    }

    /// Refuses a folder that holds checkpoints of somebody else's.
    ///
    /// # Errors
    /// The first of them; the folder cannot be read.
    pub(crate) fn require_none(&self) -> Result<()> {
        match self.candidates()?.first() {
            None => Ok(()),
            Some(found) => bail!(
                "{}: a checkpoint that is not of a run there; give another --out, or move it away",
                found.display()
            ),
        }
    }

    /// Of the earlier checkpoints those before `step` stay, as many as are kept. One of a later
    /// step was passed over as damaged.
    fn prune(&self, step: u64) -> Result<()> {
        let (before, later): (Vec<_>, Vec<_>) =
            self.earlier()?.into_iter().partition(|(s, _)| *s < step);
        let superseded = before.into_iter().skip(self.keep.saturating_sub(1));
        let mut removed = superseded.chain(later);
        removed.try_for_each(|(_, path)| remove(&path))
    }
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{}: cannot be removed", path.display()))
        }
        _ => Ok(()),
    }
}

fn earlier(step: u64) -> String {
    format!("checkpoint-{step:09}.safetensors")
}

fn step_of(name: &str) -> Option<u64> {
    let step = name.strip_prefix("checkpoint-")?;
    step.strip_suffix(".safetensors")?.parse().ok()
}

/// A run goes on only as it began: on the same data, with the same settings.
fn require_same_run(
    path: &Path,
    checkpoint: &Checkpoint,
    trainer: &Trainer,
    settings: &Settings,
) -> Result<()> {
    let path = path.display();
    let now = serde_json::to_value(settings)?;
    let (Some(before), Some(now)) = (checkpoint.run().as_object(), now.as_object()) else {
        bail!("{path}: it was not written by `ir train`, which can go on with its own runs only");
    };
    let data = "data_checksum";
    if before.get(data) != now.get(data) {
        let [was, is] = [before, now].map(|run| run.get(data).and_then(Value::as_str));
        bail!(
            "{path}: the images of --data are not those that this run began with ({}, now {}); give those, or \
             start another run with another --out",
            was.unwrap_or("none"),
            is.unwrap_or("none")
        );
    }
    if let Some((key, value)) = now.iter().find(|(key, now)| before.get(*key) != Some(now)) {
        let was = before.get(key).unwrap_or(&Value::Null);
        bail!(
            "{path}: this run has {key} {was}, and {value} was asked for; go on with the same arguments and data, or \
             start another run with another --out"
        );
    }
    ensure!(
        *checkpoint.architecture() == settings.architecture
            && *trainer.settings() == settings.training,
        "{path}: its network or its optimiser is not the one that its own settings name"
    );
    Ok(())
}
