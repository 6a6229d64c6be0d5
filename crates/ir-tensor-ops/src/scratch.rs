//! Memory that each thread keeps for the next image.

use std::cell::Cell;

use crate::arch::Lanes;

/// Buffers of one thread. They grow to the largest image seen and hold whatever was last in
/// them: a kernel writes all that it will read.
#[derive(Default)]
pub(crate) struct Scratch {
    planes: Vec<f32>,
    lanes: Vec<Lanes>,
}

thread_local! {
    static SCRATCH: Cell<Scratch> = Cell::default();
}

impl Scratch {
    /// Takes the thread's buffers; a second taker meanwhile gets empty ones.
    pub(crate) fn take() -> Self {
        SCRATCH.take()
    }

    /// Gives them back.
    pub(crate) fn give_back(self) {
        SCRATCH.set(self);
    }

    /// Room for `planes` numbers and `lanes` vectors.
    pub(crate) fn room(&mut self, planes: usize, lanes: usize) -> (&mut [f32], &mut [Lanes]) {
        if self.planes.len() < planes {
            self.planes.resize(planes, 0.);
        }
        if self.lanes.len() < lanes {
            self.lanes.resize(lanes, Lanes::ZERO);
        }
        (&mut self.planes[..planes], &mut self.lanes[..lanes])
    }
}
