//! Every measure against PyTorch, from the same weights and images.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../ir-models/tests/pytorch/mod.rs"]
mod pytorch;

use candle_core::Tensor;
use ir_analysis::results::{Deletion, Estimation, Group, Groups, Split, Unroll};
use ir_analysis::{Measure, Number, Options, ReferenceExit, UnrollScale, analyze_split, trace};
use ir_models::ResidualNetwork;
use pytorch::{CASES, Comparison, Fixture, all};

#[test]
fn the_trace_is_that_of_pytorch() {
    for case in all() {
        let fixture = Fixture::open(case);
        let (images, labels) = fixture.batch("evaluation");
        let trace = trace(&*fixture.network(), &images, &labels).unwrap();
        let mut comparison = fixture.compare(is_traced);
        for (j, block) in trace.blocks.iter().enumerate() {
            comparison.tensor(&format!("h.{j}"), &block.h);
            comparison.tensor(&format!("branch.{j}"), &block.branch);
            comparison.tensor(&format!("gradient.{j}"), block.gradient.as_ref().unwrap());
        }
        comparison.tensor(&format!("h.{}", trace.blocks.len()), &trace.h_last);
        comparison.tensor("logits", &trace.logits);
        comparison.finish();
    }
}

fn is_traced(quantity: &str) -> bool {
    let traced = ["h.", "branch.", "gradient."];
    quantity == "logits" || traced.iter().any(|prefix| quantity.starts_with(prefix))
}

/// The averages over a split that comes in two batches of unequal size.
#[test]
fn averages_over_a_split_are_those_of_pytorch() {
    for case in all() {
        let fixture = Fixture::open(case);
        let (network, (images, labels)) = (fixture.network(), fixture.batch("evaluation"));
        let rest = images.dim(0).unwrap() - 1;
        let batches = [(0, 1), (1, rest)].map(|range| part(&images, &labels, range));
        let mut comparison = fixture.compare(is_average);
        let options = options(&fixture, ReferenceExit::FirstShown);
        let first = analyze(&*network, batches.clone(), &options);
        // The other reference changes the groups and nothing else.
        let exits_alone = Options {
            reference: ReferenceExit::Final,
            measures: [Measure::Exits].into(),
            ..options
        };
        let last = analyze(&*network, batches, &exits_alone);
        for (name, split) in [("first", &first), ("final", &last)] {
            let exits: Vec<_> = split.exits.iter().map(|exit| &exit.groups).collect();
            compare_groups(&mut comparison, &format!("groups.exit_{name}"), &exits);
        }
        compare_block_averages(&mut comparison, &first);
        compare_taylor_averages(&mut comparison, &first);
        for unroll in &first.unroll {
            compare_unroll_averages(&mut comparison, unroll);
        }
        comparison.finish();
    }
}

fn is_average(quantity: &str) -> bool {
    let average = [".mean", ".std"]
        .iter()
        .any(|suffix| quantity.ends_with(suffix));
    quantity.starts_with("groups.") || (average && !quantity.starts_with("step."))
}

/// Each sample's own numbers: the averages over a split of one.
#[test]
fn the_numbers_of_each_sample_are_those_of_pytorch() {
    for case in all() {
        let fixture = Fixture::open(case);
        let (network, (images, labels)) = (fixture.network(), fixture.batch("evaluation"));
        let options = options(&fixture, ReferenceExit::Final);
        let alone = |sample| {
            let batch = part(&images, &labels, (sample, 1));
            analyze(&*network, [batch], &options)
        };
        let samples: Vec<_> = (0..images.dim(0).unwrap()).map(alone).collect();
        let mut comparison = fixture.compare(is_per_sample);
        let mut compare = |name: &str, rows: &dyn Fn(&Split) -> Vec<f64>| {
            compare_samples(&mut comparison, name, &samples, rows);
        };
        compare_blocks_of_samples(&mut compare);
        compare_last_stage_of_samples(&mut compare);
        for (index, scale) in fixture.unrolling().0.iter().enumerate() {
            compare_unroll_of_samples(&mut compare, index, &format!("unroll_{scale:?}"));
        }
        comparison.finish();
    }
}

