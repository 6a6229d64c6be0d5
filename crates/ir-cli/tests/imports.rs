//! Other people's networks on folders of images, from end to end.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// A network of ten classes, see `imported_files.py`.
const NETWORK: &str = "../ir-models/tests/pytorch/fixtures/files/state.pth";
/// Two classes, `cat` and `dog`, of two images each.
const IMAGES: &str = "../ir-data/tests/fixtures/images";

/// A folder with the network and its config.json.
struct Place(tempfile::TempDir);

impl Place {
    fn new(config: Option<&str>) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::copy(NETWORK, place.path("model.pth")).unwrap();
        if let Some(config) = config {
            fs::write(place.path("config.json"), config).unwrap();
        }
        fs::write(place.path("classes.json"), r#"{"cat": 2, "dog": 0}"#).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, line: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ir"));
        command
            .current_dir(self.0.path())
            .args(line.split_whitespace());
        for variable in ["IR_DATA", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME"] {
            command.env_remove(variable);
        }
        command
            .env("HOME", self.0.path())
            .env("HF_HUB_OFFLINE", "1");
        command.output().unwrap()
    }

    /// What is printed on stdout and on stderr.
    fn ok(&self, line: &str) -> (String, String) {
        let output = self.run(line);
        let [out, err] =
            [&output.stdout, &output.stderr].map(|s| String::from_utf8_lossy(s).into_owned());
        assert!(output.status.success(), "ir {line}: {err}");
        (out, err)
    }

    fn refused(&self, line: &str, said: &[&str]) {
        let output = self.run(line);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "ir {line}: {error}");
        for part in said {
            assert!(error.contains(part), "ir {line}: {error}");
        }
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
    let place = Place::new(Some(CONFIG));
    let line = format!("analyze . --data {} --classes classes.json", images());
    let (table, said) = place.ok(&line);
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
    let by_file: Value = serde_json::from_str(&place.ok(&format!("{line} --json")).0).unwrap();
    fs::remove_file(place.path("config.json")).unwrap();
    let line = format!(
        "analyze model.pth --data {} --classes classes.json {flags}",
        images()
    );
    let by_flags: Value = serde_json::from_str(&place.ok(&line).0).unwrap();
    assert_eq!(by_file["splits"], by_flags["splits"]);
    assert_eq!(by_flags["network"], "model");
    assert_eq!(by_flags["provenance"]["import"]["matched"], 32);
    // One image a batch gives the same numbers.
    let alone: Value =
        serde_json::from_str(&place.ok(&format!("{line} --batch-size 1")).0).unwrap();
    assert_eq!(alone["splits"], by_flags["splits"]);
}

#[test]
fn what_is_missing_is_asked_for() {
    let place = Place::new(None);
    let images = images();
    place.refused(
        &format!("analyze model.pth --data {images}"),
        &["has 2 classes and the network 10", "--classes FILE"],
    );
    let line = format!("analyze model.pth --data {images} --classes classes.json");
    place.refused(&line, &["--mean R,G,B --std R,G,B --input-size PIXELS"]);
    let line = format!("{line} --mean 0.5,0.5,0.5 --std 0.2,0.2,0.2");
    place.refused(&line, &["give --input-size PIXELS"]);
    place.refused(
        &format!("{line} --input-size 32 --measures unroll"),
        &["block 1"],
    );
    place.refused(
        "analyze hf:owner/name --data images",
        &["owner/name is not in", "--offline"],
    );
    place.refused("analyze hf:../x --data images", &["hf:OWNER/NAME"]);
    place.refused("analyze . --data nowhere", &["nowhere"]);
}

#[test]
fn a_network_for_cifar_runs_on_it() {
    let place = Place::new(None);
    place.ok("data synthesize --train-samples 20 --test-samples 10 --out drawn");
    let run = |flags: &str| -> Value {
        let line = format!("analyze model.pth --data drawn --measures ratio,drop --json {flags}");
        serde_json::from_str(&place.ok(&line).0).unwrap()
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
    place.refused(
        "analyze . --data drawn",
        &["images of 64×64", "--input-size 32"],
    );
    place.ok("analyze . --data drawn --input-size 32 --measures ratio");
}

#[test]
fn a_folder_of_images_is_described() {
    let place = Place::new(None);
    let (text, _) = place.ok(&format!("data info {}", images()));
    assert!(text.contains("images: 2 classes, image files"), "{text}");
    assert!(text.contains("4 images"), "{text}");
    let (json, _) = place.ok(&format!("data info {} --json", images()));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["classes"], serde_json::json!(["cat", "dog"]));
    assert_eq!(json["test"]["images"], 4);
    assert!(json.get("train").is_none());
}
