//! `ir export --tensorboard`: every number that training recorded is in the file.

mod common;
mod place;

use common::Sample;
use place::Place;

/// The data of each record, by the lengths that the records state.
fn records(mut file: &[u8]) -> Vec<&[u8]> {
    let mut records = Vec::new();
    while let Some((length, rest)) = file.split_at_checked(8) {
        let length = u64::from_le_bytes(length.try_into().expect("8 bytes")) as usize;
        records.push(&rest[4..4 + length]);
        file = &rest[4 + length + 4..];
    }
    assert!(file.is_empty(), "{} bytes too many", file.len());
    records
}

/// Whether a record has this tag with this value, as protobuf writes them.
fn has(record: &[u8], tag: &str, value: f64) -> bool {
    let mut bytes = vec![0x0a, tag.len() as u8];
    bytes.extend(tag.as_bytes());
    bytes.push(0x15);
    bytes.extend((value as f32).to_le_bytes());
    record.windows(bytes.len()).any(|window| window == bytes)
}

#[test]
fn every_epoch_is_a_record_with_its_scalars() {
    let place = Place::empty();
    let sample = Sample::three_stages("resnet-32", 5, 0);
    sample.write(&place.path("run"));
    let said = place.json("export run --tensorboard logs --json");
    let file = place.bytes(said["file"].as_str().unwrap());
    let records = records(&file);
    // The version, then epochs 0 to 8.
    assert_eq!(records.len(), 10);
    // Five of the epoch; two splits of 15 blocks and 6 exits with two each; none trained before 0.
    assert_eq!(said["scalars"], 9 * (5 + 2 * 2 * (15 + 6)) - 2);

    let epoch = 3;
    let history = sample.history();
    let record = records[1 + epoch];
    for (tag, key) in [
        ("loss/train", "train_loss"),
        ("loss/test", "test_loss"),
        ("accuracy/train", "train_accuracy"),
        ("accuracy/test", "test_accuracy"),
        ("learning_rate", "learning_rate"),
    ] {
        let value = history[epoch][key].as_f64().unwrap();
        assert!(has(record, tag, value), "{tag} {value}");
        assert!(!has(record, tag, value + 0.01), "{tag}");
    }
    let progress = 1.0 - (-1.0f64).exp();
    let cosine = 0.02 - 0.12 * progress * (0.3 + 14.0 / 20.0);
    assert!(has(record, "cosine_test/block_014", cosine));
    assert!(has(
        record,
        "l2_ratio_train/block_000",
        0.2 + 0.3 * progress
    ));
    assert!(
        !has(records[1], "loss/train", 0.0),
        "nothing was trained before the first epoch"
    );
}

#[test]
fn an_export_replaces_the_one_before() {
    let place = Place::empty();
    Sample::one_stage("single-representation", 4, 0).write(&place.path("run"));
    let first = place.ok("export run --tensorboard logs");
    let bytes = place.bytes(first.trim());
    assert_eq!(place.ok("export run --tensorboard logs"), first);
    assert_eq!(place.bytes(first.trim()), bytes);
    assert_eq!(std::fs::read_dir(place.path("logs")).unwrap().count(), 1);
}

#[test]
fn a_run_without_a_history_is_nothing_to_export() {
    let place = Place::empty();
    Sample::one_stage("single-representation", 4, 0).write(&place.path("run"));
    std::fs::remove_file(place.path("run/history.jsonl")).unwrap();
    let complaint = place.complaint("export run --tensorboard logs");
    assert!(complaint.contains("nothing is recorded yet"), "{complaint}");
    assert!(!place.path("logs").exists());
}
