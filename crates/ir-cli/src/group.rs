//! Runs that differ in their seed alone, and statistics over them.

use anyhow::{Result, ensure};
use ir_analysis::results::{BlockMeasures, Split, Stage};

use crate::figures::scale::{minus, significant};
use crate::run::{Machine, Run, RunInfo};

/// A mean, with the standard deviation that is drawn and printed beside it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Summary {
    /// The mean; infinite or not a number where a run's value is.
    pub(crate) mean: f64,
    /// Over seeds where several runs have the value, otherwise over the samples of the one run,
    /// if known.
    pub(crate) deviation: Option<f64>,
}

impl Summary {
    /// Combines each run's mean and standard deviation over samples.
    ///
    /// One value keeps its own deviation. Of several, x_1 … x_n, the mean is Σ x_i / n and the
    /// deviation √(Σ (x_i − mean)² / (n − 1)). `None` if there is no value.
    pub(crate) fn of(values: &[(f64, Option<f64>)]) -> Option<Self> {
        match values {
            [] => None,
            [(mean, deviation)] => Some(Self {
                mean: *mean,
                deviation: *deviation,
            }),
            _ => {
                let count = values.len() as f64;
                let mean = values.iter().map(|(value, _)| value).sum::<f64>() / count;
                let squares: f64 = values.iter().map(|(v, _)| (v - mean).powi(2)).sum();
                Some(Self {
                    mean,
                    deviation: Some((squares / (count - 1.0)).sqrt()),
                })
            }
        }
    }

    /// The mean, with the deviation where there is one: "0.123 ± 0.045".
    pub(crate) fn text(self) -> String {
        let mean = significant(self.mean, 3);
        match self.deviation {
            Some(deviation) => format!("{mean} ± {}", significant(deviation, 2)),
            None => mean,
        }
    }

    /// The mean and the deviation as `write` has them, with a unit behind: "76.1 ± 0.4 %". A deviation that is not finite
    /// says nothing and is left out.
    pub(crate) fn written(self, write: impl Fn(f64) -> String, unit: &str) -> String {
        let mean = write(self.mean);
        match self.deviation.filter(|deviation| deviation.is_finite()) {
            Some(deviation) => format!("{mean} ± {}{unit}", write(deviation)),
            None => format!("{mean}{unit}"),
        }
    }

    /// A share in per cent; tenths are what 10,000 images resolve.
    pub(crate) fn percent(self) -> String {
        self.written(|share| minus(&format!("{:.1}", 100.0 * share)), " %")
    }

    /// [`Summary::of`] values that have no deviation of their own.
    pub(crate) fn of_means(values: &[f64]) -> Option<Self> {
        Self::of(
            &values
                .iter()
                .map(|&value| (value, None))
                .collect::<Vec<_>>(),
        )
    }
}

/// The runs of one network on one data set with one set of settings; their seeds differ.
#[derive(Debug)]
pub(crate) struct Group {
    /// At least one, in order of seeds.
    pub(crate) runs: Vec<Run>,
    /// The network and what sets it apart from the other groups of the report.
    pub(crate) title: String,
}

impl Group {
    /// Sorts runs into groups, in the order in which each group's first run was given.
    ///
    /// # Errors
    /// Two runs are the same but for the machine, or the runs of a group have different blocks.
    pub(crate) fn collect(runs: Vec<Run>) -> Result<Vec<Self>> {
        let mut groups: Vec<Self> = Vec::new();
        for run in runs {
            let title = run.info.model.clone();
            match groups
                .iter_mut()
                .find(|g| same_settings(g.info(), &run.info))
            {
                Some(group) => group.add(run)?,
                None => groups.push(Self {
                    runs: vec![run],
                    title,
                }),
            }
        }
        for group in &mut groups {
            group.runs.sort_by_key(|run| run.info.seed);
        }
        let titles: Vec<String> = groups.iter().map(|group| title(group, &groups)).collect();
        for (group, title) in groups.iter_mut().zip(titles) {
            group.title = title;
        }
        Ok(groups)
    }

    fn add(&mut self, run: Run) -> Result<()> {
        if let Some(twin) = self.runs.iter().find(|r| r.info.seed == run.info.seed) {
            anyhow::bail!(
                "{} and {}: both are {} with seed {}; leave one out, or a mean over seeds would \
                 count it twice",
                twin.folder.display(),
                run.folder.display(),
                run.info.model,
                run.info.seed
            );
        }
        if let (Some(mine), Some(theirs)) = (self.stages(), run.results.as_ref()) {
            ensure!(
                mine == theirs.stages,
                "{}: results.json has other stages than {}, though both are {}",
                run.folder.display(),
                self.runs[0].folder.display(),
                run.info.model
            );
        }
        self.runs.push(run);
        Ok(())
    }

