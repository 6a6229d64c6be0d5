//! An NVIDIA GPU: the stream of a Candle device, and the kernels loaded into its context.

use std::any::Any;
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::backend::BackendDevice;
use candle_core::cuda_backend::{CudaStorageSlice, DeviceId};
use candle_core::{CudaDevice, CudaStorage, Device, Storage, Tensor};
use cudarc::driver::{
    CudaContext, CudaEvent, CudaFunction, CudaGraph, CudaModule, CudaSlice, CudaStream, DevicePtr,
    DriverError, result, sys,
};
use cudarc::nvrtc::Ptx;

use super::Gpu;
use super::backend::{Address, Allocation, Argument, Backend, Launch, Recording};
use super::cudnn::Handle;
use crate::error::{Error, Result};

/// The kernels, compiled by build.rs.
const KERNELS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kernels.fatbin"));

/// A GPU with the stream on which Candle's own operations run, so that both keep one order.
#[derive(Debug)]
pub(super) struct Cuda {
    /// Before the stream that it works on, which it is given back before.
    cudnn: Mutex<Option<Arc<Mutex<Handle>>>>,
    device: CudaDevice,
    stream: Arc<CudaStream>,
    /// For what goes on beside it. A device that was Candle's before has none, and everything goes on in its one stream: with
    /// a second one, cudarc would order the two by events at every access.
    second: Option<Arc<CudaStream>>,
    /// Whether launches go there.
    beside: AtomicBool,
    module: Arc<CudaModule>,
    /// Each with the bytes of dynamic shared memory that it may take.
    functions: Mutex<HashMap<String, (CudaFunction, usize)>>,
    /// While a graph is recorded with times: an event before the first launch and one behind each.
    marks: Mutex<Option<Vec<Mark>>>,
}

/// A point in a graph, with the kernel before it.
type Mark = (String, CudaEvent);

impl Cuda {
    /// A device of the machine, on a stream of its own.
    pub(super) fn open(ordinal: usize) -> Result<Self> {
        #[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))]
        super::libraries::load()?;
        let device = CudaDevice::new_with_stream(ordinal)?;
        // SAFETY: nothing has memory of the device yet, and all memory is taken and given back in its one stream. What goes on
        // beside is ordered by `begin_beside` and `join`: no event is needed for each piece of memory.
        unsafe { device.disable_event_tracking() };
        let second = device.cuda_stream().context().new_stream();
        let second = second.map_err(|error| failed("making a stream", &error))?;
        Ok(Self {
            second: Some(second),
            ..Self::new(&Device::Cuda(device))?
        })
    }

    pub(super) fn new(device: &Device) -> Result<Self> {
        let device = device.as_cuda_device()?.clone();
        let stream = device.cuda_stream();
        let module = stream
            .context()
            .load_module(Ptx::from_binary(KERNELS.to_vec()))
            .map_err(|error| failed("loading the kernels", &error))?;
        keep_memory(stream.context()).map_err(|error| failed("setting up its memory", &error))?;
        Ok(Self {
            cudnn: Mutex::default(),
            device,
            stream,
            second: None,
            beside: AtomicBool::new(false),
            module,
            functions: Mutex::default(),
            marks: Mutex::default(),
        })
    }

    fn marks(&self) -> MutexGuard<'_, Option<Vec<Mark>>> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records an event as a part of the graph, if its times are wanted.
    pub(super) fn mark(&self, kernel: &str) -> Result<()> {
        let mut marks = self.marks();
        let Some(marks) = &mut *marks else {
            return Ok(());
        };
        let timing = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
        let event = self.stream.context().new_event(timing);
        let event = event.map_err(|error| failed("making an event", &error))?;
        // Without this flag an event of a graph says in which order things happen, and not when.
        let flags = sys::CUevent_record_flags::CU_EVENT_RECORD_EXTERNAL as u32;
        // SAFETY: the event and the stream are of one context, and the stream is being recorded.
        let recorded = unsafe {
            sys::cuEventRecordWithFlags(event.cu_event(), self.stream.cu_stream(), flags).result()
        };
        recorded.map_err(|error| failed("recording an event", &error))?;
        marks.push((kernel.into(), event));
        Ok(())
    }

    /// cuDNN on this stream; started when it is first asked for.
    pub(super) fn cudnn(&self) -> Result<Arc<Mutex<Handle>>> {
        let mut cudnn = self.cudnn.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = &*cudnn {
            return Ok(Arc::clone(handle));
        }
        self.bind()?;
        let handle = Arc::new(Mutex::new(Handle::new(self)?));
        *cudnn = Some(Arc::clone(&handle));
        Ok(handle)
    }

