//! `cargo xtask validate`: what a change has to satisfy, cheapest first, up to the first failure.

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use cargo_metadata::MetadataCommand;

use crate::cargo;
use crate::elapsed::Elapsed;

mod build_scripts;
mod layers;
mod tidy;

/// Arguments of `cargo xtask validate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only these checks, in the order below; all of them if none is named.
    #[arg(value_parser = CHECKS.map(|check| check.name))]
    checks: Vec<String>,
}

/// One check: what it is called and what it does.
struct Check {
    name: &'static str,
    kind: Kind,
}

enum Kind {
    /// A cargo command with its arguments and one environment variable.
    Cargo(
        &'static [&'static str],
        Option<(&'static str, &'static str)>,
    ),
    /// cargo-deny, as far as it is installed and can reach the advisories.
    Deny,
    /// cargo-audit, as far as it is installed and can reach the advisories.
    Audit,
    /// The oldest compiler that the manifest promises, as far as it is installed.
    OldestCompiler,
    /// The guide as a book, as far as mdBook is installed.
    Guide,
    /// The targets of libFuzzer, as far as cargo-fuzz is installed.
    Fuzz,
    /// The report in a browser, as far as a Chromium is installed.
    Browser,
    /// A function of this crate that returns the problems found.
    Own(fn() -> Result<Vec<String>>),
}

/// Compiling checks name the whole workspace where they can: cargo then resolves the features of the
/// dependencies once, and no check rebuilds what another has built.
const CHECKS: [Check; 15] = [
    Check {
        name: "format",
        kind: Kind::Cargo(&["fmt", "--all", "--check"], None),
    },
    Check {
        name: "layers",
        kind: Kind::Own(layers::check),
    },
    Check {
        name: "tidy",
        kind: Kind::Own(tidy::check),
    },
    Check {
        name: "deny",
        kind: Kind::Deny,
    },
    Check {
        name: "audit",
        kind: Kind::Audit,
    },
    Check {
        name: "build-scripts",
        kind: Kind::Own(build_scripts::check),
    },
    Check {
        name: "guide",
        kind: Kind::Guide,
    },
    // What it packages is compiled by the checks below.
    Check {
        name: "package",
        kind: Kind::Cargo(
            &[
                "publish",
                "--workspace",
                "--dry-run",
                "--no-verify",
                "--allow-dirty",
                "--quiet",
            ],
            None,
        ),
    },
    Check {
        name: "rust-version",
        kind: Kind::OldestCompiler,
    },
    Check {
        name: "clippy",
        kind: Kind::Cargo(
            &[
                "clippy",
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ],
            None,
        ),
    },
    // As users build it: with the tests, the emulated GPU's part is always there.
    Check {
        name: "programs",
        kind: Kind::Cargo(
            &[
                "clippy",
                "--workspace",
                "--exclude",
                "ir-emulation",
                "--lib",
                "--bins",
                "--",
                "-D",
                "warnings",
            ],
            None,
        ),
    },
    Check {
        name: "docs",
        kind: Kind::Cargo(
            &["doc", "--workspace", "--no-deps"],
            Some(("RUSTDOCFLAGS", "-D warnings")),
        ),
    },
    Check {
        name: "tests",
        kind: Kind::Cargo(&["test", "--workspace"], None),
    },
    // A workspace of its own, which the checks above do not see.
    Check {
        name: "fuzz",
        kind: Kind::Fuzz,
    },
    // Another flag of the compiler, so that everything is compiled once more.
    Check {
        name: "browser",
        kind: Kind::Browser,
    },
];

/// Runs the checks and stops at the first that fails.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let start = Instant::now();
    let wanted =
        |check: &&Check| args.checks.is_empty() || args.checks.iter().any(|n| n == check.name);
    for check in CHECKS.iter().filter(wanted) {
        println!("validate: {}", check.name);
        check.run()?;
    }
    println!("validate: passed in {}", Elapsed(start.elapsed()));
    Ok(ExitCode::SUCCESS)
}

impl Check {
    fn run(&self) -> Result<()> {
        match self.kind {
            Kind::Cargo(arguments, variable) => self.run_cargo(arguments, variable),
            Kind::Deny => self.run_deny(),
            Kind::Audit => self.run_audit(),
            Kind::OldestCompiler => self.run_oldest_compiler(),
            Kind::Guide => self.run_guide(),
            Kind::Fuzz => self.run_fuzz(),
            Kind::Browser => self.run_browser(),
            Kind::Own(find_problems) => {
                let problems = find_problems()?;
                if problems.is_empty() {
                    return Ok(());
                }
                for problem in &problems {
                    println!("{problem}");
                }
                bail!(
                    "{}",
                    self.failed(&format!("cargo xtask validate {}", self.name))
                )
            }
        }
    }

