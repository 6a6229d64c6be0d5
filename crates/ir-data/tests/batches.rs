//! Batches against a plain restatement of what is done to an image.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashSet;

use ir_data::{
    Augmentation, BatchOptions, CHANNELS, Error, IMAGE, Loader, Normalization, SIDE, Split,
};
use sha2::{Digest, Sha256};

const NORMALIZATION: Normalization = Normalization {
    mean: [0.4914, 0.4822, 0.4465],
    std: [0.2470, 0.2435, 0.2616],
};

/// Images whose every pixel differs from its neighbours; the label is the index.
fn split(samples: usize) -> Split {
    let images = (0..samples * IMAGE)
        .map(|index| (index.wrapping_mul(2_654_435_761) >> 8) as u8)
        .collect();
    let labels = (0..samples).map(|sample| sample as u8).collect();
    Split::new(images, labels).unwrap()
}

/// Shift, flip and normalise, pixel by pixel, as the words say it.
fn oracle(image: &[u8], augmentation: Augmentation) -> Vec<f32> {
    let mut output = Vec::new();
    for channel in 0..CHANNELS {
        for row in 0..SIDE {
            for column in 0..SIDE {
                let column = if augmentation.flip {
                    SIDE - 1 - column
                } else {
                    column
                };
                // Position in the image that has four black pixels on each side.
                let (y, x) = (row + augmentation.top, column + augmentation.left);
                let inside = (4..4 + SIDE).contains(&y) && (4..4 + SIDE).contains(&x);
                let value = if inside {
                    image[channel * SIDE * SIDE + (y - 4) * SIDE + (x - 4)]
                } else {
                    0
                };
                let scaled = f64::from(value) / 255.0;
                let normalised =
                    (scaled - NORMALIZATION.mean[channel]) / NORMALIZATION.std[channel];
                output.push(normalised as f32);
            }
        }
    }
    output
}