    /// The stream that everything runs on, but for what goes on beside it.
    pub(super) fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// The stream that launches go to now.
    fn queue(&self) -> &CudaStream {
        match &self.second {
            Some(second) if self.beside.load(Ordering::Relaxed) => second,
            _ => &self.stream,
        }
    }

    fn function(&self, launch: &Launch) -> Result<CudaFunction> {
        let mut functions = self
            .functions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (function, shared_bytes) = match functions.get(&launch.kernel) {
            Some(found) => found.clone(),
            None => {
                let function = self.module.load_function(&launch.kernel);
                (
                    function.map_err(|error| failed(&launch.kernel, &error))?,
                    48 << 10,
                )
            }
        };
        // Above 48 KiB a kernel has to ask for shared memory; what a launch takes is still its own.
        let most = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        if launch.shared_bytes > shared_bytes {
            function
                .set_attribute(most, launch.shared_bytes as i32)
                .map_err(|error| failed(&launch.kernel, &error))?;
        }
        let shared_bytes = shared_bytes.max(launch.shared_bytes);
        functions.insert(launch.kernel.clone(), (function.clone(), shared_bytes));
        Ok(function)
    }

    pub(super) fn bind(&self) -> Result<()> {
        let bound = self.stream.context().bind_to_thread();
        bound.map_err(|error| failed("choosing the device", &error))
    }
}

/// Lets memory that is given back stay with this process until it is taken again. By default the driver returns it to the system
/// whenever somebody waits, which measures do after every batch.
fn keep_memory(context: &CudaContext) -> std::result::Result<(), DriverError> {
    if !context.has_async_alloc() {
        // Memory is taken without a pool.
        return Ok(());
    }
    let mut bytes = u64::MAX;
    let threshold = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    // SAFETY: the device is that of the context; the attribute is a u64, which is read before the call returns.
    unsafe {
        let pool = result::device::get_default_mem_pool(context.cu_device())?;
        result::mem_pool::set_attribute(pool, threshold, (&raw mut bytes).cast())
    }
}

fn failed(action: &str, error: &DriverError) -> Error {
    Error::Gpu {
        action: format!("CUDA: {action}"),
        reason: error.to_string(),
    }
}

/// The GPU of a Candle device; made once, when it is first asked for.
pub(super) fn gpu_of(device: &CudaDevice) -> Result<Gpu> {
    static KNOWN: Mutex<Vec<(DeviceId, Gpu)>> = Mutex::new(Vec::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, gpu)) = known.iter().find(|(id, _)| *id == device.id()) {
        return Ok(gpu.clone());
    }
    let gpu = Gpu::new(&Device::Cuda(device.clone()))?;
    known.push((device.id(), gpu.clone()));
    Ok(gpu)
}

impl Backend for Cuda {
    fn name(&self) -> String {
        let name = self.stream.context().name();
        name.unwrap_or_else(|_| "NVIDIA GPU".into())
    }

    fn device(&self) -> Device {
        Device::Cuda(self.device.clone())
    }

    fn allocate(&self, bytes: usize) -> Result<Allocation> {
        // Counted in f32, so that it can become the memory of a tensor.
        let length = bytes.div_ceil(size_of::<f32>()).max(1);
        // SAFETY: whoever takes the memory is told that it may hold anything.
        let slice = unsafe { self.stream.alloc::<f32>(length) };
        let slice = slice.map_err(|error| failed("taking memory", &error))?;
        let address = slice.device_ptr(&self.stream).0;
        Ok(Allocation {
            address,
            owner: Box::new(slice),
        })
    }

    unsafe fn write(&self, to: Address, from: &[u8]) -> Result<()> {
        self.bind()?;
        // SAFETY: the caller says that the memory is there. The source is pageable, which the
        // driver has read before it returns.
        let copied = unsafe { result::memcpy_htod_async(to, from, self.stream.cu_stream()) };
        copied.map_err(|error| failed("copying to the device", &error))
    }

    unsafe fn read(&self, from: Address, to: &mut [u8]) -> Result<()> {
        self.bind()?;
        // SAFETY: the caller says that the memory is there.
        let copied = unsafe { result::memcpy_dtoh_async(to, from, self.stream.cu_stream()) };
        copied.map_err(|error| failed("copying from the device", &error))?;
        self.wait()
    }

