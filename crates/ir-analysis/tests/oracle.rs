//! Every measure against the f64 oracle, on networks with every feature of the trait.

mod support;

use ir_analysis::results::{Group, Groups, Split};
use ir_analysis::{Number, Options, ReferenceExit, UnrollScale, analyze_split};
use support::oracle::{Oracle, Outcome, cosine, dot, norm, over};
use support::{Dense, Samples, assert_close, zoo};

/// The bound for means of values of order 1. A path from the image to the loss has at most 10
/// blocks (4 and 6 unrolled steps) of two products of at most 9 terms and one addition, so about
/// 10 · (9 + 9 + 1) = 190 roundings of at most 2⁻²⁴ = 6e-8 each: 1.1e-5 if all added up.
const TOLERANCE: f64 = 1e-5;
const SAMPLES: usize = 41;
const UNROLL_STEPS: usize = 6;

/// All networks, analysed in batches of 7 with two scales.
fn analysed(reference: ReferenceExit) -> Vec<(&'static str, Dense, Samples, Split)> {
    let options = Options {
        exits_shown: 2,
        reference,
        unroll_steps: UNROLL_STEPS,
        unroll_scales: vec![UnrollScale::UNSCALED, UnrollScale::fixed(0.25)],
        ..Options::default()
    };
    let analyse = |(name, network): (&'static str, Dense)| {
        let samples = Samples::new(SAMPLES, 4, 3);
        let split = analyze_split(&network, samples.batches(7), &options, &mut |_| {});
        (name, network, samples, split.expect("a sound network"))
    };
    zoo().into_iter().map(analyse).collect()
}

fn check(what: &str, found: (Option<f64>, Option<f64>), expected: (f64, f64)) {
    assert_close(what, found.0.expect("measured"), expected.0, TOLERANCE);
    assert_close(
        &format!("std of {what}"),
        found.1.expect("measured"),
        expected.1,
        TOLERANCE,
    );
}

fn plain(number: Option<Number>) -> Option<f64> {
    number.map(f64::from)
}

/// A number of one sample, from s_j and F_j.
type Measured<'a> = dyn Fn(&Oracle<'_>, &[f64], &[f64]) -> f64 + 'a;

/// Index of the first block of the last stage.
fn start(network: &Dense) -> usize {
    let last = network.blocks.last().expect("blocks").stage;
    network
        .blocks
        .iter()
        .position(|block| block.stage == last)
        .expect("a last stage")
}

#[test]
fn whole_network() {
    for (name, network, samples, split) in analysed(ReferenceExit::FirstShown) {
        let accuracy = over(&network, &samples, |net, x| {
            f64::from(u8::from(net.from(0, x).correct))
        });
        let loss = over(&network, &samples, |net, x| net.from(0, x).loss);
        assert_eq!(split.samples, SAMPLES);
        assert_close(
            &format!("{name}: accuracy"),
            split.accuracy,
            accuracy.0,
            1e-12,
        );
        assert_close(&format!("{name}: loss"), split.loss, loss.0, TOLERANCE);
    }
}

#[test]
fn cosines_ratios_and_norms() {
    for (name, network, samples, split) in analysed(ReferenceExit::FirstShown) {
        for (j, block) in split.blocks.iter().enumerate() {
            let what = |measure: &str| format!("{name}, block {j}: {measure}");
            let of = |value: &dyn Fn(&Oracle<'_>, &[f64]) -> f64| {
                over(&network, &samples, |net, x| value(net, &net.path(x)[j]))
            };
            assert_eq!(block.block, j);
            assert_eq!(block.stage, network.blocks[j].stage);
            assert_eq!(block.transition, network.blocks[j].shortcut.is_some());
            let expected = of(&|net, h| cosine(&net.branch(j, h), &net.network_gradient(j, h)));
            check(&what("cosine"), (block.cosine, block.cosine_std), expected);
            let expected = of(&|net, h| norm(&net.network_gradient(j, h)));
            check(
                &what("gradient"),
                (plain(block.grad_norm), plain(block.grad_norm_std)),
                expected,
            );
            let expected = of(&|net, h| norm(&net.branch(j, h)) / norm(&net.shortcut(j, h)));
            check(
                &what("ratio"),
                (plain(block.l2_ratio), plain(block.l2_ratio_std)),
                expected,
            );
            let expected = of(&|net, h| norm(&net.shortcut(j, h)));
            check(
                &what("norm"),
                (plain(block.h_norm), plain(block.h_norm_std)),
                expected,
            );
            if j < start(&network) {
                assert_eq!((block.exit_cosine, block.exit_cosine_std), (None, None));
                continue;
            }
            let expected =
                of(&|net, h| cosine(&net.branch(j, h), &net.exit_gradient(&net.shortcut(j, h))));
            check(
                &what("exit cosine"),
                (block.exit_cosine, block.exit_cosine_std),
                expected,
            );
        }
    }
}

