//! Trained linear classifiers: against scikit-learn, on every shape of a representation, and the
//! same bits for every batch size and number of threads.

mod support;

use candle_core::{Device, Result, Tensor};
use ir_analysis::results::Readout;
use ir_analysis::{Error, Measure, Options, Readouts, analyze_split, fit_readouts};
use ir_models::{Block, ResidualNetwork};
use serde::Deserialize;
use support::{Samples, zoo};

/// Blocks that double h, which is the image as it is; the logits are some of its values.
struct Doubling {
    blocks: usize,
    classes: usize,
}

impl ResidualNetwork for Doubling {
    fn blocks(&self) -> Vec<Block> {
        let block = Block {
            stage: 0,
            transition: false,
        };
        vec![block; self.blocks]
    }
    fn stem(&self, images: &Tensor) -> Result<Tensor> {
        Ok(images.clone())
    }
    fn branch(&self, _block: usize, h: &Tensor) -> Result<Tensor> {
        Ok(h.clone())
    }
    fn head(&self, h: &Tensor) -> Result<Tensor> {
        h.flatten_from(1)?.narrow(1, 0, self.classes)
    }
}

type Batches = Vec<Result<(Tensor, Tensor)>>;

/// Tensors in batches of at most `size`.
fn batches(images: &Tensor, labels: &[u32], size: usize) -> Batches {
    let starts = (0..labels.len()).step_by(size);
    let batch = |start: usize| {
        let count = size.min(labels.len() - start);
        let labels = Tensor::new(&labels[start..start + count], &Device::Cpu)?;
        Ok((images.narrow(0, start, count)?, labels))
    };
    starts.map(batch).collect()
}

fn measured(network: &dyn ResidualNetwork, readouts: &Readouts, batches: Batches) -> Vec<Readout> {
    let options = Options {
        measures: [Measure::Readouts].into(),
        readouts: Some(readouts.clone()),
        ..Options::default()
    };
    let split = analyze_split(network, batches, &options, &mut |_| {});
    split.expect("a sound network").readouts
}

/// What logistic_regression/make_fixture.py wrote.
#[derive(Deserialize)]
struct Fixture {
    splits: Splits,
}

#[derive(Deserialize)]
struct Splits {
    train: Labelled,
    test: Labelled,
}

#[derive(Deserialize)]
struct Labelled {
    features: Vec<Vec<f32>>,
    labels: Vec<u32>,
    /// Less their mean over the classes.
    logits: Vec<Vec<f64>>,
    accuracy: f64,
    loss: f64,
}

impl Labelled {
    fn batches(&self, size: usize) -> Batches {
        let shape = (self.features.len(), self.features[0].len());
        let images = Tensor::from_vec(self.features.concat(), shape, &Device::Cpu);
        batches(&images.expect("a matrix"), &self.labels, size)
    }
}

#[test]
fn the_classifier_is_that_of_scikit_learn() {
    let text = include_str!("logistic_regression/fixture.json");
    let Fixture { splits } = serde_json::from_str(text).expect("a fixture");
    let network = Doubling {
        blocks: 1,
        classes: 4,
    };
    let readouts = fit_readouts(&network, splits.train.batches(32)).expect("finite features");
    for split in [&splits.train, &splits.test] {
        for found in measured(&network, &readouts, split.batches(13)) {
            assert_eq!(found.features, 6);
            assert!(found.gradient_norm <= 1e-6, "{}", found.gradient_norm);
            assert!((found.accuracy - split.accuracy).abs() < 1e-12);
            // With a curvature of at least λ = 1e-3, a gradient of 1e-6 leaves the weights within
            // 1e-3 of the minimum, and so a loss on other samples within 1e-3 times the length of
            // their features, which is below 5. What is minimised itself is within 5e-10, and the
            // logits are rounded to f32 once.
            let bound = if std::ptr::eq(split, &raw const splits.train) {
                1e-6
            } else {
                5e-3
            };
            assert!(
                (found.loss.0 - split.loss).abs() < bound,
                "{} is not {}",
                found.loss.0,
                split.loss
            );
        }
        for (features, expected) in split.features.iter().zip(&split.logits) {
            let logits = readouts.logits(0, features).expect("six features");
            let mean = logits.iter().sum::<f64>() / 4.0;
            for (found, expected) in logits.iter().zip(expected) {
                assert!(
                    (found - mean - expected).abs() < 5e-3,
                    "{found} − {mean} is not {expected}"
                );
            }
        }
    }
}

/// Each sample's features, three of them, and its label; all are multiples of 1/4.
fn features(samples: usize) -> (Vec<f32>, Vec<u32>) {
    let feature = |place: usize| ((place * place * 5 + place) % 23) as f32 / 4.0;
    let labels = (0..samples).map(|sample| (sample * 3 % 7 % 3) as u32);
    ((0..3 * samples).map(feature).collect(), labels.collect())
}

