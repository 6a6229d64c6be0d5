//! `ir report` on run folders made from formulas.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use resvg::usvg::{Options, Tree};
use serde_json::Value;

mod common;
use common::Sample;

const FIGURES: [&str; 9] = [
    "fig2", "fig3", "fig4", "fig5", "fig6", "fig7", "taylor", "training", "steps",
];

/// A fresh folder of a test, kept after it so that one can look at what was drawn.
fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("report")
        .join(test);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// Runs `ir report` inside `folder`, where the runs are.
fn report(folder: &Path, runs: &[&str], out: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ir"))
        .current_dir(folder)
        .arg("report")
        .args(runs)
        .args(["--out", out])
        .output()
        .expect("ir starts")
}

/// The same, and it must succeed without a word on standard error.
fn report_well(folder: &Path, runs: &[&str], out: &str) {
    let output = report(folder, runs, out);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(text(&output.stderr), "");
    assert_eq!(text(&output.stdout), format!("{out}/report.html\n"));
}

/// What `ir report` says where it must fail.
fn complaint(folder: &Path, runs: &[&str], out: &str) -> String {
    let output = report(folder, runs, out);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(text(&output.stdout), "");
    let said = text(&output.stderr);
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file under a folder with its content.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(contents(&path));
        } else {
            files.insert(path.clone(), fs::read(&path).expect("a file"));
        }
    }
    files
}

/// Each figure must be there, be well-formed, and have a PNG of twice its size.
fn check_figures(out: &Path, names: &[&str]) {
    for name in names {
        let svg = read(&out.join(format!("figures/{name}.svg")));
        let tree = Tree::from_str(&svg, &Options::default())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(svg.contains("<text"), "{name} has no text");
        assert!(
            !svg.contains("NaN") && !svg.contains("=\"inf"),
            "{name} has a broken number"
        );
        let png = fs::read(out.join(format!("figures/{name}.png"))).expect("a picture");
        let side = |at: usize| u32::from_be_bytes([png[at], png[at + 1], png[at + 2], png[at + 3]]);
        let size = tree.size().to_int_size();
        assert_eq!(
            (side(16), side(20)),
            (2 * size.width(), 2 * size.height()),
            "{name}"
        );
    }
}

/// The findings of a claim: (network, verdict).
fn verdicts(out: &Path, id: &str) -> Vec<(String, String)> {
    let claims: Value = serde_json::from_str(&read(&out.join("claims.json"))).expect("JSON");
    let all = claims["claims"].as_array().expect("claims");
    let Some(claim) = all.iter().find(|claim| claim["id"] == id) else {
        return Vec::new();
    };
    let networks = claim["networks"].as_array().expect("networks");
    networks
        .iter()
        .map(|finding| {
            let text = |key: &str| finding[key].as_str().expect("text").to_owned();
            (text("network"), text("verdict"))
        })
        .collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected
        .iter()
        .map(|(a, b)| ((*a).into(), (*b).into()))
        .collect()
}

#[test]
fn one_run() {
    let folder = folder("one-run");
    Sample::three_stages("resnet-32", 5, 1).write(&folder.join("run"));
    report_well(&folder, &["run"], "out");
    check_figures(&folder.join("out"), &FIGURES);
    let page = read(&folder.join("out/report.html"));
    let body = page.split("<body>").nth(1).expect("a body");
    assert!(
        body.trim_start()
            .starts_with("<p class=\"data\">Data: real images, CIFAR-10.</p>")
    );
    assert!(page.contains("standard deviation over samples"));
    assert!(page.contains(
        "resnet-32: 8 epochs instead of 300; one seed instead of 4; \
         measured on 5,000 of 50,000 training images and 5,000 of 10,000 test images."
    ));
    assert!(page.contains("<dt>analysis: command</dt><dd>ir analyze</dd>"));
    assert!(page.contains("sha256:0f343b0931126a20f133d67c2b018a3b"));
    assert!(
        !page.contains("http://")
            || !page
                .replace("http://www.w3.org/2000/svg", "")
                .contains("http://")
    );
}

