//! Networks whose every number can be worked out on paper.

use candle_core::{Device, Result, Tensor};
use ir_analysis::results::{ScaleSource, Split};
use ir_analysis::{
    Measure, Options, UnrollScale, analyze_split, choose_scale, exit_accuracies, trace,
};
use ir_models::{Block, ResidualNetwork};

/// Two blocks on the plane: the first turns h by a right angle and adds it, the second adds
/// `gain` · h. The logits are h itself.
struct Plane {
    gain: f64,
}

impl ResidualNetwork for Plane {
    fn blocks(&self) -> Vec<Block> {
        vec![
            Block {
                stage: 0,
                transition: false
            };
            2
        ]
    }

    fn stem(&self, images: &Tensor) -> Result<Tensor> {
        Ok(images.clone())
    }

    fn branch(&self, block: usize, h: &Tensor) -> Result<Tensor> {
        match block {
            // (x, y) → (−y, x).
            0 => h.matmul(&Tensor::new(&[[0f32, 1.], [-1., 0.]], &Device::Cpu)?),
            _ => h * self.gain,
        }
    }

    fn head(&self, h: &Tensor) -> Result<Tensor> {
        Ok(h.clone())
    }
}

/// One sample at (1, 0) with label 0.
fn sample() -> Vec<Result<(Tensor, Tensor)>> {
    vec![
        Tensor::new(&[[1f32, 0.]], &Device::Cpu)
            .and_then(|x| Ok((x, Tensor::new(&[0u32], &Device::Cpu)?))),
    ]
}

fn analyse(options: &Options) -> Split {
    analyze_split(&Plane { gain: 1.0 }, sample(), options, &mut |_| {}).expect("a sound network")
}

/// Every number here is exact or comes from ln and sqrt of small numbers, so that f32 has only a
/// handful of roundings: 10 · 2⁻²⁴ = 6e-7.
#[track_caller]
fn close(found: impl Into<f64>, expected: f64) {
    let found = found.into();
    assert!(
        (found - expected).abs() < 1e-6,
        "found {found}, expected {expected}"
    );
}

/// −ln of p = e^a / (e^a + e^b).
fn loss(correct: f64, other: f64) -> f64 {
    (1.0 + (other - correct).exp()).ln()
}

// h_0 = (1, 0), F_0 = (0, 1), h_1 = (1, 1), F_1 = (1, 1), h_2 = logits = (2, 2).
// p = (½, ½), ∂L/∂h_2 = (−½, ½), ∂L/∂h_1 = 2 · that = (−1, 1),
// ∂L/∂h_0 = ∂L/∂h_1 · (I + W)ᵀ with I + W = (1 1; −1 1): (−1 + 1, 1 + 1) = (0, 2).

#[test]
fn gradients() -> Result<()> {
    let (images, labels) = sample().remove(0)?;
    let trace = trace(&Plane { gain: 1.0 }, &images, &labels).expect("a sound network");
    let rows = |tensor: &Option<Tensor>| tensor.as_ref().expect("taken").to_vec2::<f32>();
    assert_eq!(rows(&trace.gradient_last)?, [[-0.5, 0.5]]);
    assert_eq!(rows(&trace.blocks[1].gradient)?, [[-1.0, 1.0]]);
    assert_eq!(rows(&trace.blocks[0].gradient)?, [[0.0, 2.0]]);
    assert_eq!(trace.blocks[1].h.to_vec2::<f32>()?, [[1.0, 1.0]]);
    assert_eq!(trace.blocks[0].branch.to_vec2::<f32>()?, [[0.0, 1.0]]);
    Ok(())
}

