//! Deleted and reordered blocks, single paths and estimation errors, against the f64 oracle and
//! against networks whose numbers have a formula.

mod support;

use candle_core::{Device, Result, Tensor};
use ir_analysis::results::Split;
use ir_analysis::{Measure, Options, analyze_split};
use ir_models::{Block, ResidualNetwork};
use support::oracle::{Oracle, Outcome, differences, dot, norm, over};
use support::{Dense, Samples, assert_close, zoo};

/// The bound of the oracle's test of the paper's measures (oracle.rs), whose paths are as long.
const TOLERANCE: f64 = 1e-5;

/// More than there are subsets of any size of the zoo's blocks, so that all are taken.
const ALL: usize = 6;

fn measured(network: &dyn ResidualNetwork, samples: &Samples, measure: Measure) -> Split {
    let options = Options {
        measures: [measure].into(),
        draws: ALL,
        ..Options::default()
    };
    analyze_split(network, samples.batches(7), &options, &mut |_| {}).expect("a sound network")
}

fn each_of_the_zoo(measure: Measure, mut check: impl FnMut(&str, &Dense, &Samples, &Split)) {
    for (name, network) in zoo() {
        let samples = Samples::new(41, 4, 3);
        let split = measured(&network, &samples, measure);
        check(name, &network, &samples, &split);
    }
}

fn mean_and_std(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / count).sqrt())
}

/// The network with the branch of `applied[p]` at each place p, of none where that is `None`.
fn with_lesion(net: &Oracle<'_>, image: &[f64], applied: &[Option<usize>]) -> Outcome {
    let mut h = image.to_vec();
    for (place, block) in applied.iter().enumerate() {
        let s = net.shortcut(place, &h);
        let branch = match block {
            Some(block) => net.branch(*block, &h),
            None => vec![0.0; s.len()],
        };
        h = net.join(place, &s, &branch, 1.0);
    }
    net.exit(&h)
}

/// Compares accuracy and loss with a lesion.
fn check_lesion(
    what: &str,
    (network, samples): (&Dense, &Samples),
    (accuracy, loss): (f64, f64),
    applied: &[Option<usize>],
) {
    let expected = over(network, samples, |net, x| with_lesion(net, x, applied).loss);
    assert_close(&format!("{what}: loss"), loss, expected.0, TOLERANCE);
    let correct =
        |net: &Oracle<'_>, x: &[f64]| f64::from(u8::from(with_lesion(net, x, applied).correct));
    let expected = over(network, samples, correct);
    assert_close(&format!("{what}: accuracy"), accuracy, expected.0, 1e-12);
}

#[test]
fn deleted_blocks() {
    each_of_the_zoo(Measure::Delete, |name, network, samples, split| {
        let blocks = network.blocks.len();
        let ordinary = network
            .blocks()
            .iter()
            .filter(|block| !block.transition)
            .count();
        let sizes: Vec<_> = split.deletions.iter().map(|found| found.deleted).collect();
        assert_eq!(sizes, (1..=ordinary).collect::<Vec<_>>(), "{name}");
        for found in &split.deletions {
            // C(3, k) and C(2, k) sets; all differ, and none has a transition.
            let sets = [&[1][..], &[1, 1], &[1, 2, 1], &[1, 3, 3, 1]][ordinary][found.deleted];
            assert_eq!(found.draws.len(), sets, "{name}");
            for (index, draw) in found.draws.iter().enumerate() {
                let what = format!("{name} without {:?}", draw.blocks);
                assert_eq!(draw.blocks.len(), found.deleted, "{what}");
                assert!(
                    draw.blocks
                        .iter()
                        .all(|&j| network.blocks[j].shortcut.is_none())
                );
                assert!(
                    !found.draws[..index]
                        .iter()
                        .any(|other| other.blocks == draw.blocks)
                );
                let applied = |place| (!draw.blocks.contains(&place)).then_some(place);
                let applied: Vec<_> = (0..blocks).map(applied).collect();
                check_lesion(
                    &what,
                    (network, samples),
                    (draw.accuracy, draw.loss.0),
                    &applied,
                );
            }
            let accuracies: Vec<_> = found.draws.iter().map(|draw| draw.accuracy).collect();
            let losses: Vec<_> = found.draws.iter().map(|draw| draw.loss.0).collect();
            let expected = (mean_and_std(&accuracies), mean_and_std(&losses));
            assert_close(name, found.accuracy, expected.0.0, 1e-14);
            assert_close(name, found.accuracy_std, expected.0.1, 1e-14);
            assert_close(name, found.loss.0, expected.1.0, 1e-14);
            assert_close(name, found.loss_std.0, expected.1.1, 1e-14);
        }
    });
}

