//! Random numbers that depend on what they are for, and on nothing else.
//!
//! Candle's CPU generator cannot be seeded, and a generator that is drawn from in
//! sequence ties its numbers to the order of work, the number of threads and the
//! moment a run was resumed. Here every use opens a stream of its own, keyed by
//! `(seed, epoch, sample, purpose)`.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Opens the random stream that belongs to `(seed, epoch, sample, purpose)`.
///
/// The four numbers are the 256-bit ChaCha8 key, in this order, little endian: two
/// different tuples never share a stream, the same tuple gives the same numbers on
/// every machine.
///
/// ```
/// use ir_tensor_ops::random;
/// use rand::Rng;
///
/// const FLIP: u64 = 1;
/// let first: u64 = random::stream(42, 0, 7, FLIP).random();
/// let again: u64 = random::stream(42, 0, 7, FLIP).random();
/// let other: u64 = random::stream(42, 0, 8, FLIP).random();
/// assert_eq!(first, again);
/// assert_ne!(first, other);
/// ```
pub fn stream(seed: u64, epoch: u64, sample: u64, purpose: u64) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    for (bytes, part) in key.chunks_exact_mut(8).zip([seed, epoch, sample, purpose]) {
        bytes.copy_from_slice(&part.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}
