//! Convolutions by cuDNN, in place of our own kernels or to measure them against.
//!
//! Only algorithms that give the same bits every time are taken, as cuDNN's heuristics rank them: which one does not
//! depend on a measurement. Sums are in f32, and f32 is not rounded to TF32.

use std::any::Any;
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use candle_core::{Device, Tensor};
use cudarc::cudnn::{CudnnError, result, sys};
use half::bf16;

use super::backend::Argument;
use super::cuda::Cuda;
use super::norm::padded;
use super::{Buffer, Convolution, Gpu, Map, Precision, Weights};
use crate::error::{Error, Result};
use crate::input;

/// cuDNN on a GPU's stream. It serves one thread at a time.
#[derive(Debug)]
pub(super) struct Handle(sys::cudnnHandle_t);

// SAFETY: cuDNN lets threads use a handle one after another, and a `Mutex` around it sees to that.
unsafe impl Send for Handle {}

impl Handle {
    /// A handle whose work goes to the stream of `cuda`.
    pub(super) fn new(cuda: &Cuda) -> Result<Self> {
        let handle = Self(result::create_handle().map_err(failed("starting"))?);
        let stream = cuda.stream().cu_stream().cast();
        // SAFETY: both have just been made, or live as long as the device.
        unsafe { result::set_stream(handle.0, stream) }.map_err(failed("choosing the stream"))?;
        Ok(handle)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: it was made by `create_handle`. There is nobody to tell of an error.
        let _ = unsafe { result::destroy_handle(self.0) };
    }
}

/// A description that cuDNN keeps, and how it is given back.
#[derive(Debug)]
struct Description<T: Copy> {
    raw: T,
    destroy: unsafe fn(T) -> std::result::Result<(), CudnnError>,
}

// SAFETY: it is made once and only read afterwards, which cuDNN allows on any thread.
unsafe impl<T: Copy> Send for Description<T> {}
// SAFETY: as above.
unsafe impl<T: Copy> Sync for Description<T> {}

impl<T: Copy> Drop for Description<T> {
    fn drop(&mut self) {
        // SAFETY: `raw` was made by the function that belongs to `destroy`.
        let _ = unsafe { (self.destroy)(self.raw) };
    }
}

/// The convolution of maps of one size by cuDNN, y = Σ w · x, without norm and bias.
///
/// It takes all its memory when it is made, so that its operations can be recorded ([`Gpu::record`]).
#[derive(Debug)]
pub struct CudnnConvolution {
    gpu: Gpu,
    handle: Arc<Mutex<Handle>>,
    x: Description<sys::cudnnTensorDescriptor_t>,
    y: Description<sys::cudnnTensorDescriptor_t>,
    weight: Description<sys::cudnnFilterDescriptor_t>,
    convolution: Description<sys::cudnnConvolutionDescriptor_t>,
    forward: sys::cudnnConvolutionFwdAlgo_t,
    input_gradient: sys::cudnnConvolutionBwdDataAlgo_t,
    weight_gradient: sys::cudnnConvolutionBwdFilterAlgo_t,
    workspace: Buffer<u8>,
    /// Where gradients of weights in bf16 come out.
    rounded: Option<Buffer<bf16>>,
    sizes: Sizes,
}

/// How long one operation takes, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seconds {
    /// By our own kernel.
    pub own: f64,
    /// By cuDNN.
    pub cudnn: f64,
}

/// What the maps and weights of a convolution have to be.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    x: [usize; 4],
    y: [usize; 4],
    weight: usize,
    precision: Precision,
}

