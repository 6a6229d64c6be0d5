//! A plan that is killed again and again, and started again by the same command.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use common::{assert_same, images, ir, outcome, smoke, unfinished};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;

/// How many processes are killed: each of the victims in each of the steps.
const KILLS: usize = VICTIMS.len() * DURING.len();

/// Steps during which they are, by turns.
const DURING: [&str; 2] = ["train", "analyze"];

/// Whom SIGKILL ends, by turns.
#[derive(Debug, Clone, Copy)]
enum Victim {
    /// All processes, as when the power fails.
    All,
    /// The command that carries out the plan; the step that it started goes on alone.
    Plan,
    /// The step, as by the kernel when memory runs out.
    Step,
}

const VICTIMS: [Victim; 3] = [Victim::All, Victim::Plan, Victim::Step];

#[test]
fn a_plan_killed_at_random_moments_comes_to_the_results_of_an_undisturbed_one() {
    let ir = ir();
    let images = images(&ir);
    let start = |folder: &TempDir| Running::start(smoke(&ir, &images, folder.path()));
    let folder = tempfile::tempdir().unwrap();
    let mut undisturbed = start(&folder);
    let durations = DURING.map(|kind| undisturbed.duration(kind));
    assert!(undisturbed.end().success());
    let expected = outcome(folder.path());

    let mut random = ChaCha8Rng::seed_from_u64(0);
    let mut folder = tempfile::tempdir().unwrap();
    let mut kills = 0;
    while kills < KILLS {
        let mut plan = start(&folder);
        let (kind, duration) = (DURING[kills % 2], durations[kills % 2]);
        let killed = plan.begins(kind) && {
            thread::sleep(duration.mul_f64(random.random()));
            plan.kill(VICTIMS[kills % 3])
        };
        kills += usize::from(killed);
        let status = plan.end();
        if !killed {
            // It had no such step left: on to the next.
            assert!(status.success(), "{status}");
            check(&folder, &expected);
            folder = tempfile::tempdir().unwrap();
        }
    }
    assert!(start(&folder).end().success());
    check(&folder, &expected);
}

fn check(folder: &TempDir, expected: &std::collections::BTreeMap<String, Vec<u8>>) {
    assert_same(&outcome(folder.path()), expected);
    assert_eq!(unfinished(folder.path()), [] as [std::path::PathBuf; 0]);
}

/// A plan under way, in a process group of its own, and what it says.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        command.process_group(0).stdin(Stdio::null());
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            // Whoever does not listen any more does not need the rest.
            stdout
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        Self { child, lines }
    }

    /// Waits for a step of this kind to begin; false if the plan ends without.
    fn begins(&mut self, kind: &str) -> bool {
        self.lines.iter().any(|line| {
            let is_kind = line
                .split("] ")
                .nth(1)
                .is_some_and(|name| name.starts_with(kind));
            is_kind && (!line.contains('…') || line.contains("goes on"))
        })
    }

    /// How long the next step of this kind takes.
    fn duration(&mut self, kind: &str) -> Duration {
        assert!(self.begins(kind));
        let started = Instant::now();
        assert!(self.lines.iter().any(|line| line.contains(kind)));
        started.elapsed()
    }

    /// Kills it, or its step; false if that has just ended.
    fn kill(&mut self, victim: Victim) -> bool {
        let plan = Pid::from_child(&self.child);
        if self.child.try_wait().unwrap().is_some() {
            return false;
        }
        match victim {
            Victim::All => kill_process_group(plan, Signal::KILL).is_ok(),
            Victim::Plan => kill_process(plan, Signal::KILL).is_ok(),
            Victim::Step => {
                let id = plan.as_raw_nonzero().to_string();
                let found = Command::new("pgrep").args(["-P", &id]).output().unwrap();
                let step = String::from_utf8(found.stdout).unwrap();
                let step = step.trim().parse().ok().and_then(Pid::from_raw);
                step.is_some_and(|step| kill_process(step, Signal::KILL).is_ok())
            }
        }
    }

    /// Waits for the plan's end.
    fn end(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}
