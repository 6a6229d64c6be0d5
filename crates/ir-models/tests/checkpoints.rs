//! Checkpoints come back as they were saved, and nothing else is taken for one.

#![expect(
    clippy::unwrap_used,
    reason = "what tests share fails by panicking, as they do"
)]

use std::ops::ControlFlow;
use std::path::Path;

use candle_core::{Device, Tensor};
use ir_models::{
    Architecture, Checkpoint, DataDescription, Error, Normalization, ResNet, Schedule, Sgd,
    Trainer, TrainingSettings,
};

fn tiny() -> Architecture {
    Architecture::from_json(
        r#"{ "name": "tiny", "classes": 3, "image": [3, 8, 8], "stem_channels": 4, "head_pooling": 4,
             "stages": [{ "blocks": 2, "channels": 4 },
                        { "blocks": 2, "channels": 6, "entrance": { "transition": { "stride": 2 } } }] }"#,
    )
    .unwrap()
}

fn batch(index: u64) -> (Tensor, Tensor) {
    use rand::Rng;
    let mut stream = ir_tensor_ops::random::stream(1, 0, index, 0);
    let values: Vec<f32> = (0..6 * 3 * 8 * 8)
        .map(|_| stream.random::<f32>() - 0.5)
        .collect();
    let images = Tensor::from_vec(values, (6, 3, 8, 8), &Device::Cpu).unwrap();
    (
        images,
        Tensor::new(&[0u32, 1, 2, 0, 1, 2], &Device::Cpu).unwrap(),
    )
}

fn batches(
    range: std::ops::Range<u64>,
) -> impl Iterator<Item = Result<(Tensor, Tensor), std::io::Error>> {
    range.map(|index| Ok(batch(index)))
}

fn trainer() -> Trainer {
    let settings = TrainingSettings {
        schedule: Schedule::constant(0.05),
        sgd: Sgd::default(),
    };
    Trainer::new(ResNet::initialize(&tiny(), 3).unwrap(), settings).unwrap()
}

fn data() -> DataDescription {
    let normalization = Normalization {
        mean: [0.5, 0.25, 0.125],
        std: [0.1, 0.2, 0.3],
    };
    DataDescription {
        dataset: Some("synthetic".into()),
        normalization: Some(normalization),
    }
}

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

#[test]
fn a_resumed_run_gives_the_same_bytes_as_an_undisturbed_one() {
    let folder = tempfile::tempdir().unwrap();
    let save = |trainer: &Trainer, name: &str| {
        let path = folder.path().join(name);
        Checkpoint::save_training(&path, trainer, &data(), serde_json::json!({ "seed": 3 }))
            .unwrap();
        path
    };
    let keep_on = |_: &_| ControlFlow::Continue(());

    let mut whole = trainer();
    whole.epoch(batches(0..5), keep_on).unwrap();
    whole.epoch(batches(5..8), keep_on).unwrap();

    let mut first = trainer();
    first.epoch(batches(0..5), keep_on).unwrap();
    let stop_after_two = |step: &ir_models::StepReport| {
        if step.position.batches == 2 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    assert!(
        first
            .epoch(batches(5..8), stop_after_two)
            .unwrap()
            .is_none()
    );
    let checkpoint = Checkpoint::open(&save(&first, "middle")).unwrap();
    assert_eq!(checkpoint.data(), &data());
    assert_eq!(checkpoint.run()["seed"], 3);
    let mut second = checkpoint.trainer().unwrap();
    assert_eq!((second.position().epoch, second.position().batches), (1, 2));
    second.epoch(batches(7..8), keep_on).unwrap();

    assert_eq!(
        bytes(&save(&whole, "whole")),
        bytes(&save(&second, "resumed"))
    );
}

#[test]
fn a_checkpoint_of_a_network_has_exactly_its_tensors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network");
    let network = ResNet::initialize(&tiny(), 0).unwrap();
    Checkpoint::save_network(&path, &network, &data()).unwrap();

    let content = bytes(&path);
    let file = safetensors::SafeTensors::deserialize(&content).unwrap();
    let mut names: Vec<&str> = file.names();
    let mut expected: Vec<&str> = network
        .tensors()
        .map(|(spec, _)| spec.name.as_str())
        .collect();
    names.sort_unstable();
    expected.sort_unstable();
    assert_eq!(names, expected);

    let again = Checkpoint::open(&path).unwrap().network().unwrap();
    for ((spec, before), (_, after)) in network.tensors().zip(again.tensors()) {
        let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(values(before), values(after), "{}", spec.name);
    }
    assert!(matches!(
        Checkpoint::open(&path).unwrap().trainer(),
        Err(Error::NotACheckpoint { .. })
    ));
}

