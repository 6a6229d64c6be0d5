//! The operations on an NVIDIA GPU.
//!
//! A [`Gpu`] runs kernels of our own (`kernels/`) one after another. Its memory comes as [`Buffer`]s of numbers
//! and as [`Map`]s, activations `[N, C, H, W]` whose channels lie side by side. The operations write into maps
//! that already exist, so that a sequence of them can be recorded once ([`Gpu::record`]) and then started as
//! a whole.
//!
//! With the feature `emulation` the same kernels run on the CPU, in plain C++: far too slow for anything but
//! tests, which thereby need no GPU.

mod backend;
mod buffer;
mod classifier;
mod convolution;
#[cfg(feature = "emulation")]
mod counts;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "cuda")]
mod cudnn;
#[cfg(emulation)]
mod emulated;
#[cfg(feature = "emulation")]
mod emulation;
mod images;
#[cfg(all(
    feature = "cuda",
    target_arch = "x86_64",
    target_os = "linux",
    target_env = "gnu"
))]
mod libraries;
mod map;
mod norm;
mod pool;
mod step;
pub(crate) mod tensors;
mod tile;
mod weights;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backend::{Allocation, Argument, Backend, Launch, Recording};

pub use buffer::{Buffer, Element};
pub use classifier::{Linear, Losses};
pub use convolution::Convolution;
#[cfg(feature = "emulation")]
pub use counts::Counts;
#[cfg(feature = "cuda")]
pub use cudnn::{CudnnConvolution, Seconds};
pub use images::{EpochOrder, ResidentImages};
pub use map::{Map, Precision};
pub use norm::{NormRule, NormState};
pub use step::{Descent, Parameters, Progress, Sources, StepState, Stopped};
pub use weights::Weights;

use crate::error::Result;

/// A GPU, with one queue of work, and one for what goes on beside it. Clones are the same device.
///
/// ```
/// # #[cfg(feature = "emulation")]
/// # fn main() -> ir_tensor_ops::Result<()> {
/// use ir_tensor_ops::gpu::{Buffer, Gpu};
///
/// let gpu = Gpu::emulated()?;
/// let buffer = Buffer::from_slice(&gpu, &[1f32, 2., 3.])?;
/// assert_eq!(buffer.to_vec()?, [1., 2., 3.]);
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "emulation"))]
/// # fn main() {}
/// ```
#[derive(Debug, Clone)]
pub struct Gpu(Arc<Shared>);

/// What the clones of a device share.
#[derive(Debug)]
struct Shared {
    backend: Box<dyn Backend>,
    /// While operations are recorded: the memory that they use.
    used: Mutex<Option<Vec<Arc<Allocation>>>>,
    /// Whether recordings are timed.
    timed: AtomicBool,
    beside: Mutex<Beside>,
}

/// What goes on beside the queue of work.
#[derive(Debug, Default)]
struct Beside {
    /// Whether operations are asked for there now.
    open: bool,
    /// The memory of those that were not joined, so that it is not given back before.
    memory: Vec<Arc<Allocation>>,
}

/// How long a kernel took, as a part of recorded operations.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelTime {
    /// Its name, as in the files of kernels.
    pub kernel: String,
    /// From the end of the kernel before it to its own end, in milliseconds.
    pub milliseconds: f64,
}

