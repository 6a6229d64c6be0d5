//! No build script fetches anything: what is built is what `Cargo.lock` names.

use std::fs;

use anyhow::{Context, Result};
use cargo_metadata::{DependencyKind, MetadataCommand, Package, TargetKind};

/// Words that a build script has which talks to the network, itself or through a program.
const FETCHING: [&str; 8] = [
    "TcpStream",
    "reqwest::",
    "ureq::",
    "hyper::",
    "\"curl\"",
    "\"wget\"",
    "\"clone\"",
    "download",
];

/// Crates that a build script could fetch with.
const CLIENTS: [&str; 7] = [
    "attohttpc",
    "curl",
    "git2",
    "hyper",
    "minreq",
    "reqwest",
    "ureq",
];

/// Every build script that looks as if it fetched something, one sentence each.
pub(super) fn check() -> Result<Vec<String>> {
    let metadata = MetadataCommand::new()
        .exec()
        .context("cargo metadata could not be read")?;
    let mut problems = Vec::new();
    for package in &metadata.packages {
        let scripts = package.targets.iter();
        for script in scripts.filter(|target| target.is_kind(TargetKind::CustomBuild)) {
            let path = &script.src_path;
            let source = fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
            problems.extend(source_problems(&package.name, &source));
            problems.extend(dependency_problems(package));
        }
    }
    Ok(problems)
}

fn source_problems(name: &str, source: &str) -> Vec<String> {
    let found = FETCHING.iter().filter(|word| source.contains(**word));
    found
        .map(|word| format!("the build script of {name} has `{word}` in it: does it fetch?"))
        .collect()
}

fn dependency_problems(package: &Package) -> Vec<String> {
    let build = package.dependencies.iter();
    let build = build.filter(|dependency| dependency.kind == DependencyKind::Build);
    let clients = build.filter(|dependency| CLIENTS.contains(&dependency.name.as_str()));
    clients
        .map(|client| format!("the build script of {} uses {}", package.name, client.name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_that_fetches_is_seen() {
        let fetching = "Command::new(\"curl\").arg(url).status()";
        assert_eq!(source_problems("a", fetching).len(), 1);
        let compiling = "println!(\"cargo:rerun-if-changed=a.c\"); cc::Build::new().file(\"a.c\")";
        assert!(source_problems("a", compiling).is_empty());
    }
}