fn is_per_sample(quantity: &str) -> bool {
    let elsewhere = is_average(quantity) || is_traced(quantity);
    !elsewhere
        && !["shortcut.", "step.", "neighbours."]
            .iter()
            .any(|prefix| quantity.starts_with(prefix))
}

/// The measures of the neighbouring works, of each sample alone. Sizes with so many sets of blocks
/// that PyTorch left them out are left out.
#[test]
fn the_neighbours_of_each_sample_are_those_of_pytorch() {
    // One more than PyTorch takes all sets of.
    const DRAWS: usize = 30;
    for case in CASES {
        let fixture = Fixture::open(case);
        let (network, (images, labels)) = (fixture.network(), fixture.batch("evaluation"));
        let options = Options {
            measures: [Measure::Delete, Measure::Paths, Measure::Estimation].into(),
            draws: DRAWS,
            ..Options::default()
        };
        let alone = |sample| {
            let batch = part(&images, &labels, (sample, 1));
            analyze(&*network, [batch], &options)
        };
        let samples: Vec<_> = (0..images.dim(0).unwrap()).map(alone).collect();
        let mut comparison = fixture.compare(|quantity| quantity.starts_with("neighbours."));
        let mut compare = |name: &str, rows: &dyn Fn(&Split) -> Vec<f64>| {
            compare_samples(
                &mut comparison,
                &format!("neighbours.{name}"),
                &samples,
                rows,
            );
        };
        let deletions = |split: &Split, value: fn(&Deletion) -> f64| {
            let of_size = split.deletions.iter().map(|of_size| &of_size.draws);
            let all = of_size.filter(|draws| draws.len() < DRAWS).flatten();
            all.map(value).collect()
        };
        compare("delete_loss", &|split| deletions(split, |draw| draw.loss.0));
        compare("delete_correct", &|split| {
            deletions(split, |draw| draw.accuracy)
        });
        compare("path_norm", &|split| {
            let all = split.paths.iter().filter(|paths| paths.sampled < DRAWS);
            all.map(|paths| paths.gradient_norm.0).collect()
        });
        let estimations = |split: &Split, value: fn(&Estimation) -> f64| {
            split.estimations.iter().map(value).collect()
        };
        compare("estimation_mean", &|split| {
            estimations(split, |row| row.error.0)
        });
        compare("estimation_std", &|split| {
            estimations(split, |row| row.error_std.0)
        });
        compare("estimation_distance", &|split| {
            estimations(split, |row| row.distance.unwrap().0)
        });
        comparison.finish();
    }
}

fn part(images: &Tensor, labels: &Tensor, (start, count): (usize, usize)) -> (Tensor, Tensor) {
    let narrow = |tensor: &Tensor| tensor.narrow(0, start, count).unwrap();
    (narrow(images), narrow(labels))
}

/// The measures of the paper, unrolled as by PyTorch.
fn options(fixture: &Fixture, reference: ReferenceExit) -> Options {
    let (scales, unroll_steps) = fixture.unrolling();
    let scales = scales.iter().map(|&scale| UnrollScale::fixed(scale));
    Options {
        reference,
        unroll_steps,
        unroll_scales: scales.collect(),
        ..Options::default()
    }
}

fn analyze(
    network: &dyn ResidualNetwork,
    batches: impl IntoIterator<Item = (Tensor, Tensor)>,
    options: &Options,
) -> Split {
    let batches = batches.into_iter().map(Ok::<_, ir_analysis::Error>);
    analyze_split(network, batches, options, &mut |_| {}).unwrap()
}

fn plain(value: Option<Number>) -> Option<f64> {
    value.map(f64::from)
}