#[test]
fn two_seeds_and_another_network() {
    let folder = folder("two-seeds");
    Sample::three_stages("resnet-32", 5, 1).write(&folder.join("a"));
    Sample::three_stages("resnet-32", 5, 2).write(&folder.join("b"));
    Sample::one_stage("single-representation", 10, 1).write(&folder.join("c"));
    report_well(&folder, &["a", "b", "c"], "out");
    let out = folder.join("out");
    check_figures(&out, &FIGURES);
    let page = read(&out.join("report.html"));
    assert!(page.contains("over seeds where a network has several, otherwise over samples"));
    assert!(page.contains("(2 seeds)"));
    // The formulas of the samples: cost 0.22 + wobble for the first block of resnet-32's stages,
    // 0.6 for block 0 of the other; loss that explodes unscaled; test loss that never rises.
    let (resnet, single) = ("resnet-32", "single-representation");
    for (id, expected) in [
        (
            "fig4-cosine-negative",
            pairs(&[(resnet, "held"), (single, "held")]),
        ),
        ("fig3-first-block-catastrophic", pairs(&[(single, "held")])),
        ("fig3-mild-everywhere", pairs(&[(resnet, "not_held")])),
        (
            "fig6-test-loss-rises",
            pairs(&[(resnet, "not_held"), (single, "not_held")]),
        ),
        (
            "fig7-unscaled-explodes",
            pairs(&[(resnet, "held"), (single, "held")]),
        ),
        ("fig2-first-block-large", pairs(&[(single, "held")])),
    ] {
        assert_eq!(verdicts(&out, id), expected, "{id}");
    }
}

#[test]
fn values_over_seeds_are_mean_and_standard_deviation() {
    let folder = folder("seed-statistics");
    let samples = [1, 2, 3].map(|seed| Sample::three_stages("resnet-32", 5, seed));
    let mut lasts = Vec::new();
    for (sample, name) in samples.iter().zip(["a", "b", "c"]) {
        sample.write(&folder.join(name));
        let results = sample.results();
        lasts.push(results.splits["test"].blocks[14].cosine.expect("a cosine"));
    }
    report_well(&folder, &["c", "a", "b"], "out");
    let claims: Value = serde_json::from_str(&read(&folder.join("out/claims.json"))).expect("JSON");
    let all = claims["claims"].as_array().expect("claims");
    let claim = all
        .iter()
        .find(|claim| claim["id"] == "fig4-last-block")
        .expect("the claim");
    let finding = &claim["networks"][0];
    let mean = lasts.iter().sum::<f64>() / 3.0;
    let variance = lasts.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 2.0;
    let close = |found: &Value, expected: f64| {
        let found = found.as_f64().expect("a number");
        // Three additions and a square root round by a few units in the last place.
        assert!(
            (found - expected).abs() <= 8.0 * f64::EPSILON * expected.abs(),
            "{found} {expected}"
        );
    };
    close(&finding["mean"], mean);
    close(&finding["deviation"], variance.sqrt());
    assert_eq!(finding["seeds"][0]["seed"], 1);
}

#[test]
fn equal_input_gives_equal_bytes() {
    let folder = folder("equal-bytes");
    Sample::three_stages("resnet-32", 5, 1).write(&folder.join("a"));
    Sample::one_stage("single-representation", 10, 1).write(&folder.join("b"));
    let once = |out: &str| {
        report_well(&folder, &["a", "b"], out);
        contents(&folder.join(out))
            .into_values()
            .collect::<Vec<_>>()
    };
    assert!(once("first") == once("second"));
}

#[test]
fn many_blocks_and_synthetic_images() {
    let folder = folder("many-blocks");
    let mut sample = Sample::three_stages("resnet-110", 18, 1);
    sample.dataset = "synthetic10";
    sample.write(&folder.join("run"));
    let mut wide = Sample::three_stages("wide", 5, 1);
    wide.dataset = "synthetic10";
    wide.write(&folder.join("wide"));
    report_well(&folder, &["run", "wide"], "out");
    check_figures(&folder.join("out"), &FIGURES);
    let page = read(&folder.join("out/report.html"));
    assert!(page.contains("<p class=\"data synthetic\">Data: SYNTHETIC images"));
    let svg = read(&folder.join("out/figures/fig2.svg"));
    let ticks = svg
        .matches("text-anchor=\"middle\" class=\"f-muted\"")
        .count();
    assert!(
        ticks < 40,
        "{ticks} labels along two x axes are too many to read"
    );
}

