//! Training from a file of arguments.

mod place;

use place::{Place, TRAIN};

const CONFIG: &str = r#"
model = "tiny.json"
data = "images"
out = "run"
batch-size = 16
epochs = 2
schedule = "0:0.05"
measure-samples = 8
no-augmentation = true
threads = 1
"#;

#[test]
fn a_file_says_what_the_command_line_would() {
    let place = Place::new();
    place.write("run.toml", CONFIG);
    place.ok("train --config run.toml");
    place.ok(&format!("{TRAIN} --no-augmentation --out typed"));
    let [from_file, typed] = ["run", "typed"].map(|run| format!("{run}/checkpoint.safetensors"));
    assert_eq!(place.bytes(&from_file), place.bytes(&typed));
}

#[test]
fn the_command_line_wins() {
    let place = Place::new();
    place.write("run.toml", CONFIG);
    place.ok("train --config run.toml --seed 5 --no-augmentation=false --epochs 1 --out other");
    let effective = place.read("other/config.toml");
    for line in [
        "model = \"tiny.json\"",
        "out = \"other\"",
        "seed = 5",
        "no-augmentation = false",
        "epochs = 1",
        "batch-size = 16",
        "threads = 1",
        "momentum = 0.9",
        "device = \"cpu\"",
    ] {
        assert!(effective.contains(line), "no {line} in {effective}");
    }
    assert!(!place.path("run").exists());
}

#[test]
fn the_file_beside_a_run_repeats_it_and_goes_on_with_it() {
    let place = Place::new();
    place.ok(&format!("{TRAIN} --weight-decay 3e-5 --out run"));
    place.ok("train --config run/config.toml --out again");
    let [first, second] = ["run", "again"].map(|run| format!("{run}/checkpoint.safetensors"));
    assert_eq!(place.bytes(&first), place.bytes(&second));
    assert_eq!(
        place
            .read("run/config.toml")
            .replace("\"run\"", "\"again\""),
        place.read("again/config.toml")
    );
    let complaint = place.complaint("train --config run/config.toml");
    assert!(complaint.contains("--resume"), "{complaint}");
    place.ok("train --config run/config.toml --resume");
    assert!(!place.read("run/config.toml").contains("resume"));
}

#[test]
fn what_the_file_has_wrong_is_named() {
    let place = Place::new();
    for (line, reasons) in [
        ("epoch = 3", ["epoch:", "is `epochs` meant?"]),
        ("batchsize = 3", ["batchsize:", "is `batch-size` meant?"]),
        ("config = \"other.toml\"", ["config:", "no such argument"]),
        ("colour = \"red\"", ["colour:", "ir train --help"]),
        ("epochs = -1", ["epochs:", "'-1'"]),
        ("keep = 0", ["keep:", "'0'"]),
        ("momentum = nan", ["momentum:", "finite"]),
        ("device = \"abacus\"", ["device:", "cpu, cuda"]),
        ("resume = \"often\"", ["resume:", "true, false"]),
        ("threads = 9999", ["threads:", "1024"]),
        ("seed = [1, 2]", ["seed:", "found array"]),
        ("seed = ", ["line 2:", "run.toml"]),
        ("[seed]", ["seed:", "found table"]),
    ] {
        place.write("run.toml", &format!("model = \"tiny.json\"\n{line}\n"));
        let complaint = place.complaint("train --config run.toml --data images --out run");
        for reason in reasons {
            assert!(complaint.contains(reason), "{line}: {complaint}");
        }
        assert!(complaint.contains("run.toml"), "{complaint}");
    }
    let complaint = place.complaint("train --config nowhere.toml --data images --out run");
    assert!(complaint.contains("nowhere.toml"), "{complaint}");
    assert!(!place.path("run").exists());
}

#[test]
fn what_neither_says_is_wrong_usage() {
    let place = Place::new();
    place.write("run.toml", "epochs = 3\n");
    let output = place.run("train --config run.toml --out run");
    assert_eq!(output.status.code(), Some(2));
    let said = place::text(&output.stderr);
    assert!(said.contains("--data"), "{said}");
}
