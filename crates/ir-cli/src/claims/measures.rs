//! The numbers that claims are about, each from the results of one run. `None` is a number that
//! the results do not hold.

use ir_analysis::results::{
    BlockMeasures, Exit, Group, Groups, Results, ScaleSource, Split, Unroll, UnrollStep,
};

use super::median;

/// Exits that Fig. 6 shows.
const SHOWN_EXITS: usize = 5;

/// The test split.
pub(super) fn test(results: &Results) -> Option<&Split> {
    results.splits.get("test")
}

/// The mean; `None` of nothing.
pub(super) fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values
        .into_iter()
        .fold((0.0, 0usize), |(s, c), v| (s + v, c + 1));
    (count > 0).then(|| sum / count as f64)
}

/// The largest value.
fn largest(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    values.into_iter().max_by(f64::total_cmp)
}

/// Mean loss of a group.
pub(super) fn loss(group: &Group) -> Option<f64> {
    Some(group.loss?.0)
}

fn ratio(block: &BlockMeasures) -> Option<f64> {
    Some(block.l2_ratio?.0)
}

/// ℓ2 ratios on test samples, block by block.
fn ratios(results: &Results) -> Option<Vec<f64>> {
    test(results)?.blocks.iter().map(ratio).collect()
}

/// Mean over blocks of |train − test| / test of the ℓ2 ratio.
pub(super) fn ratio_gap(results: &Results) -> Option<f64> {
    let (train, test) = (&results.splits.get("train")?.blocks, &test(results)?.blocks);
    let gaps: Option<Vec<f64>> = train
        .iter()
        .zip(test)
        .map(|(train, test)| Some((ratio(train)? - ratio(test)?).abs() / ratio(test)?))
        .collect();
    mean(gaps?)
}

/// ℓ2 ratio of block 0 over the median of the later blocks.
pub(super) fn first_ratio_to_median(results: &Results) -> Option<f64> {
    let ratios = ratios(results)?;
    let (first, later) = ratios.split_first()?;
    Some(first / median(later.iter().copied())?)
}

/// Spearman's rank correlation of ratio and block index; a tie ranks in order of blocks.
pub(super) fn ratio_trend(results: &Results) -> Option<f64> {
    let ratios = ratios(results)?;
    let count = ratios.len() as f64;
    let mut order: Vec<usize> = (0..ratios.len()).collect();
    order.sort_by(|&a, &b| ratios[a].total_cmp(&ratios[b]));
    let squares: f64 = order
        .iter()
        .enumerate()
        .map(|(rank, &block)| (rank as f64 - block as f64).powi(2))
        .sum();
    (ratios.len() > 1).then(|| 1.0 - 6.0 * squares / (count * (count * count - 1.0)))
}

/// Accuracy lost by dropping each block.
fn costs(results: &Results) -> Option<Vec<f64>> {
    let split = test(results)?;
    let cost = |block: &BlockMeasures| Some(split.accuracy - block.drop_accuracy?);
    split.blocks.iter().map(cost).collect()
}

/// Accuracy lost without block 0 over the median of the other blocks, at least one point.
pub(super) fn first_drop_to_median(results: &Results) -> Option<f64> {
    let costs = costs(results)?;
    let (first, others) = costs.split_first()?;
    Some(first / median(others.iter().copied())?.max(0.01))
}

/// Median accuracy lost without a block of the upper half.
pub(super) fn upper_drop_median(results: &Results) -> Option<f64> {
    let costs = costs(results)?;
    median(costs[costs.len().div_ceil(2)..].iter().copied())
}

/// Largest accuracy lost without a block, transitions aside.
pub(super) fn largest_drop(results: &Results) -> Option<f64> {
    let costs = costs(results)?;
    let blocks = &test(results)?.blocks;
    let plain = costs
        .into_iter()
        .zip(blocks)
        .filter(|(_, block)| !block.transition);
    largest(plain.map(|(cost, _)| cost))
}

/// Values of the blocks that are no transitions.
fn plain(
    results: &Results,
    value: impl Fn(&BlockMeasures) -> Option<f64>,
) -> Option<Vec<(usize, f64)>> {
    let blocks = test(results)?
        .blocks
        .iter()
        .filter(|block| !block.transition);
    Some(
        blocks
            .filter_map(|block| Some((block.stage, value(block)?)))
            .collect(),
    )
}