#[test]
fn blocks() {
    let blocks = analyse(&Options::default()).blocks;
    // F_0 = (0, 1) lies along (0, 2); F_1 = (1, 1) is at a right angle to (−1, 1).
    close(blocks[0].cosine.expect("defined"), 1.0);
    close(blocks[1].cosine.expect("defined"), 0.0);
    close(blocks[0].grad_norm.expect("measured"), 2.0);
    close(blocks[1].grad_norm.expect("measured"), 2f64.sqrt());
    close(blocks[0].l2_ratio.expect("defined"), 1.0);
    close(blocks[1].h_norm.expect("measured"), 2f64.sqrt());
    // At h_0 = (1, 0) the head says p_1 = 1 / (1 + e), so the exit gradient is p_1 · (−1, 1).
    close(blocks[0].exit_cosine.expect("defined"), 0.5f64.sqrt());
    close(blocks[1].exit_cosine.expect("defined"), 0.0);
    assert_eq!(blocks[0].cosine_std, Some(0.0));
}

#[test]
fn drops() {
    let blocks = analyse(&Options::default()).blocks;
    // Without block 0: h_1 = (1, 0), logits (2, 0). Without block 1: logits (1, 1), where the
    // first of equals counts.
    close(blocks[0].drop_loss.expect("measured"), loss(2.0, 0.0));
    close(blocks[1].drop_loss.expect("measured"), loss(1.0, 1.0));
    assert_eq!(
        (blocks[0].drop_accuracy, blocks[1].drop_accuracy),
        (Some(1.0), Some(1.0))
    );
}

#[test]
fn exits() {
    let split = analyse(&Options::default());
    // Logits (1, 0), (1, 1), (2, 2). With 3 exits, the first of the last 5 is the first: margin
    // p_0 − p_1 = 0.46, so the sample is correct and not borderline.
    let losses = [loss(1.0, 0.0), loss(1.0, 1.0), loss(2.0, 2.0)];
    for (exit, expected) in split.exits.iter().zip(losses) {
        close(exit.groups.all.loss.expect("one sample"), expected);
        assert_eq!(
            (exit.groups.correct.samples, exit.groups.borderline.samples),
            (1, 0)
        );
    }
    close(
        split.exits[2].groups.all.entropy.expect("one sample"),
        2f64.ln(),
    );
    assert!(split.exits[0].reference && !split.exits[2].reference);

    let last = Options {
        exits_shown: 1,
        ..Options::default()
    };
    let split = analyse(&last);
    assert!(split.exits[2].reference);
    assert_eq!(split.exits[2].groups.borderline.samples, 1);

    let forward = exit_accuracies(&Plane { gain: 1.0 }, sample()).expect("a sound network");
    for (exit, expected) in forward.iter().zip(losses) {
        close(exit.loss, expected);
    }
}

#[test]
fn unroll() {
    let scales = vec![UnrollScale::UNSCALED, UnrollScale::fixed(0.5)];
    let options = Options {
        unroll_steps: 3,
        unroll_scales: scales,
        ..Options::default()
    };
    let split = analyse(&options);
    for (unroll, growth) in split.unroll.iter().zip([2f64, 1.5]) {
        // F(h) = h, so each step multiplies h = (2, 2) by 1 + scale.
        for step in &unroll.steps {
            let length = 8f64.sqrt() * growth.powi(i32::try_from(step.step).expect("small"));
            close(step.h_norm.expect("measured").0 / length, 1.0);
            close(step.groups.all.loss.expect("one sample"), 2f64.ln());
            let ratio = if step.step == 0 { 1.0 } else { growth - 1.0 };
            close(step.l2_ratio.expect("defined"), ratio);
            close(step.cosine.expect("defined"), 0.0);
        }
    }
}

#[test]
fn taylor() {
    let rows = analyse(&Options::default()).taylor;
    // F_0 = (0, 1) against p_1 · (−1, 1): the predicted change is p_1 = 1 / (1 + e).
    let p_1 = 1.0 / (1.0 + 1f64.exp());
    close(rows[0].exit_loss, loss(1.0, 0.0));
    close(rows[0].next_exit_loss, 2f64.ln());
    close(rows[0].predicted_change, p_1);
    close(rows[0].remainder, 2f64.ln() - loss(1.0, 0.0) - p_1);
    close(rows[1].predicted_change, 0.0);
    close(rows[1].remainder, 0.0);
}