/// One value of every block, exit or step, in order; those that have none are left out.
fn column<T>(rows: &[T], value: impl Fn(&T) -> Option<f64>) -> Vec<f64> {
    rows.iter().filter_map(value).collect()
}

fn compare_block_averages(comparison: &mut Comparison<'_>, split: &Split) {
    let mut compare = |name: &str, values: Vec<f64>| comparison.values(name, &values);
    let blocks = &split.blocks;
    compare("cosine.mean", column(blocks, |b| b.cosine));
    compare("cosine.std", column(blocks, |b| b.cosine_std));
    compare("exit_cosine.mean", column(blocks, |b| b.exit_cosine));
    compare("exit_cosine.std", column(blocks, |b| b.exit_cosine_std));
    compare("l2_ratio.mean", column(blocks, |b| plain(b.l2_ratio)));
    compare("l2_ratio.std", column(blocks, |b| plain(b.l2_ratio_std)));
    compare("gradient_norm.mean", column(blocks, |b| plain(b.grad_norm)));
    compare(
        "gradient_norm.std",
        column(blocks, |b| plain(b.grad_norm_std)),
    );
    compare("h_norm.mean", column(blocks, |b| plain(b.h_norm)));
    compare("h_norm.std", column(blocks, |b| plain(b.h_norm_std)));
    compare("drop_correct.mean", column(blocks, |b| b.drop_accuracy));
    compare("drop_loss.mean", column(blocks, |b| plain(b.drop_loss)));
    compare("drop_loss.std", column(blocks, |b| plain(b.drop_loss_std)));
}

fn compare_taylor_averages(comparison: &mut Comparison<'_>, split: &Split) {
    let mut compare = |name: &str, values: Vec<f64>| comparison.values(name, &values);
    let (rows, exits) = (&split.taylor, &split.exits);
    let mut losses = column(rows, |row| Some(row.exit_loss.into()));
    let next = column(rows, |row| Some(row.next_exit_loss.into()));
    assert_eq!(
        next[..next.len() - 1],
        losses[1..],
        "each row starts where the one before ended"
    );
    losses.extend(next.last());
    compare("exit_loss.mean", losses);
    compare(
        "exit_loss.std",
        column(exits, |exit| plain(exit.groups.all.loss_std)),
    );
    compare(
        "taylor_predicted.mean",
        column(rows, |row| Some(row.predicted_change.into())),
    );
    compare(
        "taylor_predicted.std",
        column(rows, |row| Some(row.predicted_change_std.into())),
    );
    compare(
        "taylor_remainder.mean",
        column(rows, |row| Some(row.remainder.into())),
    );
    compare(
        "taylor_remainder.std",
        column(rows, |row| Some(row.remainder_std.into())),
    );
}

fn compare_unroll_averages(comparison: &mut Comparison<'_>, unroll: &Unroll) {
    let (name, steps) = (format!("unroll_{:?}", unroll.scale), &unroll.steps);
    let groups: Vec<_> = steps.iter().map(|step| &step.groups).collect();
    compare_groups(comparison, &format!("groups.{name}_start"), &groups);
    let mut compare = |quantity: &str, values: Vec<f64>| {
        comparison.values(&format!("{name}_{quantity}"), &values);
    };
    compare("cosine.mean", column(steps, |step| step.cosine));
    compare("cosine.std", column(steps, |step| step.cosine_std));
    compare("l2_ratio.mean", column(steps, |step| plain(step.l2_ratio)));
    compare(
        "l2_ratio.std",
        column(steps, |step| plain(step.l2_ratio_std)),
    );
    compare("h_norm.mean", column(steps, |step| plain(step.h_norm)));
}