/// Share of the blocks with a mean cosine below 0, transitions aside.
pub(super) fn share_negative(
    results: &Results,
    cosine: impl Fn(&BlockMeasures) -> Option<f64>,
) -> Option<f64> {
    let cosines = plain(results, cosine)?;
    mean(
        cosines
            .into_iter()
            .map(|(_, cosine)| f64::from(u8::from(cosine < 0.0))),
    )
}

/// Mean cosine over the last stage less that over the first, transitions aside.
pub(super) fn last_stage_less_first(results: &Results) -> Option<f64> {
    let cosines = plain(results, |block| block.cosine)?;
    let last = results.stages.last()?.stage;
    let of = |wanted: usize| {
        mean(
            cosines
                .iter()
                .filter(|(s, _)| *s == wanted)
                .map(|(_, c)| *c),
        )
    };
    Some(of(last)? - of(0)?)
}

/// Mean cosine over the upper half of the blocks less that over the lower, transitions aside.
pub(super) fn upper_half_less_lower(results: &Results) -> Option<f64> {
    let cosines: Vec<f64> = plain(results, |block| block.cosine)?
        .into_iter()
        .map(|(_, cosine)| cosine)
        .collect();
    let (lower, upper) = cosines.split_at(cosines.len() / 2);
    Some(mean(upper.iter().copied())? - mean(lower.iter().copied())?)
}

/// Smallest change of test accuracy from one exit to the next.
pub(super) fn smallest_exit_gain(results: &Results) -> Option<f64> {
    let exits = &test(results)?.exits;
    let accuracies: Option<Vec<f64>> = exits.iter().map(|exit| exit.groups.all.accuracy).collect();
    accuracies?
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .min_by(f64::total_cmp)
}

/// The exits that Fig. 6 shows.
fn shown(split: &Split) -> &[Exit] {
    &split.exits[split.exits.len().saturating_sub(SHOWN_EXITS)..]
}

/// A value at the last exit less that at the first exit shown.
pub(super) fn exits_change(split: &Split, value: impl Fn(&Groups) -> Option<f64>) -> Option<f64> {
    let exits = shown(split);
    Some(value(&exits.last()?.groups)? - value(&exits.first()?.groups)?)
}

/// Largest change of the mean entropy among the groups; empty groups have none.
pub(super) fn largest_entropy_change(results: &Results) -> Option<f64> {
    let split = test(results)?;
    let of: [fn(&Groups) -> &Group; 3] = [|g| &g.all, |g| &g.correct, |g| &g.borderline];
    let changes = of
        .into_iter()
        .filter_map(|of| exits_change(split, |groups| Some(of(groups).entropy?.0)));
    largest(changes)
}

/// Changes of the loss from one exit shown to the next.
fn loss_steps(split: &Split) -> Option<Vec<f64>> {
    let losses: Option<Vec<f64>> = shown(split).iter().map(|e| loss(&e.groups.all)).collect();
    Some(losses?.windows(2).map(|pair| pair[1] - pair[0]).collect())
}

/// Largest change of the training loss from one exit shown to the next.
pub(super) fn largest_train_loss_step(results: &Results) -> Option<f64> {
    largest(loss_steps(results.splits.get("train")?)?)
}

/// Change of the test loss from the last exit but one to the last.
pub(super) fn last_test_loss_step(results: &Results) -> Option<f64> {
    loss_steps(test(results)?)?.last().copied()
}

/// The unrolling of the branch as it is.
pub(super) fn unscaled(split: &Split) -> Option<&Unroll> {
    split
        .unroll
        .iter()
        .find(|unroll| unroll.scale_source == ScaleSource::Unscaled)
}

/// The scale chosen on the training split, or else the first fixed one.
pub(super) fn scaled(split: &Split) -> Option<&Unroll> {
    let of = |source| {
        split
            .unroll
            .iter()
            .find(move |unroll| unroll.scale_source == source)
    };
    of(ScaleSource::ChosenOnTrain).or_else(|| of(ScaleSource::Fixed))
}

/// Loss after the last step over that at step 0; infinite where it ran out of numbers.
pub(super) fn growth(unroll: &Unroll) -> Option<f64> {
    let at = |step: Option<&UnrollStep>| loss(&step?.groups.all);
    let growth = at(unroll.steps.last())? / at(unroll.steps.first())?;
    Some(if growth.is_nan() {
        f64::INFINITY
    } else {
        growth
    })
}

/// Accuracy of borderline test samples after the last scaled step less that at step 0.
pub(super) fn unrolled_borderline_gain(results: &Results) -> Option<f64> {
    let steps = &scaled(test(results)?)?.steps;
    let last = steps.last()?.groups.borderline.accuracy?;
    Some(last - steps.first()?.groups.borderline.accuracy?)
}