#[test]
fn reordered_blocks() {
    let mut moved = 0;
    each_of_the_zoo(Measure::Reorder, |name, network, samples, split| {
        // A stage of two ordinary blocks is the least that has a pair.
        let blocks = network.blocks();
        let ordinary = |stage| {
            let in_stage = |block: &&Block| block.stage == stage && !block.transition;
            blocks.iter().filter(in_stage).count()
        };
        let pairs = blocks.iter().any(|block| ordinary(block.stage) > 1);
        assert_eq!(!split.reorderings.is_empty(), pairs, "{name}");
        for found in &split.reorderings {
            assert_eq!(found.draws.len(), ALL);
            for draw in &found.draws {
                let what = format!("{name} as {:?}", draw.order);
                let applied: Vec<_> = draw.order.iter().copied().map(Some).collect();
                check_lesion(
                    &what,
                    (network, samples),
                    (draw.accuracy, draw.loss.0),
                    &applied,
                );
                moved += usize::from(!draw.order.is_sorted());
                assert_eq!(draw.kendall_tau == 1.0, draw.order.is_sorted(), "{what}");
            }
            let taus: Vec<_> = found.draws.iter().map(|draw| draw.kendall_tau).collect();
            let losses: Vec<_> = found.draws.iter().map(|draw| draw.loss.0).collect();
            assert_close(name, found.kendall_tau, mean_and_std(&taus).0, 1e-14);
            assert_close(name, found.loss.0, mean_and_std(&losses).0, 1e-14);
            assert_close(name, found.loss_std.0, mean_and_std(&losses).1, 1e-14);
        }
    });
    assert!(moved > 20, "orders that differ must be put to the test");
}

/// ∂L/∂h_0 through a single path, each block's own derivative by central differences.
fn path_gradient(net: &Oracle<'_>, image: &[f64], takes: &[bool]) -> Vec<f64> {
    let path = net.path(image);
    let mut gradient = net.exit_gradient(&path[takes.len()]);
    for (j, &takes_branch) in takes.iter().enumerate().rev() {
        let (s, branch) = (net.shortcut(j, &path[j]), net.branch(j, &path[j]));
        let nothing = vec![0.0; s.len()];
        let sum: Vec<f64> = s
            .iter()
            .zip(&branch)
            .map(|(s, branch)| s + branch)
            .collect();
        let through = |gradient: &[f64], value: &[f64]| dot(gradient, value);
        gradient = differences(&sum, |sum| {
            through(&gradient, &net.join(j, sum, &nothing, 1.0))
        });
        gradient = differences(&path[j], |h| match takes_branch {
            true => through(&gradient, &net.branch(j, h)),
            false => through(&gradient, &net.shortcut(j, h)),
        });
    }
    gradient
}

#[test]
fn single_paths() {
    each_of_the_zoo(Measure::Paths, |name, network, samples, split| {
        let blocks = network.blocks.len();
        assert_eq!(split.paths.len(), blocks + 1);
        let mut all = 0.0;
        for (length, found) in split.paths.iter().enumerate() {
            let of_length = |set: &u32| set.count_ones() as usize == length;
            let sets: Vec<u32> = (0..1 << blocks).filter(of_length).collect();
            let norms = sets.iter().map(|set| {
                let takes: Vec<bool> = (0..blocks).map(|j| set >> j & 1 == 1).collect();
                over(network, samples, |net, x| {
                    norm(&path_gradient(net, x, &takes))
                })
                .0
            });
            let expected = mean_and_std(&norms.collect::<Vec<_>>());
            let what = format!("{name}, paths of {length}");
            assert_eq!(
                (found.length, found.sampled),
                (length, sets.len()),
                "{what}"
            );
            assert_eq!(found.paths.0, sets.len() as f64);
            assert_close(&what, found.gradient_norm.0, expected.0, TOLERANCE);
            assert_close(&what, found.gradient_norm_std.0, expected.1, TOLERANCE);
            let total = found.paths.0 * found.gradient_norm.0;
            assert_close(&what, found.contribution.0, total, 1e-14);
            all += total;
        }
        // The gradient is the sum over all paths, so it is no longer than they are together.
        let whole = |net: &Oracle<'_>, x: &[f64]| norm(&differences(x, |x| net.from(0, x).loss));
        assert!(all > over(network, samples, whole).0, "{name}");
    });
}

/// The oracle's own definition: over all paths the gradients add up to the network's.
#[test]
fn all_paths_together_are_the_gradient() {
    for (name, network) in zoo() {
        let (samples, blocks) = (Samples::new(9, 4, 3), network.blocks.len());
        for (image, &label) in samples.images.iter().zip(&samples.labels) {
            let net = Oracle {
                network: &network,
                label: label as usize,
            };
            let whole = differences(image, |x| net.from(0, x).loss);
            let mut sum = vec![0.0; image.len()];
            for set in 0u32..1 << blocks {
                let takes: Vec<bool> = (0..blocks).map(|j| set >> j & 1 == 1).collect();
                let gradient = path_gradient(&net, image, &takes);
                sum.iter_mut()
                    .zip(gradient)
                    .for_each(|(sum, part)| *sum += part);
            }
            // 16 paths of 8 differences each, whose errors are about 1e-10.
            for (found, expected) in sum.iter().zip(whole) {
                assert_close(name, *found, expected, 1e-7);
            }
        }
    }
}