impl Gpu {
    /// A GPU of the machine by its number, on a stream of its own. [`Gpu::device`] is its Candle device, whose tensors must not
    /// be given to other streams of the same context: nothing orders them.
    ///
    /// # Errors
    /// `Candle` if there is no such GPU, [`Error::Gpu`](crate::Error::Gpu) if one of CUDA's libraries cannot be loaded or the driver does
    /// not take the kernels.
    ///
    /// ```no_run
    /// # #[cfg(feature = "cuda")]
    /// # fn main() -> ir_tensor_ops::Result<()> {
    /// let gpu = ir_tensor_ops::gpu::Gpu::open(0)?;
    /// println!("{}", gpu.name());
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "cuda"))]
    /// # fn main() {}
    /// ```
    #[cfg(feature = "cuda")]
    pub fn open(ordinal: usize) -> Result<Self> {
        Ok(Self::on(cuda::Cuda::open(ordinal)?))
    }

    /// The GPU of a Candle device, on the device's own stream. [`Gpu::record`] needs one that was made with
    /// [`Device::new_cuda_with_stream`](candle_core::Device::new_cuda_with_stream); with
    /// [`Device::new_cuda`](candle_core::Device::new_cuda) every thread has a stream, and what two of them do has no order.
    ///
    /// # Errors
    /// [`Error::Gpu`](crate::Error::Gpu) if the driver does not take the kernels, `Candle` if it is not a GPU.
    #[cfg(feature = "cuda")]
    pub fn new(device: &candle_core::Device) -> Result<Self> {
        Ok(Self::on(cuda::Cuda::new(device)?))
    }

    fn on(backend: impl Backend) -> Self {
        Self(Arc::new(Shared {
            backend: Box::new(backend),
            used: Mutex::default(),
            timed: AtomicBool::new(false),
            beside: Mutex::default(),
        }))
    }

    fn backend(&self) -> &dyn Backend {
        &*self.0.backend
    }

    /// What the device is called.
    pub fn name(&self) -> String {
        self.backend().name()
    }

    /// The Candle device whose tensors lie on it; an emulation has none of its own, and takes those of the CPU.
    pub fn device(&self) -> candle_core::Device {
        self.backend().device()
    }

    /// Waits until all that was asked for is done.
    ///
    /// # Errors
    /// [`Error::Gpu`](crate::Error::Gpu), also for what went wrong in the meantime.
    pub fn wait(&self) -> Result<()> {
        self.join()?;
        self.backend().wait()
    }

    /// Carries out the operations that `work` asks for beside those that are asked for behind it, where the device has room
    /// for both: they begin when all before them are done, one after another, and have to be done only at the next
    /// [`Gpu::join`]. Until then nothing else may write what they read, nor read or write what they write; numbers that are
    /// read or written in spite of that are not to be relied on.
    ///
    /// # Errors
    /// Those of `work`, and [`Error::Gpu`](crate::Error::Gpu), also for work beside work beside.
    ///
    /// ```
    /// # #[cfg(feature = "emulation")]
    /// # fn main() -> ir_tensor_ops::Result<()> {
    /// use ir_tensor_ops::gpu::{Buffer, Gpu};
    ///
    /// let gpu = Gpu::emulated()?;
    /// let [one, other] = [Buffer::zeros(&gpu, 3)?, Buffer::zeros(&gpu, 3)?];
    /// gpu.beside(|| one.fill(1.))?;
    /// other.fill(2.)?;
    /// gpu.join()?;
    /// assert_eq!((one.to_vec()?, other.to_vec()?), (vec![1.; 3], vec![2.; 3]));
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "emulation"))]
    /// # fn main() {}
    /// ```
    pub fn beside<E: From<crate::Error>>(
        &self,
        work: impl FnOnce() -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        self.begin_beside()?;
        let _ended = Finally(|| {
            self.backend().end_beside();
            self.lock_beside().open = false;
        });
        work()
    }

    fn begin_beside(&self) -> Result<()> {
        let mut beside = self.lock_beside();
        if beside.open {
            return Err(crate::Error::Gpu {
                action: "beginning work beside".into(),
                reason: "other work is being asked for there".into(),
            });
        }
        self.backend().begin_beside()?;
        beside.open = true;
        Ok(())
    }

    /// What is asked for from now on begins when everything that goes on beside ([`Gpu::beside`]) is done.
    ///
    /// # Errors
    /// [`Error::Gpu`](crate::Error::Gpu).
    pub fn join(&self) -> Result<()> {
        let memory = std::mem::take(&mut self.lock_beside().memory);
        if memory.is_empty() {
            return Ok(());
        }
        self.backend().join()
    }

    fn lock_beside(&self) -> MutexGuard<'_, Beside> {
        self.0.beside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on operations are recorded with a look at the device's clock behind each kernel, or without again. A look
    /// takes about as long as starting a kernel, and on a GPU nothing goes on beside: a time is that of one kernel.
    ///
    /// ```
    /// # #[cfg(feature = "emulation")]
    /// # fn main() -> ir_tensor_ops::Result<()> {
    /// use ir_tensor_ops::gpu::{Buffer, Gpu};
    ///
    /// let gpu = Gpu::emulated()?;
    /// gpu.time_recordings(true);
    /// let buffer = Buffer::zeros(&gpu, 3)?;
    /// let graph = gpu.record(|| buffer.fill(1.))?;
    /// graph.launch()?;
    /// let times = graph.times()?;
    /// assert_eq!((times.len(), times[0].kernel.as_str()), (1, "fill"));
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "emulation"))]
    /// # fn main() {}
    /// ```
    pub fn time_recordings(&self, timed: bool) {
        self.0.timed.store(timed, Ordering::Relaxed);
    }

    /// Records the operations that `work` asks for instead of carrying them out, and holds the memory that they
    /// use. What goes on beside is joined at the end.
    ///
    /// # Errors
    /// Those of `work`, and [`Error::Gpu`](crate::Error::Gpu), also if something is copied to or from the device meanwhile, or
    /// memory is taken.
    ///
    /// ```
    /// # #[cfg(feature = "emulation")]
    /// # fn main() -> ir_tensor_ops::Result<()> {
    /// use ir_tensor_ops::gpu::{Buffer, Gpu};
    ///
    /// let gpu = Gpu::emulated()?;
    /// let buffer = Buffer::from_slice(&gpu, &[1f32])?;
    /// let graph = gpu.record(|| buffer.fill(0.))?;
    /// assert_eq!(buffer.to_vec()?, [1.]);
    /// graph.launch()?;
    /// assert_eq!(buffer.to_vec()?, [0.]);
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "emulation"))]
    /// # fn main() {}
    /// ```
    pub fn record<E: From<crate::Error>>(
        &self,
        work: impl FnOnce() -> std::result::Result<(), E>,
    ) -> std::result::Result<Graph, E> {
        self.join()?;
        self.begin_recording()?;
        let mut recorded = None;
        // Also after an error or a panic the device must leave its recording state.
        let ended = Finally(|| {
            let joined = self.join();
            let recording = self.backend().end_capture();
            let memory = self.used().take().unwrap_or_default();
            recorded = Some((joined.and(recording), memory));
        });
        let worked = work();
        drop(ended);
        worked?;
        let (recording, memory) = recorded.expect("it was ended");
        Ok(Graph {
            gpu: self.clone(),
            recording: recording?,
            memory,
        })
    }

    /// Fails while operations are recorded, which then could not be carried out: the memory would not be there yet, or the
    /// numbers no longer. Fails too while they are asked for beside others: memory and copies follow the others.
    fn in_turn(&self, action: &str) -> Result<()> {
        let reason = if self.used().is_some() {
            "operations are being recorded; do it before or behind"
        } else if self.lock_beside().open {
            "operations are being asked for beside others; do it before or behind"
        } else {
            return Ok(());
        };
        Err(crate::Error::Gpu {
            action: action.into(),
            reason: reason.into(),
        })
    }

    fn begin_recording(&self) -> Result<()> {
        let mut used = self.used();
        if used.is_some() {
            return Err(crate::Error::Gpu {
                action: "recording operations".into(),
                reason: "others are being recorded".into(),
            });
        }
        self.backend()
            .begin_capture(self.0.timed.load(Ordering::Relaxed))?;
        *used = Some(Vec::new());
        Ok(())
    }

    fn used(&self) -> MutexGuard<'_, Option<Vec<Arc<Allocation>>>> {
        self.0.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the memory of an operation, if operations are being recorded or go on beside.
    fn note<'a>(&self, arguments: impl IntoIterator<Item = &'a Argument>) {
        let memory = arguments.into_iter().filter_map(Argument::memory);
        let memory: Vec<_> = memory.cloned().collect();
        let mut beside = self.lock_beside();
        if beside.open {
            beside.memory.extend(memory.iter().cloned());
        }
        if let Some(used) = &mut *self.used() {
            used.extend(memory);
        }
    }

    /// Starts a kernel. It takes the arguments: one that is kept would hold memory that is to become a tensor.
    ///
    /// # Safety
    /// As [`Backend::launch`].
    unsafe fn launch(
        &self,
        kernel: String,
        grid: [u32; 3],
        block: [u32; 3],
        shared_bytes: usize,
        arguments: impl Into<Vec<Argument>>,
    ) -> Result<()> {
        let arguments = arguments.into();
        self.note(&arguments);
        let launch = Launch {
            kernel,
            grid,
            block,
            shared_bytes,
            arguments,
        };
        // SAFETY: the caller answers for the arguments.
        unsafe { self.backend().launch(launch) }
    }

    /// Starts a kernel with at least as many threads.
    ///
    /// # Safety
    /// As [`Backend::launch`].
    unsafe fn launch_each(
        &self,
        threads: usize,
        kernel: String,
        arguments: impl Into<Vec<Argument>>,
    ) -> Result<()> {
        const THREADS: usize = 128;
        let blocks = threads.div_ceil(THREADS).max(1) as u32;
        // SAFETY: the caller answers for the arguments.
        unsafe { self.launch(kernel, [blocks, 1, 1], [THREADS as u32, 1, 1], 0, arguments) }
    }

    /// Starts a kernel that shares `work` pieces among its threads, however many there are.
    ///
    /// # Safety
    /// As [`Backend::launch`].
    unsafe fn launch_for(
        &self,
        work: usize,
        kernel: String,
        arguments: impl Into<Vec<Argument>>,
    ) -> Result<()> {
        const THREADS: usize = 256;
        // Enough to fill any GPU; each thread then takes the next piece in steps of the grid.
        let blocks = work.div_ceil(THREADS).clamp(1, 4096) as u32;
        // SAFETY: the caller answers for the arguments.
        unsafe { self.launch(kernel, [blocks, 1, 1], [THREADS as u32, 1, 1], 0, arguments) }
    }
}

