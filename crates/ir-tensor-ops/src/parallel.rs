//! Results computed in equal pieces, in parallel.
//!
//! What a piece is depends on shapes alone, never on the number of threads, and every piece
//! is written by one task: the result has the same bits on any number of threads.

use std::marker::PhantomData;
use std::mem::MaybeUninit;

use crate::crew;

/// Something that can be cut into parts which different threads may write at a time.
///
/// # Safety
/// The parts of two different indices do not overlap.
pub(crate) unsafe trait Split: Sync {
    /// What one task gets.
    type Part;

    /// The number of parts.
    fn parts(&self) -> usize;

    /// One part.
    ///
    /// # Safety
    /// `index` is below `parts()`, and no other part of this index is alive.
    unsafe fn part(&self, index: usize) -> Self::Part;
}

/// A slice in pieces of equal length; the last may be shorter.
pub(crate) struct Pieces<'a, T> {
    start: *mut T,
    length: usize,
    piece: usize,
    slice: PhantomData<&'a mut [T]>,
}

impl<'a, T: Send> Pieces<'a, T> {
    pub(crate) fn of(slice: &'a mut [T], piece: usize) -> Self {
        Self {
            start: slice.as_mut_ptr(),
            length: slice.len(),
            piece: piece.max(1),
            slice: PhantomData,
        }
    }
}

// SAFETY: a task reaches only its own part, and `T: Send` (see `Pieces::of`) lets another thread
// write it.
unsafe impl<T: Send> Sync for Pieces<'_, T> {}

// SAFETY: the parts are consecutive ranges of the slice, which is borrowed for as long as they
// live.
unsafe impl<'a, T: Send> Split for Pieces<'a, T> {
    type Part = &'a mut [T];

    fn parts(&self) -> usize {
        self.length.div_ceil(self.piece)
    }

    unsafe fn part(&self, index: usize) -> &'a mut [T] {
        debug_assert!(index < self.parts());
        let first = index * self.piece;
        let length = self.piece.min(self.length - first);
        // SAFETY: the range lies in the slice, and the caller has no other part of this index.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(first), length) }
    }
}

/// A matrix cut into panels of some rows and some columns; the last ones may be smaller.
pub(crate) struct Panels<'a, T> {
    start: *mut T,
    /// Rows and columns of the matrix.
    sizes: (usize, usize),
    /// Rows and columns of a panel.
    panel: (usize, usize),
    matrix: PhantomData<&'a mut [T]>,
}

impl<'a, T: Send> Panels<'a, T> {
    /// Cuts a matrix with rows of `columns` elements.
    pub(crate) fn of(matrix: &'a mut [T], columns: usize, panel: (usize, usize)) -> Self {
        Self {
            start: matrix.as_mut_ptr(),
            sizes: (matrix.len() / columns, columns),
            panel,
            matrix: PhantomData,
        }
    }

    /// The panels side by side.
    fn across(&self) -> usize {
        self.sizes.1.div_ceil(self.panel.1)
    }
}

// SAFETY: as for `Pieces`.
unsafe impl<T: Send> Sync for Panels<'_, T> {}

// SAFETY: two panels share no element of the matrix.
unsafe impl<'a, T: Send> Split for Panels<'a, T> {
    /// The rows of the panel.
    type Part = Vec<&'a mut [T]>;

    fn parts(&self) -> usize {
        self.sizes.0.div_ceil(self.panel.0) * self.across()
    }

    unsafe fn part(&self, index: usize) -> Self::Part {
        let (row, column) = (index / self.across(), index % self.across());
        let (top, left) = (row * self.panel.0, column * self.panel.1);
        let rows = top..self.sizes.0.min(top + self.panel.0);
        let width = self.panel.1.min(self.sizes.1 - left);
        rows.map(|row| {
            let first = row * self.sizes.1 + left;
            // SAFETY: the range lies in the matrix, and the caller has no other part of this
            // index.
            unsafe { std::slice::from_raw_parts_mut(self.start.add(first), width) }
        })
        .collect()
    }
}

// SAFETY: two parts overlap only if those of A or of B do.
unsafe impl<A: Split, B: Split> Split for (A, B) {
    type Part = (A::Part, B::Part);

    fn parts(&self) -> usize {
        debug_assert_eq!(self.0.parts(), self.1.parts());
        self.0.parts().min(self.1.parts())
    }

    unsafe fn part(&self, index: usize) -> Self::Part {
        // SAFETY: as the caller promises.
        unsafe { (self.0.part(index), self.1.part(index)) }
    }
}

/// Calls `fill(index, piece)` for the pieces of `piece` numbers (the last may be shorter) that a
/// slice is cut into, in parallel.
///
/// ```
/// let mut numbers = [1., 2., 3.];
/// ir_tensor_ops::for_each_piece(&mut numbers, 2, |index, piece| {
///     piece.iter_mut().for_each(|number| *number += 10. * index as f32);
/// });
/// assert_eq!(numbers, [1., 2., 13.]);
/// ```
pub fn for_each_piece(numbers: &mut [f32], piece: usize, fill: impl Fn(usize, &mut [f32]) + Sync) {
    for_each(Pieces::of(numbers, piece), fill);
}

/// Calls `fill(index, part)` for every part.
pub(crate) fn for_each<S: Split>(split: S, fill: impl Fn(usize, S::Part) + Sync) {
    crew::for_each(split.parts(), |index| {
        // SAFETY: every index below `parts()` is given out once.
        fill(index, unsafe { split.part(index) });
    });
}

/// A vector of `length` numbers, made of pieces of `piece` numbers (the last may be shorter)
/// that `fill(index, piece)` computes.
///
/// `fill` finds its piece filled with zeros, written by the thread that runs it: the memory is
/// then in that core's cache, and a large vector is never swept by one thread alone.
pub(crate) fn pieces(
    length: usize,
    piece: usize,
    fill: impl Fn(usize, &mut [f32]) + Sync,
) -> Vec<f32> {
    let mut values: Vec<f32> = Vec::with_capacity(length);
    let room = &mut values.spare_capacity_mut()[..length];
    for_each(Pieces::of(room, piece), |index, chunk| {
        chunk.fill(MaybeUninit::new(0.));
        // SAFETY: the line above initialised every element of the chunk.
        fill(index, unsafe { chunk.assume_init_mut() });
    });
    // SAFETY: the pieces cover the first `length` elements and each was initialised.
    unsafe { values.set_len(length) };
    values
}

/// The numbers of a piece of an elementwise operation.
pub(crate) const PIECE: usize = 1 << 14;

/// `length` zeros.
pub(crate) fn zeros(length: usize) -> Vec<f32> {
    pieces(length, PIECE, |_, _| ())
}

/// A copy of some numbers.
pub(crate) fn copied(values: &[f32]) -> Vec<f32> {
    pieces(values.len(), PIECE, |index, piece| {
        piece.copy_from_slice(&values[index * PIECE..][..piece.len()]);
    })
}

/// What `value` gives for every index below `count`.
pub(crate) fn map<T: Send>(count: usize, value: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let mut values: Vec<Option<T>> = (0..count).map(|_| None).collect();
    for_each(Pieces::of(&mut values, 1), |index, slot| {
        slot[0] = Some(value(index));
    });
    values.into_iter().flatten().collect()
}
