//! `--json`: one document on stdout and nothing else there.

mod place;

use place::{Place, TRAIN};
use serde_json::json;

#[test]
fn commands_that_write_say_what_they_wrote() {
    let place = Place::new();
    let init = place.json("init tiny.json --seed 3 --out network --json");
    assert_eq!(init["file"], "network");
    assert_eq!(init["seed"], 3);
    assert!(init["parameters"]["trainable"].is_u64());

    let drawn = place.json(
        "data synthesize --train-samples 20 --test-samples 10 --classes 100 --out many --json",
    );
    assert_eq!(drawn["folder"], "many");
    let files = drawn["files"].as_array().unwrap();
    assert!(files.contains(&json!("many/train.bin")), "{files:?}");
    assert!(
        files
            .iter()
            .all(|file| place.path(file.as_str().unwrap()).is_file())
    );

    let trained = place.json(&format!("{TRAIN} --out run --json"));
    assert_eq!(trained["finished"], true);
    assert_eq!(trained["settings"]["model"], "tiny");
    assert_eq!(trained["last"]["epoch"], 2);
    let history = place.read("run/history.jsonl");
    let last: serde_json::Value = serde_json::from_str(history.lines().last().unwrap()).unwrap();
    assert_eq!(trained["last"], last);
    assert!(!place.read("run/config.toml").contains("json ="));

    place.ok("analyze run/checkpoint.safetensors --data images --out run/results.json");
    let report = place.json("report run --out report --json");
    for file in ["page", "claims"] {
        assert!(place.path(report[file].as_str().unwrap()).is_file());
    }
}
