//! Whatever is wrong with a file is said in one sentence, and nothing panics.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::Path;

use ir_data::{Dataset, Format, IMAGE, Split};

use common::{assert_says, fixture, folder_of, open, put, refusal};

/// What is said about a damaged parquet file as the train split.
fn parquet_refusal(name: &str) -> String {
    let folder = folder_of(&[
        (&format!("damaged/{name}.parquet"), "train.parquet"),
        (
            "parquet10/plain_text/test-00000-of-00001.parquet",
            "test.parquet",
        ),
    ]);
    refusal(folder.path())
}

#[test]
fn parquet_of_something_else() {
    let cases: [(&str, &[&str]); 13] = [
        ("label", &["sample 1", "0 to 9", "found 10"]),
        ("negative", &["sample 0", "0 to 9", "found -1"]),
        ("null_label", &["row 1", "found null"]),
        ("null_image", &["row 1", "found null"]),
        ("size", &["sample 1", "32×32", "28×28"]),
        ("transparent", &["sample 1", "transparency"]),
        ("not_an_image", &["sample 1", "PNG or WebP"]),
        ("cut_image", &["sample 1", "PNG or WebP"]),
        ("columns", &["text BYTE_ARRAY", "label INT64", "img.bytes"]),
        ("float_label", &["label DOUBLE", "fine_label"]),
        ("digits", &["not CIFAR's: 0, 1, 2"]),
        ("all_small", &["28×28", "not 32×32"]),
        ("zstd", &["ZSTD", "snappy"]),
    ];
    for (name, parts) in cases {
        let message = parquet_refusal(name);
        assert_says(&message, parts);
        assert_says(&message, &["train.parquet"]);
    }
}

#[test]
fn a_file_that_its_name_promises_is_not_passed_over() {
    let batch = fs::read(fixture("binary10/data_batch_1.bin")).unwrap();
    let pickle = fs::read(fixture("python10/data_batch_1")).unwrap();
    let mut wrong_label = batch.clone();
    wrong_label[3073] = 77;
    let cases: [(&str, &[u8], &[&str]); 6] = [
        ("data_batch_1.bin", &batch[..6000], &["6000 bytes", "3,073"]),
        ("data_batch_1.bin", &wrong_label, &["label 77", "record 1"]),
        ("data_batch_1.bin", b"", &["0 bytes", "3,073"]),
        (
            "data_batch_1",
            &pickle[..5000],
            &["byte ", "end of the file"],
        ),
        ("test_batch", b"<html>Not found</html>", &["<htm", "3,073"]),
        (
            "train.parquet",
            b"<html>Not found</html>",
            &["<htm", "PAR1"],
        ),
    ];
    for (name, content, parts) in cases {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), name, content);
        let message = refusal(folder.path());
        assert_says(&message, &[name]);
        assert_says(&message, parts);
    }
}

#[test]
fn folders_that_are_none() {
    let empty = tempfile::tempdir().unwrap();
    assert_says(
        &refusal(empty.path()),
        &["no CIFAR data in", "parquet", "python batches"],
    );

    let half = folder_of(&[("binary10/test_batch.bin", "test_batch.bin")]);
    assert_says(&refusal(half.path()), &["the train split is missing"]);

    let both = folder_of(&[
        ("binary10/test_batch.bin", "a/test_batch.bin"),
        ("binary100/test.bin", "b/test.bin"),
    ]);
    assert_says(&refusal(both.path()), &["cifar10 and cifar100"]);

    let twice = folder_of(&[
        ("binary10/data_batch_1.bin", "a/data_batch_1.bin"),
        ("binary10/test_batch.bin", "a/test_batch.bin"),
        ("binary10/test_batch.bin", "b/test_batch.bin"),
    ]);
    assert_says(
        &refusal(twice.path()),
        &["a test split in", "a/test_batch.bin and", "b/test"],
    );

    let nameless = folder_of(&[("binary10/test_batch.bin", "0001.bin")]);
    assert_says(
        &refusal(nameless.path()),
        &["0001.bin", "train or the test split"],
    );

    let foreign = tempfile::tempdir().unwrap();
    put(foreign.path(), "model.pkl", b"\x80\x04}.");
    assert_says(&refusal(foreign.path()), &["model.pkl", "without the keys"]);
}

#[test]
fn a_split_of_nothing() {
    let full = Split::new(vec![0; IMAGE], vec![0]).unwrap();
    let empty = Split::new(Vec::new(), Vec::new()).unwrap();
    let classes = vec!["all".to_owned()];
    let none = Dataset::new("none", classes, full, empty, Format::Synthetic, Vec::new());
    assert_says(
        &none.unwrap_err().to_string(),
        &["the test split holds no samples"],
    );
}

#[test]
fn a_pickle_is_never_run() {
    let folder = tempfile::tempdir().unwrap();
    let touched = folder.path().join("touched");
    // What a hostile pickle looks like: os.system("touch …") in place of the data.
    let command = format!("touch {}", touched.display());
    let mut pickle = b"\x80\x02}(U\x06labels](K\x01eU\x04datacos\nsystem\nU".to_vec();
    pickle.push(u8::try_from(command.len()).unwrap());
    pickle.extend_from_slice(command.as_bytes());
    pickle.extend_from_slice(b"\x85Ru.");
    put(folder.path(), "data_batch_1", &pickle);
    put(folder.path(), "test_batch", &pickle);
    assert_says(
        &refusal(folder.path()),
        &["data_batch_1", "data", "a call of system"],
    );
    assert!(!touched.exists());
}

/// Opens `name` with every content that `damage` makes; none may panic, and with `refused`
/// none may be taken.
fn each_damage(
    folder: &Path,
    name: &str,
    refused: bool,
    damage: impl Iterator<Item = Vec<u8>> + Send,
) {
    // One thread: waking the others costs more than three images.
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    pool.install(|| {
        for content in damage {
            put(folder, name, &content);
            let taken = open(folder).is_ok();
            assert!(!(refused && taken), "{} bytes were taken", content.len());
        }
    });
}

const FILES: [(&str, &[(&str, &str)]); 3] = [
    (
        "parquet10/plain_text/test-00000-of-00001.parquet",
        &[(
            "parquet10/plain_text/train-00000-of-00001.parquet",
            "train.parquet",
        )],
    ),
    (
        "python10/test_batch",
        &[("python10/data_batch_1", "data_batch_1")],
    ),
    (
        "pickles/protocol5",
        &[("python10/data_batch_1", "data_batch_1")],
    ),
];

#[test]
fn truncated_files_are_refused() {
    for (file, others) in FILES {
        let folder = folder_of(others);
        let name = if file.ends_with(".parquet") {
            "test.parquet"
        } else {
            "test_batch"
        };
        let content = fs::read(fixture(file)).unwrap();
        let lengths = (0..content.len())
            .step_by(7)
            .map(|length| content[..length].to_vec());
        each_damage(folder.path(), name, true, lengths);
    }
}

#[test]
fn flipped_bits_never_panic() {
    for (file, others) in FILES {
        let folder = folder_of(others);
        let name = if file.ends_with(".parquet") {
            "test.parquet"
        } else {
            "test_batch"
        };
        let content = fs::read(fixture(file)).unwrap();
        // Pixels may change freely, so bytes are sampled there and taken all elsewhere.
        let places = (0..content.len())
            .filter(|place| *place < 256 || *place + 1024 > content.len() || place % 29 == 0);
        let damage = places.map(|place| {
            let mut damaged = content.clone();
            damaged[place] ^= 1 << (place % 8);
            damaged
        });
        each_damage(folder.path(), name, false, damage);
    }
}
