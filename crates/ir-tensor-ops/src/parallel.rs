//! Results computed in equal pieces on rayon's pool.
//!
//! What a piece is depends on shapes alone, never on the number of threads, and every piece
//! is written by one task: the result has the same bits on any number of threads.

use std::mem::MaybeUninit;

use rayon::prelude::*;

/// A vector of `length` numbers, made of pieces of `piece` numbers (the last may be shorter)
/// that `fill(index, piece)` computes in parallel.
pub(crate) fn pieces(
    length: usize,
    piece: usize,
    fill: impl Fn(usize, &mut [f32]) + Sync,
) -> Vec<f32> {
    pieces_with(length, piece, 0., fill).0
}

/// As [`pieces`], of any type; also gives what `fill` returned for each piece, in order.
///
/// `fill` finds its piece filled with `blank`, written by the thread that runs it: the memory
/// is then in that core's cache, and a large vector is never swept by one thread alone.
pub(crate) fn pieces_with<N: Copy + Send + Sync, T: Send>(
    length: usize,
    piece: usize,
    blank: N,
    fill: impl Fn(usize, &mut [N]) -> T + Sync,
) -> (Vec<N>, Vec<T>) {
    let mut values: Vec<N> = Vec::with_capacity(length);
    let collected = values.spare_capacity_mut()[..length]
        .par_chunks_mut(piece.max(1))
        .enumerate()
        .map(|(index, chunk)| {
            chunk.fill(MaybeUninit::new(blank));
            // SAFETY: the line above initialised every element of the chunk.
            fill(index, unsafe { chunk.assume_init_mut() })
        })
        .collect();
    // SAFETY: the chunks cover the first `length` elements and each was initialised.
    unsafe { values.set_len(length) };
    (values, collected)
}