/// The best of an algorithm's usable variants, by one of cuDNN's heuristics. In bfloat16 it ranks variants without tensor cores
/// too, which are not those that the description of the convolution asks for.
macro_rules! choose {
    ($what:literal, $precision:expr, $heuristic:ident, $performance:ty, $($argument:expr),+ $(,)?) => {{
        const MOST: usize = 10;
        let mut found = [MaybeUninit::<$performance>::uninit(); MOST];
        let mut count: c_int = 0;
        // SAFETY: handle and descriptions are alive, and there is room for as many answers.
        unsafe {
            result::$heuristic($($argument),+, MOST as c_int, &mut count, found.as_mut_ptr().cast())
        }
        .map_err(failed($what))?;
        let found = found.iter().take(count.max(0) as usize);
        // SAFETY: cuDNN has filled in as many.
        let mut found = found.map(|found| unsafe { found.assume_init_ref() });
        let usable = found.find(|found| {
            found.status == sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS
                && found.determinism == sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC
                && ($precision == Precision::F32 || found.mathType == arithmetic($precision))
        });
        match usable {
            Some(usable) => usable.algo,
            None => return Err(Error::Gpu {
                action: format!("cuDNN: {}", $what),
                reason: "it has no algorithm for these sizes that gives the same bits every time".into(),
            }),
        }
    }};
}

impl CudnnConvolution {
    /// Of maps `[N, C, H, W]` with `outputs` kernels of `kernel` by `kernel`, as [`Convolution::new`].
    ///
    /// # Errors
    /// Those of [`Convolution::new`], and [`Error::Gpu`] without cuDNN or an algorithm of it for these sizes.
    pub fn new(
        gpu: &Gpu,
        x_dims: [usize; 4],
        outputs: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
        precision: Precision,
    ) -> Result<Self> {
        let own = Convolution::new(x_dims, outputs, kernel, stride, padding, precision)?;
        let sizes = Sizes {
            x: x_dims,
            y: own.output_dims(),
            weight: own.weight_len(),
            precision,
        };
        let handle = cuda(gpu)?.cudnn()?;
        let x = map_description(sizes.x, precision)?;
        let y = map_description(sizes.y, precision)?;
        let weight = weight_description(own.weight_dims(), precision)?;
        let convolution = convolution_description(stride, padding, precision)?;

        let locked = lock(&handle);
        let (of, c, w) = (locked.0, convolution.raw, weight.raw);
        let forward = choose!(
            "choosing a convolution",
            precision,
            get_convolution_forward_algorithm,
            sys::cudnnConvolutionFwdAlgoPerf_t,
            of,
            x.raw,
            w,
            c,
            y.raw,
        );
        let input_gradient = choose!(
            "choosing a gradient of x",
            precision,
            get_convolution_backward_data_algorithm,
            sys::cudnnConvolutionBwdDataAlgoPerf_t,
            of,
            w,
            y.raw,
            c,
            x.raw,
        );
        let weight_gradient = choose!(
            "choosing a gradient of the weight",
            precision,
            get_convolution_backward_filter_algorithm,
            sys::cudnnConvolutionBwdFilterAlgoPerf_t,
            of,
            x.raw,
            y.raw,
            c,
            w,
        );
        // SAFETY: handle and descriptions are alive.
        let bytes = unsafe {
            [
                result::get_convolution_forward_workspace_size(of, x.raw, w, c, y.raw, forward),
                result::get_convolution_backward_data_workspace_size(
                    of,
                    w,
                    y.raw,
                    c,
                    x.raw,
                    input_gradient,
                ),
                result::get_convolution_backward_filter_workspace_size(
                    of,
                    x.raw,
                    y.raw,
                    c,
                    w,
                    weight_gradient,
                ),
            ]
        };
        let mut most = 0;
        for bytes in bytes {
            most = most.max(bytes.map_err(failed("asking for its memory"))?);
        }
        drop(locked);
        let rounded = match precision {
            Precision::F32 => None,
            Precision::Bf16 => Some(Buffer::new(gpu, sizes.weight)?),
        };
        Ok(Self {
            workspace: Buffer::new(gpu, most)?,
            gpu: gpu.clone(),
            handle,
            x,
            y,
            weight,
            convolution,
            forward,
            input_gradient,
            weight_gradient,
            rounded,
            sizes,
        })
    }

