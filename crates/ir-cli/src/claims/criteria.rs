//! The claims with their criteria. They were written down before any run and are changed for
//! none; a criterion that fails is a finding.

use ir_analysis::results::{
    BlockMeasures, Exit, Group, Groups, Results, ScaleSource, Split, Unroll,
};

use super::{Claim, Limit, Scope, Unit, median, test};

/// Exits that Fig. 6 shows.
const SHOWN_EXITS: usize = 5;

/// Every claim, in the order of the paper's figures.
pub(super) const CLAIMS: &[Claim] = &[
    Claim {
        id: "fig2-train-test-overlap",
        figure: "Fig. 2",
        statement: "The ℓ2 ratios on training and validation data overlap.",
        criterion: "Mean over blocks of |train − test| / test below 10 %.",
        scope: Scope::All,
        measure: ratio_gap,
        limit: Limit::Below(0.1),
        unit: Unit::Percent,
    },
    Claim {
        id: "fig2-first-block-large",
        figure: "Fig. 2",
        statement: "Without transitions the first block changes the representation most.",
        criterion: "ℓ2 ratio of block 0 above the median of the later blocks.",
        scope: Scope::WithoutTransitions,
        measure: first_ratio_to_median,
        limit: Limit::Above(1.0),
        unit: Unit::Factor,
    },
    Claim {
        id: "fig2-ratio-falls",
        figure: "Fig. 2",
        statement: "Without transitions the ratio falls steadily from block to block.",
        criterion: "Rank correlation of ℓ2 ratio and block index at most −0.5.",
        scope: Scope::WithoutTransitions,
        measure: ratio_trend,
        limit: Limit::AtMost(-0.5),
        unit: Unit::Plain,
    },
    Claim {
        id: "fig3-first-block-catastrophic",
        figure: "Fig. 3",
        statement: "Without transitions dropping the first block is catastrophic.",
        criterion: "Dropping block 0 costs more than ten times the median of the other blocks \
                    (a median below one point counts as one point).",
        scope: Scope::WithoutTransitions,
        measure: first_drop_to_median,
        limit: Limit::Above(10.0),
        unit: Unit::Factor,
    },
    Claim {
        id: "fig3-later-blocks-cheap",
        figure: "Fig. 3",
        statement: "Without transitions dropping a higher block costs almost nothing.",
        criterion: "Median cost of the blocks in the upper half at most 3 points.",
        scope: Scope::WithoutTransitions,
        measure: upper_drop_median,
        limit: Limit::AtMost(0.03),
        unit: Unit::Points,
    },
    Claim {
        id: "fig3-mild-everywhere",
        figure: "Fig. 3",
        statement: "In resnet-110 and wide dropping a block is mild everywhere.",
        criterion: "No block but the transitions costs more than 20 points.",
        scope: Scope::WithTransitions,
        measure: largest_drop,
        limit: Limit::AtMost(0.2),
        unit: Unit::Points,
    },
    Claim {
        id: "fig4-cosine-negative",
        figure: "Fig. 4",
        statement: "Each block moves the representation against the loss gradient.",
        criterion: "Mean cosine below 0 in at least 90 % of the blocks, transitions aside.",
        scope: Scope::All,
        measure: |results| share_negative(results, |block| block.cosine),
        limit: Limit::AtLeast(0.9),
        unit: Unit::Percent,
    },
    Claim {
        id: "fig4-higher-stages-more",
        figure: "Fig. 4",
        statement: "The cosine is more negative for the higher blocks.",
        criterion: "Mean cosine over the last stage below that over the first, transitions aside.",
        scope: Scope::SeveralStages,
        measure: last_stage_less_first,
        limit: Limit::Below(0.0),
        unit: Unit::Plain,
    },
    Claim {
        id: "fig4-higher-blocks-more",
        figure: "Fig. 4",
        statement: "The cosine is more negative for the higher blocks.",
        criterion: "Mean cosine over the upper half of the blocks below that over the lower half.",
        scope: Scope::OneStage,
        measure: upper_half_less_lower,
        limit: Limit::Below(0.0),
        unit: Unit::Plain,
    },
    Claim {
        id: "fig4-last-block",
        figure: "Fig. 4",
        statement: "The last block's cosine is about −0.1.",
        criterion: "Mean cosine of the last block at most −0.05.",
        scope: Scope::All,
        measure: |results| test(results)?.blocks.last()?.cosine,
        limit: Limit::AtMost(-0.05),
        unit: Unit::Plain,
    },
    Claim {
        id: "eq4-exit-cosine-negative",
        figure: "Eq. 4",
        statement: "Each block of the last stage moves against the gradient of its own exit loss.",
        criterion: "Mean exit cosine below 0 in at least 90 % of the last stage's blocks, \
                    transitions aside.",
        scope: Scope::All,
        measure: |results| share_negative(results, |block| block.exit_cosine),
        limit: Limit::AtLeast(0.9),
        unit: Unit::Percent,
    },
    Claim {
        id: "fig5-exits-rise",
        figure: "Fig. 5",
        statement: "Accuracy rises gradually with every block of the last stage.",
        criterion: "No exit's test accuracy lies more than 0.5 points below the one before it.",
        scope: Scope::All,
        measure: smallest_exit_gain,
        limit: Limit::AtLeast(-0.005),
        unit: Unit::Points,
    },
    Claim {
        id: "fig6-borderline-gain",
        figure: "Fig. 6",
        statement: "Borderline examples gain accuracy over the last blocks.",
        criterion: "Their test accuracy at the last exit above that at the first exit shown.",
        scope: Scope::All,
        measure: |results| exits_change(test(results)?, |g| g.borderline.accuracy),
        limit: Limit::Above(0.0),
        unit: Unit::Points,
    },
    Claim {
        id: "fig6-correct-pay",
        figure: "Fig. 6",
        statement: "They gain at the expense of the loss of those already correct.",
        criterion: "Test loss of the already correct at the last exit above that at the first \
                    exit shown.",
        scope: Scope::All,
        measure: |results| exits_change(test(results)?, |g| loss(&g.correct)),
        limit: Limit::Above(0.0),
        unit: Unit::Nats,
    },
    Claim {
        id: "fig6-entropy-falls",
        figure: "Fig. 6",
        statement: "The predictions' entropy falls in all groups.",
        criterion: "Largest change among the three groups from the first exit shown to the last, \
                    on test images, below 0.",
        scope: Scope::All,
        measure: largest_entropy_change,
        limit: Limit::Below(0.0),
        unit: Unit::Nats,
    },
    Claim {
        id: "fig6-train-loss-falls",
        figure: "Fig. 6",
        statement: "Training loss falls evenly over the last blocks.",
        criterion: "Largest change of the training loss from one exit shown to the next below 0.",
        scope: Scope::All,
        measure: largest_train_loss_step,
        limit: Limit::Below(0.0),
        unit: Unit::Nats,
    },
    Claim {
        id: "fig6-test-loss-rises",
        figure: "Fig. 6",
        statement: "Test loss rises after the last block.",
        criterion: "Test loss at the last exit above that at the exit before.",
        scope: Scope::All,
        measure: last_test_loss_step,
        limit: Limit::Above(0.0),
        unit: Unit::Nats,
    },
    Claim {
        id: "fig7-unscaled-explodes",
        figure: "Fig. 7",
        statement: "Unrolling the last block without scaling explodes.",
        criterion: "Test loss after the last step more than ten times that at step 0, or not \
                    finite.",
        scope: Scope::All,
        measure: |results| growth(unscaled(test(results)?)?),
        limit: Limit::Above(10.0),
        unit: Unit::Factor,
    },
    Claim {
        id: "fig7-scaled-stays",
        figure: "Fig. 7",
        statement: "With scaling it stays bounded; test loss rises a little.",
        criterion: "Test loss after the last step at most 1.25 times that at step 0.",
        scope: Scope::All,
        measure: |results| growth(scaled(test(results)?)?),
        limit: Limit::AtMost(1.25),
        unit: Unit::Factor,
    },
    Claim {
        id: "fig7-train-loss-falls",
        figure: "Fig. 7",
        statement: "With scaling the training loss falls further.",
        criterion: "Training loss after the last step below that at step 0.",
        scope: Scope::All,
        measure: |results| growth(scaled(results.splits.get("train")?)?),
        limit: Limit::Below(1.0),
        unit: Unit::Factor,
    },
    Claim {
        id: "fig7-borderline-gain",
        figure: "Fig. 7",
        statement: "With scaling borderline test examples gain accuracy.",
        criterion: "Their accuracy after the last step above that at step 0.",
        scope: Scope::All,
        measure: unrolled_borderline_gain,
        limit: Limit::Above(0.0),
        unit: Unit::Points,
    },
    Claim {
        id: "fig7-cosine-negative",
        figure: "Fig. 7",
        statement: "With scaling the cosine stays negative through the added steps.",
        criterion: "Largest mean cosine of any added step, on test images, below 0.",
        scope: Scope::All,
        measure: largest_unrolled_cosine,
        limit: Limit::Below(0.0),
        unit: Unit::Plain,
    },
    Claim {
        id: "taylor-sign",
        figure: "Eq. 4",
        statement: "The first-order term says which way a block moves the loss.",
        criterion: "It has the sign of the actual change of the exit loss in at least 80 % of the \
                    last stage's blocks.",
        scope: Scope::All,
        measure: taylor_sign,
        limit: Limit::AtLeast(0.8),
        unit: Unit::Percent,
    },
];

fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values
        .into_iter()
        .fold((0.0, 0usize), |(s, c), v| (s + v, c + 1));
    (count > 0).then(|| sum / count as f64)
}

fn largest(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    values.into_iter().max_by(f64::total_cmp)
}

fn loss(group: &Group) -> Option<f64> {
    Some(group.loss?.0)
}

fn ratio(block: &BlockMeasures) -> Option<f64> {
    Some(block.l2_ratio?.0)
}

fn ratios(results: &Results) -> Option<Vec<f64>> {
    test(results)?.blocks.iter().map(ratio).collect()
}

fn ratio_gap(results: &Results) -> Option<f64> {
    let (train, test) = (&results.splits.get("train")?.blocks, &test(results)?.blocks);
    let gaps: Option<Vec<f64>> = train
        .iter()
        .zip(test)
        .map(|(train, test)| Some((ratio(train)? - ratio(test)?).abs() / ratio(test)?))
        .collect();
    mean(gaps?)
}

fn first_ratio_to_median(results: &Results) -> Option<f64> {
    let ratios = ratios(results)?;
    let (first, later) = ratios.split_first()?;
    Some(first / median(later.iter().copied())?)
}

/// Spearman's rank correlation of ratio and block index; a tie ranks in order of blocks.
fn ratio_trend(results: &Results) -> Option<f64> {
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

fn first_drop_to_median(results: &Results) -> Option<f64> {
    let costs = costs(results)?;
    let (first, others) = costs.split_first()?;
    Some(first / median(others.iter().copied())?.max(0.01))
}

fn upper_drop_median(results: &Results) -> Option<f64> {
    let costs = costs(results)?;
    median(costs[costs.len().div_ceil(2)..].iter().copied())
}

fn largest_drop(results: &Results) -> Option<f64> {
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

fn share_negative(
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

fn last_stage_less_first(results: &Results) -> Option<f64> {
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

fn upper_half_less_lower(results: &Results) -> Option<f64> {
    let cosines: Vec<f64> = plain(results, |block| block.cosine)?
        .into_iter()
        .map(|(_, cosine)| cosine)
        .collect();
    let (lower, upper) = cosines.split_at(cosines.len() / 2);
    Some(mean(upper.iter().copied())? - mean(lower.iter().copied())?)
}

fn smallest_exit_gain(results: &Results) -> Option<f64> {
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
fn exits_change(split: &Split, value: impl Fn(&Groups) -> Option<f64>) -> Option<f64> {
    let exits = shown(split);
    Some(value(&exits.last()?.groups)? - value(&exits.first()?.groups)?)
}

/// Empty groups have no entropy and are left out.
fn largest_entropy_change(results: &Results) -> Option<f64> {
    let split = test(results)?;
    let of: [fn(&Groups) -> &Group; 3] = [|g| &g.all, |g| &g.correct, |g| &g.borderline];
    let changes = of
        .into_iter()
        .filter_map(|of| exits_change(split, |groups| Some(of(groups).entropy?.0)));
    largest(changes)
}

fn loss_steps(split: &Split) -> Option<Vec<f64>> {
    let losses: Option<Vec<f64>> = shown(split).iter().map(|e| loss(&e.groups.all)).collect();
    Some(losses?.windows(2).map(|pair| pair[1] - pair[0]).collect())
}

fn largest_train_loss_step(results: &Results) -> Option<f64> {
    largest(loss_steps(results.splits.get("train")?)?)
}

fn last_test_loss_step(results: &Results) -> Option<f64> {
    loss_steps(test(results)?)?.last().copied()
}

fn unscaled(split: &Split) -> Option<&Unroll> {
    split
        .unroll
        .iter()
        .find(|unroll| unroll.scale_source == ScaleSource::Unscaled)
}

/// The scale chosen on the training split, or else the first fixed one.
fn scaled(split: &Split) -> Option<&Unroll> {
    let of = |source| {
        split
            .unroll
            .iter()
            .find(move |unroll| unroll.scale_source == source)
    };
    of(ScaleSource::ChosenOnTrain).or_else(|| of(ScaleSource::Fixed))
}

/// Loss after the last step over that at step 0; infinite where it ran out of numbers.
fn growth(unroll: &Unroll) -> Option<f64> {
    let at = |step: Option<&ir_analysis::results::UnrollStep>| loss(&step?.groups.all);
    let growth = at(unroll.steps.last())? / at(unroll.steps.first())?;
    Some(if growth.is_nan() {
        f64::INFINITY
    } else {
        growth
    })
}

fn unrolled_borderline_gain(results: &Results) -> Option<f64> {
    let steps = &scaled(test(results)?)?.steps;
    let last = steps.last()?.groups.borderline.accuracy?;
    Some(last - steps.first()?.groups.borderline.accuracy?)
}

fn largest_unrolled_cosine(results: &Results) -> Option<f64> {
    let steps = scaled(test(results)?)?.steps.iter();
    largest(
        steps
            .filter(|step| step.step > 0)
            .filter_map(|step| step.cosine),
    )
}

fn taylor_sign(results: &Results) -> Option<f64> {
    let rows = test(results)?.taylor.iter().map(|row| {
        let change = row.next_exit_loss.0 - row.exit_loss.0;
        f64::from(u8::from(change * row.predicted_change.0 > 0.0))
    });
    mean(rows)
}
