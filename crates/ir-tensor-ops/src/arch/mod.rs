//! Instruction sets: which there are, and how one algorithm is compiled for each.
//!
//! The algorithms are written once, over the small trait [`Vector`]: sixteen f32 lanes. A type
//! that implements it is a proof, held as a value, that the CPU has its instructions; there is
//! one file per type. [`run`] picks the best that this CPU has, once per process, and compiles
//! a [`Kernel`] inside a function for which the compiler may use those instructions: loops
//! without explicit vectors are vectorised for them too.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
use {avx2::Avx2, avx512::Avx512};

use portable::Portable;

/// The lanes of a [`Vector`].
pub(crate) const LANES: usize = 16;

/// Sixteen numbers in memory, on a cache line of their own.
#[repr(C, align(64))]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lanes(pub(crate) [f32; LANES]);

impl Lanes {
    pub(crate) const ZERO: Self = Self([0.; LANES]);
}

/// Arithmetic on sixteen f32 lanes.
///
/// Only code that runs on a CPU with the instructions can hold a value of an implementing
/// type, so every method is safe.
pub(crate) trait Vector: Copy {
    /// Sixteen numbers in registers.
    type Register: Copy;

    /// Whether there are 32 registers of 16 lanes. With fewer or narrower ones, kernels keep
    /// about a quarter of the accumulators.
    const WIDE: bool;

    /// The same number in every lane.
    fn splat(self, value: f32) -> Self::Register;

    /// Reads memory.
    fn load(self, from: &Lanes) -> Self::Register;

    /// Writes memory.
    fn store(self, value: Self::Register, to: &mut Lanes);

    /// a + b.
    fn add(self, a: Self::Register, b: Self::Register) -> Self::Register;

    /// a − b.
    fn subtract(self, a: Self::Register, b: Self::Register) -> Self::Register;

    /// Lane by lane, `value` where `condition` > 0, else 0. Where the condition is NaN the value
    /// stays: a loss that is no number must not look like one.
    fn where_positive(self, condition: Self::Register, value: Self::Register) -> Self::Register;

    /// a · b + c; rounded once where the CPU has fused multiply-add.
    fn multiply_add(
        self,
        a: Self::Register,
        b: Self::Register,
        c: Self::Register,
    ) -> Self::Register;

    /// Transposes a 16 × 16 matrix in place.
    fn transpose(self, matrix: &mut [Lanes; LANES]);
}

/// Writes the body out for every number of the list below the bound.
///
/// The compiler unrolls a long loop over an array of registers only in part, and then keeps
/// the array in memory.
macro_rules! unrolled {
    ($index:ident in [$($number:literal),*] below $bound:expr, $body:block) => {
        $(
            if $number < $bound {
                let $index: usize = $number;
                $body
            }
        )*
    };
}
pub(crate) use unrolled;

/// A piece of work that is written once, for any [`Vector`].
///
/// What is true of every kernel here: vector operations stand in plain loops, not in closures
/// given to the standard library, because a closure that is not inlined is compiled without
/// the instruction set and calls each intrinsic as a function.
pub(crate) trait Kernel {
    /// What the work gives.
    type Output;

    /// Does the work. Implementations are `#[inline(always)]`, as is everything they call: only
    /// so are they compiled with the instruction set of the caller.
    fn run<V: Vector>(self, vector: V) -> Self::Output;
}

/// An instruction set that this CPU has.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Level {
    Portable(Portable),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

impl Level {
    /// The instruction sets of this CPU, the slowest first.
    pub(crate) fn available() -> Vec<Self> {
        let levels = [
            Some(Self::Portable(Portable)),
            #[cfg(target_arch = "x86_64")]
            Avx2::new().map(Self::Avx2),
            #[cfg(target_arch = "x86_64")]
            Avx512::new().map(Self::Avx512),
        ];
        levels.into_iter().flatten().collect()
    }

    /// What it is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Portable(_) => "portable",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "AVX-512",
        }
    }

    /// The instruction set that operations use.
    pub(crate) fn current() -> Self {
        #[cfg(test)]
        if let Some(level) = forced::level() {
            return level;
        }
        static BEST: OnceLock<Level> = OnceLock::new();
        *BEST.get_or_init(|| Self::available().pop().unwrap_or(Self::Portable(Portable)))
    }
}

/// Does the work with the best instruction set of this CPU.
pub(crate) fn run<K: Kernel>(kernel: K) -> K::Output {
    match Level::current() {
        Level::Portable(vector) => kernel.run(vector),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2(vector) => vector.run(kernel),
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(vector) => vector.run(kernel),
    }
}

/// Lets tests choose the instruction set.
#[cfg(test)]
pub(crate) mod forced {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Mutex, PoisonError};

    use super::Level;

    /// One more than the index among the available levels; 0 means the best.
    static FORCED: AtomicUsize = AtomicUsize::new(0);
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

    pub(super) fn level() -> Option<Level> {
        let index = FORCED.load(Ordering::SeqCst).checked_sub(1)?;
        Level::available().get(index).copied()
    }

    /// Calls `body` once with every instruction set of this CPU.
    pub(crate) fn each(mut body: impl FnMut(Level)) {
        struct Reset;
        impl Drop for Reset {
            fn drop(&mut self) {
                FORCED.store(0, Ordering::SeqCst);
            }
        }
        let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let _reset = Reset;
        for (index, level) in Level::available().into_iter().enumerate() {
            FORCED.store(index + 1, Ordering::SeqCst);
            body(level);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Kernel, LANES, Lanes, Vector, forced, run};

    struct Transpose<'a>(&'a mut [Lanes; LANES]);

    impl Kernel for Transpose<'_> {
        type Output = ();

        #[inline(always)]
        fn run<V: Vector>(self, vector: V) {
            vector.transpose(self.0);
        }
    }

    #[test]
    fn every_level_transposes() {
        forced::each(|level| {
            let mut matrix: [Lanes; LANES] = std::array::from_fn(|row| {
                Lanes(std::array::from_fn(|column| (row * LANES + column) as f32))
            });
            run(Transpose(&mut matrix));
            for (row, lanes) in matrix.iter().enumerate() {
                let expected: [f32; LANES] =
                    std::array::from_fn(|column| (column * LANES + row) as f32);
                assert_eq!(lanes.0, expected, "{level:?}, row {row}");
            }
        });
    }
}
