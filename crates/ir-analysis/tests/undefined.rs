//! What has no value is said to have none, and what overflows is reported as that.

use candle_core::{Device, Result, Tensor};
use ir_analysis::results::Split;
use ir_analysis::{Measure, Options, UnrollScale, analyze_split, choose_scale};
use ir_models::{Block, ResidualNetwork};

/// One block that adds `gain` · h, read by `head` · h.
struct Gain {
    gain: f64,
    head: f64,
}

impl ResidualNetwork for Gain {
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
        h * self.gain
    }
    fn head(&self, h: &Tensor) -> Result<Tensor> {
        h * self.head
    }
}

type Batches = Vec<Result<(Tensor, Tensor)>>;

fn batches(images: &[[f32; 2]]) -> Batches {
    let image = |row: &[f32; 2]| {
        Ok((
            Tensor::new(&[*row], &Device::Cpu)?,
            Tensor::new(&[0u32], &Device::Cpu)?,
        ))
    };
    images.iter().map(image).collect()
}

fn analyse(network: &Gain, images: &[[f32; 2]]) -> Split {
    let options = Options {
        unroll_steps: 200,
        ..Options::default()
    };
    analyze_split(network, batches(images), &options, &mut |_| {}).expect("a finite loss")
}

#[test]
fn a_branch_of_zero_has_no_angle_but_a_ratio() {
    let split = analyse(
        &Gain {
            gain: 0.0,
            head: 1.0,
        },
        &[[1., 2.], [3., 4.]],
    );
    let block = &split.blocks[0];
    assert_eq!((block.cosine, block.cosine_std), (None, None));
    assert_eq!((block.exit_cosine, block.exit_cosine_std), (None, None));
    assert_eq!(
        (block.undefined.cosine, block.undefined.exit_cosine),
        (2, 2)
    );
    assert_eq!(block.l2_ratio, Some(0.0.into()));
    assert_eq!(block.undefined.l2_ratio, 0);
}

#[test]
fn a_representation_of_zero_has_no_ratio_and_is_left_out() {
    let split = analyse(
        &Gain {
            gain: 0.5,
            head: 1.0,
        },
        &[[0., 0.], [3., 4.]],
    );
    let block = &split.blocks[0];
    assert_eq!(
        block.l2_ratio,
        Some(0.5.into()),
        "of the other sample alone"
    );
    assert_eq!((block.undefined.l2_ratio, block.undefined.cosine), (1, 1));
    assert_eq!(block.h_norm, Some(2.5.into()), "0 is a norm: (0 + 5) / 2");
}

#[test]
fn a_sample_that_is_right_beyond_doubt_has_an_angle() {
    // The other class has the probability e^−2s, s being the head's: beyond f32 for 60, beyond f64 for 1000. The gradient
    // points along (−1, 1) all the same, the branch along (1, 0).
    for head in [1.0, 60.0, 1000.0] {
        let split = analyse(&Gain { gain: 1.0, head }, &[[1., 0.]]);
        let block = &split.blocks[0];
        for cosine in [block.cosine, block.exit_cosine] {
            assert!(
                (cosine.expect("defined") + 0.5f64.sqrt()).abs() < 1e-7,
                "{head}"
            );
        }
        assert_eq!(
            (block.undefined.cosine, block.undefined.exit_cosine),
            (0, 0)
        );
        // ‖∂L/∂h_0‖ = 2 s p √2, of a function of h_0 that is 2 s times the softmax's argument.
        let probability = 1.0 / (1.0 + (2.0 * head).exp());
        let norm = 2.0 * head * probability * 2f64.sqrt();
        let found = block.grad_norm.expect("measured").0;
        assert!(
            (found - norm).abs() <= 1e-6 * norm,
            "{found}, expected {norm}"
        );
        let row = &split.taylor[0];
        let change = -head / (1.0 + head.exp());
        assert!(
            (row.predicted_change.0 - change).abs() <= 1e-6 * change.abs(),
            "{head}"
        );
    }
}

