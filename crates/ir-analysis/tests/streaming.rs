//! Batches: their size changes nothing, and nothing is computed twice.

mod support;

use std::cell::RefCell;
use std::collections::BTreeMap;

use candle_core::{Result, Tensor};
use ir_analysis::results::Split;
use ir_analysis::{
    Measure, Options, UnrollScale, analyze_split, evaluate, exit_accuracies, stages,
};
use ir_models::{Block, ResidualNetwork};
use serde_json::Value;
use support::{Dense, Samples, assert_close, zoo};

/// Every number of a split, by its path in the JSON.
fn numbers_of(split: &Split) -> BTreeMap<String, f64> {
    fn walk(path: &str, value: &Value, into: &mut BTreeMap<String, f64>) {
        match value {
            Value::Number(number) => {
                into.insert(path.to_owned(), number.as_f64().expect("a float"));
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    walk(&format!("{path}[{index}]"), item, into);
                }
            }
            Value::Object(fields) => {
                for (name, field) in fields {
                    walk(&format!("{path}.{name}"), field, into);
                }
            }
            Value::Null | Value::Bool(_) | Value::String(_) => {}
        }
    }
    let mut numbers = BTreeMap::new();
    walk(
        "split",
        &serde_json::to_value(split).expect("plain data"),
        &mut numbers,
    );
    numbers
}

#[test]
fn the_batch_size_changes_nothing() {
    // A matrix product may add its terms in another order for another number of rows; the rest
    // is one sample at a time. So the bound is that of the oracle's test, for 8 unrolled steps.
    const TOLERANCE: f64 = 1.5e-5;
    let options = Options {
        unroll_steps: 8,
        ..Options::default()
    };
    for (name, network) in zoo() {
        let samples = Samples::new(22, 4, 3);
        let analyse = |size: usize| {
            let split = analyze_split(&network, samples.batches(size), &options, &mut |_| {});
            numbers_of(&split.expect("a sound network"))
        };
        let one_by_one = analyse(1);
        assert!(one_by_one.len() > 100, "the walk finds the numbers");
        for size in [3, 7, 22] {
            let found = analyse(size);
            assert!(
                found.keys().eq(one_by_one.keys()),
                "{name}: other fields at {size}"
            );
            for (path, expected) in &one_by_one {
                let what = format!("{name}, batches of {size}: {path}");
                assert_close(&what, found[path], *expected, TOLERANCE);
            }
        }
    }
}

#[test]
fn progress_follows_the_batches() {
    let (_, network) = zoo().remove(0);
    let samples = Samples::new(8, 4, 3);
    let options = Options {
        measures: [].into(),
        ..Options::default()
    };
    let mut seen = Vec::new();
    let split = analyze_split(&network, samples.batches(3), &options, &mut |progress| {
        seen.push(progress);
    })
    .expect("a sound network");
    let counts: Vec<_> = seen.iter().map(|at| (at.batches, at.samples)).collect();
    assert_eq!(counts, [(1, 3), (2, 6), (3, 8)]);
    let last = seen.last().expect("three calls");
    assert_eq!((last.accuracy, last.loss), (split.accuracy, split.loss));
}

#[test]
fn what_is_not_asked_for_is_not_there() {
    let (_, network) = zoo().remove(1);
    let samples = Samples::new(5, 4, 3);
    for measure in Measure::all() {
        let options = Options {
            measures: [measure].into(),
            ..Options::default()
        };
        let split = analyze_split(&network, samples.batches(5), &options, &mut |_| {});
        let split = split.expect("a sound network");
        let last = split.blocks.last().expect("blocks");
        let asked = |one: Measure| measure == one;
        assert_eq!(last.cosine.is_some(), asked(Measure::Cosine), "{measure}");
        assert_eq!(
            last.grad_norm.is_some(),
            asked(Measure::Cosine),
            "{measure}"
        );
        assert_eq!(
            last.exit_cosine.is_some(),
            asked(Measure::ExitCosine),
            "{measure}"
        );
        assert_eq!(last.l2_ratio.is_some(), asked(Measure::Ratio), "{measure}");
        assert_eq!(last.h_norm.is_some(), asked(Measure::Ratio), "{measure}");
        assert_eq!(last.drop_loss.is_some(), asked(Measure::Drop), "{measure}");
        assert_eq!(!split.exits.is_empty(), asked(Measure::Exits), "{measure}");
        assert_eq!(
            !split.unroll.is_empty(),
            asked(Measure::Unroll),
            "{measure}"
        );
        for (found, one) in [
            (!split.taylor.is_empty(), Measure::Taylor),
            (!split.deletions.is_empty(), Measure::Delete),
            (!split.reorderings.is_empty(), Measure::Reorder),
            (!split.paths.is_empty(), Measure::Paths),
            (!split.estimations.is_empty(), Measure::Estimation),
        ] {
            assert_eq!(found, asked(one), "{measure}");
        }
    }
}