/// Blocks that add gain · h, read by the identity: a path's gradient is the product of its gains.
struct Gains(Vec<f64>);

impl ResidualNetwork for Gains {
    fn blocks(&self) -> Vec<Block> {
        let block = Block {
            stage: 0,
            transition: false,
        };
        vec![block; self.0.len()]
    }
    fn stem(&self, images: &Tensor) -> Result<Tensor> {
        images.flatten_from(1)
    }
    fn branch(&self, block: usize, h: &Tensor) -> Result<Tensor> {
        h * self.0[block]
    }
    fn head(&self, h: &Tensor) -> Result<Tensor> {
        Ok(h.clone())
    }
}

fn path_norms(gains: Vec<f64>, draws: usize) -> (Split, f64) {
    let network = Gains(gains);
    let image = Tensor::new(&[[1f32, 1.]], &Device::Cpu).expect("a tensor");
    let label = Tensor::new(&[0u32], &Device::Cpu).expect("a tensor");
    let options = Options {
        measures: [Measure::Paths].into(),
        draws,
        ..Options::default()
    };
    let batches = vec![Ok::<_, ir_analysis::Error>((image, label))];
    let split = analyze_split(&network, batches, &options, &mut |_| {}).expect("a sound network");
    // Both logits are equal, so ∂L/∂h_L = (−1/2, 1/2).
    (split, 0.5f64.sqrt())
}

#[test]
fn paths_through_gains_are_elementary_symmetric_polynomials() {
    let gains = vec![0.5, 0.25, 1.5, 2.0, 0.125, 1.0];
    // Coefficients of Π (1 + gain t): all paths of a length together.
    let mut together = vec![1.0];
    for gain in &gains {
        together.push(0.0);
        for k in (1..together.len()).rev() {
            together[k] += gain * together[k - 1];
        }
    }
    let (split, unit) = path_norms(gains, 20);
    for (found, expected) in split.paths.iter().zip(together) {
        let what = format!("paths of {}", found.length);
        // Gains and their products are exact in f32; √½ is rounded once, 6e-8.
        assert_close(&what, found.contribution.0 / unit, expected, 1e-7);
    }
}

#[test]
fn long_paths_neither_vanish_nor_overflow() {
    for gain in [1e-3, 1e-20, 1e3] {
        // The network's own activations stay finite for 12 blocks.
        let (split, unit) = path_norms(vec![gain; 12], 3);
        for found in &split.paths {
            assert_eq!(
                found.sampled,
                if matches!(found.length, 0 | 12) { 1 } else { 3 }
            );
            let rounded = f64::from(gain as f32);
            let expected = rounded.powi(i32::try_from(found.length).expect("small"));
            let what = format!("{} branches of gain {gain}", found.length);
            // One rounding of at most 2⁻²⁴ a branch.
            assert_close(
                &what,
                found.gradient_norm.0 / unit / expected,
                1.0,
                12.0 * 6e-8,
            );
        }
    }
}

#[test]
fn estimation_errors() {
    each_of_the_zoo(Measure::Estimation, |name, network, samples, split| {
        let blocks = network.blocks.len();
        assert_eq!(split.estimations.len(), blocks);
        for (j, found) in split.estimations.iter().enumerate() {
            let stage = network.blocks[j].stage;
            let in_stage = |block: &usize| network.blocks[*block].stage == stage;
            let last = (0..blocks)
                .rev()
                .find(in_stage)
                .expect("a stage has a last block");
            let units = |net: &Oracle<'_>, x: &[f64]| {
                let path = net.path(x);
                let h = net.shortcut(j, &path[j]);
                let mut end = path[last + 1].clone();
                if end.len() != h.len() {
                    let s = net.shortcut(last, &path[last]);
                    let branch = net.branch(last, &path[last]);
                    end = s
                        .iter()
                        .zip(&branch)
                        .map(|(s, branch)| s + branch)
                        .collect();
                }
                let error: Vec<f64> = h.iter().zip(&end).map(|(h, end)| h - end).collect();
                (error, norm(&end))
            };
            let mut errors = Vec::new();
            for (x, &label) in samples.images.iter().zip(&samples.labels) {
                errors.extend(
                    units(
                        &Oracle {
                            network,
                            label: label as usize,
                        },
                        x,
                    )
                    .0,
                );
            }
            let (mean, std) = mean_and_std(&errors);
            let what = format!("{name}, block {j}");
            assert_eq!(
                (found.block, found.stage, found.undefined),
                (j, stage, 0),
                "{what}"
            );
            assert_close(&what, found.error.0, mean, TOLERANCE);
            assert_close(&what, found.error_std.0, std, TOLERANCE);
            let distance = over(network, samples, |net, x| {
                let (error, end) = units(net, x);
                norm(&error) / end
            });
            let of = |number: Option<ir_analysis::Number>| number.expect("defined").0;
            assert_close(&what, of(found.distance), distance.0, TOLERANCE);
            assert_close(&what, of(found.distance_std), distance.1, TOLERANCE);
        }
    });
}
