//! A fresh folder with a few images and a small network in it, and the real command run there.

#![allow(dead_code, reason = "every test uses a part")]
#![expect(
    clippy::unwrap_used,
    reason = "what tests share fails by panicking, as they do"
)]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

const TINY: &str = r#"{ "name": "tiny", "classes": 10, "stem_channels": 4,
    "stages": [{ "blocks": 1, "channels": 4 },
               { "blocks": 2, "channels": 8, "entrance": { "transition": { "stride": 2 } } }] }"#;

/// A training run of two epochs but for its folder.
pub(crate) const TRAIN: &str = "train tiny.json --data images --batch-size 16 --epochs 2 \
                                --schedule 0:0.05 --measure-samples 8";

pub(crate) struct Place(tempfile::TempDir);

impl Place {
    /// With nothing in it.
    pub(crate) fn empty() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With the network tiny.json and the data set `images`.
    pub(crate) fn new() -> Self {
        let place = Self::empty();
        fs::write(place.path("tiny.json"), TINY).unwrap();
        place.ok("data synthesize --train-samples 48 --test-samples 20 --out images");
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        String::from_utf8(self.bytes(name)).unwrap()
    }

    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
    }

    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ir"));
        command
            .current_dir(self.0.path())
            .args(line.split_whitespace());
        for variable in [
            "IR_DATA",
            "HF_HOME",
            "HF_HUB_CACHE",
            "XDG_CACHE_HOME",
            "NO_COLOR",
            "CLICOLOR_FORCE",
        ] {
            command.env_remove(variable);
        }
        command.env("HOME", self.0.path());
        command.env("HF_HUB_OFFLINE", "1");
        command
    }

    pub(crate) fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// What the command prints; it must succeed.
    pub(crate) fn ok(&self, line: &str) -> String {
        let output = self.run(line);
        let said = text(&output.stderr);
        assert!(output.status.success(), "ir {line}: {said}");
        text(&output.stdout)
    }

    /// The one JSON document that the command prints; it must succeed.
    pub(crate) fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.ok(line)).unwrap()
    }

    /// What the command says on stderr; it must fail and print nothing.
    pub(crate) fn complaint(&self, line: &str) -> String {
        let output = self.run(line);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "ir {line}: {said}");
        assert_eq!(text(&output.stdout), "", "ir {line}");
        assert_eq!(said.lines().count(), 1, "ir {line}: {said}");
        said
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