#[test]
fn the_scale_with_the_lowest_loss_is_chosen() {
    /// Logits h with F(h) = (x, 0): a larger step always lowers the loss of label 0.
    struct Towards;
    impl ResidualNetwork for Towards {
        fn blocks(&self) -> Vec<Block> {
            vec![Block {
                stage: 0,
                transition: false,
            }]
        }
        fn stem(&self, images: &Tensor) -> Result<Tensor> {
            Ok(images.clone())
        }
        fn branch(&self, _: usize, h: &Tensor) -> Result<Tensor> {
            h.matmul(&Tensor::new(&[[1f32, 0.], [0., 0.]], &Device::Cpu)?)
        }
        fn head(&self, h: &Tensor) -> Result<Tensor> {
            Ok(h.clone())
        }
    }

    let choice = choose_scale(&Towards, sample(), &[0.1, 0.5, 0.25], 2).expect("finite losses");
    assert_eq!(choice.scale.factor, 0.5);
    assert_eq!(choice.scale.source, ScaleSource::ChosenOnTrain);
    // h_1 = (2, 0), then twice times 1 + scale.
    for (scale, found) in choice.losses {
        close(found, loss(2.0 * (1.0 + scale).powi(2), 0.0));
    }
}

fn neighbours() -> Split {
    analyse(&Options {
        measures: Measure::NEIGHBOURS.into(),
        ..Options::default()
    })
}

#[test]
fn deletions_and_reorderings() {
    let split = neighbours();
    let [one, both] = &split.deletions[..] else {
        panic!("two blocks can be deleted");
    };
    // One at a time as in `drops`; without both the logits are (1, 0).
    let losses = [loss(2.0, 0.0), loss(1.0, 1.0)];
    close(one.loss, (losses[0] + losses[1]) / 2.0);
    close(one.loss_std, (losses[1] - losses[0]) / 2.0);
    assert_eq!((one.draws.len(), both.draws.len()), (2, 1));
    close(both.loss, loss(1.0, 0.0));
    assert_eq!(both.draws[0].blocks, [0, 1]);

    let [once, twice] = &split.reorderings[..] else {
        panic!("one swap and two");
    };
    // Doubled first and then turned, (1, 0) becomes (2, 0) and then (2, 2): the same.
    close(once.loss, 2f64.ln());
    assert_eq!((once.kendall_tau, twice.kendall_tau), (-1.0, 1.0));
    assert_eq!(once.draws[0].order, [1, 0]);
    close(twice.loss, split.loss);
}

#[test]
fn paths() {
    let options = Options {
        measures: [Measure::Paths].into(),
        ..Options::default()
    };
    let split = analyze_split(&Plane { gain: 3.0 }, sample(), &options, &mut |_| {});
    let paths = split.expect("a sound network").paths;
    // The logits are (4, 4) and ∂L/∂h_2 = (−½, ½), of length √½. Block 0 turns it, block 1 makes it
    // three times as long.
    let unit = 0.5f64.sqrt();
    for (found, norm) in paths.iter().zip([unit, 2.0 * unit, 3.0 * unit]) {
        close(found.gradient_norm, norm);
    }
    close(paths[1].gradient_norm_std, unit);
    close(paths[1].contribution, 4.0 * unit);
}

#[test]
fn estimations() {
    let rows = neighbours().estimations;
    // h_0 − h_2 = (−1, −2) and h_1 − h_2 = (−1, −1), with h_2 = (2, 2).
    close(rows[0].error, -1.5);
    close(rows[0].error_std, 0.5);
    close(rows[0].distance.expect("defined"), (5f64 / 8.0).sqrt());
    close(rows[1].error, -1.0);
    close(rows[1].error_std, 0.0);
    close(rows[1].distance.expect("defined"), 0.5);
}
