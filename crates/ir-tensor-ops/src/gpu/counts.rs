//! What kernels did, where an emulation counts it.

use std::ops::{AddAssign, Sub};

/// Counts over launches of a kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// How often it was started.
    pub launches: u64,
    /// Instructions of warps, without those that only name a register or an argument: `mov`, `cvta` and `ld.param`. The
    /// machine code that a driver makes of them has about as many.
    pub instructions: u64,
    /// Of them, products of matrices: 16×8 numbers, each a sum of 16 products.
    pub products: u64,
    /// Pieces of 32 bytes of the device's memory that instructions of warps read. What several instructions read counts
    /// several times, though it may be in a cache.
    pub sectors_read: u64,
    /// Likewise those that they write.
    pub sectors_written: u64,
    /// Turns that shared memory takes: in each, every one of its 32 banks gives or takes one word of four bytes.
    pub shared_turns: u64,
    /// As many as there would be if all banks were of use in each.
    pub shared_turns_at_least: u64,
}

impl Counts {
    fn with(self, other: Self, each: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            launches: each(self.launches, other.launches),
            instructions: each(self.instructions, other.instructions),
            products: each(self.products, other.products),
            sectors_read: each(self.sectors_read, other.sectors_read),
            sectors_written: each(self.sectors_written, other.sectors_written),
            shared_turns: each(self.shared_turns, other.shared_turns),
            shared_turns_at_least: each(self.shared_turns_at_least, other.shared_turns_at_least),
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, more: Self) {
        *self = self.with(more, |count, more| count + more);
    }
}

/// What came after earlier counts of the same kernel.
impl Sub for Counts {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        self.with(earlier, u64::saturating_sub)
    }
}
