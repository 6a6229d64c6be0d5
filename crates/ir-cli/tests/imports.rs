//! Other people's networks on folders of images, from end to end.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use serde_json::Value;

mod place;
use place::{Place, text};

/// A network of ten classes, see `imported_files.py`.
const NETWORK: &str = "../ir-models/tests/pytorch/fixtures/files/state.pth";
/// Two classes, `cat` and `dog`, of two images each.
const IMAGES: &str = "../ir-data/tests/fixtures/images";

/// A folder with the network and its config.json.
fn place(config: Option<&str>) -> Place {
    let place = Place::empty();
    fs::copy(NETWORK, place.path("model.pth")).unwrap();
    if let Some(config) = config {
        place.write("config.json", config);
    }
    place.write("classes.json", r#"{"cat": 2, "dog": 0}"#);
    place
}

/// What a command that must succeed prints on stdout and on stderr.
fn ok(place: &Place, line: &str) -> (String, String) {
    let output = place.run(line);
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| text(bytes));
    assert!(output.status.success(), "ir {line}: {err}");
    (out, err)
}

fn refused(place: &Place, line: &str, said: &[&str]) {
    let output = place.run(line);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "ir {line}: {error}");
    for part in said {
        assert!(error.contains(part), "ir {line}: {error}");
    }
}

fn images() -> String {
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join(IMAGES);
    images.canonicalize().unwrap().display().to_string()
}

const CONFIG: &str = r#"{"architecture": "resnet4", "pretrained_cfg": {"input_size": [3, 32, 32],
    "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "crop_pct": 0.9, "interpolation": "bicubic"}}"#;

#[test]
fn a_network_is_analysed_with_what_its_config_says() {
    let place = place(Some(CONFIG));
    let line = format!("analyze . --data {} --classes classes.json", images());
    let (table, said) = ok(&place, &line);
    assert!(
        table.contains("resnet4 on images test: 4 samples"),
        "{table}"
    );
    assert!(
        said.contains(
            "2 basic blocks in stages of 1, 1, 10 classes; 32 tensors matched, 6 counters"
        ),
        "{said}"
    );
    assert!(said.contains("cannot be unrolled"), "{said}");
    let flags = "--mean 0.5,0.5,0.5 --std 0.25,0.25,0.25 --input-size 32 --crop 0.9 --interpolation bicubic --json";
    let by_file: Value = serde_json::from_str(&ok(&place, &format!("{line} --json")).0).unwrap();
    fs::remove_file(place.path("config.json")).unwrap();
    let line = format!(
        "analyze model.pth --data {} --classes classes.json {flags}",
        images()
    );
    let by_flags: Value = serde_json::from_str(&ok(&place, &line).0).unwrap();
    assert_eq!(by_file["splits"], by_flags["splits"]);
    assert_eq!(by_flags["network"], "model");
    assert_eq!(by_flags["provenance"]["import"]["matched"], 32);
    // One image a batch gives the same numbers.
    let alone: Value =
        serde_json::from_str(&ok(&place, &format!("{line} --batch-size 1")).0).unwrap();
    assert_eq!(alone["splits"], by_flags["splits"]);
}

#[test]
fn what_is_missing_is_asked_for() {
    let place = place(None);
    let images = images();
    refused(
        &place,
        &format!("analyze model.pth --data {images}"),
        &["has 2 classes and the network 10", "--classes FILE"],
    );
    let line = format!("analyze model.pth --data {images} --classes classes.json");
    refused(
        &place,
        &line,
        &["--mean R,G,B --std R,G,B --input-size PIXELS"],
    );
    let line = format!("{line} --mean 0.5,0.5,0.5 --std 0.2,0.2,0.2");
    refused(&place, &line, &["give --input-size PIXELS"]);
    refused(
        &place,
        &format!("{line} --input-size 32 --measures unroll"),
        &["block 1"],
    );
    refused(
        &place,
        "analyze hf:owner/name --data images",
        &["owner/name is not in", "--offline"],
    );
    refused(&place, "analyze hf:../x --data images", &["hf:OWNER/NAME"]);
    refused(&place, "analyze . --data nowhere", &["nowhere"]);
}

#[test]
fn a_network_for_cifar_runs_on_it() {
    let place = place(None);
    ok(
        &place,
        "data synthesize --train-samples 20 --test-samples 10 --out drawn",
    );
    let run = |flags: &str| -> Value {
        let line = format!("analyze model.pth --data drawn --measures ratio,drop --json {flags}");
        serde_json::from_str(&ok(&place, &line).0).unwrap()
    };
    // Normalised as the data set's own training images ask for, unless a flag says otherwise.
    let own = run("");
    assert_eq!(own["splits"]["train"]["samples"], 20);
    let mean = own["provenance"]["normalization"]["mean"][0]
        .as_f64()
        .unwrap();
    assert!(0.1 < mean && mean < 0.9, "{mean}");
    let asked = run("--mean 0.5,0.5,0.5 --std 0.25,0.25,0.25 --split test");
    assert_eq!(asked["provenance"]["normalization"]["std"][2], 0.25);
    assert_ne!(asked["splits"]["test"], own["splits"]["test"]);
    // A network for larger images is refused, unless its user insists.
    fs::write(place.path("config.json"), CONFIG.replace("32", "64")).unwrap();
    refused(
        &place,
        "analyze . --data drawn",
        &["images of 64×64", "--input-size 32"],
    );
    ok(
        &place,
        "analyze . --data drawn --input-size 32 --measures ratio",
    );
}

#[test]
fn a_folder_of_images_is_described() {
    let place = place(None);
    let (text, _) = ok(&place, &format!("data info {}", images()));
    assert!(text.contains("images: 2 classes, image files"), "{text}");
    assert!(text.contains("4 images"), "{text}");
    let (json, _) = ok(&place, &format!("data info {} --json", images()));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["classes"], serde_json::json!(["cat", "dog"]));
    assert_eq!(json["test"]["images"], 4);
    assert!(json.get("train").is_none());
}
