//! Folders of images against PIL and torchvision, and what is wrong with others.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::Path;

use common::{assert_says, fixture, put};
use ir_data::{Error, Fit, ImageFolder, Interpolation, Normalization, Preparation};

/// Leaves values on the 0–1 scale.
const PLAIN: Normalization = Normalization {
    mean: [0.0; 3],
    std: [1.0; 3],
};

fn preparation(size: usize, fraction: f64, interpolation: Interpolation) -> Preparation {
    Preparation {
        size: [size; 2],
        fit: Fit::Crop(fraction),
        interpolation,
        normalization: PLAIN,
    }
}

/// The first image of the stored order of a folder that holds only this one, as levels.
fn prepared(image: &Path, preparation: Preparation) -> Vec<f64> {
    let folder = tempfile::tempdir().unwrap();
    let class = folder.path().join("class");
    fs::create_dir(&class).unwrap();
    fs::copy(image, class.join(image.file_name().unwrap())).unwrap();
    let images = ImageFolder::open(folder.path()).unwrap();
    let batch = images
        .test()
        .unwrap()
        .batches(1, None, preparation)
        .unwrap()
        .next();
    let values = batch.unwrap().unwrap().images.flatten_all().unwrap();
    let values: Vec<f32> = values.to_vec1().unwrap();
    values
        .into_iter()
        .map(|value| f64::from(value) * 255.0)
        .collect()
}

/// PIL's result `[3, H, W]`, in levels.
fn expected(name: &str) -> Vec<f64> {
    let image = image::open(fixture("images_expected").join(name))
        .unwrap()
        .into_rgb8();
    let pixels = image.as_raw();
    let plane = |channel| {
        pixels
            .iter()
            .skip(channel)
            .step_by(3)
            .map(|&v| f64::from(v))
    };
    (0..3).flat_map(plane).collect()
}

/// PIL rounds to a level after each of its two passes, we after the last: each rounding is off by
/// half a level, the first is weighted by a kernel whose negative lobes make the sum of weights' sizes at most 1.7
/// (Lanczos), so that two correct results differ by less than 0.5 + 1.7 · 0.5 + 0.5 < 2 levels.
/// Two decoders of a JPEG file differ by up to a level in the transform and in each of three
/// rounded products of the colours, and as much as that more after the kernel.
#[test]
fn images_are_scaled_and_cut_as_pil_and_torchvision_do() {
    for (image, jpeg) in [
        ("cat/wide.png", false),
        ("cat/tall.jpg", true),
        ("dog/inner/alpha.png", false),
        ("dog/grey.webp", false),
    ] {
        let path = fixture("images").join(image);
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        for (mode, interpolation) in [
            ("nearest", Interpolation::Nearest),
            ("bilinear", Interpolation::Bilinear),
            ("bicubic", Interpolation::Bicubic),
            ("lanczos", Interpolation::Lanczos),
        ] {
            for (size, fraction) in [(24, 0.875), (64, 1.0)] {
                let name = format!("{stem}-{mode}-{size}-{fraction:?}.png");
                let ours = prepared(&path, preparation(size, fraction, interpolation));
                let theirs = expected(&name);
                assert_eq!(ours.len(), theirs.len(), "{name}");
                let differences = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs());
                let worst = differences.clone().fold(0.0, f64::max);
                let mean = differences.sum::<f64>() / ours.len() as f64;
                let (most, mean_most) = match (interpolation, jpeg) {
                    (Interpolation::Nearest, false) => (0.01, 0.01),
                    (_, false) => (2.0, 0.5),
                    (_, true) => (6.0, 1.0),
                };
                assert!(worst <= most && mean <= mean_most, "{name}: {worst} {mean}");
            }
        }
    }
}

#[test]
fn an_image_of_the_right_size_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let name = "wide-nearest-24-0.875.png";
    fs::copy(
        fixture("images_expected").join(name),
        folder.path().join(name),
    )
    .unwrap();
    for fit in [Fit::Exact, Fit::Crop(1.0)] {
        let mut as_it_is = preparation(24, 1.0, Interpolation::Lanczos);
        as_it_is.fit = fit;
        let found = prepared(&folder.path().join(name), as_it_is);
        let worst = found.iter().zip(expected(name)).map(|(a, b)| (a - b).abs());
        assert!(worst.fold(0.0, f64::max) < 1e-4);
    }
}