#[test]
fn what_is_missing_is_named() {
    let folder = folder("missing");
    Sample::three_stages("resnet-32", 5, 1).write(&folder.join("a"));
    Sample::one_stage("single-representation", 10, 1).write(&folder.join("b"));
    fs::remove_file(folder.join("a/results.json")).expect("removed");
    fs::remove_file(folder.join("b/history.jsonl")).expect("removed");
    report_well(&folder, &["a", "b"], "out");
    check_figures(&folder.join("out"), &FIGURES);
    let page = read(&folder.join("out/report.html"));
    assert!(page.contains("a has no results.json"));
    assert!(page.contains("b has no history.jsonl"));
    assert!(page.contains("<b>Not measured:</b> resnet-32."));
    assert!(page.contains("<b>Not measured:</b> single-representation."));
    let found = verdicts(&folder.join("out"), "fig4-cosine-negative");
    let expected = [
        ("resnet-32", "not_measured"),
        ("single-representation", "held"),
    ];
    assert_eq!(found, pairs(&expected));

    // A run that was stopped is not passed off as a whole one.
    let path = folder.join("a/history.jsonl");
    let history = read(&path);
    let lines: Vec<&str> = history.lines().take(4).collect();
    fs::write(&path, lines.join("\n")).expect("written");
    report_well(&folder, &["a", "b"], "out");
    let page = read(&folder.join("out/report.html"));
    assert!(page.contains("a was trained for 3 of its 8 epochs."));
    assert!(page.contains("one seed instead of 4; stopped after epoch 3."));

    // An analysis of the training split alone is drawn, and judged where the test split is not
    // asked for.
    let path = folder.join("b/results.json");
    let mut results: Value = serde_json::from_str(&read(&path)).expect("JSON");
    let splits = results["splits"].as_object_mut().expect("splits");
    splits.remove("test").expect("a split");
    fs::write(&path, results.to_string()).expect("written");
    report_well(&folder, &["b"], "out");
    check_figures(
        &folder.join("out"),
        &["fig2", "fig3", "fig4", "fig6", "fig7", "steps"],
    );
    assert!(read(&folder.join("out/report.html")).contains("b was not analysed on the test split"));
    for (id, verdict) in [
        ("fig6-train-loss-falls", "held"),
        ("fig4-cosine-negative", "not_measured"),
    ] {
        let found = verdicts(&folder.join("out"), id);
        assert_eq!(found, pairs(&[("single-representation", verdict)]), "{id}");
    }

    // With nothing measured there is a page without figures, and none of an earlier report.
    fs::remove_file(folder.join("a/history.jsonl")).expect("removed");
    report_well(&folder, &["a"], "out");
    for name in FIGURES {
        assert!(
            !folder.join(format!("out/figures/{name}.svg")).exists(),
            "{name}"
        );
    }
    assert!(read(&folder.join("out/report.html")).contains("Not measured in these runs."));
}

