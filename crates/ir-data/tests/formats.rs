//! Every format gives the pixels that another library put into it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;

use common::{fixture, folder_of, open};
use ir_data::{Dataset, Format, Split};

fn expected(split: &str, classes: usize) -> Split {
    let images = fs::read(fixture(&format!("expected/{split}.images"))).unwrap();
    let labels = fs::read(fixture(&format!("expected/{split}.labels{classes}"))).unwrap();
    Split::new(images, labels).unwrap()
}

#[track_caller]
fn assert_is_expected(dataset: &Dataset, format: Format, classes: usize) {
    assert_eq!(dataset.format(), format);
    assert_eq!(dataset.name(), format!("cifar{classes}"));
    assert_eq!(dataset.classes().len(), classes);
    for (name, split) in [("train", dataset.train()), ("test", dataset.test())] {
        let expected = expected(name, classes);
        assert_eq!(split.labels(), expected.labels(), "{name} labels");
        for sample in 0..expected.len() {
            let differs = split.image(sample).iter().zip(expected.image(sample));
            let first = differs
                .enumerate()
                .find(|(_, (found, wanted))| found != wanted);
            assert_eq!(
                first, None,
                "{name} sample {sample}: byte, (found, expected)"
            );
        }
        assert_eq!(split.checksum(), expected.checksum());
    }
}

#[test]
fn parquet_with_png() {
    let dataset = open(&fixture("parquet10")).unwrap();
    assert_is_expected(&dataset, Format::Parquet, 10);
    assert_eq!(dataset.files().len(), 2);
}

#[test]
fn parquet_with_webp_and_fine_labels() {
    let dataset = open(&fixture("parquet100")).unwrap();
    assert_is_expected(&dataset, Format::Parquet, 100);
}

#[test]
fn parquet_of_other_copies() {
    let dataset = open(&fixture("parquet10_other")).unwrap();
    assert_is_expected(&dataset, Format::Parquet, 10);
}

#[test]
fn binary_batches() {
    let ten = open(&fixture("binary10")).unwrap();
    assert_is_expected(&ten, Format::Binary, 10);
    assert_eq!(ten.files().len(), 3);
    let hundred = open(&fixture("binary100")).unwrap();
    assert_is_expected(&hundred, Format::Binary, 100);
}

#[test]
fn python_batches_as_python_2_wrote_them() {
    let ten = open(&fixture("python10")).unwrap();
    assert_is_expected(&ten, Format::Python, 10);
    let hundred = open(&fixture("python100")).unwrap();
    assert_is_expected(&hundred, Format::Python, 100);
}

#[test]
fn python_batches_pickled_again() {
    let variants = [
        "protocol2",
        "protocol3",
        "protocol4",
        "protocol5",
        "column_major4",
        "column_major5",
        "four_dimensions",
    ];
    for variant in variants {
        // The name of the test split says nothing, its content does.
        let folder = folder_of(&[
            ("python10/data_batch_1", "data_batch_1"),
            ("python10/data_batch_2", "data_batch_2"),
            (&format!("pickles/{variant}"), "0002"),
        ]);
        let dataset = open(folder.path()).unwrap();
        assert_is_expected(&dataset, Format::Python, 10);
    }
}

#[test]
fn content_decides_where_names_mislead() {
    let folder = folder_of(&[
        ("binary100/train.bin", "batches/cifar10-train.dat"),
        ("binary100/test.bin", "batches/cifar10-test.parquet.txt"),
        ("python10/batches.meta", "batches/batches.meta"),
        ("make_fixtures.py", "README.md"),
    ]);
    let dataset = open(folder.path()).unwrap();
    assert_is_expected(&dataset, Format::Binary, 100);
}

#[test]
fn one_format_is_taken_where_there_are_several() {
    let folder = folder_of(&[
        ("binary10/data_batch_1.bin", "bin/data_batch_1.bin"),
        ("binary10/data_batch_2.bin", "bin/data_batch_2.bin"),
        ("binary10/test_batch.bin", "bin/test_batch.bin"),
        ("python10/data_batch_1", "py/data_batch_1"),
        ("python10/data_batch_2", "py/data_batch_2"),
        ("python10/test_batch", "py/test_batch"),
    ]);
    let dataset = open(folder.path()).unwrap();
    assert_is_expected(&dataset, Format::Binary, 10);
}