/// Largest mean cosine of an added step on test samples.
pub(super) fn largest_unrolled_cosine(results: &Results) -> Option<f64> {
    let steps = scaled(test(results)?)?.steps.iter();
    largest(
        steps
            .filter(|step| step.step > 0)
            .filter_map(|step| step.cosine),
    )
}

/// Share of blocks where the first-order term has the sign of the actual change.
pub(super) fn taylor_sign(results: &Results) -> Option<f64> {
    let rows = test(results)?.taylor.iter().map(|row| {
        let change = row.next_exit_loss.0 - row.exit_loss.0;
        f64::from(u8::from(change * row.predicted_change.0 > 0.0))
    });
    mean(rows)
}

#[cfg(test)]
mod tests {
    use ir_analysis::Number;
    use ir_analysis::results::{SCHEMA_VERSION, Stage, TaylorRow, Undefined};

    use super::*;

    /// Blocks given by (stage, transition, cosine, ratio, accuracy without it), on both splits.
    fn results(blocks: &[(usize, bool, f64, f64, f64)]) -> Results {
        let split = Split {
            samples: 100,
            accuracy: 0.8,
            loss: 1.0,
            blocks: blocks
                .iter()
                .enumerate()
                .map(|(j, &of)| block(j, of))
                .collect(),
            ..Split::default()
        };
        let last = blocks.len() - 1;
        let stages = (0..=blocks[last].0).map(|stage| Stage {
            stage,
            first_block: 0,
            last_block: last,
            shape: vec![1],
        });
        Results {
            schema_version: SCHEMA_VERSION,
            network: String::new(),
            dataset: String::new(),
            stages: stages.collect(),
            splits: ["train", "test"]
                .map(|name| (name.into(), split.clone()))
                .into(),
            provenance: serde_json::Value::Null,
        }
    }

    fn block(
        block: usize,
        (stage, transition, cosine, ratio, drop): (usize, bool, f64, f64, f64),
    ) -> BlockMeasures {
        BlockMeasures {
            block,
            stage,
            transition,
            cosine: Some(cosine),
            cosine_std: None,
            exit_cosine: None,
            exit_cosine_std: None,
            l2_ratio: Some(Number(ratio)),
            l2_ratio_std: None,
            grad_norm: None,
            grad_norm_std: None,
            h_norm: None,
            h_norm_std: None,
            drop_accuracy: Some(drop),
            drop_loss: None,
            drop_loss_std: None,
            undefined: Undefined::default(),
        }
    }

    fn group(loss: f64) -> Group {
        Group {
            samples: 10,
            accuracy: Some(0.5),
            loss: Some(Number(loss)),
            loss_std: None,
            entropy: None,
            entropy_std: None,
        }
    }

    fn groups(loss: f64) -> Groups {
        Groups {
            all: group(loss),
            correct: group(loss),
            borderline: group(loss),
        }
    }

    /// What a hand calculation gave; a few operations round by a few units in the last place.
    fn assert_close(found: Option<f64>, expected: f64) {
        let found = found.expect("a number");
        assert!(
            (found - expected).abs() < 1e-12,
            "{found} is not {expected}"
        );
    }

    #[test]
    fn blocks_by_hand() {
        let results = results(&[
            (0, false, 0.1, 2.0, 0.3),
            (0, false, -0.1, 0.5, 0.79),
            (1, true, 0.9, 1.0, 0.1),
            (1, false, -0.3, 0.25, 0.78),
            (1, false, -0.5, 0.2, 0.8),
        ]);
        // Ratios 2, 0.5, 1, 0.25, 0.2: the later ones have the median (0.25 + 0.5) / 2.
        assert_close(first_ratio_to_median(&results), 2.0 / 0.375);
        // Ranks by size 5, 3, 4, 2, 1 against 1, 2, 3, 4, 5: 1 − 6 · (16+1+1+4+16) / (5 · 24).
        assert_close(ratio_trend(&results), 1.0 - 6.0 * 38.0 / 120.0);
        // Costs 0.5, 0.01, 0.7, 0.02, 0: the others have the median 0.015.
        assert_close(first_drop_to_median(&results), 0.5 / 0.015);
        assert_close(upper_drop_median(&results), 0.01);
        assert_close(largest_drop(&results), 0.5);
        // The transition, block 2, is in none of these.
        assert_close(share_negative(&results, |block| block.cosine), 0.75);
        assert_close(last_stage_less_first(&results), -0.4 - 0.0);
        assert_close(upper_half_less_lower(&results), -0.4 - 0.0);
        assert_close(ratio_gap(&results), 0.0);
    }

