//! The drawn data set is the same everywhere, balanced, and not solved by averages.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::open;
use ir_data::synthetic::{Classes, dataset};
use ir_data::{Error, IMAGE, Normalization, Split, write_binary};

#[test]
fn a_sample_depends_on_seed_split_and_index_alone() {
    for classes in [Classes::Ten, Classes::Hundred] {
        let small = dataset(classes, 7, 30, 10).unwrap();
        let large = dataset(classes, 7, 90, 20).unwrap();
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(1)
            .build()
            .unwrap();
        let alone = pool.install(|| dataset(classes, 7, 30, 10)).unwrap();
        assert_eq!(small.train(), alone.train());
        assert_eq!(small.train(), &large.train().first(30).unwrap());
        assert_eq!(small.test(), &large.test().first(10).unwrap());
        let other = dataset(classes, 8, 30, 10).unwrap();
        assert_ne!(small.train().image(0), other.train().image(0));
        assert_ne!(small.train().image(0), small.test().image(0));
    }
}

#[test]
fn the_pictures_are_the_same_on_every_machine() {
    // A change of these is a change of the data set: earlier results no longer compare.
    let sums = |classes| {
        let drawn = dataset(classes, 0, 100, 100).unwrap();
        [drawn.train().checksum(), drawn.test().checksum()]
    };
    assert_eq!(
        sums(Classes::Ten),
        [
            "b8d98b5da531322dab189732e06a6700bd41c71010dbbb6c6376d9c79d9eed1e",
            "7fc034f22ee3a35328c35b3e2fffe313f559deb6ad0dba6c007025cf2ac1e91d",
        ]
    );
    assert_eq!(
        sums(Classes::Hundred),
        [
            "b3ff5a554fe5c9dd99f35384d2ea266b24b91f416509dc69e2472f1e340c4500",
            "d13c8417b592832f53d4d09da938aa5a2225aceaf8731e8fadac0781d52330de",
        ]
    );
}

#[test]
fn labels_go_round() {
    let drawn = dataset(Classes::Hundred, 0, 300, 100).unwrap();
    assert_eq!(drawn.train().class_counts(100), [3; 100]);
    assert_eq!(drawn.test().labels()[42], 42);
    assert_eq!(drawn.classes()[42], "square_columns");
}

/// Accuracy of taking the class whose mean image is nearest.
fn nearest_mean_accuracy(train: &Split, test: &Split, classes: usize) -> f64 {
    let mut means = vec![vec![0f64; IMAGE]; classes];
    let counts = train.class_counts(classes);
    for sample in 0..train.len() {
        let class = usize::from(train.labels()[sample]);
        for (mean, &value) in means[class].iter_mut().zip(train.image(sample)) {
            *mean += f64::from(value) / counts[class] as f64;
        }
    }
    let distance = |mean: &[f64], image: &[u8]| -> f64 {
        let pairs = mean.iter().zip(image);
        pairs
            .map(|(mean, &value)| (mean - f64::from(value)).powi(2))
            .sum()
    };
    let right = (0..test.len()).filter(|&sample| {
        let image = test.image(sample);
        let nearest = (0..classes)
            .min_by(|&a, &b| distance(&means[a], image).total_cmp(&distance(&means[b], image)));
        nearest == Some(usize::from(test.labels()[sample]))
    });
    right.count() as f64 / test.len() as f64
}

#[test]
fn class_means_say_next_to_nothing() {
    let drawn = dataset(Classes::Ten, 0, 3000, 1000).unwrap();
    let accuracy = nearest_mean_accuracy(drawn.train(), drawn.test(), 10);
    // Chance is 0.1 with a standard deviation of 0.0095 over 1,000 images.
    assert!(accuracy < 0.2, "{accuracy}");
    let Normalization { mean, std } = drawn.normalization();
    for (mean, std) in mean.into_iter().zip(std) {
        assert!(
            (0.4..0.6).contains(&mean) && (0.2..0.35).contains(&std),
            "{mean} {std}"
        );
    }
}

#[test]
fn what_is_written_is_read_again() {
    let parent = tempfile::tempdir().unwrap();
    for (classes, files) in [(Classes::Ten, 7), (Classes::Hundred, 3)] {
        let drawn = dataset(classes, 1, 203, 101).unwrap();
        let folder = parent.path().join(classes.name());
        assert_eq!(write_binary(&drawn, &folder).unwrap().len(), files);
        let read = open(&folder).unwrap();
        assert_eq!(read.name(), classes.name());
        assert_eq!(read.classes(), drawn.classes());
        assert_eq!((read.train(), read.test()), (drawn.train(), drawn.test()));

        let again = write_binary(&drawn, &folder).unwrap_err();
        assert!(matches!(again, Error::OutputExists { .. }), "{again:?}");
    }
    // Nothing unfinished stays behind.
    assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 2);
}

#[test]
fn an_output_that_cannot_be_written_is_one_sentence() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    std::fs::write(&file, "in the way").unwrap();
    let drawn = dataset(Classes::Ten, 0, 10, 10).unwrap();
    let error = write_binary(&drawn, &file.join("out")).unwrap_err();
    assert!(error.to_string().starts_with("cannot write "), "{error}");
}

#[test]
fn impossible_sizes_are_refused() {
    for samples in [0, 1_000_001, usize::MAX] {
        let error = dataset(Classes::Ten, 0, samples, 10).unwrap_err();
        assert!(matches!(error, Error::Samples { .. }), "{error:?}");
    }
}
