//! The claims that compare networks, with their criteria, which are fixed as the others are.

use crate::claims::{Finding, Judged, Limit, SeedValue, Unit, found};
use crate::family::{paper_errors, table_1};
use crate::group::Group;
use crate::run::{BlockRow, Run};

/// The runs of one seed on one data set, by network.
pub(super) struct Runs<'a> {
    runs: Vec<&'a Run>,
}

impl<'a> Runs<'a> {
    /// Those of one network, the longest first.
    fn of(&self, name: &str) -> impl Iterator<Item = &'a Run> {
        let runs = self.runs.iter().copied();
        runs.filter(move |run| run.info.model == name)
    }

    fn get(&self, name: &str) -> Option<&'a Run> {
        self.of(name).next()
    }

    /// Runs of two networks that were trained alike: a difference between them is the networks'.
    fn pair(&self, a: &str, b: &str) -> Option<(&'a Run, &'a Run)> {
        self.of(a).find_map(|first| {
            let alike = self.of(b).find(|second| trained_alike(first, second))?;
            Some((first, alike))
        })
    }
}

/// Whether two runs have the same settings and came equally far.
fn trained_alike(a: &Run, b: &Run) -> bool {
    let settings = |run: &Run| {
        let info = &run.info;
        (
            (
                run.history.len(),
                info.epochs,
                info.batch_size,
                info.train_samples,
            ),
            (info.optimizer.clone(), info.augmentation.clone()),
        )
    };
    settings(a) == settings(b)
}

/// A claim about several networks.
struct Comparison {
    id: &'static str,
    figure: &'static str,
    statement: &'static str,
    criterion: &'static str,
    /// What stands in the network's place.
    networks: &'static str,
    /// It is left out where a data set has none of these.
    about: &'static [&'static str],
    measure: fn(&Runs<'_>) -> Option<f64>,
    limit: Limit,
    unit: Unit,
}

const NAIVE: &str = "resnet-110-naive";
const UBN: &str = "resnet-110-ubn";