#[test]
fn a_gradient_of_zero_has_no_angle() {
    // One class alone: no logit changes the loss.
    struct Certain;
    impl ResidualNetwork for Certain {
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
            h * 2.0
        }
        fn head(&self, h: &Tensor) -> Result<Tensor> {
            h.narrow(1, 0, 1)
        }
    }
    let split = analyze_split(
        &Certain,
        batches(&[[1., 0.]]),
        &Options::default(),
        &mut |_| {},
    );
    let split = split.expect("a finite loss");
    assert_eq!(split.loss, 0.0);
    assert_eq!(split.blocks[0].cosine, None);
    assert_eq!(split.blocks[0].undefined.cosine, 1);
    assert_eq!(split.blocks[0].grad_norm, Some(0.0.into()));
}

#[test]
fn no_draws_are_no_paths() {
    let options = Options {
        draws: 0,
        measures: [Measure::Paths, Measure::Delete, Measure::Reorder].into(),
        ..Options::default()
    };
    let network = Gain {
        gain: 0.5,
        head: 1.0,
    };
    let split = analyze_split(&network, batches(&[[1., 0.]]), &options, &mut |_| {});
    let split = split.expect("nothing to measure is no error");
    assert!(split.paths.is_empty() && split.deletions.is_empty() && split.reorderings.is_empty());
}

#[test]
fn one_sample_has_no_spread() {
    let split = analyse(
        &Gain {
            gain: 0.5,
            head: 1.0,
        },
        &[[1., 0.]],
    );
    let block = &split.blocks[0];
    assert_eq!(block.cosine_std, Some(0.0));
    assert_eq!(block.l2_ratio_std, Some(0.0.into()));
    assert_eq!(split.exits[0].groups.all.loss_std, Some(0.0.into()));
    // Margin p_0 − p_1 = 0.46 at the entrance: nobody is borderline.
    let empty = &split.exits[0].groups.borderline;
    assert_eq!(
        (empty.samples, empty.accuracy, empty.loss, empty.loss_std),
        (0, None, None, None)
    );
}

#[test]
fn an_unrolling_that_overflows_says_so() {
    // (1 + 3)^k passes f32's 3.4e38 at k = 63 or so.
    let split = analyse(
        &Gain {
            gain: 3.0,
            head: 1.0,
        },
        &[[1., 2.]],
    );
    let steps = &split.unroll[0].steps;
    let first = steps[1].h_norm.expect("measured").0;
    assert!(first.is_finite());
    let last = &steps[200];
    assert_eq!(last.h_norm.expect("measured").0, f64::INFINITY);
    assert!(!last.groups.all.loss.expect("measured").0.is_finite());
    assert!(!last.groups.all.entropy.expect("measured").0.is_finite());
    assert_eq!(
        last.groups.all.accuracy,
        Some(0.0),
        "overflow is not correct"
    );
    assert_eq!((last.cosine, last.undefined.cosine), (None, 1));
    // And it survives being written and read.
    let json = serde_json::to_string(&split).expect("plain data");
    assert!(json.contains("\"inf\""));
    let back: Split = serde_json::from_str(&json).expect("what was written");
    assert_eq!(back.unroll[0].steps[200].h_norm, last.h_norm);
}

#[test]
fn an_overflow_without_a_block_is_a_result() {
    /// The second block divides what the first has multiplied; without it the head overflows.
    struct Fragile;
    impl ResidualNetwork for Fragile {
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
            h * if block == 0 { 1e30 } else { -1.0 }
        }
        fn head(&self, h: &Tensor) -> Result<Tensor> {
            h * 1e30
        }
    }
    let options = Options {
        measures: [Measure::Drop].into(),
        ..Options::default()
    };
    let split = analyze_split(&Fragile, batches(&[[1., 2.]]), &options, &mut |_| {});
    let split = split.expect("the network itself is finite");
    assert!(split.blocks[0].drop_loss.expect("measured").0.is_finite());
    assert!(!split.blocks[1].drop_loss.expect("measured").0.is_finite());
}

#[test]
fn a_candidate_that_overflows_is_not_chosen() {
    let network = Gain {
        gain: 3.0,
        head: 1.0,
    };
    let choice = choose_scale(&network, batches(&[[1., 2.]]), &[1.0, 0.01], 200);
    let choice = choice.expect("the second keeps the loss finite");
    assert_eq!(choice.scale.factor, 0.01);
    assert!(!choice.losses[0].1.0.is_finite());
    assert_ne!(choice.scale.source, UnrollScale::fixed(0.01).source);
}
