//! The measures of neighbouring works in run folders: drawn and judged where they are, left out
//! where not, and refused where they do not fit the network.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ir_analysis::Number;
use ir_analysis::results::{
    Deletion, Deletions, Estimation, PathLength, Readout, Reordering, Reorderings, Results, Split,
};
use resvg::usvg::{Options, Tree};
use serde_json::{Value, json};

mod common;
use common::Sample;

const FIGURES: [&str; 4] = ["deletion", "paths", "estimation", "readouts"];

fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("neighbours")
        .join(test);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn report(folder: &Path, runs: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ir"))
        .current_dir(folder)
        .arg("report")
        .args(runs)
        .args(["--out", "out"])
        .output()
        .expect("ir starts")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Accuracy and loss after damage of a size.
fn damaged(split: &Split, size: f64) -> (f64, Number) {
    (
        0.1 + (split.accuracy - 0.1) * (-size / 4.0).exp(),
        Number(split.loss + size / 3.0),
    )
}

fn deletions(split: &Split, blocks: usize) -> Vec<Deletions> {
    let sizes = [1usize, 2, 3, 5, 8, 12]
        .into_iter()
        .filter(|&size| size <= blocks);
    let of_size = |deleted: usize| {
        let (accuracy, loss) = damaged(split, deleted as f64);
        let draw = Deletion {
            blocks: (0..deleted).collect(),
            accuracy,
            loss,
        };
        Deletions {
            deleted,
            accuracy,
            accuracy_std: 0.03,
            loss,
            loss_std: Number(0.1),
            draws: vec![draw],
        }
    };
    sizes.map(of_size).collect()
}

fn reorderings(split: &Split, blocks: usize) -> Vec<Reorderings> {
    let of_swaps = |swaps: usize| {
        let draw = |draw: usize| {
            let disorder = swaps as f64 + draw as f64 / 3.0;
            let (accuracy, loss) = damaged(split, disorder / 2.0);
            Reordering {
                order: (0..blocks).rev().collect(),
                kendall_tau: 1.0 - disorder / 12.0,
                accuracy,
                loss,
            }
        };
        let (accuracy, loss) = damaged(split, swaps as f64 / 2.0);
        Reorderings {
            swaps,
            kendall_tau: 1.0 - swaps as f64 / 12.0,
            accuracy,
            accuracy_std: 0.02,
            loss,
            loss_std: Number(0.1),
            draws: (0..5).map(draw).collect(),
        }
    };
    [1, 2, 3, 5].map(of_swaps).into()
}

fn paths(blocks: usize) -> Vec<PathLength> {
    let mut count = 1.0;
    let of_length = |length: usize| {
        let norm = 0.2 * 0.25f64.powf(length as f64);
        let path = PathLength {
            length,
            paths: Number(count),
            sampled: 5,
            gradient_norm: Number(norm),
            gradient_norm_std: Number(norm / 3.0),
            contribution: Number(count * norm),
        };
        count *= (blocks - length) as f64 / (length + 1) as f64;
        path
    };
    (0..=blocks).map(of_length).collect()
}

fn measure(sample: &Sample) -> Results {
    let mut results = sample.results();
    for split in results.splits.values_mut() {
        let blocks = split.blocks.len();
        split.deletions = deletions(split, blocks);
        split.reorderings = reorderings(split, blocks);
        split.paths = paths(blocks);
        let estimation =
            |(index, block): (usize, &ir_analysis::results::BlockMeasures)| Estimation {
                block: block.block,
                stage: block.stage,
                error: Number(0.01 * (index as f64).sin()),
                error_std: Number(1.0 / (1.0 + index as f64)),
                distance: Some(Number(1.0 - index as f64 / blocks as f64)),
                distance_std: Some(Number(0.1)),
                undefined: 0,
            };
        split.estimations = split.blocks.iter().enumerate().map(estimation).collect();
        let readout = |index: usize| Readout {
            after_block: index.checked_sub(1),
            features: 16,
            accuracy: 0.3 + (split.accuracy - 0.3) * index as f64 / blocks as f64,
            loss: Number(2.0 - index as f64 / blocks as f64),
            loss_std: Number(0.5),
            gradient_norm: 1e-7,
            iterations: 90,
        };
        split.readouts = (0..=blocks).map(readout).collect();
    }
    results
}

fn write(sample: &Sample, results: &Results, folder: &Path) {
    sample.write(folder);
    let text = serde_json::to_string(results).expect("plain data");
    fs::write(folder.join("results.json"), text).expect("written");
}

#[test]
fn neighbours_are_drawn_and_judged_where_they_were_measured() {
    let folder = folder("drawn");
    let measured = Sample::three_stages("resnet-32", 5, 1);
    write(&measured, &measure(&measured), &folder.join("a"));
    let again = Sample::three_stages("resnet-32", 5, 2);
    write(&again, &measure(&again), &folder.join("b"));
    Sample::one_stage("single-representation", 10, 1).write(&folder.join("c"));

    let output = report(&folder, &["a", "b", "c"]);
    assert!(output.status.success(), "{output:?}");
    let page = read(&folder.join("out/report.html"));
    for name in FIGURES {
        let svg = read(&folder.join(format!("out/figures/{name}.svg")));
        Tree::from_str(&svg, &Options::default()).expect("SVG");
        assert!(
            svg.contains("resnet-32") && !svg.contains("single-representation"),
            "{name}"
        );
        assert!(!svg.contains("NaN"), "{name}");
        assert!(page.contains(&format!("id=\"{name}\"")), "{name}");
    }
    let claims: Value = serde_json::from_str(&read(&folder.join("out/claims.json"))).expect("JSON");
    let all = claims["claims"].as_array().expect("claims");
    for id in [
        "veit-deletion-smooth",
        "veit-order",
        "veit-short-paths",
        "greff-mean-near-zero",
        "greff-spread-falls",
        "huang-readouts-rise",
    ] {
        let claim = all.iter().find(|claim| claim["id"] == id).expect(id);
        let verdicts: Vec<_> = claim["networks"]
            .as_array()
            .expect("networks")
            .iter()
            .collect();
        assert_eq!(verdicts[0]["verdict"], "held", "{id}");
        assert_eq!(verdicts[1]["verdict"], "not_measured", "{id}");
    }

    // Where nothing of it was measured, the same folder has nothing of it any more.
    let output = report(&folder, &["c"]);
    assert!(output.status.success(), "{output:?}");
    let page = read(&folder.join("out/report.html"));
    for name in FIGURES {
        assert!(
            !folder.join(format!("out/figures/{name}.svg")).exists(),
            "{name}"
        );
        assert!(!page.contains(&format!("id=\"{name}\"")), "{name}");
    }
    assert!(!page.contains("Veit"));
}

#[test]
fn results_of_the_layout_before_are_read() {
    let folder = folder("version-1");
    let sample = Sample::three_stages("resnet-32", 5, 1);
    sample.write(&folder.join("a"));
    let path = folder.join("a/results.json");
    let mut results: Value = serde_json::from_str(&read(&path)).expect("JSON");
    results["schema_version"] = json!(1);
    assert!(!results.to_string().contains("deletions"));
    fs::write(&path, results.to_string()).expect("written");
    assert!(report(&folder, &["a"]).status.success());
}

#[test]
fn neighbours_that_do_not_fit_the_network_are_refused() {
    let folder = folder("refused");
    let sample = Sample::three_stages("resnet-32", 2, 1);
    type Edit = fn(&mut Split);
    let edits: [(Edit, &str); 5] = [
        (
            |split| split.deletions[0].draws[0].blocks = vec![6],
            "deletions: there is no block 6",
        ),
        (
            |split| split.reorderings[1].draws[2].order[0] = 0,
            "reorderings: an order does not have each of the 6 blocks once",
        ),
        (
            |split| split.paths.truncate(3),
            "paths: expected lengths 0 to 6",
        ),
        (
            |split| split.estimations[3].block = 4,
            "estimations: expected one for each of the 6 blocks",
        ),
        (
            |split| split.readouts.truncate(6),
            "readouts: expected one at h_0 and one after each of the 6 blocks",
        ),
    ];
    for (edit, expected) in edits {
        let mut results = measure(&sample);
        edit(results.splits.get_mut("test").expect("a split"));
        write(&sample, &results, &folder.join("a"));
        let output = report(&folder, &["a"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        assert!(
            said.contains(&format!("splits.\"test\".{expected}")),
            "{said}"
        );
    }
}