/// Every comparison, in the order of the paper.
const COMPARISONS: &[Comparison] = &[
    Comparison {
        id: "fig8-underfits",
        figure: "Fig. 8",
        statement: "Naive sharing underfits.",
        criterion: "Training accuracy of the last epoch below that of resnet-32.",
        networks: "resnet-110-naive less resnet-32",
        about: &[NAIVE],
        measure: |runs| {
            let (naive, small) = runs.pair(NAIVE, "resnet-32")?;
            Some(train_accuracy(naive)? - train_accuracy(small)?)
        },
        limit: Limit::Below(0.0),
        unit: Unit::Points,
    },
    Comparison {
        id: "fig8-overfits",
        figure: "Fig. 8",
        statement: "And it overfits.",
        criterion: "Training less test accuracy of the last epoch above that of resnet-32.",
        networks: "resnet-110-naive less resnet-32",
        about: &[NAIVE],
        measure: |runs| {
            let (naive, small) = runs.pair(NAIVE, "resnet-32")?;
            let gap = |run: &Run| Some(train_accuracy(run)? - test_accuracy(run)?);
            Some(gap(naive)? - gap(small)?)
        },
        limit: Limit::Above(0.0),
        unit: Unit::Points,
    },
    Comparison {
        id: "fig8-gradient-ratio",
        figure: "Fig. 8",
        statement: "The ratio r of the gradients' norms at the first and the last stage is much \
                    larger with naive sharing.",
        criterion: "Geometric mean over epochs of r on training images more than twice that of \
                    resnet-32.",
        networks: "resnet-110-naive over resnet-32",
        about: &[NAIVE],
        measure: |runs| {
            let (naive, small) = runs.pair(NAIVE, "resnet-32")?;
            Some(gradient_ratio(naive)? / gradient_ratio(small)?)
        },
        limit: Limit::Above(2.0),
        unit: Unit::Factor,
    },
    Comparison {
        id: "fig8-norms-explode",
        figure: "Fig. 8",
        statement: "At initialisation the activation norms explode with naive sharing.",
        criterion: "Norm before the last block, in evaluation, more than ten times that without \
                    sharing.",
        networks: "resnet-110-naive over resnet-110",
        about: &[NAIVE],
        measure: |runs| norms_over(runs, NAIVE, |row| row.h_norm),
        limit: Limit::Above(10.0),
        unit: Unit::Factor,
    },
    Comparison {
        id: "fig9-norms-stay",
        figure: "Fig. 9",
        statement: "With UBN they do not.",
        criterion: "The same norm at most that without sharing.",
        networks: "resnet-110-ubn over resnet-110",
        about: &[UBN],
        measure: |runs| norms_over(runs, UBN, |row| row.h_norm),
        limit: Limit::AtMost(1.0),
        unit: Unit::Factor,
    },
    Comparison {
        id: "fig9-norms-stay-in-training",
        figure: "Fig. 9",
        statement: "Nor as training sees them.",
        criterion: "The same with the statistics of a batch.",
        networks: "resnet-110-ubn over resnet-110",
        about: &[UBN],
        measure: |runs| norms_over(runs, UBN, |row| row.batch_h_norm),
        limit: Limit::AtMost(1.0),
        unit: Unit::Factor,
    },
    Comparison {
        id: "fig9-ubn-better",
        figure: "Fig. 9",
        statement: "UBN is more accurate than naive sharing.",
        criterion: "Test accuracy of the last epoch above that of naive sharing.",
        networks: "resnet-110-ubn less naive",
        about: &[UBN, NAIVE],
        measure: |runs| gain(runs, UBN),
        limit: Limit::Above(0.0),
        unit: Unit::Points,
    },
    Comparison {
        id: "fig9-all-parts-help",
        figure: "Fig. 9",
        statement: "Every part of the remedies helps.",
        criterion: "Smallest gain in test accuracy over naive sharing, of γ = 0.1, of own \
                    statistics, and of own statistics, γ and β, above 0.",
        networks: "resnet-110, three remedies less naive",
        about: &["resnet-110-naive-gamma", "resnet-110-statistics"],
        measure: |runs| {
            let remedies = [
                "resnet-110-naive-gamma",
                "resnet-110-statistics",
                "resnet-110-batch-norm",
            ];
            let gains: Option<Vec<f64>> = remedies.iter().map(|name| gain(runs, name)).collect();
            gains?.into_iter().min_by(f64::total_cmp)
        },
        limit: Limit::Above(0.0),
        unit: Unit::Points,
    },
    Comparison {
        id: "fig9-statistics-most",
        figure: "Fig. 9",
        statement: "Unsharing the statistics matters most.",
        criterion: "Its gain in test accuracy over naive sharing above that of γ = 0.1.",
        networks: "resnet-110-statistics less naive-gamma",
        about: &["resnet-110-naive-gamma", "resnet-110-statistics"],
        measure: |runs| {
            Some(gain(runs, "resnet-110-statistics")? - gain(runs, "resnet-110-naive-gamma")?)
        },
        limit: Limit::Above(0.0),
        unit: Unit::Points,
    },
    Comparison {
        id: "table1-same-size",
        figure: "Table 1",
        statement: "A shared network of 110 layers is as good as one of its size that shares \
                    nothing.",
        criterion: "Test error at most 0.5 points above that of resnet-38.",
        networks: "resnet-110-ubn less resnet-38",
        about: &[UBN],
        measure: |runs| {
            let (shared, plain) = runs.pair(UBN, "resnet-38")?;
            Some(test_accuracy(plain)? - test_accuracy(shared)?)
        },
        limit: Limit::AtMost(0.005),
        unit: Unit::Points,
    },
    Comparison {
        id: "table1-order",
        figure: "Table 1",
        statement: "The networks in order of their test errors.",
        criterion: "Kendall’s τ between our test errors and the paper’s at least 0.5, of three \
                    networks or more.",
        networks: "Table 1",
        about: &["resnet-32", "resnet-38", "resnet-56", "resnet-110"],
        measure: order,
        limit: Limit::AtLeast(0.5),
        unit: Unit::Plain,
    },
];

/// Judges every comparison on every data set, seed by seed.
pub(super) fn judge<'a>(
    trained: &'a [Group],
    untrained: &'a [Group],
) -> impl Iterator<Item = Judged> + use<'a> {
    let groups: Vec<&Group> = trained.iter().chain(untrained).collect();
    let mut datasets: Vec<&str> = Vec::new();
    for group in trained {
        let dataset = group.info().dataset.as_str();
        if !datasets.contains(&dataset) {
            datasets.push(dataset);
        }
    }
    let judged = COMPARISONS.iter().map(move |comparison| Judged {
        id: comparison.id,
        figure: comparison.figure,
        claim: comparison.statement,
        criterion: comparison.criterion,
        networks: datasets
            .iter()
            .filter_map(|dataset| finding(comparison, &groups, dataset))
            .collect(),
    });
    judged.filter(|judged| !judged.networks.is_empty())
}