#[test]
fn forward_only_evaluations_agree_with_the_analysis() {
    let options = Options {
        measures: [Measure::Exits].into(),
        ..Options::default()
    };
    for (name, network) in zoo() {
        let samples = Samples::new(20, 4, 3);
        let split = analyze_split(&network, samples.batches(4), &options, &mut |_| {});
        let split = split.expect("a sound network");
        // The same operations on the same batches: equal, not close.
        let whole = evaluate(&network, samples.batches(4)).expect("a sound network");
        let found = (whole.samples, whole.accuracy, whole.loss);
        assert_eq!(found, (split.samples, split.accuracy, split.loss), "{name}");
        let exits = exit_accuracies(&network, samples.batches(4)).expect("a sound network");
        assert_eq!(exits.len(), split.exits.len());
        for (found, exit) in exits.iter().zip(&split.exits) {
            assert_eq!(found.after_block, exit.after_block);
            assert_eq!(Some(found.accuracy), exit.groups.all.accuracy, "{name}");
            assert_eq!(Some(found.loss), exit.groups.all.loss, "{name}");
        }
    }
}

#[test]
fn stages_have_the_shape_that_their_blocks_compare() {
    let shapes = |index: usize| {
        let (_, network) = zoo().remove(index);
        let (images, _) = Samples::new(1, 4, 3).whole();
        let stages = stages(&network, &images).expect("a sound network");
        let row = |stage: &ir_analysis::results::Stage| {
            (
                stage.stage,
                stage.first_block,
                stage.last_block,
                stage.shape.clone(),
            )
        };
        stages.iter().map(row).collect::<Vec<_>>()
    };
    assert_eq!(shapes(0), [(0, 0, 2, vec![4])]);
    assert_eq!(shapes(1), [(0, 0, 0, vec![4]), (1, 1, 3, vec![6])]);
    assert_eq!(shapes(2), [(0, 0, 1, vec![4]), (1, 2, 2, vec![2])]);
}

/// Counts how often each function of a network is called.
struct Counting {
    network: Dense,
    calls: RefCell<BTreeMap<&'static str, usize>>,
}

impl Counting {
    fn count(&self, function: &'static str) {
        *self.calls.borrow_mut().entry(function).or_default() += 1;
    }
}

impl ResidualNetwork for Counting {
    fn blocks(&self) -> Vec<Block> {
        self.network.blocks()
    }
    fn stem(&self, images: &Tensor) -> Result<Tensor> {
        self.count("stem");
        self.network.stem(images)
    }
    fn branch(&self, block: usize, h: &Tensor) -> Result<Tensor> {
        self.count("branch");
        self.network.branch(block, h)
    }
    fn head(&self, h: &Tensor) -> Result<Tensor> {
        self.count("head");
        self.network.head(h)
    }
}

#[test]
fn no_measure_runs_again_what_the_trace_holds() {
    const STEPS: usize = 5;
    let blocks: Vec<_> = (0..6).map(|j| Dense::block(j, 0, 4)).collect();
    let calls = |measures: &[Measure]| {
        let network = Counting {
            network: Dense::new(blocks.clone(), 4, 3),
            calls: RefCell::default(),
        };
        let options = Options {
            measures: measures.iter().copied().collect(),
            unroll_steps: STEPS,
            unroll_scales: vec![UnrollScale::UNSCALED, UnrollScale::fixed(0.1)],
            ..Options::default()
        };
        let batches = Samples::new(4, 4, 3).batches(4);
        analyze_split(&network, batches, &options, &mut |_| {}).expect("a sound network");
        let calls = network.calls.into_inner();
        (calls["stem"], calls["branch"], calls["head"])
    };
    assert_eq!(calls(&[]), (1, 6, 1));
    assert_eq!(calls(&[Measure::Cosine, Measure::Ratio]), (1, 6, 1));
    // Dropping block j runs the 5 − j blocks behind it: 5 + 4 + 3 + 2 + 1.
    assert_eq!(calls(&[Measure::Drop]), (1, 6 + 15, 1 + 6));
    // 7 exits, of which the last is the network itself.
    let exits = [Measure::Exits, Measure::ExitCosine, Measure::Taylor];
    assert_eq!(calls(&exits), (1, 6, 1 + 6));
    // Two scales of 5 steps; without the cosines one more head, for the gradient at h_L.
    let unroll = (1, 6 + 2 * STEPS, 1 + 1 + 6 + 2 * STEPS);
    assert_eq!(calls(&[Measure::Unroll]), unroll);
    // With them, the same on top of the exits.
    assert_eq!(
        calls(&Measure::PAPER),
        (1, 6 + 15 + 2 * STEPS, 1 + 6 + 6 + 2 * STEPS)
    );
}