    /// The description that the runs share but for seed, machine and command.
    pub(crate) fn info(&self) -> &RunInfo {
        &self.runs[0].info
    }

    /// Whether its runs were trained at all.
    pub(crate) fn is_trained(&self) -> bool {
        self.info().epochs > 0
    }

    /// The mean of a value over the runs that have it.
    pub(crate) fn mean_of(&self, value: impl Fn(&Run) -> Option<f64>) -> Option<f64> {
        let values: Vec<f64> = self.runs.iter().filter_map(value).collect();
        Some(Summary::of_means(&values)?.mean)
    }

    /// The stages, where a run has results.
    pub(crate) fn stages(&self) -> Option<&[Stage]> {
        self.splits_any().map(|results| results.stages.as_slice())
    }

    fn splits_any(&self) -> Option<&ir_analysis::results::Results> {
        self.runs.iter().find_map(|run| run.results.as_ref())
    }

    /// Whether bands are over seeds rather than over samples.
    pub(crate) fn over_seeds(&self) -> bool {
        self.runs.len() > 1
    }

    /// One split of every run that was analysed on it.
    pub(crate) fn splits<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Split> {
        self.runs
            .iter()
            .filter_map(move |run| run.results.as_ref()?.splits.get(name))
    }

    /// The test split of every run, then the training split of every run.
    pub(crate) fn all_splits(&self) -> impl Iterator<Item = &Split> {
        self.splits("test").chain(self.splits("train"))
    }

    /// One number of a split, over the runs.
    pub(crate) fn summary(
        &self,
        split: &str,
        value: impl Fn(&Split) -> Option<f64>,
    ) -> Option<Summary> {
        Summary::of_means(&self.splits(split).filter_map(value).collect::<Vec<_>>())
    }

    /// One measure of every block, over the runs. `value` gives a run's mean and its deviation
    /// over samples.
    pub(crate) fn per_block(
        &self,
        split: &str,
        value: impl Fn(&Split, &BlockMeasures) -> Option<(f64, Option<f64>)>,
    ) -> Vec<BlockSummary> {
        let Some(first) = self.splits(split).next() else {
            return Vec::new();
        };
        let summaries = first
            .blocks
            .iter()
            .enumerate()
            .filter_map(|(index, block)| {
                let values: Vec<_> = self
                    .splits(split)
                    .filter_map(|split| value(split, split.blocks.get(index)?))
                    .collect();
                Some(BlockSummary {
                    block: block.block,
                    transition: block.transition,
                    summary: Summary::of(&values)?,
                })
            });
        summaries.collect()
    }
}

/// A measure of one block, over the runs of a group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockSummary {
    /// The block's index.
    pub(crate) block: usize,
    /// Whether its shortcut is not the identity.
    pub(crate) transition: bool,
    /// The measure.
    pub(crate) summary: Summary,
}

/// Whether two runs differ in nothing but seed, machine, command and version: what a machine stores numbers as is no part
/// of the machine.
fn same_settings(a: &RunInfo, b: &RunInfo) -> bool {
    let comparable = |info: &RunInfo| RunInfo {
        seed: 0,
        machine: Machine {
            precision: Some(info.machine.precision().into()),
            ..a.machine.clone()
        },
        command: Vec::new(),
        version: String::new(),
        ..info.clone()
    };
    comparable(a) == comparable(b)
}

/// The model's name; in brackets the data set where the images are synthetic or the groups are
/// on several, and what else tells the group from its twins.
fn title(group: &Group, all: &[Group]) -> String {
    let info = group.info();
    let mut more = Vec::new();
    if info.synthetic || all.iter().any(|other| other.info().dataset != info.dataset) {
        more.push(dataset_name(&info.dataset));
    }
    let is_twin =
        |other: &&Group| other.info().model == info.model && other.info().dataset == info.dataset;
    let twins: Vec<&Group> = all.iter().filter(is_twin).collect();
    if twins.len() > 1 {
        let same_epochs = twins
            .iter()
            .filter(|g| g.info().epochs == info.epochs)
            .count();
        more.push(format!("{} epochs", info.epochs));
        if same_epochs > 1 {
            let position = twins.iter().position(|twin| std::ptr::eq(*twin, group));
            more.push(format!("settings {}", position.unwrap_or(0) + 1));
        }
    }
    if more.is_empty() {
        info.model.clone()
    } else {
        format!("{} ({})", info.model, more.join(", "))
    }
}

/// A data set's name as its readers write it.
pub(crate) fn dataset_name(dataset: &str) -> String {
    match dataset {
        "cifar10" => "CIFAR-10".into(),
        "cifar100" => "CIFAR-100".into(),
        "synthetic10" => "synthetic, 10 classes".into(),
        "synthetic100" => "synthetic, 100 classes".into(),
        other => other.into(),
    }
}
