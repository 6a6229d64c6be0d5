//! Claims of the works beside the paper, on the same networks. They are judged where a run has
//! their numbers and left out where none has. The criteria were written down before any run.

use ir_analysis::results::{Estimation, Results};

use crate::figures::estimation::falling;
use crate::figures::paths::mean_length;

use super::measures::{mean, test};
use super::{Claim, Limit, Measure, Scope, Unit};

/// Every claim, by work.
pub(super) const CLAIMS: &[Claim] = &[
    Claim {
        id: "veit-deletion-smooth",
        figure: "Veit et al., Fig. 5",
        statement: "Error increases smoothly with the number of deleted blocks.",
        criterion: "Mean test accuracy rises by at most 1 point from one number of deleted blocks \
                    to the next.",
        scope: Scope::All,
        measure: Measure::Analysis(largest_rise),
        limit: Limit::AtMost(0.01),
        unit: Unit::Points,
    },
    Claim {
        id: "veit-order",
        figure: "Veit et al., Fig. 5",
        statement: "Error increases with how far the order of the blocks is from the trained one.",
        criterion: "Of two draws with different Kendall τ and test accuracy, the one nearer to the \
                    trained order is more accurate in at least 75 % of all pairs.",
        scope: Scope::All,
        measure: Measure::Analysis(agreeing_orders),
        limit: Limit::AtLeast(0.75),
        unit: Unit::Percent,
    },
    Claim {
        id: "veit-short-paths",
        figure: "Veit et al., Fig. 6",
        statement: "The paths that carry gradient are short.",
        criterion: "Weighted by the gradient they carry on test images, paths have at most half the \
                    mean length of all paths.",
        scope: Scope::All,
        measure: Measure::Analysis(effective_length),
        limit: Limit::AtMost(0.5),
        unit: Unit::Factor,
    },
    Claim {
        id: "greff-mean-near-zero",
        figure: "Greff et al., Fig. 3",
        statement: "The mean estimation error of each block is close to 0.",
        criterion: "Within a quarter of a standard deviation on test images in at least 90 % of the \
                    blocks.",
        scope: Scope::All,
        measure: Measure::Analysis(near_zero),
        limit: Limit::AtLeast(0.9),
        unit: Unit::Percent,
    },
    Claim {
        id: "greff-spread-falls",
        figure: "Greff et al., Fig. 3",
        statement: "The standard deviation of the estimation error falls over each stage.",
        criterion: "It falls at no less than 90 % of the steps from block to block within a stage, on \
                    test images.",
        scope: Scope::All,
        measure: Measure::Analysis(|results| falling(&test(results)?.estimations)),
        limit: Limit::AtLeast(0.9),
        unit: Unit::Percent,
    },
    Claim {
        id: "huang-readouts-rise",
        figure: "Huang et al.",
        statement: "Each block is a weak learner: the linear readout behind it is better than the \
                    one before.",
        criterion: "No readout’s test accuracy lies more than 1 point below the one before it.",
        scope: Scope::All,
        measure: Measure::Analysis(smallest_readout_gain),
        limit: Limit::AtLeast(-0.01),
        unit: Unit::Points,
    },
];

/// Largest change of mean accuracy from one number of deleted blocks to the next, from none on.
fn largest_rise(results: &Results) -> Option<f64> {
    let split = test(results)?;
    let deleted = split.deletions.iter().map(|found| found.accuracy);
    let accuracies: Vec<f64> = std::iter::once(split.accuracy).chain(deleted).collect();
    let rises = accuracies.windows(2).map(|pair| pair[1] - pair[0]);
    rises.max_by(f64::total_cmp)
}

/// Share of the pairs of orders in which the one with the higher τ is more accurate; pairs that are
/// equal in either do not count.
fn agreeing_orders(results: &Results) -> Option<f64> {
    let draws = test(results)?
        .reorderings
        .iter()
        .flat_map(|found| &found.draws);
    let draws: Vec<_> = draws
        .map(|draw| (draw.kendall_tau, draw.accuracy))
        .collect();
    let pairs = draws.iter().enumerate().flat_map(|(index, a)| {
        let later = draws[index + 1..].iter();
        later.map(move |b| (a.0 - b.0) * (a.1 - b.1))
    });
    mean(
        pairs
            .filter(|&product| product != 0.0)
            .map(|product| f64::from(u8::from(product > 0.0))),
    )
}

/// Mean length of the paths weighted by what they carry, over that of all paths.
fn effective_length(results: &Results) -> Option<f64> {
    let paths = &test(results)?.paths;
    let all = mean_length(paths, |path| path.paths.0)?;
    Some(mean_length(paths, |path| path.contribution.0)? / all)
}