fn images(batch: &ir_data::Batch) -> Vec<f32> {
    batch.images.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn a_training_batch_is_what_the_words_say() {
    let split = split(250);
    let loader = Loader::new(split.clone(), BatchOptions::training(32, 5, NORMALIZATION)).unwrap();
    let mut seen = HashSet::new();
    for (number, batch) in loader.epoch(3).enumerate() {
        let batch = batch.unwrap();
        assert_eq!(batch.images.dims(), [32, 3, 32, 32]);
        assert!(batch.images.is_contiguous());
        let labels: Vec<u32> = batch.labels.to_vec1().unwrap();
        let mut expected = Vec::new();
        for (&sample, label) in batch.indices.iter().zip(labels) {
            assert_eq!(label as usize, sample);
            assert!(seen.insert(sample), "sample {sample} came twice");
            let augmentation = Augmentation::random(5, 3, sample as u64);
            expected.extend(oracle(split.image(sample), augmentation));
        }
        // The same formula in f64, rounded once to f32: equal to the bit.
        assert_eq!(images(&batch), expected, "batch {number}");
    }
    assert_eq!(seen.len(), 224);
}

#[test]
fn every_shift_and_both_flips_are_as_the_words_say() {
    let split = split(1);
    for number in 0..500 {
        let augmentation = Augmentation::random(0, number, 0);
        let options = BatchOptions {
            augment: true,
            ..BatchOptions::evaluation(1, NORMALIZATION)
        };
        let loader = Loader::new(split.clone(), options).unwrap();
        let batch = loader.epoch(number).next().unwrap().unwrap();
        assert_eq!(
            images(&batch),
            oracle(split.image(0), augmentation),
            "{augmentation:?}"
        );
    }
}

#[test]
fn shifts_and_flips_are_equally_likely() {
    let count = 81_000;
    let mut shifts = [[0u32; 9]; 9];
    let mut flips = 0u32;
    for sample in 0..count {
        let augmentation = Augmentation::random(1, 2, sample);
        shifts[augmentation.top][augmentation.left] += 1;
        flips += u32::from(augmentation.flip);
    }
    // χ² with 80 degrees of freedom exceeds 160 with probability 3e-7; the seed is fixed.
    let chi: f64 = shifts
        .iter()
        .flatten()
        .map(|&found| (f64::from(found) - 1000.0).powi(2) / 1000.0)
        .sum();
    assert!(chi < 160.0, "{chi}");
    // Five standard deviations of a fair coin: 5 · √(81,000 / 4).
    assert!((f64::from(flips) - 40_500.0).abs() < 712.0, "{flips}");
}

#[test]
fn evaluation_gives_every_sample_once_as_it_is() {
    let split = split(10);
    let options = BatchOptions {
        samples: Some(7),
        ..BatchOptions::evaluation(3, NORMALIZATION)
    };
    let loader = Loader::new(split.clone(), options).unwrap();
    assert_eq!((loader.batches(), loader.samples()), (3, 7));
    let batches: Vec<_> = loader.epoch(0).map(Result::unwrap).collect();
    let indices: Vec<_> = batches.iter().map(|batch| batch.indices.clone()).collect();
    assert_eq!(indices, [vec![0, 1, 2], vec![3, 4, 5], vec![6]]);
    for batch in &batches {
        let expected: Vec<f32> = batch
            .indices
            .iter()
            .flat_map(|&sample| oracle(split.image(sample), Augmentation::NONE))
            .collect();
        assert_eq!(images(batch), expected);
    }
}

#[test]
fn an_epoch_depends_on_its_number_and_the_seed_alone() {
    let options = |seed| BatchOptions::training(16, seed, NORMALIZATION);
    let loader = Loader::new(split(100), options(1)).unwrap();
    let epoch = |loader: &Loader, number| -> Vec<Vec<f32>> {
        loader
            .epoch(number)
            .map(|batch| images(&batch.unwrap()))
            .collect()
    };
    let second = epoch(&loader, 2);
    assert_eq!(second, epoch(&loader, 2));
    // In a pool of one thread, and after other epochs.
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    let fresh = Loader::new(split(100), options(1)).unwrap();
    assert_eq!(second, pool.install(|| epoch(&fresh, 2)));
    assert_ne!(second, epoch(&loader, 3));
    assert_ne!(
        second,
        epoch(&Loader::new(split(100), options(2)).unwrap(), 2)
    );

    let mut order = loader.order(2);
    assert_ne!(order, loader.order(3));
    order.sort_unstable();
    assert_eq!(order, (0..100).collect::<Vec<_>>());
}

#[test]
fn an_epoch_is_the_same_on_every_machine() {
    // A change of these is a change of every run: a resumed one would not be an undisturbed one.
    let loader = Loader::new(split(100), BatchOptions::training(16, 1, NORMALIZATION)).unwrap();
    assert_eq!(loader.order(2)[..8], [88, 56, 62, 72, 74, 64, 48, 31]);
    let mut sum = Sha256::new();
    for batch in loader.epoch(2) {
        for value in images(&batch.unwrap()) {
            sum.update(value.to_le_bytes());
        }
    }
    let sum = sum.finalize();
    assert_eq!(sum[..8], [210, 186, 152, 199, 114, 141, 73, 146]);
}

#[test]
fn what_cannot_be_done_is_refused() {
    let evaluation = |batch_size| BatchOptions::evaluation(batch_size, NORMALIZATION);
    let refused = |options| Loader::new(split(10), options).unwrap_err();
    assert!(matches!(refused(evaluation(0)), Error::BatchSize { .. }));
    let training = BatchOptions::training(11, 0, NORMALIZATION);
    assert!(matches!(
        refused(training),
        Error::BatchSize {
            batch_size: 11,
            samples: 10
        }
    ));
    let many = BatchOptions {
        samples: Some(11),
        ..evaluation(2)
    };
    assert!(matches!(
        refused(many),
        Error::Samples {
            asked: 11,
            available: 10
        }
    ));
    let none = BatchOptions {
        samples: Some(0),
        ..evaluation(2)
    };
    assert!(matches!(refused(none), Error::Samples { asked: 0, .. }));
    let flat = Normalization {
        std: [0.2, 0.0, 0.2],
        ..NORMALIZATION
    };
    let options = BatchOptions::evaluation(2, flat);
    assert!(matches!(
        refused(options),
        Error::Normalization { channel: 1, .. }
    ));
    assert!(matches!(
        Split::new(vec![0; 3000], vec![0]),
        Err(Error::Count { .. })
    ));
}