    /// y = conv(x, weight).
    ///
    /// # Errors
    /// `Shape` for maps and weights of other sizes or precisions, [`Error::Gpu`].
    pub fn forward(&self, x: &Map, weight: &Weights, y: &Map) -> Result<()> {
        const OP: &str = "CudnnConvolution::forward";
        self.check(OP, [("x", x, self.sizes.x), ("y", y, self.sizes.y)])?;
        self.check_weight(OP, weight)?;
        let [x, weight, y] = [x.argument(), weight.argument(), y.argument()];
        let handle = self.start([&x, &weight, &y])?;
        // SAFETY: the maps and the weights are of the sizes described, and the workspace is as large as was asked.
        unsafe {
            result::convolution_forward(
                handle.0,
                ONE,
                self.x.raw,
                pointer(&x),
                self.weight.raw,
                pointer(&weight),
                self.convolution.raw,
                self.forward,
                self.workspace(),
                self.workspace.len(),
                ZERO,
                self.y.raw,
                pointer(&y),
            )
        }
        .map_err(failed(OP))?;
        cuda(&self.gpu)?.mark(OP)
    }

    /// The gradient of x from that of y.
    ///
    /// # Errors
    /// As [`CudnnConvolution::forward`].
    pub fn input_gradient(&self, gradient: &Map, weight: &Weights, dx: &Map) -> Result<()> {
        const OP: &str = "CudnnConvolution::input_gradient";
        let maps = [
            ("gradient", gradient, self.sizes.y),
            ("dx", dx, self.sizes.x),
        ];
        self.check(OP, maps)?;
        self.check_weight(OP, weight)?;
        let [gradient, weight, dx] = [gradient.argument(), weight.argument(), dx.argument()];
        let handle = self.start([&gradient, &weight, &dx])?;
        // SAFETY: as in `forward`.
        unsafe {
            result::convolution_backward_data(
                handle.0,
                ONE,
                self.weight.raw,
                pointer(&weight),
                self.y.raw,
                pointer(&gradient),
                self.convolution.raw,
                self.input_gradient,
                self.workspace(),
                self.workspace.len(),
                ZERO,
                self.x.raw,
                pointer(&dx),
            )
        }
        .map_err(failed(OP))?;
        cuda(&self.gpu)?.mark(OP)
    }

    /// The gradient of the weight, `dw` as [`Weights`] lie, from x and the gradient of y. With `add` it is added to
    /// what is there. Of bf16 maps it is rounded to bf16 on the way, unlike that of [`Convolution`].
    ///
    /// # Errors
    /// As [`CudnnConvolution::forward`].
    pub fn weight_gradient(
        &self,
        x: &Map,
        gradient: &Map,
        dw: &Buffer<f32>,
        add: bool,
    ) -> Result<()> {
        const OP: &str = "CudnnConvolution::weight_gradient";
        let maps = [("x", x, self.sizes.x), ("gradient", gradient, self.sizes.y)];
        self.check(OP, maps)?;
        dw.check_length(OP, "weights", self.sizes.weight)?;
        let (to, kept) = match &self.rounded {
            None => (dw.into(), add),
            Some(rounded) => (rounded.into(), false),
        };
        let [x, gradient] = [x.argument(), gradient.argument()];
        let handle = self.start([&x, &gradient, &to])?;
        // SAFETY: as in `forward`.
        unsafe {
            result::convolution_backward_filter(
                handle.0,
                ONE,
                self.x.raw,
                pointer(&x),
                self.y.raw,
                pointer(&gradient),
                self.convolution.raw,
                self.weight_gradient,
                self.workspace(),
                self.workspace.len(),
                if kept { ONE } else { ZERO },
                self.weight.raw,
                pointer(&to),
            )
        }
        .map_err(failed(OP))?;
        cuda(&self.gpu)?.mark(OP)?;
        let Some(rounded) = &self.rounded else {
            return Ok(());
        };
        let length = self.sizes.weight;
        let arguments = [
            rounded.into(),
            dw.into(),
            (length as i32).into(),
            i32::from(add).into(),
        ];
        // SAFETY: both have this length.
        unsafe { self.gpu.launch_for(length, "widen".into(), arguments) }
    }