/// Does something when it goes, also in a panic.
struct Finally<F: FnMut()>(F);

impl<F: FnMut()> Drop for Finally<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Recorded operations, with the memory that they use.
#[derive(Debug)]
pub struct Graph {
    gpu: Gpu,
    recording: Box<dyn Recording>,
    #[expect(dead_code, reason = "the recording uses it by its addresses")]
    memory: Vec<Arc<Allocation>>,
}

impl Graph {
    /// Carries all of them out, behind what went on beside others until now.
    ///
    /// # Errors
    /// [`Error::Gpu`](crate::Error::Gpu).
    pub fn launch(&self) -> Result<()> {
        self.gpu.join()?;
        // SAFETY: `memory` holds all that the operations use.
        unsafe { self.recording.launch() }
    }

    /// Waits for the last [`Graph::launch`], and gives the time of each kernel, in order; nothing if it was recorded without
    /// ([`Gpu::time_recordings`]).
    ///
    /// # Errors
    /// [`Error::Gpu`](crate::Error::Gpu), also if it was never carried out.
    pub fn times(&self) -> Result<Vec<KernelTime>> {
        let times = self.recording.times()?.into_iter();
        let time = |(kernel, milliseconds)| KernelTime {
            kernel,
            milliseconds: f64::from(milliseconds),
        };
        Ok(times.map(time).collect())
    }
}
