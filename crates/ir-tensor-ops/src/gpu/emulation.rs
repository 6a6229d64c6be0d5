//! The devices that are emulated on the CPU.

use super::{Counts, Gpu};
use crate::error::Result;

/// A device that runs the kernels in some form; an error where there was no C++ compiler.
macro_rules! emulated {
    ($code:expr) => {{
        #[cfg(emulation)]
        {
            let backend = super::emulated::Emulated::new($code);
            Ok(Self::on(backend))
        }
        #[cfg(not(emulation))]
        Err(crate::Error::Gpu {
            action: "starting an emulated GPU".into(),
            reason: "no C++ compiler was found when this was built".into(),
        })
    }};
}

impl Gpu {
    /// An emulation on the CPU, for tests. An operation, or the recording that it is in, fails if two accesses to one place, one of
    /// which writes and not both of which are atomic, have no order: those of two threads without a barrier between them, of two blocks,
    /// or of an operation and another beside it that was not joined. What was computed until then is not to be relied on. For each byte
    /// of the device's memory that is used this takes 32 of the host's.
    ///
    /// # Errors
    /// [`Error::Gpu`](crate::Error::Gpu) if there was no C++ compiler when this crate was built.
    pub fn emulated() -> Result<Self> {
        emulated!(super::emulated::Code::Source)
    }

    /// An emulation in which the threads of a block run in the opposite order between two barriers, and operations beside others
    /// as late as they may. It looks for no races; where a barrier or a join is missing, the result may be another one.
    ///
    /// # Errors
    /// As [`Gpu::emulated`].
    pub fn emulated_in_reverse() -> Result<Self> {
        emulated!(super::emulated::Code::SourceInReverse)
    }

    /// An emulation of what a GPU is given: it runs the kernels as CUDA's compiler made them (`nvcc -ptx kernels/kernels.cu`),
    /// instruction by instruction, and counts what they do ([`Gpu::counts`]). An operation fails if it reads or writes outside of
    /// the device's memory, or at an address that is not aligned. It looks for no races.
    ///
    /// # Errors
    /// As [`Gpu::emulated`], and for a text that holds what is not known, with the line.
    pub fn interpreted(ptx: &str) -> Result<Self> {
        emulated!(super::emulated::Code::Assembly(
            super::emulated::Module::parse(ptx).map_err(|reason| crate::Error::Gpu {
                action: "reading the kernels as PTX".into(),
                reason,
            })?
        ))
    }

    /// What each kernel has done so far, by its name; nothing but on a device that counts it ([`Gpu::interpreted`]).
    pub fn counts(&self) -> Vec<(String, Counts)> {
        self.backend().counts()
    }
}
