//! Memory that each thread keeps for the next image, and for the next operation.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};

use crate::arch::Lanes;

/// What memory is for: a thread keeps one piece for each use.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Use {
    /// The unit of work of one task.
    Unit,
    /// The weights of an operation, as its kernels read them.
    Weights,
    /// The sums of an operation, one set for each of its tasks.
    Slots,
    /// The transformed inputs of a batch.
    Inputs,
    /// The products of a batch.
    Products,
}

thread_local! {
    static KEPT: [Cell<Vec<Lanes>>; 5] = const { [const { Cell::new(Vec::new()) }; 5] };
}

/// Some vectors of memory of this thread. They hold whatever was last in them: what reads them
/// has written them first.
pub(crate) struct Scratch {
    lanes: Vec<Lanes>,
    size: usize,
    purpose: Use,
}

impl Scratch {
    /// Takes the thread's memory, grown to `size` vectors if need be; a second taker meanwhile
    /// gets fresh memory.
    pub(crate) fn take(purpose: Use, size: usize) -> Self {
        let mut lanes = KEPT.with(|kept| kept[purpose as usize].take());
        if lanes.len() < size {
            // What was in it is of no use, and would be there beside the new until it is copied.
            drop(lanes);
            lanes = vec![Lanes::ZERO; size];
        }
        Self {
            lanes,
            size,
            purpose,
        }
    }
}

/// Consecutive parts of these sizes.
pub(crate) fn split<const N: usize>(lanes: &mut [Lanes], sizes: [usize; N]) -> [&mut [Lanes]; N] {
    let mut rest = lanes;
    sizes.map(|size| {
        let (part, after) = std::mem::take(&mut rest).split_at_mut(size);
        rest = after;
        part
    })
}

impl Deref for Scratch {
    type Target = [Lanes];

    fn deref(&self) -> &[Lanes] {
        &self.lanes[..self.size]
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [Lanes] {
        &mut self.lanes[..self.size]
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let lanes = std::mem::take(&mut self.lanes);
        KEPT.with(|kept| kept[self.purpose as usize].set(lanes));
    }
}