#[test]
fn numbers_in_the_metadata_come_back_to_the_last_bit() {
    use rand::Rng;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network");
    let network = ResNet::initialize(&tiny(), 0).unwrap();
    let mut stream = ir_tensor_ops::random::stream(2, 0, 0, 0);
    for _ in 0..50 {
        let normalization = Normalization {
            mean: stream.random(),
            std: stream.random(),
        };
        let data = DataDescription {
            normalization: Some(normalization),
            ..data()
        };
        Checkpoint::save_network(&path, &network, &data).unwrap();
        assert_eq!(Checkpoint::open(&path).unwrap().data(), &data);
    }
}

#[test]
fn a_file_that_is_no_checkpoint_is_refused_with_what_was_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let network = ResNet::initialize(&tiny(), 0).unwrap();
    Checkpoint::save_network(&path, &network, &data()).unwrap();
    let whole = bytes(&path);

    let refused = |content: &[u8], reason: &str| {
        std::fs::write(&path, content).unwrap();
        let error = Checkpoint::open(&path).and_then(|checkpoint| checkpoint.network());
        let error = error.err().unwrap().to_string();
        assert!(error.contains(reason), "{error}");
        assert!(error.contains(path.to_str().unwrap()), "{error}");
    };
    let replaced = |content: &[u8], from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let mut places = content.windows(from.len());
        let header = places.position(|place| place == from.as_bytes()).unwrap();
        let mut content = content.to_vec();
        content[header..header + to.len()].copy_from_slice(to.as_bytes());
        content
    };
    refused(b"", "expected a safetensors file");
    refused(b"not a checkpoint at all", "safetensors");
    refused(&whole[..whole.len() / 2], "safetensors");
    refused(&[&[0xff; 8], &whole[8..]].concat(), "safetensors");
    let version = |to| replaced(&whole, "\"format_version\":\"2\"", to);
    let unknown = |content: &[u8]| replaced(content, "\"sha256\"", "\"sha-??\"");
    refused(&version("\"format_version\":\"9\""), "format_version 9");
    refused(&unknown(&whole), "no `sha256`");
    refused(
        &replaced(&whole, "blocks.3.bn1.weight", "blocks.9.bn1.weight"),
        "damaged",
    );
    // The first version had no checksum.
    let first = unknown(&version("\"format_version\":\"1\""));
    std::fs::write(&path, &first).unwrap();
    Checkpoint::open(&path).unwrap().network().unwrap();
    let renamed = replaced(&first, "architecture", "arqhitecture");
    refused(&renamed, "`architecture`");
    let renamed = replaced(&first, "blocks.3.bn1.weight", "blocks.9.bn1.weight");
    refused(&renamed, "missing blocks.3.bn1.weight");
    let resized = replaced(&first, "\\\"channels\\\":6", "\\\"channels\\\":5");
    refused(&resized, "expected [5");
    let error = Checkpoint::open(folder.path()).err().unwrap().to_string();
    assert!(error.contains("it is a folder"), "{error}");
}

#[test]
fn a_checkpoint_that_was_cut_off_or_has_one_bit_changed_is_refused() {
    use rand::Rng;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    Checkpoint::save_training(&path, &trainer(), &data(), serde_json::Value::Null).unwrap();
    let whole = bytes(&path);
    Checkpoint::open(&path).unwrap().trainer().unwrap();
    let refused = |content: &[u8], what: &str| {
        std::fs::write(&path, content).unwrap();
        let opened = Checkpoint::open(&path).and_then(|checkpoint| checkpoint.trainer());
        let error = opened.map(|_| ()).unwrap_err();
        assert!(
            matches!(error, Error::Damaged { .. } | Error::NotACheckpoint { .. }),
            "{what}: {error}"
        );
    };
    for length in (0..whole.len()).step_by(199) {
        refused(&whole[..length], &format!("cut off at {length}"));
    }
    let mut stream = ir_tensor_ops::random::stream(4, 0, 0, 0);
    for byte in (0..whole.len()).step_by(23) {
        let bit = stream.random_range(0..8);
        let mut content = whole.clone();
        content[byte] ^= 1 << bit;
        refused(&content, &format!("bit {bit} of byte {byte}"));
    }
}

#[test]
fn equal_content_gives_equal_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let [one, other] = ["one", "other"].map(|name| {
        let path = folder.path().join(name);
        Checkpoint::save_training(&path, &trainer(), &data(), serde_json::Value::Null).unwrap();
        bytes(&path)
    });
    assert!(one == other);
}

#[test]
fn what_cannot_be_written_leaves_the_earlier_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let network = ResNet::initialize(&tiny(), 0).unwrap();
    let missing = folder.path().join("missing").join("file");
    let error = Checkpoint::save_network(&missing, &network, &data()).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    // A folder stands where the file should go: the write succeeds, the renaming cannot.
    let occupied = folder.path().join("occupied");
    std::fs::create_dir(&occupied).unwrap();
    assert!(Checkpoint::save_network(&occupied, &network, &data()).is_err());
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "no temporary file is left"
    );
}
