//! Accuracy, loss and entropy with the head plugged after each block of the last stage (Fig. 5
//! and 6).

use crate::groups::{GroupsSoFar, Membership};
use crate::last_stage::LastStage;
use crate::options::{Options, ReferenceExit};
use crate::results::Exit;

/// The exits over the batches so far.
pub(crate) struct ExitsSoFar {
    /// The last stage's first block.
    start: usize,
    /// Index of the exit that decides the groups.
    reference: usize,
    exits: Vec<GroupsSoFar>,
}

impl ExitsSoFar {
    /// For a last stage of blocks `start` to `last`.
    pub(crate) fn new(start: usize, last: usize, options: &Options) -> Self {
        let count = last - start + 2;
        let reference = match options.reference {
            ReferenceExit::Final => count - 1,
            ReferenceExit::FirstShown => count.saturating_sub(options.exits_shown).min(count - 1),
        };
        Self {
            start,
            reference,
            exits: vec![GroupsSoFar::default(); count],
        }
    }

    pub(crate) fn add(&mut self, last_stage: &LastStage) {
        let readings: Vec<_> = last_stage.exits().collect();
        let membership = Membership::decided_at(&readings[self.reference].outcomes);
        for (exit, reading) in self.exits.iter_mut().zip(&readings) {
            exit.add(&reading.outcomes, &membership);
        }
    }

    pub(crate) fn finish(&self) -> Vec<Exit> {
        let exit = |(index, groups): (usize, &GroupsSoFar)| Exit {
            after_block: index.checked_sub(1).map(|offset| self.start + offset),
            reference: index == self.reference,
            groups: groups.finish(),
        };
        self.exits.iter().enumerate().map(exit).collect()
    }
}