    fn borrow(&self, tensor: &Tensor) -> Result<Option<Allocation>> {
        match tensor.device() {
            Device::Cuda(device) if device.same_device(&self.device) => {}
            _ => return Ok(None),
        }
        let tensor = tensor.contiguous()?;
        let address = {
            let (storage, layout) = tensor.storage_and_layout();
            let Storage::Cuda(CudaStorage { slice, .. }) = &*storage else {
                return Ok(None);
            };
            let start = layout.start_offset() * tensor.dtype().size_in_bytes();
            let address = match slice {
                CudaStorageSlice::F32(slice) => slice.device_ptr(&self.stream).0,
                CudaStorageSlice::U32(slice) => slice.device_ptr(&self.stream).0,
                _ => return Ok(None),
            };
            address + start as Address
        };
        Ok(Some(Allocation {
            address,
            owner: Box::new(tensor),
        }))
    }

    fn storage_of(&self, memory: Allocation, length: usize) -> Result<Storage> {
        let owner: Box<dyn Any> = memory.owner;
        match owner.downcast::<CudaSlice<f32>>() {
            Ok(slice) if slice.len() >= length => Ok(Storage::Cuda(CudaStorage::wrap_cuda_slice(
                *slice,
                self.device.clone(),
            ))),
            _ => Err(Error::Gpu {
                action: "CUDA: making a tensor".into(),
                reason: "the memory is not as large, or is another tensor's".into(),
            }),
        }
    }

    unsafe fn launch(&self, launch: Launch) -> Result<()> {
        self.bind()?;
        let function = self.function(&launch)?;
        let mut arguments: Vec<*mut c_void> =
            launch.arguments.iter().map(Argument::pointer).collect();
        let [grid, block] = [launch.grid, launch.block].map(|[x, y, z]| (x, y, z));
        // SAFETY: the caller answers for the arguments.
        let launched = unsafe {
            result::launch_kernel(
                function.cu_function(),
                grid,
                block,
                launch.shared_bytes as u32,
                self.queue().cu_stream(),
                &mut arguments,
            )
        };
        launched.map_err(|error| failed(&launch.kernel, &error))?;
        self.mark(&launch.kernel)
    }

    fn wait(&self) -> Result<()> {
        let done = self.stream.synchronize();
        done.map_err(|error| failed("waiting for the device", &error))
    }

    fn begin_beside(&self) -> Result<()> {
        // The times of a graph are those between one kernel and the next.
        if let (Some(second), None) = (&self.second, &*self.marks()) {
            let forked = second.join(&self.stream);
            forked.map_err(|error| failed("beginning work beside", &error))?;
            self.beside.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn end_beside(&self) {
        self.beside.store(false, Ordering::Relaxed);
    }

    fn join(&self) -> Result<()> {
        if let (Some(second), None) = (&self.second, &*self.marks()) {
            let joined = self.stream.join(second);
            joined.map_err(|error| failed("waiting for work beside", &error))?;
        }
        Ok(())
    }

    fn begin_capture(&self, timed: bool) -> Result<()> {
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        let begun = self.stream.begin_capture(mode);
        begun.map_err(|error| failed("beginning a graph", &error))?;
        *self.marks() = timed.then(Vec::new);
        self.mark("").inspect_err(|_| {
            // The first error is the one that says something.
            let _ = self.end_capture();
        })
    }

    fn end_capture(&self) -> Result<Box<dyn Recording>> {
        let marks = self.marks().take().unwrap_or_default();
        let graph = self
            .stream
            .end_capture(sys::CUgraphInstantiate_flags_enum(0));
        match graph.map_err(|error| failed("making a graph", &error))? {
            Some(graph) => Ok(Box::new(Captured {
                graph,
                marks,
                module: Arc::clone(&self.module),
            })),
            None => Err(Error::Gpu {
                action: "CUDA: making a graph".into(),
                reason: "the stream was not recording".into(),
            }),
        }
    }
}

/// A captured graph.
struct Captured {
    graph: CudaGraph,
    marks: Vec<Mark>,
    #[expect(dead_code, reason = "the graph starts its kernels")]
    module: Arc<CudaModule>,
}

impl std::fmt::Debug for Captured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Captured")
    }
}

// SAFETY: the graph is used by one thread at a time, since a `Recording` is not `Sync`, and the
// driver does not ask that it be the thread that made it.
unsafe impl Send for Captured {}

impl Recording for Captured {
    unsafe fn launch(&self) -> Result<()> {
        let launched = self.graph.launch();
        launched.map_err(|error| failed("starting a graph", &error))
    }

    fn times(&self) -> Result<Vec<(String, f32)>> {
        let marks = self.marks.iter().zip(self.marks.iter().skip(1));
        let time = |((_, before), (kernel, after)): (&Mark, &Mark)| {
            let elapsed = before.elapsed_ms(after);
            let elapsed = elapsed.map_err(|error| failed("reading an event", &error))?;
            Ok((kernel.clone(), elapsed))
        };
        marks.map(time).collect()
    }
}
