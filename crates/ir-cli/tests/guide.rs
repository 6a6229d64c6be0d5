//! Every command of the guide runs as it is written, chapter by chapter, in an empty folder.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The chapters, in the order of the summary.
fn chapters() -> Vec<PathBuf> {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let summary = fs::read_to_string(guide.join("SUMMARY.md")).expect("a summary");
    let links = summary.split("](").skip(1);
    let chapters = links.filter_map(|rest| rest.split(')').next());
    chapters.map(|name| guide.join(name)).collect()
}

/// The commands of a chapter's `console` blocks as one script: what follows `$ `, and the lines
/// of a here document after it.
fn script(chapter: &str) -> String {
    let blocks = chapter.split("```console\n").skip(1);
    let lines = blocks
        .flat_map(|block| block.split("```").next().unwrap_or_default().lines())
        .map(|line| line.strip_prefix("$ ").unwrap_or(line));
    lines.fold(String::new(), |script, line| script + line + "\n")
}

/// The folder of `ir` before all others.
fn path() -> OsString {
    let program = Path::new(env!("CARGO_BIN_EXE_ir"));
    let mut folders = vec![program.parent().expect("a folder").to_path_buf()];
    folders.extend(std::env::split_paths(
        &std::env::var_os("PATH").unwrap_or_default(),
    ));
    std::env::join_paths(folders).expect("a path")
}

#[test]
fn every_command_of_the_guide_runs() {
    let mut commands = 0;
    for chapter in chapters() {
        let text = fs::read_to_string(&chapter)
            .unwrap_or_else(|error| panic!("{}: {error}", chapter.display()));
        let script = script(&text);
        commands += script
            .lines()
            .filter(|line| line.starts_with("ir "))
            .count();
        let folder = tempfile::tempdir().expect("a folder");
        let output = Command::new("sh")
            .args(["-e", "-c", &script])
            .env("PATH", path())
            .current_dir(&folder)
            .output()
            .expect("a shell");
        assert!(
            output.status.success(),
            "{}: {}\n{script}\n{}",
            chapter.display(),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    assert!(commands >= 12, "only {commands} commands found");
}
