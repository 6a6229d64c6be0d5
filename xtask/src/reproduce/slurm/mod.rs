//! Hands a plan to Slurm: one job array a kind of step, each task waiting for those that it reads from.
//!
//! Everything is kept in `OUT/slurm`: the plan as the jobs read it, and one batch script an array. A
//! task runs `xtask step`, which skips, goes on or begins as this command itself would, so that both
//! ways come to the same files.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use self::arrays::Array;
pub(super) use self::script::SlurmOption;
use super::graph::Graph;
use super::job::Frozen;

mod arrays;
mod script;

/// How a plan is submitted.
pub(super) struct Submission<'a> {
    pub(super) graph: &'a Graph,
    pub(super) ir: &'a Path,
    pub(super) out: &'a Path,
    /// The steps that are not done.
    pub(super) pending: &'a BTreeSet<usize>,
    pub(super) options: &'a [SlurmOption],
    /// How many tasks of an array run at once; as many as the cluster lets if `None`.
    pub(super) at_once: Option<usize>,
    /// Whether to come back only when the last job has ended.
    pub(super) wait: bool,
}

impl Submission<'_> {
    /// Writes the scripts, submits them and prints the numbers of the jobs.
    ///
    /// # Errors
    /// A script cannot be written, or `sbatch` refuses it; what was submitted before is cancelled. With
    /// `wait`, also if the last job did not succeed.
    pub(super) fn submit(&self) -> Result<()> {
        let arrays = arrays::of(self.graph, self.pending);
        if arrays.is_empty() {
            println!("everything is done already, there is nothing to submit");
            return Ok(());
        }
        let unknown = |option: &&SlurmOption| {
            let is = |array: &Array| option.concerns(&array.kind);
            !arrays.iter().any(is)
        };
        if let Some(option) = self.options.iter().find(unknown) {
            println!("no job to submit is of the kind that `{option}` is for");
        }
        let scripts = self.write(&arrays)?;
        let mut submitted: Vec<String> = Vec::new();
        for (array, script) in arrays.iter().zip(&scripts) {
            let last = submitted.len() + 1 == arrays.len();
            match self.sbatch(array, script, &submitted, last && self.wait) {
                Ok((id, sbatch)) => {
                    println!("job {id}: {}", array.description(self.graph));
                    submitted.push(id);
                    if last {
                        return ended(sbatch, submitted.last().map_or("", String::as_str));
                    }
                }
                Err(error) => {
                    let _ = Command::new("scancel").args(&submitted).status();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Writes what the jobs read, and gives the script of each array.
    fn write(&self, arrays: &[Array]) -> Result<Vec<PathBuf>> {
        let folder = self.out.join("slurm");
        let logs = self.out.join("logs");
        for folder in [&folder, &logs] {
            fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        }
        let plan = folder.join("plan.json");
        Frozen::new(self.graph, self.ir, self.out).write(&plan)?;
        let place = script::Place {
            workspace: std::env::current_dir().context("finding the workspace")?,
            xtask: std::env::current_exe().context("finding this program")?,
            plan: plan.canonicalize()?,
            logs: logs.canonicalize()?,
        };
        let write = |array: &Array| {
            let path = folder.join(format!("{}.sh", array.name));
            fs::write(&path, script::text(array, self.graph, &place, self.options))
                .with_context(|| format!("writing {}", path.display()))?;
            Ok(path)
        };
        arrays.iter().map(write).collect()
    }

    /// Submits an array and gives its number, and `sbatch` itself, which may wait for the job's end.
    fn sbatch(
        &self,
        array: &Array,
        script: &Path,
        earlier: &[String],
        wait: bool,
    ) -> Result<(String, Child)> {
        let mut command = Command::new("sbatch");
        command.args(["--parsable", "--kill-on-invalid-dep=yes"]);
        command.arg(format!("--array={}", array.indices(self.at_once)));
        if let Some(dependency) = array.dependency(earlier) {
            command.arg(format!("--dependency={dependency}"));
        }
        if wait {
            command.arg("--wait");
        }
        command
            .arg(script)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let started = command.spawn();
        let mut sbatch = started
            .context("sbatch could not be started: is this a machine of a Slurm cluster?")?;
        let mut line = String::new();
        if let Some(out) = sbatch.stdout.take() {
            BufReader::new(out).read_line(&mut line)?;
        }
        // `number` or `number;cluster`.
        let id = line.trim().split(';').next().unwrap_or_default().to_owned();
        if id.is_empty() {
            bail!("sbatch {} failed: {}", script.display(), sbatch.wait()?);
        }
        if !wait {
            ensure!(
                sbatch.wait()?.success(),
                "sbatch {} failed",
                script.display()
            );
        }
        Ok((id, sbatch))
    }
}

/// Waits for what waits for the last job.
fn ended(mut sbatch: Child, id: &str) -> Result<()> {
    let status = sbatch.wait().context("waiting for sbatch")?;
    ensure!(
        status.success(),
        "job {id} did not succeed, or one that it waited for: see the logs; the same command submits what is not done"
    );
    Ok(())
}

#[cfg(test)]
mod tests;
