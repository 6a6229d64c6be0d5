//! A plan on a real Slurm: this machine as a cluster of one node, where Slurm is installed.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::{RUNS, assert_same, images, ir, outcome, smoke};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(600);

#[test]
fn slurm_comes_to_what_this_machine_comes_to_also_where_jobs_are_stopped_and_killed() {
    let Some(cluster) = Cluster::start() else {
        println!("skipped: there is no Slurm here (on Debian: slurm-wlm and munge)");
        return;
    };
    let ir = ir();
    let images = images(&ir);
    let here = tempfile::tempdir().unwrap();
    let local = smoke(&ir, &images, here.path())
        .args(["--jobs", "2"])
        .status();
    assert!(local.unwrap().success());
    let expected = outcome(here.path());

    let smoke = |out: &Path| smoke(&ir, &images, out);
    stopped_jobs_go_on(&cluster, &smoke, &expected);
    a_killed_job_fails_and_the_same_command_goes_on(&cluster, &smoke, &expected);
}

/// The command that carries out the plan into a folder.
type Smoke<'a> = &'a dyn Fn(&Path) -> Command;

type Outcome = std::collections::BTreeMap<String, Vec<u8>>;

/// One training is put back into the queue by hand, the other because its time is nearly over.
fn stopped_jobs_go_on(cluster: &Cluster, smoke: Smoke<'_>, expected: &Outcome) {
    let out = cluster.folder.path().join("stopped jobs");
    let (submitted, jobs) = cluster.submit(smoke(&out));
    assert_eq!(jobs.len(), 3);
    let [first, second] = [0, 1].map(|task| format!("{}_{task}", jobs[0]));
    wait_for(|| run_file(&out, 0).exists());
    cluster.ok("scontrol", &["requeue", &first]);
    wait_for(|| run_file(&out, 1).exists());
    cluster.ok("scancel", &["--batch", "--signal=USR1", &second]);
    let ended = submitted.wait_with_output().unwrap();
    assert!(ended.status.success());
    for job in [first, second] {
        let shown = cluster.ok("scontrol", &["--oneliner", "show", "job", &job]);
        assert!(shown.contains(" Restarts=1 "), "{shown}");
    }
    assert_same(&outcome(&out), expected);
    let nothing = cluster.reproduce(smoke(&out)).output().unwrap();
    let said = String::from_utf8(nothing.stdout).unwrap();
    assert!(said.contains("everything is done already"), "{said}");
}

/// SIGKILL to `ir`, as by the kernel when memory runs out.
fn a_killed_job_fails_and_the_same_command_goes_on(
    cluster: &Cluster,
    smoke: Smoke<'_>,
    expected: &Outcome,
) {
    let out = cluster.folder.path().join("killed");
    let (submitted, _) = cluster.submit(smoke(&out));
    wait_for(|| run_file(&out, 0).exists());
    let holder = fs::read(run_file(&out, 0).with_file_name(".lock")).unwrap();
    let holder: Value = serde_json::from_slice(&holder).unwrap();
    let process = holder["pid"]
        .as_i64()
        .and_then(|pid| Pid::from_raw(pid.try_into().unwrap()));
    kill_process(process.unwrap(), Signal::KILL).unwrap();
    let ended = submitted.wait_with_output().unwrap();
    assert!(!ended.status.success());
    let (again, jobs) = cluster.submit(smoke(&out));
    assert!(!jobs.is_empty());
    assert!(again.wait_with_output().unwrap().status.success());
    assert_same(&outcome(&out), expected);
}

/// The description of a run, which is written when it begins.
fn run_file(out: &Path, run: usize) -> PathBuf {
    out.join("runs").join(RUNS[run]).join("run.json")
}

fn wait_for(happened: impl Fn() -> bool) {
    let started = Instant::now();
    while !happened() {
        assert!(started.elapsed() < PATIENCE, "nothing happens");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A Slurm of this test's own, which ends with it.
struct Cluster {
    folder: TempDir,
}

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/slurm/cluster");

impl Cluster {
    /// `None` where Slurm is not installed.
    fn start() -> Option<Self> {
        let is_there = |program: &str| {
            let folders = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
            folders
                .iter()
                .any(|folder| Path::new(folder).join(program).exists())
        };
        if !["sbatch", "slurmctld", "slurmd", "munged"]
            .into_iter()
            .all(is_there)
        {
            return None;
        }
        let cluster = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        // Away from the ports of another test on the same machine.
        let port = 20_000 + std::process::id() % 5_000 * 2;
        let mut script = Command::new(SCRIPT);
        script
            .arg("start")
            .arg(cluster.folder.path())
            .env("PORT", port.to_string());
        assert!(script.status().unwrap().success());
        Some(cluster)
    }

    fn command(&self, mut command: Command) -> Command {
        command.env("SLURM_CONF", self.folder.path().join("slurm.conf"));
        command
    }

    fn reproduce(&self, smoke: Command) -> Command {
        let mut command = self.command(smoke);
        command.args([
            "--engine",
            "slurm",
            "--wait",
            "--slurm-option",
            "cpus-per-task=2",
        ]);
        command
    }

    /// Submits the plan and gives the command, which waits, and the numbers of the jobs.
    fn submit(&self, smoke: Command) -> (Child, Vec<String>) {
        let mut child = self
            .reproduce(smoke)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut jobs = Vec::new();
        let mut line = String::new();
        // The last is the report's.
        while !line.contains("draw the report") {
            line.clear();
            assert!(
                stdout.read_line(&mut line).unwrap() > 0,
                "it submitted no report"
            );
            if let Some((job, _)) = line
                .strip_prefix("job ")
                .and_then(|rest| rest.split_once(':'))
            {
                jobs.push(job.to_owned());
            }
        }
        // The rest is read, so that the command does not end at a closed pipe.
        thread::spawn(move || stdout.read_to_end(&mut Vec::new()));
        (child, jobs)
    }

    fn ok(&self, program: &str, arguments: &[&str]) -> String {
        let mut command = self.command(Command::new(program));
        let output = command.args(arguments).output().unwrap();
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {output:?}"
        );
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = Command::new(SCRIPT)
            .arg("stop")
            .arg(self.folder.path())
            .status();
    }
}
