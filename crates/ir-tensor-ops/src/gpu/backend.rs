//! What runs the kernels: a GPU, or its emulation.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use candle_core::{Device, Storage, Tensor};

use crate::error::Result;

/// An address in the memory of a device.
pub(super) type Address = u64;

/// A piece of the device's memory, which lives as long as its owner.
#[derive(Debug)]
pub(super) struct Allocation {
    pub(super) address: Address,
    /// What gives the memory back when it is dropped.
    #[cfg_attr(
        not(feature = "cuda"),
        expect(dead_code, reason = "it is only there to be dropped")
    )]
    pub(super) owner: Box<dyn Owner>,
}

/// Whatever keeps an allocation alive.
pub(super) trait Owner: Any + Debug + Send + Sync {}

impl<T: Any + Debug + Send + Sync> Owner for T {}

/// An argument of a kernel: the bytes of a number or an address, in a slot of eight, and the memory that the
/// address leads to.
#[derive(Debug, Clone)]
pub(super) struct Argument {
    bytes: [u8; 8],
    memory: Option<Arc<Allocation>>,
}

impl Argument {
    fn number(found: [u8; 4]) -> Self {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&found);
        let memory = None;
        Self { bytes, memory }
    }

    /// An address in a piece of memory.
    pub(super) fn address(address: Address, memory: &Arc<Allocation>) -> Self {
        Self {
            bytes: address.to_ne_bytes(),
            memory: Some(Arc::clone(memory)),
        }
    }

    /// A pointer to nothing.
    pub(super) fn null() -> Self {
        Self {
            bytes: [0; 8],
            memory: None,
        }
    }

    /// For the list of pointers to arguments that a launch takes.
    pub(super) fn pointer(&self) -> *mut std::ffi::c_void {
        self.bytes.as_ptr().cast_mut().cast()
    }

    /// The number or the address that it holds, with zeros behind one of fewer bytes.
    #[cfg(any(feature = "cuda", emulation))]
    pub(super) fn bits(&self) -> u64 {
        u64::from_ne_bytes(self.bytes)
    }

    /// The memory that it leads to.
    pub(super) fn memory(&self) -> Option<&Arc<Allocation>> {
        self.memory.as_ref()
    }
}

impl From<i32> for Argument {
    fn from(number: i32) -> Self {
        Self::number(number.to_ne_bytes())
    }
}

impl From<f64> for Argument {
    fn from(number: f64) -> Self {
        Self {
            bytes: number.to_ne_bytes(),
            memory: None,
        }
    }
}

impl From<f32> for Argument {
    fn from(number: f32) -> Self {
        Self::number(number.to_ne_bytes())
    }
}

/// One start of a kernel.
#[derive(Debug, Clone)]
pub(super) struct Launch {
    /// Its name, as in the file of kernels.
    pub(super) kernel: String,
    /// Blocks in x, y and z.
    pub(super) grid: [u32; 3],
    /// Threads of a block in x, y and z.
    pub(super) block: [u32; 3],
    /// Bytes of dynamic shared memory of a block.
    pub(super) shared_bytes: usize,
    /// In the order of the kernel's parameters, of their types.
    pub(super) arguments: Vec<Argument>,
}

/// A device with one queue of work. Launches and copies happen in the order in which they are asked for; those beside it in
/// theirs, in a second queue.
pub(super) trait Backend: Any + Debug + Send + Sync {
    /// What the device is called.
    fn name(&self) -> String;

    /// The Candle device whose tensors lie here; the CPU for an emulation.
    fn device(&self) -> Device;

    /// Memory that may hold anything.
    fn allocate(&self, bytes: usize) -> Result<Allocation>;

    /// Copies to the device.
    ///
    /// # Safety
    /// The device has that many bytes at the address.
    unsafe fn write(&self, to: Address, from: &[u8]) -> Result<()>;

    /// Waits for all work so far and copies from the device.
    ///
    /// # Safety
    /// As [`Backend::write`].
    unsafe fn read(&self, from: Address, to: &mut [u8]) -> Result<()>;

    /// The memory of a contiguous tensor, which stays the tensor's; `None` if it does not lie on this device.
    fn borrow(&self, tensor: &Tensor) -> Result<Option<Allocation>>;

    /// Storage for a tensor on this device that takes over memory of its own, which holds as many f32.
    fn storage_of(&self, memory: Allocation, length: usize) -> Result<Storage>;

    /// Puts a kernel into the queue.
    ///
    /// # Safety
    /// The arguments are what the kernel takes, and the addresses among them lead to as much memory as it
    /// reads and writes for these arguments and this many threads.
    unsafe fn launch(&self, launch: Launch) -> Result<()>;

    /// Waits for all work so far, but for what is beside and was not joined.
    fn wait(&self) -> Result<()>;

    /// From now on launches go into the second queue, which first waits for all work of the first one so far.
    fn begin_beside(&self) -> Result<()>;

    /// From now on launches go into the first queue again, which does not wait.
    fn end_beside(&self);

    /// The first queue waits for all work of the second one so far.
    fn join(&self) -> Result<()>;

    /// From now on launches are recorded instead of carried out, with a look at the clock behind each if `timed`.
    fn begin_capture(&self, timed: bool) -> Result<()>;

    /// What was recorded.
    fn end_capture(&self) -> Result<Box<dyn Recording>>;

    /// What each kernel has done so far, by its name, if it is counted.
    #[cfg(feature = "emulation")]
    fn counts(&self) -> Vec<(String, super::Counts)> {
        Vec::new()
    }
}

/// A sequence of launches that can be carried out again and again.
pub(super) trait Recording: Debug + Send {
    /// Puts all of it into the queue.
    ///
    /// # Safety
    /// The memory that the launches read and write ([`Argument::memory`]) is still there.
    unsafe fn launch(&self) -> Result<()>;

    /// Waits for the last time that it was carried out, and gives the kernel of each launch with its milliseconds;
    /// nothing if it was not timed.
    fn times(&self) -> Result<Vec<(String, f32)>>;
}