    /// Measures it and our own convolution of the same sizes: the seconds of one convolution, one gradient of x and one
    /// gradient of the weight, without norm, residual and statistics, as means of `calls` in a row after one that is
    /// not counted.
    ///
    /// # Errors
    /// `Shape` if `own` has other sizes or precisions, `Setting` for 0 calls, and [`Error::Gpu`].
    pub fn compare(&self, own: &Convolution, calls: usize) -> Result<[Seconds; 3]> {
        const OP: &str = "CudnnConvolution::compare";
        if calls == 0 {
            return Err(Error::Setting {
                op: OP,
                name: "calls",
                expected: "1 or more".into(),
                found: 0.,
            });
        }
        let (gpu, precision) = (&self.gpu, self.sizes.precision);
        // Not zeros: with them a GPU draws less power, and runs faster than it does at work.
        let random = |dims: [usize; 4]| Tensor::rand(-1f32, 1., dims.to_vec(), &Device::Cpu);
        let x = Map::from_tensor(gpu, &random(self.sizes.x)?, precision)?;
        let y = Map::from_tensor(gpu, &random(self.sizes.y)?, precision)?;
        let weight = Weights::from_tensor(gpu, &random(own.weight_dims())?, precision)?;
        let (dw, partials) = (
            Buffer::new(gpu, own.weight_len())?,
            Buffer::new(gpu, own.partial_weight_len())?,
        );
        let bias = Buffer::zeros(gpu, padded(self.sizes.y[1]))?;
        let time = |work: &dyn Fn() -> Result<()>| {
            work()?;
            gpu.wait()?;
            let start = Instant::now();
            (0..calls).try_for_each(|_| work())?;
            gpu.wait()?;
            Ok::<f64, Error>(start.elapsed().as_secs_f64() / calls as f64)
        };
        Ok([
            Seconds {
                own: time(&|| own.forward(&x, None, &weight, &bias, None, &y, None))?,
                cudnn: time(&|| self.forward(&x, &weight, &y))?,
            },
            Seconds {
                own: time(&|| own.input_gradient(&y, &weight, &x, None))?,
                cudnn: time(&|| self.input_gradient(&y, &weight, &x))?,
            },
            Seconds {
                own: time(&|| own.weight_gradient(&x, None, &y, &partials, &dw, &bias, false))?,
                cudnn: time(&|| self.weight_gradient(&x, &y, &dw, false))?,
            },
        ])
    }

    /// Locks cuDNN for one operation on this memory.
    fn start(&self, memory: [&Argument; 3]) -> Result<MutexGuard<'_, Handle>> {
        cuda(&self.gpu)?.bind()?;
        let workspace = (&self.workspace).into();
        self.gpu.note(memory.into_iter().chain([&workspace]));
        Ok(lock(&self.handle))
    }

    fn workspace(&self) -> *mut c_void {
        self.workspace.address() as *mut c_void
    }

    fn check(&self, op: &'static str, maps: [(&'static str, &Map, [usize; 4]); 2]) -> Result<()> {
        let precision = self.sizes.precision;
        for (argument, map, dims) in maps {
            if map.dims() != dims || map.precision() != precision {
                let expected = format!("{dims:?} of {}", precision.name());
                return Err(input::wrong_sizes(op, argument, &map.dims(), expected));
            }
        }
        Ok(())
    }

    fn check_weight(&self, op: &'static str, weight: &Weights) -> Result<()> {
        let Sizes {
            weight: length,
            precision,
            ..
        } = self.sizes;
        if weight.len() == length && weight.precision() == precision {
            return Ok(());
        }
        let expected = format!("[{length}] of {}", precision.name());
        Err(input::wrong_sizes(op, "weight", &[weight.len()], expected))
    }
}