    #[test]
    fn a_cheap_median_counts_as_one_point() {
        let results = results(&[(0, false, 0.0, 1.0, 0.75), (0, false, 0.0, 1.0, 0.8)]);
        assert_close(first_drop_to_median(&results), 5.0);
    }

    #[test]
    fn train_and_test_are_compared_block_by_block() {
        let mut results = results(&[(0, false, 0.0, 1.0, 0.8), (0, false, 0.0, 2.0, 0.8)]);
        let train = results.splits.get_mut("train").expect("a split");
        train.blocks[0].l2_ratio = Some(Number(1.1));
        train.blocks[1].l2_ratio = Some(Number(1.4));
        assert_close(ratio_gap(&results), (0.1 + 0.3) / 2.0);
        let train = results.splits.get_mut("train").expect("a split");
        train.blocks[0].l2_ratio = None;
        assert_eq!(ratio_gap(&results), None);
    }

    #[test]
    fn exits_by_hand() {
        let mut results = results(&[(0, false, 0.0, 1.0, 0.8)]);
        let exit = |accuracy: f64, loss: f64| {
            let mut groups = groups(loss);
            groups.all.accuracy = Some(accuracy);
            groups.correct.entropy = Some(Number(-loss));
            groups.all.entropy = Some(Number(loss / 2.0));
            Exit {
                after_block: None,
                reference: false,
                groups,
            }
        };
        let exits = [
            (0.1, 9.0),
            (0.3, 2.0),
            (0.4, 1.6),
            (0.6, 1.7),
            (0.58, 1.0),
            (0.7, 1.2),
        ];
        for split in results.splits.values_mut() {
            split.exits = exits.map(|(accuracy, loss)| exit(accuracy, loss)).into();
        }
        assert_close(smallest_exit_gain(&results), -0.02);
        // Of six exits five are shown: the loss of 9 is not.
        let split = test(&results).expect("a split");
        assert_close(exits_change(split, |groups| loss(&groups.correct)), -0.8);
        assert_close(largest_train_loss_step(&results), 0.2);
        assert_close(last_test_loss_step(&results), 0.2);
        assert_close(largest_entropy_change(&results), 0.8);
    }

    #[test]
    fn unrolling_by_hand() {
        let steps = |losses: [f64; 3]| {
            let steps = losses
                .into_iter()
                .enumerate()
                .map(|(step, loss)| UnrollStep {
                    step,
                    groups: groups(loss),
                    cosine: Some(0.5 - 0.2 * step as f64),
                    cosine_std: None,
                    l2_ratio: None,
                    l2_ratio_std: None,
                    h_norm: None,
                    undefined: Undefined::default(),
                });
            steps.collect::<Vec<_>>()
        };
        let unroll = |scale_source, losses| Unroll {
            scale: 1.0,
            scale_source,
            steps: steps(losses),
        };
        let mut results = results(&[(0, false, 0.0, 1.0, 0.8)]);
        let split = results.splits.get_mut("test").expect("a split");
        split.unroll = vec![
            unroll(ScaleSource::Unscaled, [1.0, f64::INFINITY, f64::NAN]),
            unroll(ScaleSource::Fixed, [2.0, 4.0, 8.0]),
        ];
        let split = test(&results).expect("a split");
        assert_eq!(unscaled(split).and_then(growth), Some(f64::INFINITY));
        assert_close(scaled(split).and_then(growth), 4.0);
        // Step 0 is no added step.
        assert_close(largest_unrolled_cosine(&results), 0.3);
        assert_close(unrolled_borderline_gain(&results), 0.0);
    }

    #[test]
    fn a_sign_agrees_only_where_both_are_not_zero() {
        let row = |next: f64, predicted: f64| TaylorRow {
            block: 0,
            exit_loss: Number(1.0),
            next_exit_loss: Number(next),
            predicted_change: Number(predicted),
            predicted_change_std: Number(0.0),
            remainder: Number(0.0),
            remainder_std: Number(0.0),
        };
        let mut results = results(&[(0, false, 0.0, 1.0, 0.8)]);
        assert_eq!(taylor_sign(&results), None);
        let split = results.splits.get_mut("test").expect("a split");
        split.taylor = vec![row(0.5, -0.1), row(1.5, 0.1), row(1.5, -0.1), row(1.0, 0.0)];
        assert_close(taylor_sign(&results), 0.5);
    }
}
