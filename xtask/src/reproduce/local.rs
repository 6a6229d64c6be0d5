//! Carries out steps of a graph on this machine, several at once.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};

use super::graph::Graph;
use super::work::{Begun, Ended, Running, Workplace};

/// How often the steps under way are asked whether they have ended.
const PAUSE: Duration = Duration::from_millis(20);

/// How steps ended, if none failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All are done.
    Done,
    /// Somebody asked to stop.
    Interrupted,
}

/// What is to be run, and how far it is.
pub(super) struct Runner<'a> {
    graph: &'a Graph,
    workplace: &'a Workplace<'a>,
    /// How many steps run at once.
    jobs: usize,
    states: BTreeMap<usize, State>,
    failures: Vec<anyhow::Error>,
    /// Set once no other step is to begin.
    stopping: bool,
}

enum State {
    Waiting,
    /// Another process is at it; this is said once.
    Elsewhere,
    Running(Box<Running>),
    Done,
    /// It failed, or was stopped before its end.
    Unfinished,
}

impl<'a> Runner<'a> {
    /// To run these steps; what they read from others is taken to be there.
    pub(super) fn new(
        graph: &'a Graph,
        steps: BTreeSet<usize>,
        workplace: &'a Workplace<'a>,
        jobs: usize,
    ) -> Self {
        Self {
            graph,
            workplace,
            jobs,
            states: steps
                .into_iter()
                .map(|step| (step, State::Waiting))
                .collect(),
            failures: Vec::new(),
            stopping: false,
        }
    }

    /// Runs them. Where one fails, those that do not depend on it still run. Where the user asks to
    /// stop, or somebody stops a step, all those under way are asked to end and no other begins.
    ///
    /// # Errors
    /// What failed, after all else is done.
    pub(super) fn run(mut self, interrupted: &dyn Fn() -> bool) -> Result<Outcome> {
        loop {
            if interrupted() {
                self.stop();
            }
            let steps: Vec<usize> = self.states.keys().copied().collect();
            for &step in &steps {
                self.advance(step);
            }
            if !steps.iter().any(|&step| self.is_under_way(step)) {
                break;
            }
            thread::sleep(PAUSE);
        }
        match self.failures.len() {
            0 if self.stopping => Ok(Outcome::Interrupted),
            0 => Ok(Outcome::Done),
            1 => Err(self.failures.swap_remove(0)),
            n => {
                let all: Vec<_> = self.failures.iter().map(|e| format!("{e:#}")).collect();
                Err(anyhow!("{n} steps failed\n{}", all.join("\n")))
            }
        }
    }

    fn advance(&mut self, step: usize) {
        if let Some(State::Running(running)) = self.states.get_mut(&step) {
            let ended = running.poll();
            self.note(step, ended);
        } else if self.may_begin(step) {
            self.begin(step);
        }
    }

    fn may_begin(&self, step: usize) -> bool {
        let waits = matches!(
            self.states.get(&step),
            Some(State::Waiting | State::Elsewhere)
        );
        let running = self
            .states
            .values()
            .filter(|state| matches!(state, State::Running(_)));
        waits && !self.stopping && self.is_ready(step) && running.count() < self.jobs
    }

    /// Whether all that a step waits for is done.
    fn is_ready(&self, step: usize) -> bool {
        let mut parents = self.graph.parents(step).iter();
        parents.all(|parent| matches!(self.states.get(parent), None | Some(State::Done)))
    }

    /// Whether a step runs or will.
    fn is_under_way(&self, step: usize) -> bool {
        match self.states.get(&step) {
            Some(State::Running(_)) => true,
            Some(State::Waiting | State::Elsewhere) => !self.stopping && self.is_ready(step),
            _ => false,
        }
    }

    fn begin(&mut self, step: usize) {
        let title = self.title(step);
        let state = match self.workplace.begin(&self.graph.steps()[step], &title) {
            Ok(Begun::Elsewhere) => {
                if !matches!(self.states.get(&step), Some(State::Elsewhere)) {
                    println!("{title} … waits for another process that is at it");
                }
                State::Elsewhere
            }
            Ok(Begun::Done) => State::Done,
            Ok(Begun::Running(running)) => State::Running(running),
            Err(error) => self.failed(step, error),
        };
        self.states.insert(step, state);
    }

    fn note(&mut self, step: usize, ended: Result<Option<Ended>>) {
        let state = match ended {
            Ok(None) => return,
            Ok(Some(Ended::Done)) => State::Done,
            Ok(Some(Ended::Interrupted)) => {
                self.stop();
                State::Unfinished
            }
            // What a signal has ended, which all of us got, has not failed.
            Err(_) if self.stopping => State::Unfinished,
            Err(error) => self.failed(step, error),
        };
        self.states.insert(step, state);
    }

    fn failed(&mut self, step: usize, error: anyhow::Error) -> State {
        let error = error.context(format!("{} failed", self.title(step)));
        if self.jobs > 1 {
            // The others may take long.
            println!("{error:#}");
        }
        self.failures.push(error);
        State::Unfinished
    }

    fn stop(&mut self) {
        if self.stopping {
            return;
        }
        self.stopping = true;
        for state in self.states.values() {
            if let State::Running(running) = state {
                running.stop();
            }
        }
    }

    fn title(&self, step: usize) -> String {
        let steps = self.graph.steps();
        format!("[{}/{}] {}", step + 1, steps.len(), steps[step].name)
    }
}