fn finding(comparison: &Comparison, groups: &[&Group], dataset: &str) -> Option<Finding> {
    let mut runs: Vec<&Run> = groups
        .iter()
        .filter(|group| group.info().dataset == dataset)
        .flat_map(|group| &group.runs)
        .collect();
    let about = |run: &&Run| comparison.about.contains(&run.info.model.as_str());
    if !runs.iter().any(about) {
        return None;
    }
    // Of one network with several settings the longest training counts, of two networks the longest that both have.
    runs.sort_by_key(|run| std::cmp::Reverse(run.info.epochs));
    let mut seeds: Vec<u64> = runs.iter().map(|run| run.info.seed).collect();
    seeds.sort_unstable();
    seeds.dedup();
    let values = seeds.into_iter().filter_map(|seed| {
        let of_seed = runs.iter().filter(|run| run.info.seed == seed);
        let runs = Runs {
            runs: of_seed.copied().collect(),
        };
        Some(SeedValue {
            seed,
            value: (comparison.measure)(&runs)?.into(),
        })
    });
    let seeds: Vec<SeedValue> = values.collect();
    let network = comparison.networks.to_owned();
    Some(found(
        network,
        dataset,
        seeds,
        comparison.limit,
        comparison.unit,
    ))
}

fn train_accuracy(run: &Run) -> Option<f64> {
    run.history.last()?.train_accuracy
}

/// Of a network that was trained.
fn test_accuracy(run: &Run) -> Option<f64> {
    let last = run.history.last().filter(|epoch| epoch.epoch > 0)?;
    Some(last.test_accuracy)
}

/// Test accuracy over that of naive sharing.
fn gain(runs: &Runs<'_>, name: &str) -> Option<f64> {
    let (remedy, naive) = runs.pair(name, NAIVE)?;
    Some(test_accuracy(remedy)? - test_accuracy(naive)?)
}

/// The geometric mean of r over epochs, on training images; before the first step batch norms do
/// nothing yet.
fn gradient_ratio(run: &Run) -> Option<f64> {
    let trained = run.history.iter().filter(|epoch| epoch.epoch > 0);
    let ratios = trained.filter_map(|epoch| Some(epoch.gradient_norm_ratio?.train?.0.ln()));
    super::measures::mean(ratios).map(f64::exp)
}

/// The norm before the last block at initialisation, over that of resnet-110.
fn norms_over(runs: &Runs<'_>, name: &str, norm: fn(&BlockRow) -> Option<f64>) -> Option<f64> {
    let last = |run: &Run| {
        let rows = run.columns.blocks.iter();
        let initial = rows.filter(|row| row.epoch == 0 && row.split == "train");
        norm(initial.max_by_key(|row| row.block)?)
    };
    let (shared, plain) = (runs.get(name)?, runs.get("resnet-110")?);
    Some(last(shared)? / last(plain)?)
}

/// Kendall's τ of the test errors here and in the paper's Table 1.
fn order(runs: &Runs<'_>) -> Option<f64> {
    let pairs: Vec<(f64, f64)> = table_1()
        .filter_map(|name| {
            let run = runs.get(name)?;
            let paper = paper_errors(name, &run.info.dataset)?.test;
            Some((1.0 - test_accuracy(run)?, paper))
        })
        .collect();
    (pairs.len() >= 3).then(|| kendall(&pairs))
}

/// τ = (concordant − discordant) / all pairs; a tie is neither.
fn kendall(pairs: &[(f64, f64)]) -> f64 {
    let mut balance = 0.0;
    let mut all = 0.0;
    for (index, (a, b)) in pairs.iter().enumerate() {
        for (c, d) in &pairs[index + 1..] {
            let product = (a - c) * (b - d);
            balance += f64::from(u8::from(product > 0.0)) - f64::from(u8::from(product < 0.0));
            all += 1.0;
        }
    }
    balance / all
}

#[cfg(test)]
mod tests {
    use super::kendall;

    #[test]
    fn kendalls_tau_counts_pairs_in_order() {
        assert_eq!(kendall(&[(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]), 1.0);
        assert_eq!(kendall(&[(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)]), -1.0);
        assert_eq!(kendall(&[(1.0, 1.0), (2.0, 3.0), (3.0, 2.0)]), 1.0 / 3.0);
        assert_eq!(kendall(&[(1.0, 1.0), (1.0, 2.0), (3.0, 2.0)]), 1.0 / 3.0);
    }
}
