//! A run as the terminal shows it: what is in its folder, and which of its blocks are looked at.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Result, bail};

use crate::run::{BlockRow, Run};

mod draw;
mod plot;

pub(crate) use draw::View;

/// The files that are read again when they change.
const FILES: [&str; 4] = ["run.json", "history.jsonl", "blocks.csv", "exits.csv"];

/// A run and what is looked at in it.
#[derive(Debug)]
pub(crate) struct Watched {
    folder: PathBuf,
    run: Run,
    /// Size and time of each file when it was read.
    read: [Option<(u64, SystemTime)>; FILES.len()],
    /// Why the files as they are now are not shown.
    trouble: Option<String>,
    split: &'static str,
    /// Epochs done where it was chosen; the last one otherwise.
    epoch: Option<usize>,
}

impl Watched {
    /// Reads a run's folder, to look at the blocks on a split after an epoch, by default the last.
    ///
    /// # Errors
    /// There is no run in it, or no blocks were recorded after this epoch.
    pub(crate) fn open(folder: &Path, split: &'static str, epoch: Option<usize>) -> Result<Self> {
        let watched = Self {
            folder: folder.into(),
            // Before the files: what changes while they are read is read again.
            read: stamps(folder),
            run: Run::read_training(folder)?,
            trouble: None,
            split,
            epoch,
        };
        let recorded = watched.epochs();
        match epoch {
            Some(epoch) if !recorded.contains(&epoch) => {
                let recorded: Vec<String> = recorded.iter().map(ToString::to_string).collect();
                bail!(
                    "{}: no blocks are recorded after epoch {epoch}; recorded are {}",
                    folder.display(),
                    match recorded.as_slice() {
                        [] => "none".into(),
                        some => some.join(", "),
                    }
                );
            }
            _ => Ok(watched),
        }
    }

    /// Reads the files again if they have changed. If they cannot be read, what was there before
    /// is still shown, with the reason.
    pub(crate) fn refresh(&mut self) {
        let now = stamps(&self.folder);
        if now == self.read {
            return;
        }
        self.read = now;
        match Run::read_training(&self.folder) {
            Ok(run) => (self.run, self.trouble) = (run, None),
            Err(error) => self.trouble = Some(crate::sentence(&error)),
        }
    }

    /// Looks at the other split.
    pub(crate) fn toggle_split(&mut self) {
        self.split = if self.split == "test" {
            "train"
        } else {
            "test"
        };
    }

    /// Looks at the recorded epoch before.
    pub(crate) fn earlier(&mut self) {
        let (epochs, shown) = (self.epochs(), self.shown_epoch());
        let before = epochs.iter().rev().find(|epoch| Some(**epoch) < shown);
        self.epoch = before.copied().or(shown);
    }

    /// Looks at the recorded epoch after; from the last on whatever comes.
    pub(crate) fn later(&mut self) {
        let (epochs, shown) = (self.epochs(), self.shown_epoch());
        let after = epochs.iter().find(|epoch| Some(**epoch) > shown);
        self.epoch = after.copied().filter(|after| Some(after) != epochs.last());
    }

    /// Looks at the first recorded epoch.
    pub(crate) fn first(&mut self) {
        self.epoch = self.epochs().first().copied();
    }

    /// Looks at the last recorded epoch, now and when others come.
    pub(crate) fn last(&mut self) {
        self.epoch = None;
    }

    /// Every epoch after which blocks are recorded, in order.
    fn epochs(&self) -> Vec<usize> {
        let mut epochs: Vec<usize> = self
            .run
            .columns
            .blocks
            .iter()
            .map(|row| row.epoch)
            .collect();
        epochs.dedup();
        epochs
    }

    fn shown_epoch(&self) -> Option<usize> {
        self.epoch.or(self.epochs().last().copied())
    }

    /// The blocks that are looked at.
    fn blocks(&self) -> Vec<&BlockRow> {
        let shown = self.shown_epoch();
        let rows = self.run.columns.blocks.iter();
        let rows = rows.filter(|row| Some(row.epoch) == shown && row.split == self.split);
        rows.collect()
    }
}

fn stamps(folder: &Path) -> [Option<(u64, SystemTime)>; FILES.len()] {
    FILES.map(|name| {
        let found = fs::metadata(folder.join(name)).ok()?;
        Some((found.len(), found.modified().ok()?))
    })
}
