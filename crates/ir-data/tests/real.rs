//! The real data sets, where `IR_DATA` says that they are.

#![allow(clippy::print_stderr, reason = "a test says when it skips")]

use ir_data::{Dataset, Error, Locations};

/// The named data set from `$IR_DATA`; `None`, said on stderr, where it is not there.
fn real(name: &str) -> Option<Dataset> {
    let locations = Locations {
        local: None,
        hub_cache: None,
        offline: true,
        ..Locations::from_env()
    };
    match Dataset::open(name, &locations) {
        Ok(dataset) => Some(dataset),
        Err(Error::Offline { .. }) => {
            eprintln!("skipped: IR_DATA does not name a folder with {name}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn cifar10_has_its_known_figures() {
    let Some(dataset) = real("cifar10") else {
        return;
    };
    assert_eq!(dataset.train().class_counts(10), [5000; 10]);
    assert_eq!(dataset.test().class_counts(10), [1000; 10]);
    // Published to four digits, so within half a unit of the fourth.
    let normalization = dataset.normalization();
    let known = [[0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]];
    for (found, known) in [normalization.mean, normalization.std].iter().zip(known) {
        for (found, known) in found.iter().zip(known) {
            assert!((found - known).abs() <= 0.5e-4, "{found} is not {known}");
        }
    }
}

#[test]
fn cifar100_is_balanced() {
    let Some(dataset) = real("cifar100") else {
        return;
    };
    assert_eq!(dataset.train().class_counts(100), [500; 100]);
    assert_eq!(dataset.test().class_counts(100), [100; 100]);
    let normalization = dataset.normalization();
    let known = [[0.5071, 0.4865, 0.4409], [0.2673, 0.2564, 0.2762]];
    for (found, known) in [normalization.mean, normalization.std].iter().zip(known) {
        for (found, known) in found.iter().zip(known) {
            assert!((found - known).abs() <= 0.5e-4, "{found} is not {known}");
        }
    }
}