#[test]
fn of_a_long_strip_the_middle_is_scaled_and_no_more() {
    // A strip as long as images may be, whose middle is that of a short one. Scaled as a whole it would be 32,768 times as
    // long as the input: 6 GB.
    let folder = tempfile::tempdir().unwrap();
    let level = |place: i64| {
        image::Rgb([
            128 + place.rem_euclid(97) as u8,
            40,
            200 - place.rem_euclid(50) as u8,
        ])
    };
    let strip = |name: &str, length: i64| {
        let path = folder.path().join(name);
        let pixel = |x: u32, _| level(i64::from(x) - length / 2);
        image::RgbImage::from_fn(length as u32, 1, pixel)
            .save(&path)
            .unwrap();
        prepared(&path, preparation(224, 0.875, Interpolation::Bicubic))
    };
    let (long, short) = (strip("long.png", 32_768), strip("short.png", 6));
    let worst = long.iter().zip(&short).map(|(a, b)| (a - b).abs());
    assert!(worst.fold(0.0, f64::max) <= 1.0);
}

#[test]
fn samples_go_round_the_classes_and_are_normalised() {
    let images = ImageFolder::open(&fixture("images")).unwrap();
    assert_eq!(
        (images.name().as_str(), images.classes()),
        ("images", &["cat".to_owned(), "dog".into()][..])
    );
    assert!(images.train().is_none());
    let split = images.test().unwrap();
    assert_eq!(split.labels(), [0, 1, 0, 1]);
    let names: Vec<_> = split
        .files()
        .iter()
        .map(|file| file.file_name().unwrap())
        .collect();
    assert_eq!(names, ["tall.jpg", "grey.webp", "wide.png", "alpha.png"]);

    let normalization = Normalization {
        mean: [0.5, 0.25, 0.125],
        std: [0.25, 0.5, 2.0],
    };
    let plain = preparation(24, 0.875, Interpolation::Bilinear);
    let normalized = Preparation {
        normalization,
        ..plain
    };
    let all = |preparation, batch_size, samples| -> (Vec<f32>, Vec<usize>) {
        let batches = split.batches(batch_size, samples, preparation).unwrap();
        let (mut values, mut sizes) = (Vec::new(), Vec::new());
        for batch in batches {
            let batch = batch.unwrap();
            sizes.push(batch.indices.len());
            values.extend(
                batch
                    .images
                    .flatten_all()
                    .unwrap()
                    .to_vec1::<f32>()
                    .unwrap(),
            );
        }
        (values, sizes)
    };
    let (values, sizes) = all(plain, 3, None);
    assert_eq!(sizes, [3, 1]);
    // The batch size changes nothing.
    assert_eq!(all(plain, 1, None).0, values);
    assert_eq!(all(plain, 4, Some(3)).0, values[..3 * 3 * 24 * 24]);
    let (found, _) = all(normalized, 4, None);
    for (index, (found, plain)) in found.iter().zip(&values).enumerate() {
        let channel = index / (24 * 24) % 3;
        let exact = (f64::from(*plain) - normalization.mean[channel]) / normalization.std[channel];
        // Each side is rounded once to f32, of values below 4.
        assert!((f64::from(*found) - exact).abs() < 1e-6);
    }
}

#[test]
fn splits_are_folders_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let image = fs::read(fixture("images/cat/wide.png")).unwrap();
    for file in [
        "train/a/1.png",
        "train/b/1.png",
        "train/b/2.png",
        "val/a/1.png",
        "val/b/1.PNG",
    ] {
        put(folder.path(), file, &image);
    }
    put(folder.path(), "val/b/.hidden.png", b"");
    let images = ImageFolder::open(folder.path()).unwrap();
    assert_eq!(images.classes(), ["a", "b"]);
    assert_eq!(images.train().unwrap().labels(), [0, 1, 1]);
    assert_eq!(images.test().unwrap().len(), 2);
    let relabelled = images.relabel(&[7, 3]).unwrap();
    assert_eq!(relabelled.train().unwrap().labels(), [7, 3, 3]);
    assert!(images.relabel(&[1]).is_err());
    // Another name or length of a file is another checksum.
    let before = images.train().unwrap().checksum().to_owned();
    put(folder.path(), "train/b/2.png", b"other");
    let after = ImageFolder::open(folder.path()).unwrap();
    assert_ne!(after.train().unwrap().checksum(), before);
    assert_eq!(after.test(), images.test());
}