/// Share of the blocks whose mean error is within a quarter of its standard deviation.
fn near_zero(results: &Results) -> Option<f64> {
    let near = |row: &Estimation| f64::from(u8::from(row.error.0.abs() <= row.error_std.0 / 4.0));
    mean(test(results)?.estimations.iter().map(near))
}

/// Smallest change of accuracy from one readout to the next.
fn smallest_readout_gain(results: &Results) -> Option<f64> {
    let readouts = &test(results)?.readouts;
    let gains = readouts
        .windows(2)
        .map(|pair| pair[1].accuracy - pair[0].accuracy);
    gains.min_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use ir_analysis::Number;
    use ir_analysis::results::{
        Deletions, PathLength, Readout, Reordering, Reorderings, SCHEMA_VERSION, Split,
    };

    use super::*;

    fn results(split: Split) -> Results {
        Results {
            schema_version: SCHEMA_VERSION,
            network: String::new(),
            dataset: String::new(),
            stages: Vec::new(),
            splits: [("test".to_owned(), split)].into(),
            provenance: serde_json::Value::Null,
        }
    }

    fn assert_close(found: Option<f64>, expected: f64) {
        let found = found.expect("a number");
        assert!(
            (found - expected).abs() < 1e-12,
            "{found} is not {expected}"
        );
    }

    #[test]
    fn nothing_measured_is_no_number() {
        let nothing = results(Split::default());
        let measures: [fn(&Results) -> Option<f64>; 5] = [
            largest_rise,
            agreeing_orders,
            effective_length,
            near_zero,
            smallest_readout_gain,
        ];
        for measure in measures {
            assert_eq!(measure(&nothing), None);
        }
    }

    #[test]
    fn deletions_and_orders_by_hand() {
        let deletions = [0.7, 0.75, 0.4].map(|accuracy| Deletions {
            deleted: 1,
            accuracy,
            accuracy_std: 0.0,
            loss: Number(1.0),
            loss_std: Number(0.0),
            draws: Vec::new(),
        });
        let draws = [(0.9, 0.7), (0.8, 0.5), (0.5, 0.6), (0.5, 0.1)];
        let draws = draws.map(|(kendall_tau, accuracy)| Reordering {
            order: Vec::new(),
            kendall_tau,
            accuracy,
            loss: Number(1.0),
        });
        let results = results(Split {
            accuracy: 0.8,
            deletions: deletions.into(),
            reorderings: vec![Reorderings {
                swaps: 1,
                kendall_tau: 0.0,
                accuracy: 0.0,
                accuracy_std: 0.0,
                loss: Number(1.0),
                loss_std: Number(0.0),
                draws: draws.into(),
            }],
            ..Split::default()
        });
        assert_close(largest_rise(&results), 0.05);
        // Of six pairs one has equal τ; of the others only 0.8 against the first 0.5 disagrees.
        assert_close(agreeing_orders(&results), 4.0 / 5.0);
    }

    #[test]
    fn paths_errors_and_readouts_by_hand() {
        let path = |length: usize, paths: f64, contribution: f64| PathLength {
            length,
            paths: Number(paths),
            sampled: 1,
            gradient_norm: Number(contribution / paths),
            gradient_norm_std: Number(0.0),
            contribution: Number(contribution),
        };
        let estimation = |error: f64, std: f64| Estimation {
            block: 0,
            stage: 0,
            error: Number(error),
            error_std: Number(std),
            distance: None,
            distance_std: None,
            undefined: 0,
        };
        let readout = |accuracy: f64| Readout {
            after_block: None,
            features: 1,
            accuracy,
            loss: Number(1.0),
            loss_std: Number(0.0),
            gradient_norm: 0.0,
            iterations: 1,
        };
        let results = results(Split {
            paths: vec![path(0, 1.0, 3.0), path(1, 2.0, 1.0), path(2, 1.0, 0.0)],
            estimations: vec![
                estimation(0.2, 1.0),
                estimation(-0.3, 1.1),
                estimation(0.0, 0.5),
            ],
            readouts: vec![readout(0.3), readout(0.5), readout(0.45)],
            ..Split::default()
        });
        // 1/4 against 1.
        assert_close(effective_length(&results), 0.25);
        assert_close(near_zero(&results), 2.0 / 3.0);
        assert_close(smallest_readout_gain(&results), -0.05);
        assert_close(falling(&results.splits["test"].estimations), 0.5);
    }
}
