//! Sums over the images of a batch, in slots.
//!
//! Images are dealt to slots whose number depends on the shape alone. One task adds the images
//! of a slot in order, and the slots are added in order: the bits do not depend on the threads.

use std::ops::Range;

use crate::arch::{LANES, Lanes};
use crate::parallel::{self, Pieces};
use crate::scratch::{Scratch, Use};

/// The sums of all slots, one slot after the other.
pub(super) struct Slots {
    pub(super) sums: Scratch,
    /// Those of the bias, a vector per block of outputs.
    pub(super) bias: Vec<[f64; LANES]>,
}

impl Slots {
    /// Deals `batch` images to at most `wanted` slots of `size` vectors, and lets
    /// `add(images, sums, bias)` fill each slot; it finds the bias zero, and in the sums
    /// whatever was last in that memory.
    pub(super) fn fill(
        batch: usize,
        wanted: usize,
        size: usize,
        blocks: usize,
        add: impl Fn(Range<usize>, &mut [Lanes], &mut [[f64; LANES]]) + Sync,
    ) -> Self {
        let images = batch.div_ceil(wanted);
        let slots = batch.div_ceil(images);
        let mut sums = Scratch::take(Use::Slots, slots * size);
        let mut bias = vec![[0.; LANES]; slots * blocks];
        let split = (Pieces::of(&mut sums, size), Pieces::of(&mut bias, blocks));
        parallel::for_each(split, |slot, (sums, bias)| {
            let first = slot * images;
            add(first..batch.min(first + images), sums, bias);
        });
        Self { sums, bias }
    }

    /// The gradient of the bias, of `outputs` channels.
    pub(super) fn bias_gradient(&self, outputs: usize) -> Vec<f32> {
        let blocks = outputs.div_ceil(LANES);
        let total = |output: usize| -> f64 {
            let slots = self.bias[output / LANES..].iter().step_by(blocks);
            slots.map(|lanes| lanes[output % LANES]).sum()
        };
        (0..outputs).map(|output| total(output) as f32).collect()
    }
}