#[test]
fn classes_are_found_by_map_name_or_number() {
    let images = ImageFolder::open(&fixture("images")).unwrap();
    let names = |names: &[&str]| {
        names
            .iter()
            .map(|&name| name.to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(images.labels_of(2, None, None).unwrap(), [0, 1]);
    let known = names(&["dog", "house cat, Cat", "cow"]);
    assert_eq!(images.labels_of(3, Some(&known), None).unwrap(), [1, 0]);
    let others = names(&["x", "y", "z"]);
    let error = images.labels_of(3, Some(&others), None).unwrap_err();
    assert!(matches!(
        error,
        Error::Classes {
            found: 2,
            expected: 3,
            ..
        }
    ));
    assert_says(&error.to_string(), &["--classes FILE"]);

    let folder = tempfile::tempdir().unwrap();
    let mapped = |text: &str| {
        let file = folder.path().join("map");
        fs::write(&file, text).unwrap();
        images
            .labels_of(5, None, Some(&file))
            .map_err(|error| error.to_string())
    };
    assert_eq!(mapped(r#"{"dog": 1, "cat": 4, "cow": 9}"#).unwrap(), [4, 1]);
    assert_eq!(
        mapped("cow an animal\n\ndog another, still\ncat\n").unwrap(),
        [2, 1]
    );
    assert_says(
        &mapped(r#"{"dog": 1, "cat": 5}"#).unwrap_err(),
        &["cat has the index 5", "0 to 4"],
    );
    assert_says(
        &mapped("dog\n").unwrap_err(),
        &["does not name the folder cat"],
    );
    assert_says(
        &mapped(r#"{"dog": "x"}"#).unwrap_err(),
        &["expected a JSON object"],
    );
}

#[test]
fn what_is_no_folder_of_images_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let refused = || ImageFolder::open(folder.path()).unwrap_err();
    assert!(matches!(refused(), Error::NoImages { .. }));
    put(folder.path(), "1.png", b"beside no class");
    assert!(matches!(refused(), Error::NoImages { .. }));
    put(folder.path(), "cat/notes.txt", b"no image");
    assert!(matches!(refused(), Error::NoImages { .. }));
    put(folder.path(), "dog/1.png", b"an image by its name");
    assert!(matches!(refused(), Error::EmptyClass { .. }));
    fs::remove_dir_all(folder.path().join("cat")).unwrap();
    let images = ImageFolder::open(folder.path()).unwrap();
    let sound = preparation(8, 1.0, Interpolation::Bilinear);
    let split = images.test().unwrap();
    let error = split
        .batches(1, None, sound)
        .unwrap()
        .next()
        .unwrap()
        .unwrap_err();
    assert_says(
        &error.to_string(),
        &["dog/1.png", "expected a JPEG, PNG or WebP image"],
    );
    for (size, fraction) in [
        ([0, 8], 1.0),
        ([8, 5000], 1.0),
        ([8, 8], 0.0),
        ([8, 8], 1.5),
        ([8, 9], 1.0),
        ([8, 8], f64::NAN),
    ] {
        let wrong = Preparation {
            size,
            fit: Fit::Crop(fraction),
            ..sound
        };
        let refused = split.batches(1, None, wrong);
        assert!(
            matches!(refused, Err(Error::Preparation { .. })),
            "{size:?} {fraction}"
        );
    }
    assert!(matches!(
        split.batches(0, None, sound),
        Err(Error::BatchSize { .. })
    ));
    assert!(matches!(
        split.batches(1, Some(2), sound),
        Err(Error::Samples { .. })
    ));
}
