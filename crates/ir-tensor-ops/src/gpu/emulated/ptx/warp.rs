//! Which of a warp's instructions come next, for which of its threads.

use super::instruction::Action;
use super::threads::{Execution, Mask, Threads};
use super::{Kernel, LANES};
use crate::gpu::backend::Launch;

/// Why a warp stopped.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stop {
    /// Some of its threads wait at a barrier, and all others have ended.
    Barrier,
    End,
}

/// Threads that are at the same instruction.
#[derive(Debug, Clone, Copy)]
struct Group {
    next: usize,
    mask: Mask,
    /// Whether they wait at a barrier in front of it.
    waits: bool,
}

#[derive(Debug)]
pub(super) struct Warp {
    threads: Threads,
    /// Those that are in the block.
    members: Mask,
    groups: Vec<Group>,
}

impl Warp {
    /// The warp of this number in its block.
    pub(super) fn new(kernel: &Kernel, launch: &Launch, number: usize) -> Self {
        let size = launch.block.iter().product::<u32>() as usize;
        let count = (size - number * LANES).min(LANES);
        Self {
            threads: Threads::new(kernel, launch, number * LANES),
            members: Mask::MAX >> (LANES - count),
            groups: Vec::new(),
        }
    }

    /// Puts its threads at the first instruction, in a block.
    pub(super) fn begin(&mut self, block: [u32; 3]) {
        self.threads.begin(block);
        self.groups.clear();
        self.stay(0, self.members, false);
    }

    /// All threads of the block that have not ended wait at the barrier, and now go on.
    pub(super) fn pass_barrier(&mut self) {
        for group in &mut self.groups {
            group.waits = false;
        }
    }

    fn stay(&mut self, next: usize, mask: Mask, waits: bool) {
        if mask != 0 {
            self.groups.push(Group { next, mask, waits });
        }
    }

    /// The first instruction that a thread which does not wait comes to.
    fn furthest_behind(&self) -> Option<usize> {
        let ready = self.groups.iter().filter(|group| !group.waits);
        ready.map(|group| group.next).min()
    }

    /// Runs until all threads wait or have ended.
    pub(super) fn run(&mut self, execution: &mut Execution<'_>) -> Result<Stop, String> {
        // Those that are furthest behind go first, together.
        while let Some(next) = self.furthest_behind() {
            let mut mask = 0;
            self.groups.retain(|group| {
                let joins = !group.waits && group.next == next;
                if joins {
                    mask |= group.mask;
                }
                !joins
            });
            self.run_together(execution, next, mask)?;
        }
        Ok(match self.groups.is_empty() {
            true => Stop::End,
            false => Stop::Barrier,
        })
    }

    /// Runs threads until they part, wait, end, or have caught up with others.
    fn run_together(
        &mut self,
        execution: &mut Execution<'_>,
        mut next: usize,
        mask: Mask,
    ) -> Result<(), String> {
        let caught_up = self.furthest_behind().unwrap_or(usize::MAX);
        let kernel = execution.kernel;
        while next < caught_up {
            let instruction = kernel
                .instructions
                .get(next)
                .ok_or("it goes on behind its last instruction")?;
            next += 1;
            execution.counts.instructions += u64::from(instruction.takes_time);
            let active = mask & self.threads.guarded(instruction.guard);
            match instruction.action {
                _ if active == 0 => {}
                Action::Branch { target } if active == mask => next = target,
                Action::Branch { target } => {
                    self.stay(target, active, false);
                    self.stay(next, mask & !active, false);
                    return Ok(());
                }
                Action::Return => {
                    self.stay(next, mask & !active, false);
                    return Ok(());
                }
                Action::Barrier => {
                    self.stay(next, active, true);
                    self.stay(next, mask & !active, false);
                    return Ok(());
                }
                _ => self
                    .threads
                    .perform(execution, &instruction.action, active)
                    .map_err(|reason| format!("`{}`: {reason}", instruction.text))?,
            }
        }
        self.stay(next, mask, false);
        Ok(())
    }
}
