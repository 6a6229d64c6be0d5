//! The parallel region of a convolution: images are read, and finished images written.

use super::finish::Finish;
use super::incoming::{Incoming, IncomingImages};
use crate::arch::{self, Kernel, Lanes, Vector};
use crate::blocks::Sums;
use crate::images::{Extent, ImagesMut};
use crate::parallel::{self, Pieces};
use crate::scratch::{self, Scratch, Use};

/// What a convolution does with the images of one task.
pub(super) trait Work: Sync {
    /// The vectors of scratch memory that it needs for a task.
    fn room(&self) -> usize;

    /// Computes the finished images. `#[inline(always)]`, as kernels are.
    fn run<V: Vector>(&self, vector: V, images: TaskImages<'_>);
}

/// The images of one task, all blocked.
pub(super) struct TaskImages<'a> {
    /// How many there are.
    pub(super) count: usize,
    pub(super) input: &'a [Lanes],
    /// What the finish reads beside the results; empty if it reads nothing.
    pub(super) operand: &'a [Lanes],
    pub(super) output: &'a mut [Lanes],
    /// One for each block of each image.
    pub(super) sums: &'a mut [Sums],
    pub(super) scratch: &'a mut [Lanes],
}

/// The sizes of a region.
#[derive(Debug, Clone, Copy)]
pub(super) struct Region<'a> {
    pub(super) batch: usize,
    /// The images of a task.
    pub(super) images: usize,
    pub(super) source: Extent,
    pub(super) target: Extent,
    pub(super) finish: Finish<'a>,
}

impl Region<'_> {
    /// Does the work for all images; gives the sums of every block of every image.
    pub(super) fn run(&self, work: &impl Work, from: Incoming<'_>, to: ImagesMut<'_>) -> Vec<Sums> {
        let blocks = self.target.blocks();
        let mut sums = vec![Sums::ZERO; self.batch * blocks];
        let room = from.room(self.source, self.images);
        let images = (
            from.groups(self.source, self.batch, self.images),
            to.groups(self.target, self.images),
        );
        let split = (images, Pieces::of(&mut sums, self.images * blocks));
        parallel::for_each(split, |_, ((input, output), sums)| {
            arch::run(Task {
                region: self,
                work,
                room,
                input,
                output,
                sums,
            });
        });
        sums
    }
}

/// One task, for one thread.
struct Task<'a, W> {
    region: &'a Region<'a>,
    work: &'a W,
    /// The scratch memory that reading the images takes.
    room: usize,
    input: IncomingImages<'a>,
    output: ImagesMut<'a>,
    sums: &'a mut [Sums],
}

impl<W: Work> Kernel for Task<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(mut self, vector: V) {
        let (target, operand) = (self.region.target, self.region.finish.operand());
        let range = self.input.range.clone();
        let count = range.len();
        let sizes = [
            self.work.room(),
            self.room,
            operand.map_or(0, |operand| operand.room(target, count)),
            self.output.room(target),
        ];
        let mut room = Scratch::take(Use::Unit, sizes.iter().sum());
        let [scratch, input, beside, turned] = scratch::split(&mut room, sizes);
        let images = TaskImages {
            count,
            input: self.input.blocked(vector, input),
            operand: match operand {
                Some(images) => images.blocked(vector, target, range, beside),
                None => &[],
            },
            output: self.output.blocked(turned),
            sums: self.sums,
            scratch,
        };
        self.work.run(vector, images);
        self.output.finish(vector, target, turned);
    }
}