/// What a result is multiplied with, and what was there before it: cuDNN reads them from the host, as f32.
const ONE: *const c_void = (&1f32 as *const f32).cast();
const ZERO: *const c_void = (&0f32 as *const f32).cast();

/// The address that an argument holds.
fn pointer(argument: &Argument) -> *mut c_void {
    argument.bits() as *mut c_void
}

/// The backend of a GPU that is one.
fn cuda(gpu: &Gpu) -> Result<&Cuda> {
    let backend: &dyn Any = gpu.backend();
    backend.downcast_ref().ok_or_else(|| Error::Gpu {
        action: "cuDNN: starting".into(),
        reason: format!("{} is not an NVIDIA GPU", gpu.name()),
    })
}

fn lock(handle: &Mutex<Handle>) -> MutexGuard<'_, Handle> {
    handle.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(action: &str) -> impl Fn(CudnnError) -> Error {
    move |error| Error::Gpu {
        action: format!("cuDNN: {action}"),
        reason: format!("{error:?}"),
    }
}

fn data_type(precision: Precision) -> sys::cudnnDataType_t {
    match precision {
        Precision::F32 => sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
        Precision::Bf16 => sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16,
    }
}

/// The sizes of a map with its padding, as cuDNN counts them: N, C, H, W whatever lies where.
fn counts([images, channels, height, width]: [usize; 4]) -> [c_int; 4] {
    [images, padded(channels), height, width].map(|size| size as c_int)
}

fn map_description(
    dims: [usize; 4],
    precision: Precision,
) -> Result<Description<sys::cudnnTensorDescriptor_t>> {
    let made = Description {
        raw: result::create_tensor_descriptor().map_err(failed("describing a map"))?,
        destroy: result::destroy_tensor_descriptor,
    };
    let format = sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC;
    // SAFETY: the description has just been made.
    unsafe {
        result::set_tensor4d_descriptor(made.raw, format, data_type(precision), counts(dims))
    }
    .map_err(failed("describing a map"))?;
    Ok(made)
}

fn weight_description(
    [outputs, inputs, height, width]: [usize; 4],
    precision: Precision,
) -> Result<Description<sys::cudnnFilterDescriptor_t>> {
    let made = Description {
        raw: result::create_filter_descriptor().map_err(failed("describing weights"))?,
        destroy: result::destroy_filter_descriptor,
    };
    let format = sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC;
    let counts = counts([padded(outputs), inputs, height, width]);
    // SAFETY: the description has just been made.
    unsafe { result::set_filter4d_descriptor(made.raw, data_type(precision), format, counts) }
        .map_err(failed("describing weights"))?;
    Ok(made)
}

fn convolution_description(
    stride: usize,
    padding: usize,
    precision: Precision,
) -> Result<Description<sys::cudnnConvolutionDescriptor_t>> {
    const ACTION: &str = "describing a convolution";
    let made = Description {
        raw: result::create_convolution_descriptor().map_err(failed(ACTION))?,
        destroy: result::destroy_convolution_descriptor,
    };
    let (stride, padding) = (stride as c_int, padding as c_int);
    let mode = sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
    let sums = sys::cudnnDataType_t::CUDNN_DATA_FLOAT;
    // SAFETY: the description has just been made.
    unsafe {
        result::set_convolution2d_descriptor(
            made.raw, padding, padding, stride, stride, 1, 1, mode, sums,
        )
    }
    .map_err(failed(ACTION))?;
    // SAFETY: as above.
    unsafe { result::set_convolution_math_type(made.raw, arithmetic(precision)) }
        .map_err(failed(ACTION))?;
    Ok(made)
}

/// How numbers are multiplied: f32 without rounding to TF32.
fn arithmetic(precision: Precision) -> sys::cudnnMathType_t {
    match precision {
        Precision::F32 => sys::cudnnMathType_t::CUDNN_FMA_MATH,
        Precision::Bf16 => sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH,
    }
}
