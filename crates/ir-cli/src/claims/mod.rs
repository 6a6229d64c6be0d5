//! The paper's claims, each with a criterion that was fixed before any run, and what the runs
//! say about them.
//!
//! A claim is one number computed from a run's results and a limit it has to keep. Over several
//! seeds the mean of that number is what is compared.

use std::cmp::Ordering;

use ir_analysis::Number;
use ir_analysis::results::Results;
use serde::Serialize;

use crate::group::{Group, Summary};
use crate::run::Run;

mod comparisons;
mod criteria;
mod measures;
mod neighbours;
mod recorded;

/// The version of `claims.json`.
pub(crate) const SCHEMA_VERSION: u32 = 1;

/// The networks that a claim is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// Every network.
    All,
    /// Networks whose stages begin with a transition block: resnet-n, wide.
    WithTransitions,
    /// Networks without: single-representation, avg-pooling.
    WithoutTransitions,
    /// Networks of more than one stage.
    SeveralStages,
    /// Networks of one stage.
    OneStage,
}

impl Scope {
    fn holds(self, results: &Results) -> bool {
        let mut splits = results.splits.values();
        let transitions = splits.any(|split| split.blocks.iter().any(|block| block.transition));
        match self {
            Self::All => true,
            Self::WithTransitions => transitions,
            Self::WithoutTransitions => !transitions,
            Self::SeveralStages => results.stages.len() > 1,
            Self::OneStage => results.stages.len() == 1,
        }
    }
}

/// What a claim's number has to keep.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Limit {
    AtLeast(f64),
    AtMost(f64),
    Above(f64),
    Below(f64),
}

impl Limit {
    /// Whether a number keeps it. One that is not a number keeps none.
    fn kept_by(self, value: f64) -> bool {
        let (limit, kept): (f64, &[Ordering]) = match self {
            Self::AtLeast(limit) => (limit, &[Ordering::Greater, Ordering::Equal]),
            Self::AtMost(limit) => (limit, &[Ordering::Less, Ordering::Equal]),
            Self::Above(limit) => (limit, &[Ordering::Greater]),
            Self::Below(limit) => (limit, &[Ordering::Less]),
        };
        value
            .partial_cmp(&limit)
            .is_some_and(|order| kept.contains(&order))
    }
}

/// How a claim's number is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// A share, written in percent.
    Percent,
    /// A difference of shares, written in percentage points.
    Points,
    /// A difference of losses or entropies.
    Nats,
    /// A quotient, written with ×.
    Factor,
    /// A pure number.
    Plain,
}

/// Where a claim's number comes from.
enum Measure {
    /// The analysis of the trained network.
    Analysis(fn(&Results) -> Option<f64>),
    /// What was recorded while it trained.
    Training(fn(&Run) -> Option<f64>),
}

impl Measure {
    fn of(&self, run: &Run) -> Option<f64> {
        match self {
            Self::Analysis(measure) => measure(run.results.as_ref()?),
            Self::Training(measure) => measure(run),
        }
    }
}

/// A claim of the paper and its criterion.
struct Claim {
    /// Its name in `claims.json`.
    id: &'static str,
    /// Where the paper makes it.
    figure: &'static str,
    /// What the paper says.
    statement: &'static str,
    /// What has to be so here, fixed beforehand.
    criterion: &'static str,
    /// Which networks it is about.
    scope: Scope,
    /// The number; `None` where the run does not hold what it needs.
    measure: Measure,
    /// What the number has to keep.
    limit: Limit,
    /// How it is written.
    unit: Unit,
}

/// What came out for one network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// The mean keeps the limit.
    Held,
    /// It does not.
    NotHeld,
    /// No run has the number.
    NotMeasured,
}

/// A claim, judged.
#[derive(Debug, Serialize)]
pub(crate) struct Judged {
    /// Its name.
    pub(crate) id: &'static str,
    /// Where the paper makes it.
    pub(crate) figure: &'static str,
    /// What the paper says.
    pub(crate) claim: &'static str,
    /// What has to be so here.
    pub(crate) criterion: &'static str,
    /// The networks that it is about.
    pub(crate) networks: Vec<Finding>,
}

/// What one network says about a claim.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    /// The network.
    pub(crate) network: String,
    /// Its data set.
    pub(crate) dataset: String,
    /// Mean of the claim's number over seeds.
    pub(crate) mean: Option<Number>,
    /// Its standard deviation over seeds, where there are several.
    pub(crate) deviation: Option<Number>,
    /// The numbers of the runs, by seed.
    pub(crate) seeds: Vec<SeedValue>,
    /// What came out.
    pub(crate) verdict: Verdict,
    /// Mean and deviation as text.
    #[serde(skip)]
    pub(crate) text: String,
}