    fn run_cargo(&self, arguments: &[&str], variable: Option<(&str, &str)>) -> Result<()> {
        let status = cargo()
            .args(arguments)
            .envs(variable)
            .status()
            .context("cargo could not be started")?;
        if !status.success() {
            let setting = variable.map(|(name, value)| format!("{name}='{value}' "));
            let command = format!(
                "{}cargo {}",
                setting.unwrap_or_default(),
                arguments.join(" ")
            );
            bail!("{}", self.failed(&command));
        }
        Ok(())
    }

    fn run_deny(&self) -> Result<()> {
        let succeeds = |arguments: &[&str]| succeeds(cargo().arg("deny").args(arguments));
        if !succeeds(&["--version"]) {
            println!("cargo-deny is not installed, skipped");
            return Ok(());
        }
        if succeeds(&["fetch", "db"]) {
            return self.run_cargo(&["deny", "check"], None);
        }
        println!("the advisory database cannot be reached, advisories skipped");
        self.run_cargo(&["deny", "check", "bans", "licenses", "sources"], None)
    }

    fn run_audit(&self) -> Result<()> {
        if !succeeds(cargo().args(["audit", "--version"])) {
            println!("cargo-audit is not installed, skipped");
            return Ok(());
        }
        let found = cargo().arg("audit").output();
        let found = found.context("cargo-audit could not be started")?;
        if found.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&found.stderr);
        if said.contains("couldn't fetch") {
            println!("the advisory database cannot be reached, skipped");
            return Ok(());
        }
        println!("{}{said}", String::from_utf8_lossy(&found.stdout));
        bail!("{}", self.failed("cargo audit"))
    }

    fn run_oldest_compiler(&self) -> Result<()> {
        let metadata = MetadataCommand::new().no_deps().exec()?;
        let mut promised = metadata
            .packages
            .iter()
            .filter_map(|p| p.rust_version.as_ref());
        let promised = promised.next().context("no crate has a rust-version")?;
        let compiler = Command::new("rustc").arg("--version").output();
        let compiler = compiler.context("rustc could not be started")?;
        let compiler = String::from_utf8_lossy(&compiler.stdout);
        if compiler.starts_with(&format!("rustc {}.{}.", promised.major, promised.minor)) {
            println!("the other checks compile with Rust {promised} itself");
            return Ok(());
        }
        let toolchain = promised.to_string();
        let run = |arguments: &[&str]| {
            let mut rustup = Command::new("rustup");
            rustup.args(["run", &toolchain, "cargo"]).args(arguments);
            rustup
        };
        if !succeeds(&mut run(&["--version"])) {
            println!("Rust {promised} is not installed, skipped");
            return Ok(());
        }
        let arguments = ["check", "--workspace", "--target-dir", "target/oldest"];
        let status = run(&arguments).env_remove("CARGO").status();
        if !status.context("rustup could not be started")?.success() {
            let command = format!("rustup run {toolchain} cargo {}", arguments.join(" "));
            bail!("{}", self.failed(&command));
        }
        Ok(())
    }

    fn run_guide(&self) -> Result<()> {
        let arguments = ["build", "docs", "--dest-dir", "target/guide"];
        let Ok(built) = Command::new("mdbook").args(arguments).output() else {
            println!("mdBook is not installed, skipped");
            return Ok(());
        };
        // It ends well where code to be included is not there, and only says so.
        let said = String::from_utf8_lossy(&built.stderr);
        if built.status.success() && !said.contains("ERROR") {
            return Ok(());
        }
        println!("{said}");
        bail!(
            "{}",
            self.failed(&format!("mdbook {}", arguments.join(" ")))
        )
    }

    fn run_fuzz(&self) -> Result<()> {
        if !succeeds(cargo().args(["fuzz", "--version"])) {
            println!("cargo-fuzz is not installed, skipped");
            return Ok(());
        }
        self.run_cargo(
            &["check", "--locked", "--manifest-path", "fuzz/Cargo.toml"],
            None,
        )
    }

    fn run_browser(&self) -> Result<()> {
        let named = std::env::var_os("CHROME").map(PathBuf::from);
        let known = ["chromium", "chromium-browser", "google-chrome"].map(PathBuf::from);
        let mut programs = named.into_iter().chain(known);
        if !programs.any(|program| succeeds(Command::new(program).arg("--version"))) {
            println!("Chromium is not installed, skipped");
            return Ok(());
        }
        self.run_cargo(
            &["test", "-p", "ir-cli", "--test", "browser"],
            Some(("RUSTFLAGS", "--cfg browser")),
        )
    }

    fn failed(&self, command: &str) -> String {
        format!("validate failed at {}; to repeat it: {command}", self.name)
    }
}

/// Whether a command can be started and ends well; what it prints is not shown.
fn succeeds(command: &mut Command) -> bool {
    let output = command.output();
    output.is_ok_and(|output| output.status.success())
}