#[test]
fn wrong_input_is_one_sentence_and_leaves_the_earlier_report() {
    let folder = folder("wrong");
    Sample::three_stages("resnet-32", 5, 1).write(&folder.join("good"));
    Sample::three_stages("resnet-32", 5, 1).write(&folder.join("bad"));
    report_well(&folder, &["good"], "out");
    let before = contents(&folder.join("out"));
    let bad = |file: &str, content: &str| {
        let path = folder.join("bad").join(file);
        let kept = read(&path);
        fs::write(&path, content).expect("written");
        let said = complaint(&folder, &["good", "bad"], "out");
        fs::write(&path, kept).expect("written");
        said
    };
    let run = read(&folder.join("bad/run.json"));
    let results = read(&folder.join("bad/results.json"));
    for (said, expected) in [
        (
            complaint(&folder, &["nowhere"], "out"),
            "nowhere: no such folder",
        ),
        (
            complaint(&folder, &["out"], "out"),
            "out/run.json: not found",
        ),
        (
            bad("run.json", &run[..run.len() / 2]),
            "bad/run.json: not a run's description: EOF",
        ),
        (
            bad("run.json", "{\n\"schema_version\": 1}"),
            "missing field `model` at line 2 column 20",
        ),
        (
            bad(
                "run.json",
                &run.replace("\"schema_version\":1", "\"schema_version\":2"),
            ),
            "bad/run.json: schema_version is 2, and this program reads up to 1",
        ),
        (
            bad("history.jsonl", "{}\n"),
            "bad/history.jsonl: line 1: not an epoch: missing field",
        ),
        (
            bad("blocks.csv", "epoch,split\n0,train\n"),
            "bad/blocks.csv: not what `ir train` records: CSV deserialize error: record 1 \
             (line: 2, byte: 12): missing field `block`",
        ),
        (
            bad(
                "exits.csv",
                "epoch,split,after_block,accuracy,loss,entropy\n0,test,x,,,\n",
            ),
            "bad/exits.csv: not what `ir train` records: CSV deserialize error: record 1 \
             (line: 2, byte: 46): field 2: invalid digit found in string",
        ),
        (
            bad(
                "results.json",
                &results.replacen("resnet-32", "resnet-38", 1),
            ),
            "bad/results.json: network is \"resnet-38\", but run.json beside it says \"resnet-32\"",
        ),
        (
            complaint(&folder, &["good", "bad"], "out"),
            "both are resnet-32 with seed 1",
        ),
        (
            complaint(&folder, &["good"], "good/run.json"),
            "good/run.json: the folder cannot be made",
        ),
    ] {
        assert!(
            said.starts_with("ir: ") && said.contains(expected),
            "{said}{expected}"
        );
    }
    assert!(contents(&folder.join("out")) == before);
}

#[test]
fn shared_networks_are_compared() {
    let folder = folder("sharing");
    let runs = [
        "resnet-32",
        "resnet-110-naive",
        "resnet-110-ubn",
        "resnet-110",
    ];
    for name in runs {
        Sample::three_stages(name, 6, 1).write(&folder.join(name));
    }
    // One of them was never trained: it has norms at initialisation and nothing else.
    let untrained = folder.join("resnet-110");
    fs::remove_file(untrained.join("results.json")).expect("removed");
    let description = read(&untrained.join("run.json")).replace("\"epochs\":8", "\"epochs\":0");
    fs::write(untrained.join("run.json"), description).expect("written");
    let history = read(&untrained.join("history.jsonl"));
    let first = history.lines().next().expect("a line");
    fs::write(untrained.join("history.jsonl"), first).expect("written");
    report_well(&folder, &runs, "out");
    let figures = ["fig8", "fig9", "fig9-norms"];
    check_figures(&folder.join("out"), &[&FIGURES[..], &figures[..]].concat());
    // The norms of the samples are twenty times as large with naive sharing, otherwise alike.
    for (id, network, verdict) in [
        (
            "fig8-norms-explode",
            "resnet-110-naive over resnet-110",
            "held",
        ),
        ("fig9-norms-stay", "resnet-110-ubn over resnet-110", "held"),
        ("fig9-all-parts-help", "", ""),
        (
            "table1-same-size",
            "resnet-110-ubn less resnet-38",
            "not_measured",
        ),
    ] {
        let found = verdicts(&folder.join("out"), id);
        let expected = if network.is_empty() {
            Vec::new()
        } else {
            pairs(&[(network, verdict)])
        };
        assert_eq!(found, expected, "{id}");
    }
    let page = read(&folder.join("out/report.html"));
    assert!(page.contains("<td class=\"nowrap\">resnet-110-naive</td>"));
    assert!(!page.contains("<td class=\"nowrap\">resnet-110</td>"));
    let svg = read(&folder.join("out/figures/fig9-norms.svg"));
    assert!(svg.contains("UBN") && svg.contains("naive"));
    // That of UBN is the same line in the samples.
    assert!(!svg.contains("not shared"));
}