/// The averages of every state (exit or step) over every group; of an empty one the fixture has 0.
fn compare_groups(comparison: &mut Comparison<'_>, name: &str, states: &[&Groups]) {
    let mut compare = |quantity: &str, value: &dyn Fn(&Group) -> Option<f64>| {
        let by_group = states.iter().flat_map(|groups| {
            [&groups.all, &groups.correct, &groups.borderline].map(|group| {
                assert_eq!(
                    value(group).is_none(),
                    group.samples == 0,
                    "{name}.{quantity}"
                );
                value(group).unwrap_or(0.0)
            })
        });
        comparison.values(&format!("{name}.{quantity}"), &by_group.collect::<Vec<_>>());
    };
    compare("correct_mean", &|group| group.accuracy);
    compare("loss_mean", &|group| plain(group.loss));
    compare("loss_std", &|group| plain(group.loss_std));
    compare("entropy_mean", &|group| plain(group.entropy));
    compare("entropy_std", &|group| plain(group.entropy_std));
    let sizes = [&states[0].all, &states[0].correct, &states[0].borderline];
    comparison.values(
        &format!("{name}.samples"),
        &sizes.map(|group| group.samples as f64),
    );
}

/// Compares `[rows, samples]`, of which each sample's analysis gives a column.
fn compare_samples(
    comparison: &mut Comparison<'_>,
    name: &str,
    samples: &[Split],
    rows: &dyn Fn(&Split) -> Vec<f64>,
) {
    let columns: Vec<_> = samples.iter().map(rows).collect();
    let by_row =
        (0..columns[0].len()).flat_map(|row| columns.iter().map(move |column| column[row]));
    comparison.values(name, &by_row.collect::<Vec<_>>());
}

type Compare<'a> = &'a mut dyn FnMut(&str, &dyn Fn(&Split) -> Vec<f64>);

fn compare_blocks_of_samples(compare: Compare<'_>) {
    compare("cosine", &|split| column(&split.blocks, |b| b.cosine));
    compare("exit_cosine", &|split| {
        column(&split.blocks, |b| b.exit_cosine)
    });
    compare("l2_ratio", &|split| {
        column(&split.blocks, |b| plain(b.l2_ratio))
    });
    compare("gradient_norm", &|split| {
        column(&split.blocks, |b| plain(b.grad_norm))
    });
    compare("h_norm", &|split| {
        column(&split.blocks, |b| plain(b.h_norm))
    });
    compare("drop_loss", &|split| {
        column(&split.blocks, |b| plain(b.drop_loss))
    });
    compare("drop_correct", &|split| {
        column(&split.blocks, |b| b.drop_accuracy)
    });
}

fn compare_last_stage_of_samples(compare: Compare<'_>) {
    compare("exit_loss", &|split| {
        column(&split.exits, |exit| plain(exit.groups.all.loss))
    });
    compare("exit_entropy", &|split| {
        column(&split.exits, |exit| plain(exit.groups.all.entropy))
    });
    compare("exit_correct", &|split| {
        column(&split.exits, |exit| exit.groups.all.accuracy)
    });
    compare("taylor_predicted", &|split| {
        column(&split.taylor, |row| Some(row.predicted_change.into()))
    });
    compare("taylor_remainder", &|split| {
        column(&split.taylor, |row| Some(row.remainder.into()))
    });
}

fn compare_unroll_of_samples(compare: Compare<'_>, index: usize, name: &str) {
    fn steps(split: &Split, index: usize) -> &[ir_analysis::results::UnrollStep] {
        &split.unroll[index].steps
    }
    compare(&format!("{name}_loss"), &|split| {
        column(steps(split, index), |step| plain(step.groups.all.loss))
    });
    compare(&format!("{name}_entropy"), &|split| {
        column(steps(split, index), |step| plain(step.groups.all.entropy))
    });
    compare(&format!("{name}_correct"), &|split| {
        column(steps(split, index), |step| step.groups.all.accuracy)
    });
    compare(&format!("{name}_cosine"), &|split| {
        column(steps(split, index), |step| step.cosine)
    });
    compare(&format!("{name}_l2_ratio"), &|split| {
        column(steps(split, index), |step| plain(step.l2_ratio))
    });
    compare(&format!("{name}_h_norm"), &|split| {
        column(steps(split, index), |step| plain(step.h_norm))
    });
}
