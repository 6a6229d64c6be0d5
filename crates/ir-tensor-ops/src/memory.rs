//! What the process does with memory that is freed.

/// Asks the C library to keep freed memory for the next tensors of this process instead of
/// giving it back to the system.
///
/// A network's activations are large and short-lived. Given back, each has to be mapped and
/// cleared by the system again when it is first touched, which takes longer than to compute it.
/// For a program whose business is tensors: call it once, first thing; a library should leave
/// the choice to the program. What the process held at most it then holds to its end. Only the
/// GNU C library is asked; elsewhere nothing happens.
///
/// ```
/// ir_tensor_ops::keep_freed_memory();
/// ```
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// The largest threshold for separate mappings that the library accepts.
        const MAPPED: libc::c_int = 32 << 20;
        // SAFETY: mallopt takes two numbers and changes settings of the allocator, under its
        // own lock; a value that it does not accept changes nothing.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED);
            libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
        }
    }
}