#[test]
fn features_are_means_over_space_or_tokens() {
    const SAMPLES: usize = 20;
    let (features, labels) = features(SAMPLES);
    let network = Doubling {
        blocks: 1,
        classes: 3,
    };
    let tensor = |values: Vec<f32>, shape: &[usize]| {
        Tensor::from_vec(values, shape, &Device::Cpu).expect("a tensor")
    };
    let fit = |images: &Tensor| {
        let readouts =
            fit_readouts(&network, batches(images, &labels, 6)).expect("finite features");
        let found = measured(&network, &readouts, batches(images, &labels, 6));
        (readouts, found)
    };
    let plain = fit(&tensor(features.clone(), &[SAMPLES, 3]));
    // Eight values around each feature whose mean it is, exactly; neighbours, or a token apart.
    const AROUND: [f32; 8] = [-3., 3., -1., 1., -0.5, 0.5, -8., 8.];
    let around = features
        .iter()
        .flat_map(|x| AROUND.map(|offset| x + offset));
    let space = tensor(around.collect(), &[SAMPLES, 3, 2, 4]);
    assert_eq!(fit(&space), plain);
    let volume = space
        .reshape((SAMPLES, 3, 2, 2, 2))
        .expect("as many values");
    assert_eq!(fit(&volume), plain);
    let tokens = features.chunks(3).flat_map(|row| {
        AROUND
            .into_iter()
            .flat_map(move |offset| row.iter().map(move |x| x + offset))
    });
    let tokens = tensor(tokens.collect(), &[SAMPLES, 8, 3]);
    assert_eq!(fit(&tokens), plain);
    // h_1 = 2 h_0 has the same standardised features, to the last bit.
    let (readouts, found) = plain;
    assert_eq!(
        readouts.logits(1, &[2.0, 1.0, 0.5]),
        readouts.logits(0, &[1.0, 0.5, 0.25])
    );
    assert_eq!(found[0].loss, found[1].loss);
    assert_eq!(
        (found[0].after_block, found[1].after_block),
        (None, Some(0))
    );
}

#[test]
fn neither_batches_nor_threads_change_a_bit() {
    let (features, labels) = features(300);
    let images = Tensor::from_vec(features, (300, 3), &Device::Cpu).expect("a matrix");
    let network = Doubling {
        blocks: 2,
        classes: 3,
    };
    let fit = |size: usize, threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.expect("a pool").install(|| {
            let readouts = fit_readouts(&network, batches(&images, &labels, size)).expect("finite");
            let found = measured(&network, &readouts, batches(&images, &labels, size));
            (readouts, found)
        })
    };
    let one = fit(300, 1);
    for (size, threads) in [(1, 1), (7, 3), (300, 4), (64, 2)] {
        assert_eq!(
            fit(size, threads),
            one,
            "batches of {size}, {threads} threads"
        );
    }
}

#[test]
fn readouts_are_measured_only_where_asked_for() {
    let (_, network) = zoo().remove(1);
    let samples = Samples::new(12, 4, 3);
    let readouts = fit_readouts(&network, samples.batches(5)).expect("a sound network");
    assert_eq!(readouts.count(), 5);
    let found = measured(&network, &readouts, samples.batches(5));
    let read: Vec<_> = found
        .iter()
        .map(|readout| (readout.after_block, readout.features))
        .collect();
    assert_eq!(
        read,
        [
            (None, 4),
            (Some(0), 4),
            (Some(1), 6),
            (Some(2), 6),
            (Some(3), 6)
        ]
    );
    let options = Options {
        readouts: Some(readouts),
        ..Options::default()
    };
    let split = analyze_split(&network, samples.batches(5), &options, &mut |_| {});
    assert!(split.expect("a sound network").readouts.is_empty());
}

#[test]
fn readouts_that_do_not_fit_are_refused() {
    let (features, labels) = features(6);
    let images = Tensor::from_vec(features, (6, 3), &Device::Cpu).expect("a matrix");
    let data = || batches(&images, &labels, 6);
    let network = Doubling {
        blocks: 1,
        classes: 3,
    };
    let refused = |network: &Doubling, readouts: &Readouts, images: &Tensor| {
        let options = Options {
            measures: [Measure::Readouts].into(),
            readouts: Some(readouts.clone()),
            ..Options::default()
        };
        let split = analyze_split(network, batches(images, &labels, 6), &options, &mut |_| {});
        split.expect_err("readouts of another network").to_string()
    };
    let readouts = fit_readouts(&network, data()).expect("finite features");
    assert_eq!(readouts.logits(0, &[1.0]), None);
    assert_eq!(readouts.logits(2, &[1.0; 3]), None);
    let longer = Doubling {
        blocks: 2,
        classes: 3,
    };
    assert_eq!(
        refused(&longer, &readouts, &images),
        "2 readouts were given and the network has 3 representations, h_0 and one after each \
         block: fit them on this network"
    );
    let wider = Tensor::cat(&[&images, &images], 1).expect("six features");
    assert_eq!(
        refused(&network, &readouts, &wider),
        "the readout of h_0 reads 3 features of 3 classes, and the network has 6 and 3: fit \
         readouts on this network"
    );
    let overflowing = (&images * f64::from(f32::MAX)).expect("a tensor");
    let error = fit_readouts(
        &Doubling {
            blocks: 1,
            classes: 3,
        },
        batches(&overflowing, &labels, 6),
    );
    assert!(
        matches!(error, Err(Error::Feature { .. } | Error::NonFinite { .. })),
        "{error:?}"
    );
    let none: Batches = Vec::new();
    assert!(matches!(
        fit_readouts(&network, none),
        Err(Error::EmptySplit)
    ));
}