#[test]
fn dropped_blocks() {
    for (name, network, samples, split) in analysed(ReferenceExit::FirstShown) {
        for (j, block) in split.blocks.iter().enumerate() {
            let dropped = |net: &Oracle<'_>, x: &[f64]| {
                let s = net.shortcut(j, &net.path(x)[j]);
                let nothing = vec![0.0; s.len()];
                net.from(j + 1, &net.join(j, &s, &nothing, 1.0))
            };
            let what = format!("{name}, block {j} dropped");
            let loss = over(&network, &samples, |net, x| dropped(net, x).loss);
            check(
                &what,
                (plain(block.drop_loss), plain(block.drop_loss_std)),
                loss,
            );
            let correct = over(&network, &samples, |net, x| {
                f64::from(u8::from(dropped(net, x).correct))
            });
            assert_close(
                &what,
                block.drop_accuracy.expect("measured"),
                correct.0,
                1e-12,
            );
        }
    }
}

/// Compares groups with the outcomes and reference outcomes of each sample.
fn check_groups(
    what: &str,
    network: &Dense,
    samples: &Samples,
    groups: &Groups,
    outcome: &dyn Fn(&Oracle<'_>, &[f64]) -> Outcome,
    reference: &dyn Fn(&Oracle<'_>, &[f64]) -> Outcome,
) {
    let check_group = |group: &Group, belongs: &dyn Fn(Outcome) -> bool| {
        let mut chosen = samples.clone();
        let keep: Vec<bool> = samples
            .images
            .iter()
            .zip(&samples.labels)
            .map(|(x, &label)| {
                belongs(reference(
                    &Oracle {
                        network,
                        label: label as usize,
                    },
                    x,
                ))
            })
            .collect();
        let mut flags = keep.iter();
        chosen
            .images
            .retain(|_| *flags.next().expect("a flag each"));
        let mut flags = keep.iter();
        chosen
            .labels
            .retain(|_| *flags.next().expect("a flag each"));
        assert_eq!(group.samples, chosen.labels.len(), "{what}");
        if chosen.labels.is_empty() {
            assert_eq!(
                (group.accuracy, group.loss, group.entropy),
                (None, None, None)
            );
            return;
        }
        let loss = over(network, &chosen, |net, x| outcome(net, x).loss);
        check(what, (plain(group.loss), plain(group.loss_std)), loss);
        let entropy = over(network, &chosen, |net, x| outcome(net, x).entropy);
        check(
            what,
            (plain(group.entropy), plain(group.entropy_std)),
            entropy,
        );
        let correct = over(network, &chosen, |net, x| {
            f64::from(u8::from(outcome(net, x).correct))
        });
        assert_close(what, group.accuracy.expect("measured"), correct.0, 1e-12);
    };
    check_group(&groups.all, &|_| true);
    check_group(&groups.correct, &|reference| reference.correct);
    check_group(&groups.borderline, &|reference| {
        reference.margin.abs() < 0.1
    });
}

#[test]
fn exits() {
    for choice in [ReferenceExit::FirstShown, ReferenceExit::Final] {
        let mut borderline = 0;
        for (name, network, samples, split) in analysed(choice) {
            let (start, blocks) = (start(&network), network.blocks.len());
            assert_eq!(split.exits.len(), blocks - start + 1, "{name}");
            let read = |exit: usize| {
                move |net: &Oracle<'_>, x: &[f64]| match exit {
                    0 => net.exit(&net.shortcut(start, &net.path(x)[start])),
                    _ => net.exit(&net.path(x)[start + exit]),
                }
            };
            let reference = match choice {
                ReferenceExit::FirstShown => split.exits.len() - 2,
                ReferenceExit::Final => split.exits.len() - 1,
            };
            for (index, exit) in split.exits.iter().enumerate() {
                assert_eq!(
                    exit.after_block,
                    index.checked_sub(1).map(|offset| start + offset)
                );
                assert_eq!(exit.reference, index == reference);
                let what = format!("{name}, exit {index}");
                let (outcome, reference) = (read(index), read(reference));
                check_groups(
                    &what,
                    &network,
                    &samples,
                    &exit.groups,
                    &outcome,
                    &reference,
                );
            }
            borderline += split.exits[0].groups.borderline.samples;
        }
        assert!(
            borderline > 0,
            "the borderline group must be put to the test"
        );
    }
}

#[test]
fn unrolled_steps() {
    for (name, network, samples, split) in analysed(ReferenceExit::FirstShown) {
        let last = network.blocks.len() - 1;
        for (unroll, scale) in split.unroll.iter().zip([1.0, 0.25]) {
            assert_eq!(unroll.scale, scale);
            assert_eq!(unroll.steps.len(), UNROLL_STEPS + 1);
            for (k, step) in unroll.steps.iter().enumerate() {
                assert_eq!(step.step, k);
                // The h before and after the step; step 0 is the network's own last block.
                let state = |net: &Oracle<'_>, x: &[f64], steps: usize| {
                    let mut h = net.path(x).remove(last + 1);
                    for _ in 0..steps {
                        h = net.join(last, &h, &net.branch(last, &h), scale);
                    }
                    h
                };
                let before = |net: &Oracle<'_>, x: &[f64]| match k {
                    0 => net.path(x).remove(last),
                    _ => state(net, x, k - 1),
                };
                let what = format!("{name}, scale {scale}, step {k}");
                let expected = over(&network, &samples, |net, x| {
                    let h = before(net, x);
                    cosine(&net.branch(last, &h), &net.exit_gradient(&h))
                });
                check(&what, (step.cosine, step.cosine_std), expected);
                let factor = if k == 0 { 1.0 } else { scale };
                let expected = over(&network, &samples, |net, x| {
                    let h = before(net, x);
                    factor * norm(&net.branch(last, &h)) / norm(&h)
                });
                check(
                    &what,
                    (plain(step.l2_ratio), plain(step.l2_ratio_std)),
                    expected,
                );
                let expected = over(&network, &samples, |net, x| norm(&state(net, x, k)));
                assert_close(
                    &what,
                    plain(step.h_norm).expect("measured"),
                    expected.0,
                    TOLERANCE,
                );
                let outcome = |net: &Oracle<'_>, x: &[f64]| net.exit(&state(net, x, k));
                let reference = |net: &Oracle<'_>, x: &[f64]| net.from(0, x);
                check_groups(
                    &what,
                    &network,
                    &samples,
                    &step.groups,
                    &outcome,
                    &reference,
                );
            }
        }
    }
}

