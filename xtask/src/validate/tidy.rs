//! What the compiler and clippy do not see: module headers, where unsafe code may stand, large
//! files, and whether ARCHITECTURE.md still describes the tree.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::metadata;

/// Where unsafe code may stand: the kernels, and the one memory map of a checkpoint.
const UNSAFE_ALLOWED: [&str; 2] = ["crates/ir-tensor-ops/", "crates/ir-models/src/mapped.rs"];

/// The largest file that may be tracked, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The one that may be larger: the weights of the network that comes with `ir`.
const LARGE_FILE: &str = "crates/ir-cli/networks/resnet-32.safetensors";

/// The map of the tree that has to stay true.
const MAP: &str = "ARCHITECTURE.md";

/// What is untidy in this workspace, one sentence each.
pub(super) fn check() -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for path in repository_files()? {
        // A file that git still lists may have been deleted from the working tree.
        let Ok(metadata) = fs::metadata(&path) else {
            continue;
        };
        problems.extend(size_problem(&path, metadata.len()));
        if path.ends_with(".rs") {
            let source = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
            problems.extend(source_problems(&path, &source));
        }
    }
    let map = fs::read_to_string(MAP).with_context(|| format!("reading {MAP}"))?;
    let members = crate_names()?;
    problems.extend(map_problems(&map, &members, |path| {
        Path::new(path).exists()
    }));
    Ok(problems)
}

/// The files of the working tree that are tracked or could be: not those that git ignores.
fn repository_files() -> Result<Vec<String>> {
    let listed = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .output()
        .context("git could not be started")?;
    if !listed.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    }
    let names = String::from_utf8(listed.stdout).context("a file name is not UTF-8")?;
    Ok(names.split_terminator('\0').map(str::to_owned).collect())
}

fn crate_names() -> Result<BTreeSet<String>> {
    let metadata = metadata()?;
    let members = metadata.workspace_packages();
    Ok(members.iter().map(|p| p.name.to_string()).collect())
}

fn size_problem(path: &str, bytes: u64) -> Option<String> {
    (bytes > MAX_FILE_BYTES && path != LARGE_FILE).then(|| {
        format!(
            "{path} has {bytes} bytes, over 1 MiB: generate it, or keep it out of the repository"
        )
    })
}

fn source_problems(path: &str, source: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if !source.starts_with("//! ") {
        problems.push(format!(
            "{path}:1 does not open with `//! ` and what the module is for"
        ));
    }
    if !UNSAFE_ALLOWED
        .iter()
        .any(|allowed| path.starts_with(allowed))
    {
        let lines = source.lines().enumerate();
        problems.extend(
            lines
                .filter(|(_, line)| has_unsafe_code(line))
                .map(|(i, _)| {
                    format!(
                        "{path}:{} has unsafe code, which belongs in {}",
                        i + 1,
                        UNSAFE_ALLOWED[0]
                    )
                }),
        );
    }
    problems
}

/// Whether the keyword stands in the part of a line that is neither comment nor string. Each
/// line is read by itself, which strings over several lines may mislead; the compiler has its
/// own say about unsafe code, and this check only about where it stands.
fn has_unsafe_code(line: &str) -> bool {
    words(&code_of(line)).any(|word| word == "unsafe")
}

/// The line without its string literals and its comment.
fn code_of(line: &str) -> String {
    let mut code = String::new();
    let mut in_string = false;
    let line = line.replace("'\"'", "' '");
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' if in_string => drop(characters.next()),
            '"' => in_string = !in_string,
            '/' if !in_string && characters.peek() == Some(&'/') => break,
            _ if !in_string => code.push(character),
            _ => {}
        }
    }
    code
}

/// The identifiers of a text, with dashes where crate names have them.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-'))
}

fn map_problems(
    map: &str,
    members: &BTreeSet<String>,
    exists: impl Fn(&str) -> bool,
) -> Vec<String> {
    let named: BTreeSet<&str> = words(map).collect();
    let missing = members.iter().filter(|name| !named.contains(name.as_str()));
    let mut problems: Vec<String> = missing
        .map(|name| format!("{MAP} does not name the crate {name}"))
        .collect();
    let crates = named.iter().filter(|word| word.starts_with("ir-"));
    problems.extend(
        crates
            .filter(|word| !members.contains(**word))
            .map(|word| format!("{MAP} names the crate {word}, which does not exist")),
    );
    let quoted = map.split('`').skip(1).step_by(2);
    problems.extend(
        quoted
            .filter(|text| text.starts_with("crates/") || text.starts_with("xtask/"))
            .filter(|path| !exists(path))
            .map(|path| format!("{MAP} names {path}, which does not exist")),
    );
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_opens_with_what_it_is_for() {
        assert!(source_problems("crates/a/src/lib.rs", "//! Purpose.\n").is_empty());
        for source in ["", "use std::fs;\n", "\n//! Late.\n", "// Private.\n"] {
            assert_eq!(
                source_problems("crates/a/src/lib.rs", source).len(),
                1,
                "{source:?}"
            );
        }
    }

    #[test]
    fn unsafe_code_stands_only_where_it_may() {
        let source = "//! Purpose.\nfn f() { unsafe { g() } }\n";
        assert!(source_problems("crates/ir-tensor-ops/src/avx2.rs", source).is_empty());
        assert!(source_problems(UNSAFE_ALLOWED[1], source).is_empty());
        assert_eq!(
            source_problems("crates/ir-data/src/lib.rs", source),
            ["crates/ir-data/src/lib.rs:2 has unsafe code, which belongs in crates/ir-tensor-ops/"]
        );
    }

    #[test]
    fn the_keyword_is_told_from_the_word() {
        for code in [
            "unsafe { g() }",
            "pub unsafe fn f() {}",
            "let s = \"a\\\"b\"; unsafe { g() }",
            "let c = '\"'; unsafe { g() }",
            "let url = \"https://x\"; unsafe { g() }",
            "#[unsafe(no_mangle)]",
        ] {
            assert!(has_unsafe_code(code), "{code}");
        }
        for other in [
            "// unsafe code is elsewhere",
            "let x = 1; // not unsafe",
            "let s = \"unsafe\";",
            "#![deny(unsafe_op_in_unsafe_fn)]",
            "let not_unsafe = 1;",
        ] {
            assert!(!has_unsafe_code(other), "{other}");
        }
    }

    #[test]
    fn large_files_are_named() {
        assert_eq!(size_problem("a.bin", MAX_FILE_BYTES), None);
        assert_eq!(size_problem(LARGE_FILE, MAX_FILE_BYTES + 1), None);
        assert!(size_problem("a.bin", MAX_FILE_BYTES + 1).is_some_and(|p| p.starts_with("a.bin")));
    }

    #[test]
    fn the_map_names_every_crate_and_no_other() {
        let members = BTreeSet::from(["ir-data".to_owned(), "xtask".to_owned()]);
        let problems = |map| map_problems(map, &members, |path| path == "crates/ir-data");
        assert!(problems("`crates/ir-data` reads, `xtask` starts.").is_empty());
        assert_eq!(
            problems("`crates/ir-data` reads."),
            ["ARCHITECTURE.md does not name the crate xtask"]
        );
        assert_eq!(
            problems("xtask, ir-data, ir-gone."),
            ["ARCHITECTURE.md names the crate ir-gone, which does not exist"]
        );
        assert_eq!(
            problems("xtask, ir-data: `crates/ir-data/src/gone.rs`"),
            ["ARCHITECTURE.md names crates/ir-data/src/gone.rs, which does not exist"]
        );
    }
}
