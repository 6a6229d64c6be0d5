//! The layer rule: dependencies between the crates of the workspace only point down.

use anyhow::Result;
use cargo_metadata::Metadata;

use crate::metadata;

/// Each crate of the workspace, top to bottom, with the crates below that it may use.
/// Whatever is not listed is forbidden, for tests and build scripts as well.
const LAYERS: [(&str, &[&str]); 11] = [
    ("xtask", &[]),
    (
        "ir-emulation",
        &[
            "ir-analysis",
            "ir-benches",
            "ir-data",
            "ir-models",
            "ir-tensor-ops",
        ],
    ),
    (
        "ir-benches",
        &["ir-analysis", "ir-data", "ir-models", "ir-tensor-ops"],
    ),
    (
        "ir-cli",
        &[
            "ir-analysis",
            "ir-data",
            "ir-hostile",
            "ir-models",
            "ir-tensor-ops",
        ],
    ),
    ("ir-examples", &["ir-analysis", "ir-models"]),
    ("ir-hostile", &["ir-analysis", "ir-data", "ir-models"]),
    ("ir-analysis", &["ir-models", "ir-tensor-ops"]),
    ("ir-data", &["ir-pickle", "ir-tensor-ops"]),
    ("ir-models", &["ir-pickle", "ir-tensor-ops"]),
    ("ir-pickle", &[]),
    ("ir-tensor-ops", &[]),
];

/// Crates from outside that only some crates of the workspace may use: errors without a
/// type, flags and progress bars belong to commands, CUDA to the kernels.
const RESERVED: [(&str, &[&str]); 4] = [
    ("anyhow", &["ir-cli", "xtask"]),
    ("clap", &["ir-cli", "xtask"]),
    ("indicatif", &["ir-cli", "xtask"]),
    ("cudarc", &["ir-tensor-ops"]),
];

/// The arrows of this workspace that break the rule, one sentence each.
pub(super) fn check() -> Result<Vec<String>> {
    Ok(problems(&metadata()?))
}

fn problems(metadata: &Metadata) -> Vec<String> {
    let members = metadata.workspace_packages();
    let is_member = |name: &str| members.iter().any(|package| package.name == name);
    let mut problems = Vec::new();
    for package in &members {
        let name = package.name.as_str();
        let Some((_, below)) = LAYERS.iter().find(|(layer, _)| *layer == name) else {
            problems.push(format!(
                "{name} has no layer: give it a line in {}",
                file!()
            ));
            continue;
        };
        for dependency in &package.dependencies {
            let used = dependency.name.as_str();
            if is_member(used) && !below.contains(&used) {
                problems.push(format!(
                    "{name} depends on {used}, which is not below it: {name} may use {}",
                    list(below)
                ));
            }
            if let Some((_, users)) = RESERVED.iter().find(|(reserved, _)| *reserved == used)
                && !users.contains(&name)
            {
                problems.push(format!(
                    "{name} depends on {used}, which only {} may use",
                    list(users)
                ));
            }
        }
    }
    problems
}

fn list(names: &[&str]) -> String {
    match names {
        [] => "no crate of the workspace".to_owned(),
        names => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use cargo_metadata::MetadataCommand;
    use serde_json::{Value, json};

    use super::*;

    /// A crate's name and its dependencies, each as (name, kind).
    type Crate<'a> = (&'a str, &'a [(&'a str, Option<&'a str>)]);

    /// Metadata of a workspace of these crates.
    fn workspace(crates: &[Crate<'_>]) -> Metadata {
        let id = |name: &str| format!("path+file:///w/{name}#0.1.0");
        let packages: Vec<Value> = crates
            .iter()
            .map(|(name, dependencies)| {
                let dependencies: Vec<Value> = dependencies
                    .iter()
                    .map(|(name, kind)| {
                        json!({
                            "name": name, "source": null, "req": "^0.1", "kind": kind,
                            "optional": false, "uses_default_features": true, "features": [],
                            "target": null, "rename": null, "registry": null
                        })
                    })
                    .collect();
                json!({
                    "name": name, "version": "0.1.0", "id": id(name), "source": null,
                    "license": null, "license_file": null, "description": null,
                    "dependencies": dependencies, "targets": [], "features": {},
                    "manifest_path": format!("/w/{name}/Cargo.toml"), "metadata": null,
                    "publish": null, "authors": [], "categories": [], "keywords": [],
                    "readme": null, "repository": null, "homepage": null,
                    "documentation": null, "edition": "2024", "links": null,
                    "default_run": null, "rust_version": null
                })
            })
            .collect();
        let members: Vec<String> = crates.iter().map(|(name, _)| id(name)).collect();
        let metadata = json!({
            "packages": packages, "workspace_members": members,
            "workspace_default_members": members, "resolve": null,
            "target_directory": "/w/target", "build_directory": "/w/target",
            "version": 1, "workspace_root": "/w", "metadata": null
        });
        MetadataCommand::parse(metadata.to_string()).expect("well-formed metadata")
    }

    #[test]
    fn arrows_that_point_down_are_allowed() {
        let metadata = workspace(&[
            ("ir-cli", &[("ir-analysis", None), ("clap", None)]),
            ("ir-analysis", &[("ir-models", None), ("serde", None)]),
            ("ir-models", &[("ir-tensor-ops", None)]),
            ("ir-tensor-ops", &[("candle-core", None)]),
        ]);
        assert_eq!(problems(&metadata), Vec::<String>::new());
    }

    #[test]
    fn an_arrow_that_points_up_fails() {
        let metadata = workspace(&[
            ("ir-models", &[]),
            ("ir-tensor-ops", &[("ir-models", None)]),
        ]);
        assert_eq!(
            problems(&metadata),
            [
                "ir-tensor-ops depends on ir-models, which is not below it: \
              ir-tensor-ops may use no crate of the workspace"
            ]
        );
    }

    #[test]
    fn an_arrow_that_points_sideways_fails() {
        let metadata = workspace(&[("ir-data", &[("ir-models", None)]), ("ir-models", &[])]);
        assert_eq!(problems(&metadata).len(), 1);
    }

    #[test]
    fn arrows_of_tests_and_build_scripts_count() {
        for kind in ["dev", "build"] {
            let metadata =
                workspace(&[("ir-models", &[("ir-data", Some(kind))]), ("ir-data", &[])]);
            assert_eq!(problems(&metadata).len(), 1, "{kind}");
        }
    }

    #[test]
    fn the_command_line_stays_in_the_commands() {
        let metadata = workspace(&[("ir-data", &[("indicatif", None)])]);
        assert_eq!(
            problems(&metadata),
            ["ir-data depends on indicatif, which only ir-cli, xtask may use"]
        );
    }

    #[test]
    fn xtask_links_no_crate_of_the_workspace() {
        let metadata = workspace(&[("xtask", &[("ir-cli", None)]), ("ir-cli", &[])]);
        assert_eq!(problems(&metadata).len(), 1);
    }

    #[test]
    fn a_crate_without_a_layer_fails() {
        let metadata = workspace(&[("ir-new", &[])]);
        assert!(problems(&metadata)[0].starts_with("ir-new has no layer"));
    }
}
