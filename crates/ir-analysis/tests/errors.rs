//! Each mistake of a caller or of a network gives one sentence that says where it is.

use candle_core::{DType, Device, Result, Tensor};
use ir_analysis::{Error, Measure, Options, analyze_split, choose_scale, evaluate, trace};
use ir_models::{Block, ResidualNetwork};

/// A sound network of two linear blocks on `[N, 2]`, unless one of these says otherwise.
#[derive(Clone, Copy, PartialEq)]
enum Mistake {
    None,
    NoBlocks,
    StagesStartAtOne,
    StagesGoBack,
    BranchIsWider,
    ShortcutIsNarrower,
    StemMergesSamples,
    HeadMergesSamples,
    HeadIsNoTable,
    BranchFails,
    SecondBlockDetaches,
    BranchOverflows,
    LastIsTransition,
    WayToLogitsFails,
    WayToLogitsIsNoTable,
}

struct Network(Mistake);

impl ResidualNetwork for Network {
    fn blocks(&self) -> Vec<Block> {
        let stages = match self.0 {
            Mistake::NoBlocks => vec![],
            Mistake::StagesStartAtOne => vec![1, 1],
            Mistake::StagesGoBack => vec![0, 1, 0],
            _ => vec![0, 0],
        };
        let transition = self.0 == Mistake::LastIsTransition;
        let block = |(j, stage)| Block {
            stage,
            transition: transition && j == 1,
        };
        stages.into_iter().enumerate().map(block).collect()
    }

    fn stem(&self, images: &Tensor) -> Result<Tensor> {
        match self.0 {
            Mistake::StemMergesSamples => images.sum_keepdim(0),
            _ => Ok(images.clone()),
        }
    }

    fn shortcut(&self, block: usize, h: &Tensor) -> Result<Tensor> {
        match (self.0, block) {
            (Mistake::ShortcutIsNarrower, 1) => h.narrow(1, 0, 1),
            _ => Ok(h.clone()),
        }
    }

    fn branch(&self, block: usize, h: &Tensor) -> Result<Tensor> {
        match (self.0, block) {
            (Mistake::BranchIsWider, 1) => Tensor::cat(&[h, h], 1),
            (Mistake::BranchFails, 1) => h.matmul(h),
            (Mistake::BranchOverflows, 1) => h * 1e39,
            _ => h * 0.5,
        }
    }

    fn after(&self, block: usize, sum: &Tensor) -> Result<Tensor> {
        match (self.0, block) {
            (Mistake::SecondBlockDetaches, 1) => Ok(sum.detach()),
            _ => Ok(sum.clone()),
        }
    }

    fn logits_from(&self, block: usize, h: &Tensor) -> Result<Tensor> {
        match self.0 {
            Mistake::WayToLogitsFails => h.matmul(h),
            Mistake::WayToLogitsIsNoTable => h.sum(1),
            _ => {
                let h = (block..2).try_fold(h.clone(), |h, later| self.step(later, &h));
                self.head(&h?)
            }
        }
    }

    fn head(&self, h: &Tensor) -> Result<Tensor> {
        match self.0 {
            Mistake::HeadMergesSamples => h.mean_keepdim(0),
            Mistake::HeadIsNoTable => h.sum(1),
            _ => Ok(h.clone()),
        }
    }
}

fn images() -> Tensor {
    Tensor::new(&[[1f32, 0.], [0., 1.], [1., 1.]], &Device::Cpu).expect("images")
}

fn labels(labels: &[u32]) -> Tensor {
    Tensor::new(labels, &Device::Cpu).expect("labels")
}

fn analyse(mistake: Mistake, labels: Tensor) -> Error {
    let batches = vec![Ok::<_, candle_core::Error>((images(), labels))];
    analyze_split(&Network(mistake), batches, &Options::default(), &mut |_| {})
        .expect_err("the mistake is found")
}

/// The message of the analysis of three sound samples.
fn message(mistake: Mistake) -> String {
    analyse(mistake, labels(&[0, 1, 0])).to_string()
}

#[test]
fn the_network_without_a_mistake_passes() {
    let batches = vec![Ok::<_, candle_core::Error>((images(), labels(&[0, 1, 0])))];
    let split = analyze_split(
        &Network(Mistake::None),
        batches,
        &Options::default(),
        &mut |_| {},
    );
    assert_eq!(split.expect("sound").samples, 3);
}

#[test]
fn blocks_and_stages() {
    assert_eq!(
        message(Mistake::NoBlocks),
        "the network has no blocks, so there is nothing to measure"
    );
    assert_eq!(
        message(Mistake::StagesStartAtOne),
        "block 0 is in stage 1, but the first block is in stage 0"
    );
    assert_eq!(
        message(Mistake::StagesGoBack),
        "block 2 is in stage 0 and the block before it in stage 1: from block to block a stage \
         stays or goes up by 1"
    );
}

#[test]
fn shapes() {
    assert_eq!(
        message(Mistake::BranchIsWider),
        "block 1: shortcut gives [3, 2] and branch gives [3, 4]; both must have one shape, since \
         the block adds them"
    );
    assert_eq!(
        message(Mistake::ShortcutIsNarrower),
        "block 1: shortcut turns [3, 2] into [3, 1], but the block is not marked as a \
         transition; set `transition: true` where the shortcut is not the identity"
    );
    assert_eq!(
        message(Mistake::StemMergesSamples),
        "stem gives [1, 2] for a batch of 3: the first dimension must stay 3"
    );
    assert_eq!(
        message(Mistake::HeadMergesSamples),
        "the head gives [1, 2]; logits have the shape [3, classes]"
    );
    assert_eq!(
        message(Mistake::HeadIsNoTable),
        "the head gives [3]; logits have the shape [3, classes]"
    );
}