#[test]
fn networks_are_compared_where_they_were_trained_alike() {
    let folder = folder("alike");
    let naive = "resnet-110-naive";
    Sample::three_stages(naive, 6, 1).write(&folder.join(naive));
    Sample::three_stages("resnet-32", 6, 1).write(&folder.join("resnet-32"));
    let verdict = || verdicts(&folder.join("out"), "fig8-underfits")[0].1.clone();
    report_well(&folder, &[naive, "resnet-32"], "out");
    assert_ne!(verdict(), "not_measured");
    // The other for longer: what sets them apart is no longer the network alone.
    let path = folder.join("resnet-32/run.json");
    let description = read(&path).replace("\"epochs\":8", "\"epochs\":300");
    fs::write(&path, description).expect("written");
    report_well(&folder, &[naive, "resnet-32"], "out");
    assert_eq!(verdict(), "not_measured");
    // Beside one that was trained alike it is not taken.
    Sample::three_stages("resnet-32", 6, 1).write(&folder.join("short"));
    report_well(&folder, &[naive, "resnet-32", "short"], "out");
    assert_ne!(verdict(), "not_measured");
}

#[test]
fn a_report_needs_a_network_that_was_trained() {
    let folder = folder("untrained");
    Sample::three_stages("resnet-32", 5, 1).write(&folder.join("a"));
    let path = folder.join("a/run.json");
    fs::write(&path, read(&path).replace("\"epochs\":8", "\"epochs\":0")).expect("written");
    let path = folder.join("a/history.jsonl");
    let first = read(&path).lines().next().expect("a line").to_owned();
    fs::write(&path, first).expect("written");
    assert!(complaint(&folder, &["a"], "out").contains("none of these runs has trained"));
}

#[test]
fn other_files_in_the_folder_stay() {
    let folder = folder("others");
    Sample::three_stages("resnet-32", 5, 1).write(&folder.join("run"));
    fs::create_dir_all(folder.join("out/figures")).expect("a folder");
    for mine in ["out/notes.txt", "out/figures/mine.svg"] {
        fs::write(folder.join(mine), "mine").expect("written");
    }
    report_well(&folder, &["run"], "out");
    for mine in ["out/notes.txt", "out/figures/mine.svg"] {
        assert_eq!(read(&folder.join(mine)), "mine");
    }
    let hidden = fs::read_dir(folder.join("out")).expect("a folder");
    let names: Vec<String> = hidden
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .filter(|name| name.starts_with('.'))
        .collect();
    assert!(names.is_empty(), "{names:?}");
}

#[test]
fn runs_with_other_settings_are_another_panel() {
    let folder = folder("settings");
    for (name, epochs, rate) in [
        ("a", 8, "0.1"),
        ("b", 8, "0.1"),
        ("c", 16, "0.1"),
        ("d", 16, "0.2"),
    ] {
        Sample::three_stages("resnet-32", 5, if name == "b" { 2 } else { 1 })
            .write(&folder.join(name));
        let path = folder.join(name).join("run.json");
        let run = read(&path)
            .replace("\"epochs\":8", &format!("\"epochs\":{epochs}"))
            .replace(
                "\"learning_rate\":0.1}",
                &format!("\"learning_rate\":{rate}}}"),
            );
        fs::write(&path, run).expect("written");
    }
    report_well(&folder, &["a", "b", "c", "d"], "out");
    let names = |out: &str| -> Vec<String> {
        let found = verdicts(&folder.join(out), "fig4-cosine-negative");
        found.into_iter().map(|(network, _)| network).collect()
    };
    let with_settings = |n: usize| format!("resnet-32 (16 epochs, settings {n})");
    assert_eq!(
        names("out"),
        [
            "resnet-32 (8 epochs)".to_owned(),
            with_settings(2),
            with_settings(3)
        ]
    );
    report_well(&folder, &["a", "b"], "seeds");
    assert_eq!(names("seeds"), ["resnet-32"]);
}
