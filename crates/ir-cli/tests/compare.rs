//! `ir compare`: runs side by side.

mod common;
mod place;

use common::Sample;
use place::Place;

/// Two runs that differ in seed and depth, the second without an analysis.
fn place() -> Place {
    let place = Place::empty();
    Sample::three_stages("resnet-20", 3, 0).write(&place.path("first"));
    Sample::three_stages("resnet-32", 5, 7).write(&place.path("second"));
    std::fs::remove_file(place.path("second/results.json")).expect("the analysis");
    place
}

#[test]
fn the_table_has_what_differs_and_what_came_out() {
    let place = place();
    let table = place.ok("compare first second");
    let cells = |name: &str| -> Vec<String> {
        let mut rows = table
            .lines()
            .filter_map(|line| line.trim().strip_prefix(name));
        let row = rows
            .next()
            .unwrap_or_else(|| panic!("no {name} in\n{table}"));
        let cells = row.split("  ").map(str::trim);
        cells
            .filter(|cell| !cell.is_empty())
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(cells("run"), ["first", "second"]);
    assert_eq!(cells("model"), ["resnet-20", "resnet-32"]);
    assert_eq!(cells("seed "), ["0", "7"]);
    assert!(!table.contains("batch_size"), "it is the same:\n{table}");
    assert_eq!(cells("epochs done"), ["8", "8"]);
    // 0.1 + 0.72 (1 − e^{−8/3})
    assert_eq!(cells("test accuracy"), ["77.00 %", "77.00 %"]);
    assert_eq!(cells("test, measures from"), ["results.json", "blocks.csv"]);
    assert_eq!(cells("test, images measured"), ["5000", "–"]);
    // Of blocks 6 to 8 without the transition 6 in the analysis; of blocks 10 to 14 without 10 as
    // recorded: 0.02 − 0.12 (1 − e^{−8/3}) (0.3 + j/20) at the mean block 12.5.
    let results: serde_json::Value =
        serde_json::from_str(&place.read("first/results.json")).unwrap();
    let of = |block: usize| {
        results["splits"]["test"]["blocks"][block]["cosine"]
            .as_f64()
            .unwrap()
    };
    let first = (of(7) + of(8)) / 2.0;
    let second = 0.02 - 0.12 * (1.0 - (-8.0f64 / 3.0).exp()) * (0.3 + 12.5 / 20.0);
    assert_eq!(
        cells("test, cosine of stage 2"),
        [format!("{first:.4}"), format!("{second:.4}")]
    );
    assert_eq!(cells("test, exit 5 of last stage")[0], "–");
}

#[test]
fn the_document_has_every_run() {
    let place = place();
    let document = place.json("compare first second --json");
    assert_eq!(document["runs"].as_array().unwrap().len(), 2);
    let differing = &document["settings_that_differ"];
    assert_eq!(differing["seed"], serde_json::json!([0, 7]));
    assert_eq!(differing.as_object().unwrap().len(), 2, "{differing}");
    let first = &document["runs"][0];
    assert_eq!(first["splits"]["test"]["from"], "results.json");
    assert_eq!(
        first["splits"]["test"]["exits"].as_array().unwrap().len(),
        4
    );
    assert_eq!(first["best"]["epoch"], 8);
}

#[test]
fn one_run_is_nothing_to_compare() {
    let place = place();
    assert_eq!(place.run("compare first").status.code(), Some(2));
    let complaint = place.complaint("compare first nowhere");
    assert!(complaint.contains("ir train"), "{complaint}");
}
