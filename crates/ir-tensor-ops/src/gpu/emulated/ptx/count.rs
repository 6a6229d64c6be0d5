//! How an instruction of a warp is counted.

use super::LANES;
use crate::gpu::Counts;

/// The pieces of `size` bytes that so many bytes at each address are in, each once.
fn pieces(addresses: &[u64], bytes: usize, size: u64) -> Vec<u64> {
    let last = bytes as u64 - 1;
    let mut pieces: Vec<u64> = addresses
        .iter()
        .flat_map(|address| address / size..=(address + last) / size)
        .collect();
    pieces.sort_unstable();
    pieces.dedup();
    pieces
}

/// An instruction reads or writes `bytes` bytes at each of these addresses of the device's memory.
pub(super) fn global(counts: &mut Counts, addresses: &[u64], bytes: usize, writes: bool) {
    let sectors = pieces(addresses, bytes, 32).len() as u64;
    if writes {
        counts.sectors_written += sectors;
    } else {
        counts.sectors_read += sectors;
    }
}

/// An instruction reads or writes `bytes` bytes at each of these addresses of shared memory. So many threads at a time that
/// they have 128 bytes; those that have the same word share it.
pub(super) fn shared(counts: &mut Counts, addresses: &[u64], bytes: usize) {
    let mut words_in_all = 0;
    for together in addresses.chunks((128 / bytes).min(LANES)) {
        let words = pieces(together, bytes, 4);
        let mut banks = [0u64; 32];
        for word in &words {
            banks[(word % 32) as usize] += 1;
        }
        words_in_all += words.len() as u64;
        counts.shared_turns += banks.into_iter().max().unwrap_or(0);
    }
    counts.shared_turns_at_least += words_in_all.div_ceil(32);
}
