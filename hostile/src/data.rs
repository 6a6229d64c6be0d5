//! The readers of data sets.

use std::fs;
use std::path::Path;

use ir_data::{
    Dataset, Fit, IMAGE, ImageFolder, Interpolation, Locations, Normalization, Preparation,
};
use tempfile::TempDir;

use crate::seeds;

thread_local! {
    /// One folder a thread, for all inputs: making one takes longer than reading it.
    static FOLDER: TempDir = tempfile::tempdir().unwrap();
}

/// Nowhere to look and no network.
///
/// ```
/// assert!(ir_hostile::data::nowhere().offline);
/// ```
#[must_use]
pub fn nowhere() -> Locations {
    Locations {
        ir_data: None,
        local: None,
        hub_cache: None,
        endpoint: "http://127.0.0.1:9".into(),
        offline: true,
    }
}

/// A parquet file as the train split, beside a sound test split.
pub fn parquet(content: &[u8]) {
    open_beside("parquet", "train.parquet", content, || {
        ("test.parquet", seeds::sound_parquet())
    });
}

/// An image, PNG or WebP, in a sound parquet file.
pub fn image(content: &[u8]) {
    parquet(&seeds::parquet_of(
        &[content],
        &[3],
        seeds::Pages::default(),
    ));
}

/// An image of any size in a folder of images, prepared for a network.
pub fn photograph(content: &[u8]) {
    let root = folder("photographs", Vec::new);
    fs::create_dir_all(root.join("class")).unwrap();
    fs::write(root.join("class/1.jpg"), content).unwrap();
    let preparation = Preparation {
        size: [16, 16],
        fit: Fit::Crop(0.875),
        interpolation: Interpolation::Bilinear,
        normalization: Normalization {
            mean: [0.0; 3],
            std: [1.0; 3],
        },
    };
    let images = ImageFolder::open(&root).unwrap();
    let mut batches = images
        .test()
        .unwrap()
        .batches(1, None, preparation)
        .unwrap();
    match batches.next().unwrap() {
        Ok(batch) => assert_eq!(batch.images.dims(), [1, 3, 16, 16]),
        Err(error) => assert!(error.to_string().contains("1.jpg"), "{error}"),
    }
}

/// A python batch, read without being run.
pub fn python_batch(content: &[u8]) {
    open_beside("python", "data_batch_1", content, || {
        ("test_batch", seeds::PYTHON_TEST.to_vec())
    });
}

/// A binary batch of CIFAR-10 or CIFAR-100.
pub fn binary_batch(content: &[u8]) {
    open_beside("binary", "train.bin", content, || {
        ("test.bin", seeds::BINARY_10.to_vec())
    });
}

/// The list of class names beside binary batches.
pub fn class_names(content: &[u8]) {
    let folder = folder("names", || {
        vec![
            ("data_batch_1.bin", seeds::BINARY_10.to_vec()),
            ("test_batch.bin", seeds::BINARY_10.to_vec()),
        ]
    });
    fs::write(folder.join("batches.meta.txt"), content).unwrap();
    check(&folder, open(&folder));
}

/// The commit that the hub's cache names as the newest, which is part of a path.
pub fn hub_reference(content: &[u8]) {
    let root = folder("hub", Vec::new);
    let repository = root.join("datasets--uoft-cs--cifar10");
    fs::create_dir_all(repository.join("refs")).unwrap();
    fs::write(repository.join("refs/main"), content).unwrap();
    let locations = Locations {
        hub_cache: Some(root),
        ..nowhere()
    };
    assert!(Dataset::open("cifar10", &locations).is_err());
    assert!(ir_data::fetch(ir_data::LabelSet::Cifar10, &locations, &mut |_| {}).is_err());
}

/// Opens a folder.
///
/// # Errors
/// Whatever is wrong with it.
pub fn open(folder: &Path) -> ir_data::Result<Dataset> {
    Dataset::open(folder.to_str().unwrap(), &nowhere())
}

/// This thread's folder for a kind of input, with what `sound` gives if it is new.
fn folder(kind: &str, sound: impl Fn() -> Vec<(&'static str, Vec<u8>)>) -> std::path::PathBuf {
    let folder = FOLDER.with(|root| root.path().join(kind));
    if !folder.exists() {
        fs::create_dir_all(&folder).unwrap();
        for (name, content) in sound() {
            fs::write(folder.join(name), content).unwrap();
        }
    }
    folder
}

fn open_beside(kind: &str, name: &str, content: &[u8], sound: fn() -> (&'static str, Vec<u8>)) {
    let folder = folder(kind, || vec![sound()]);
    fs::write(folder.join(name), content).unwrap();
    check(&folder, open(&folder));
}

/// A data set that was taken is one; an error names the folder or a file in it.
fn check(folder: &Path, outcome: ir_data::Result<Dataset>) {
    match outcome {
        Ok(dataset) => {
            for split in [dataset.train(), dataset.test()] {
                assert!(!split.is_empty());
                assert_eq!(split.images().len(), split.len() * IMAGE);
                let classes = dataset.classes().len();
                assert!(
                    split
                        .labels()
                        .iter()
                        .all(|&label| usize::from(label) < classes)
                );
            }
        }
        Err(error) => {
            let message = error.to_string();
            assert!(message.contains(folder.to_str().unwrap()), "{message}");
        }
    }
}
