//! Instruction sets: which there are, and how one algorithm is compiled for each.

mod portable;

pub(crate) use portable::Portable;

/// Sixteen f32 lanes. A value of the implementing type is proof that the CPU has the
/// instructions, so every method is safe.
pub(crate) trait Vector: Copy {}

/// A piece of work that is written once, for any [`Vector`].
pub(crate) trait Kernel {
    type Output;

    /// Does the work. Implementations are `#[inline(always)]`, as is everything they call: only
    /// so are they compiled with the instruction set of the caller.
    fn run<V: Vector>(self, vector: V) -> Self::Output;
}

/// Does the work with the best instruction set of this CPU.
pub(crate) fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Portable)
}
