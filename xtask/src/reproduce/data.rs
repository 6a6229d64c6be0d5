//! Which images a plan runs on: the real ones where they are or can be had, else synthetic ones.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The data sets of the paper.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Dataset {
    /// 10 classes.
    Cifar10,
    /// 100 classes.
    Cifar100,
}

impl Dataset {
    /// The name under which `ir` finds the images, and under which a folder may hold them.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cifar10 => "cifar10",
            Self::Cifar100 => "cifar100",
        }
    }

    /// The name under which `ir` makes synthetic images with as many classes.
    fn synthetic(self) -> &'static str {
        match self {
            Self::Cifar10 => "synthetic10",
            Self::Cifar100 => "synthetic100",
        }
    }
}

/// What may stand after `--data`. Which data set a plan needs is the profile's to say.
pub(super) fn parse_argument(data: &str) -> Result<String, &'static str> {
    match data {
        "cifar10" | "cifar100" => {
            Err("the profile says which data set; give a folder, or `synthetic`, or nothing")
        }
        _ => Ok(data.to_owned()),
    }
}

/// Where the images of a plan come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// By name: `ir` looks in `$IR_DATA`, `./data` and the Hugging Face cache.
    Named,
    /// A folder given with `--data`.
    Folder(String),
    /// Made on the spot; with the reason if nobody asked for it.
    Synthetic(Option<String>),
}

impl Source {
    /// The source that the arguments ask for, before anything was looked for.
    pub(super) fn before_looking(data: Option<&str>) -> Self {
        match data {
            None => Self::Named,
            Some("synthetic" | "synthetic10" | "synthetic100") => Self::Synthetic(None),
            Some(folder) => Self::Folder(folder.to_owned()),
        }
    }

    /// What `ir` is given as `--data` for a data set.
    pub(super) fn argument(&self, dataset: Dataset) -> String {
        match self {
            Self::Named => dataset.name().to_owned(),
            Self::Synthetic(_) => dataset.synthetic().to_owned(),
            Self::Folder(folder) => {
                let inside = Path::new(folder).join(dataset.name());
                if inside.is_dir() {
                    inside.to_string_lossy().into_owned()
                } else {
                    folder.clone()
                }
            }
        }
    }

    /// The name of the images in the names of runs.
    pub(super) fn label(&self, dataset: Dataset) -> &'static str {
        match self {
            Self::Named | Self::Folder(_) => dataset.name(),
            Self::Synthetic(_) => dataset.synthetic(),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named => write!(f, "data: real images"),
            Self::Folder(folder) => write!(f, "data: the images in {folder}"),
            Self::Synthetic(None) => write!(f, "data: synthetic images, as asked for"),
            Self::Synthetic(Some(reason)) => write!(f, "data: synthetic images, because {reason}"),
        }
    }
}

/// Finds out from `ir` which images there are.
pub(super) struct Ask<'a> {
    /// The command.
    pub(super) ir: &'a Path,
    /// Whether fetching is out of the question.
    pub(super) offline: bool,
}

impl Ask<'_> {
    /// The source for these data sets. Falls back on synthetic images if nothing was asked for
    /// and the profile allows it.
    pub(super) fn find(
        &self,
        data: Option<&str>,
        datasets: &BTreeSet<Dataset>,
        synthetic_will_do: bool,
    ) -> Result<Source> {
        let source = Source::before_looking(data);
        if matches!(source, Source::Synthetic(_)) {
            return Ok(source);
        }
        for &dataset in datasets {
            let argument = source.argument(dataset);
            let Some(complaint) = self.complaint(&argument)? else {
                continue;
            };
            if source != Source::Named {
                bail!("no {} in {argument}: {complaint}", dataset.name());
            }
            if self.fetches(dataset)? {
                continue;
            }
            let reason = self.reason(dataset, &complaint);
            if synthetic_will_do {
                return Ok(Source::Synthetic(Some(reason)));
            }
            bail!("{reason}; give a folder with --data, or --data synthetic if that will do");
        }
        Ok(source)
    }

    /// What `ir` says where the images are not on this machine, or are damaged.
    fn complaint(&self, data: &str) -> Result<Option<String>> {
        let mut info = self.command(&["data", "info", data, "--json", "--offline"]);
        // Both streams stay quiet: an answer of "no" is not an error here.
        let answer = info.output().with_context(|| self.not_started())?;
        if answer.status.success() {
            return Ok(None);
        }
        let said = String::from_utf8_lossy(&answer.stderr);
        Ok(Some(said.trim().trim_start_matches("ir: ").to_owned()))
    }

    /// Whether the images could be fetched just now.
    fn fetches(&self, dataset: Dataset) -> Result<bool> {
        if self.offline {
            return Ok(false);
        }
        let mut fetch = self.command(&["data", "fetch", dataset.name()]);
        let answer = fetch.stdout(Stdio::null()).status();
        Ok(answer.with_context(|| self.not_started())?.success())
    }

    fn reason(&self, dataset: Dataset, complaint: &str) -> String {
        let name = dataset.name();
        let fetching = if self.offline {
            format!("--offline forbids fetching {name}")
        } else {
            format!("{name} could not be fetched")
        };
        format!("{fetching}, and `ir data info {name} --offline` says: {complaint}")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.ir);
        command.args(arguments).stdin(Stdio::null());
        command
    }

    fn not_started(&self) -> String {
        format!("{} could not be started", self.ir.display())
    }
}