/// A claim's number in one run.
#[derive(Debug, Serialize)]
pub(crate) struct SeedValue {
    /// The run's seed.
    pub(crate) seed: u64,
    /// The number.
    pub(crate) value: Number,
}

/// Judges every claim on every network that it is about, then the comparisons between networks. A
/// claim about none of them is left out, and so is a claim of another work that no run has numbers
/// for. `untrained` networks are only compared with.
pub(crate) fn judge(groups: &[Group], untrained: &[Group]) -> Vec<Judged> {
    let judged = |claim: &Claim| Judged {
        id: claim.id,
        figure: claim.figure,
        claim: claim.statement,
        criterion: claim.criterion,
        networks: groups
            .iter()
            .filter_map(|group| finding(claim, group))
            .collect(),
    };
    let is_measured = |finding: &Finding| finding.verdict != Verdict::NotMeasured;
    let neighbours = neighbours::CLAIMS.iter().map(judged);
    criteria::CLAIMS
        .iter()
        .map(judged)
        .filter(|judged| !judged.networks.is_empty())
        .chain(comparisons::judge(groups, untrained))
        .chain(neighbours.filter(|judged| judged.networks.iter().any(is_measured)))
        .collect()
}

fn finding(claim: &Claim, group: &Group) -> Option<Finding> {
    let results = || {
        group
            .runs
            .iter()
            .filter_map(|run| Some((run.info.seed, run.results.as_ref()?)))
    };
    if results().next().is_some() && !results().any(|(_, results)| claim.scope.holds(results)) {
        return None;
    }
    if results().next().is_none() && claim.scope != Scope::All {
        return None;
    }
    let seeds = group.runs.iter().filter_map(|run| {
        let value = Number(claim.measure.of(run)?);
        let seed = run.info.seed;
        Some(SeedValue { seed, value })
    });
    Some(found(
        group.title.clone(),
        &group.info().dataset,
        seeds.collect(),
        claim.limit,
        claim.unit,
    ))
}

/// What the numbers of the seeds come to: their mean is judged.
fn found(
    network: String,
    dataset: &str,
    seeds: Vec<SeedValue>,
    limit: Limit,
    unit: Unit,
) -> Finding {
    let values: Vec<f64> = seeds.iter().map(|seed| seed.value.0).collect();
    let summary = Summary::of_means(&values);
    Finding {
        network,
        dataset: dataset.to_owned(),
        mean: summary.map(|summary| Number(summary.mean)),
        deviation: summary.and_then(|summary| summary.deviation).map(Number),
        seeds,
        verdict: match summary {
            None => Verdict::NotMeasured,
            Some(summary) if limit.kept_by(summary.mean) => Verdict::Held,
            Some(_) => Verdict::NotHeld,
        },
        text: summary.map_or(String::new(), |summary| unit.text(summary)),
    }
}

impl Unit {
    /// "96.7 %", "0.31 ± 0.02 nats".
    fn text(self, summary: Summary) -> String {
        use crate::figures::scale::{minus, significant};
        let write = |value: f64| match self {
            Self::Percent | Self::Points => minus(&format!("{:.1}", 100.0 * value)),
            Self::Nats | Self::Factor | Self::Plain => significant(value, 3),
        };
        let unit = match self {
            Self::Percent => " %",
            Self::Points => " points",
            Self::Nats => " nats",
            Self::Factor => " ×",
            Self::Plain => "",
        };
        summary.written(write, unit)
    }
}

/// The middle value, of an even number the mean of the two in the middle; values that are not
/// numbers count as largest. `None` of nothing.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 0 => Some((values[middle - 1] + values[middle]) / 2.0),
        _ => Some(values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_kept_as_their_names_say() {
        for (limit, below, at, above) in [
            (Limit::AtLeast(0.9), false, true, true),
            (Limit::AtMost(0.9), true, true, false),
            (Limit::Above(0.9), false, false, true),
            (Limit::Below(0.9), true, false, false),
        ] {
            let kept = [0.8, 0.9, 1.0].map(|value| limit.kept_by(value));
            assert_eq!(kept, [below, at, above], "{limit:?}");
            assert!(!limit.kept_by(f64::NAN));
        }
        assert!(Limit::Above(10.0).kept_by(f64::INFINITY));
    }

    #[test]
    fn median_is_the_middle_value() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median([]), None);
    }
}