#[test]
fn failures_name_the_function() {
    let message = message(Mistake::BranchFails);
    assert!(
        message.starts_with("branch of block 1 failed: "),
        "{message}"
    );
}

#[test]
fn a_way_to_the_logits_of_its_own_is_held_to_the_contract() {
    // Without block 0 the way begins at block 1.
    let found = message(Mistake::WayToLogitsFails);
    assert!(found.starts_with("logits_from(1, …) failed: "), "{found}");
    assert_eq!(
        message(Mistake::WayToLogitsIsNoTable),
        "the head gives [3]; logits have the shape [3, classes]"
    );
}

#[test]
fn gradients_that_do_not_arrive() {
    assert_eq!(
        message(Mistake::SecondBlockDetaches),
        "no gradient reaches h_0: every function from there to the logits must be made of \
         differentiable Candle operations that depend on their input"
    );
}

#[test]
fn losses_that_are_not_finite_are_traced_to_their_origin() {
    let error = analyse(Mistake::BranchOverflows, labels(&[0, 1, 0]));
    let message = error.to_string();
    assert!(
        message.contains("sample 0 of batch 0 has the loss"),
        "{message}"
    );
    assert!(
        message.contains("comes from branch of block 1"),
        "{message}"
    );
    // Also where no trace was asked for, and in a later batch.
    let batch = |value: f32| {
        let images = Tensor::new(&[[value, 0.]], &Device::Cpu)?;
        Ok::<_, candle_core::Error>((images, labels(&[1])))
    };
    let error = evaluate(&Network(Mistake::None), vec![batch(1.0), batch(f32::NAN)]);
    match error.expect_err("not a number") {
        Error::NonFinite {
            batch,
            sample,
            loss,
            part,
        } => {
            assert_eq!((batch, sample, part), (1, 0, ir_analysis::Part::Stem));
            assert!(loss.is_nan());
        }
        other => unreachable!("{other}"),
    }
}

#[test]
fn labels_and_batches() {
    assert_eq!(
        analyse(Mistake::None, labels(&[0, 1, 7])).to_string(),
        "sample 2 of its batch has label 7, but the head has 2 classes (labels 0 to 1): the \
         network and the data set do not belong together"
    );
    assert_eq!(
        analyse(Mistake::None, labels(&[0, 1])).to_string(),
        "a batch is images [N, …] and u32 labels [N] with N ≥ 1; found images [3, 2] and u32 \
         labels [2]"
    );
    let floats = Tensor::zeros(3, DType::F32, &Device::Cpu).expect("zeros");
    assert!(
        analyse(Mistake::None, floats)
            .to_string()
            .ends_with("f32 labels [3]")
    );
    let nobody = Tensor::zeros((0, 2), DType::F32, &Device::Cpu).expect("no rows");
    let none = Tensor::zeros(0, DType::U32, &Device::Cpu).expect("no labels");
    let error = trace(&Network(Mistake::None), &nobody, &none).expect_err("no samples");
    assert!(matches!(error, Error::BatchShape { .. }), "{error}");
}

#[test]
fn splits_without_samples_or_with_a_failing_reader() {
    type Batches = Vec<std::result::Result<(Tensor, Tensor), String>>;
    let network = Network(Mistake::None);
    let options = Options::default();
    let empty = || Batches::new();
    let errors = [
        analyze_split(&network, empty(), &options, &mut |_| {}).expect_err("empty"),
        evaluate(&network, empty()).expect_err("empty"),
        ir_analysis::exit_accuracies(&network, empty()).expect_err("empty"),
        choose_scale(&network, empty(), &[0.1], 2).expect_err("empty"),
    ];
    for error in errors {
        assert!(matches!(error, Error::EmptySplit), "{error}");
    }
    let broken = vec![
        Ok((images(), labels(&[0, 1, 0]))),
        Err("the disk is gone".to_owned()),
    ];
    let error = evaluate(&network, broken).expect_err("a broken batch");
    assert_eq!(
        error.to_string(),
        "batch 1 could not be read: the disk is gone"
    );
}

#[test]
fn requests_that_make_no_sense() {
    assert_eq!(
        message(Mistake::LastIsTransition),
        "block 1, the last, is a transition and cannot be applied again: leave out the measure \
         `unroll`"
    );
    let network = Network(Mistake::None);
    let batch = || vec![Ok::<_, candle_core::Error>((images(), labels(&[0, 1, 0])))];
    let error = choose_scale(&network, batch(), &[1e38, f64::INFINITY], 3).expect_err("overflow");
    assert_eq!(
        error.to_string(),
        "none of the 2 candidate scales gives a finite loss after 3 steps: try smaller ones"
    );
    let error = "cosines".parse::<Measure>().expect_err("no such measure");
    assert_eq!(
        error.to_string(),
        "there is no measure \"cosines\"; known are cosine, exit-cosine, ratio, drop, exits, \
         unroll, taylor, delete, reorder, paths, estimation, readouts"
    );
}
