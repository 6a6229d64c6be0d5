//! Where operations on tensors leave the CPU: on tensors of a GPU they are those of `gpu::tensors`.

/// Returns the result of a function of `gpu::tensors` if the tensor lies on a GPU. The function gets the GPU and the
/// arguments that are named here. Without the feature `cuda` nothing happens: the tensor is then refused, as any
/// that is not on the CPU.
macro_rules! on_gpu {
    ($tensor:expr, $($function:ident)::+ ($($argument:expr),* $(,)?)) => {
        #[cfg(any(feature = "cuda", feature = "emulation"))]
        if let Some(gpu) = crate::gpu::tensors::gpu_of($tensor)? {
            return crate::gpu::tensors::$($function)::+(&gpu, $($argument),*);
        }
    };
}

pub(crate) use on_gpu;