#[test]
fn taylor_table() {
    for (name, network, samples, split) in analysed(ReferenceExit::FirstShown) {
        let start = start(&network);
        assert_eq!(split.taylor.len(), network.blocks.len() - start);
        for (row, j) in split.taylor.iter().zip(start..) {
            assert_eq!(row.block, j);
            let of = |value: &Measured<'_>| {
                over(&network, &samples, |net, x| {
                    let path = net.path(x);
                    value(net, &net.shortcut(j, &path[j]), &net.branch(j, &path[j]))
                })
            };
            let what = |column: &str| format!("{name}, row {j}: {column}");
            let here = of(&|net, s, _| net.exit(s).loss);
            assert_close(&what("exit loss"), row.exit_loss.0, here.0, TOLERANCE);
            let next = of(&|net, s, branch| net.exit(&net.join(j, s, branch, 1.0)).loss);
            assert_close(
                &what("next exit loss"),
                row.next_exit_loss.0,
                next.0,
                TOLERANCE,
            );
            let change = of(&|net, s, branch| dot(branch, &net.exit_gradient(s)));
            let found = (row.predicted_change.0, row.predicted_change_std.0);
            check(&what("predicted"), (Some(found.0), Some(found.1)), change);
            let remainder = of(&|net, s, branch| {
                let next = net.exit(&net.join(j, s, branch, 1.0)).loss;
                next - net.exit(s).loss - dot(branch, &net.exit_gradient(s))
            });
            let found = (row.remainder.0, row.remainder_std.0);
            check(
                &what("remainder"),
                (Some(found.0), Some(found.1)),
                remainder,
            );
            // The four columns add up; all are f64 means of order 1 over 41 samples.
            let sum = row.exit_loss.0 + row.predicted_change.0 + row.remainder.0;
            assert_close(&what("sum"), sum, row.next_exit_loss.0, 1e-13);
        }
    }
}
