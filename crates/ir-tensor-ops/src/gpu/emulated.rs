//! The kernels on the CPU: `kernels/emulation.h` in place of a GPU.

use std::ffi::{CString, c_char, c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use candle_core::{Device, Storage, Tensor};

use super::backend::{Address, Allocation, Argument, Backend, Launch, Recording};
use crate::error::{Error, Result};

/// The words on either side of a piece of memory; a kernel that changes them has left it.
const FENCE: u64 = 0xFE4C_E5FE_4CE5_FE4C;
/// Their number: 64 bytes, so that what lies between them is as aligned as on a GPU.
const FENCE_WORDS: usize = 8;

/// A device that carries out everything at once.
#[derive(Debug, Default)]
pub(super) struct Emulated {
    pieces: Arc<Mutex<Pieces>>,
    /// The launches since [`Backend::begin_capture`].
    recorded: Mutex<Option<Vec<Launch>>>,
    /// Whether they are timed.
    timed: AtomicBool,
    /// The threads of a block take turns from the last to the first, and what goes on beside happens as late as it may.
    reverse: bool,
    /// Whether launches go beside.
    beside: AtomicBool,
    /// Those that have yet to happen.
    late: Mutex<Vec<Launch>>,
}

/// The memory in use: address and bytes of each piece.
type Pieces = Vec<(Address, usize)>;

impl Emulated {
    pub(super) fn new(reverse: bool) -> Result<Self> {
        if cfg!(not(emulation)) {
            return Err(failed(
                "start",
                "no C++ compiler was found when it was built",
            ));
        }
        let emulated = Self {
            reverse,
            ..Self::default()
        };
        Ok(emulated)
    }

    fn carry_out(&self, launch: Launch) -> Result<()> {
        if let Some(recorded) = &mut *lock(&self.recorded) {
            recorded.push(launch);
            return Ok(());
        }
        run(&launch, self.reverse, &self.pieces)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(action: &str, reason: &str) -> Error {
    Error::Gpu {
        action: format!("emulated GPU: {action}"),
        reason: reason.into(),
    }
}

/// A piece of memory between its fences.
#[derive(Debug)]
struct Piece {
    words: Vec<u64>,
    pieces: Arc<Mutex<Pieces>>,
}

impl Piece {
    fn address(&self) -> Address {
        self.words.as_ptr().wrapping_add(FENCE_WORDS) as Address
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let address = self.address();
        lock(&self.pieces).retain(|&(other, _)| other != address);
    }
}

impl Backend for Emulated {
    fn name(&self) -> String {
        "emulated GPU".into()
    }

    fn device(&self) -> Device {
        Device::Cpu
    }

    fn allocate(&self, bytes: usize) -> Result<Allocation> {
        // All ones is not a number, as f32 and as bf16: what is read before it is written shows.
        let mut words = vec![u64::MAX; bytes.div_ceil(8) + 2 * FENCE_WORDS];
        let last = words.len() - FENCE_WORDS;
        words[..FENCE_WORDS].fill(FENCE);
        words[last..].fill(FENCE);
        let pieces = Arc::clone(&self.pieces);
        let piece = Piece { words, pieces };
        lock(&self.pieces).push((piece.address(), bytes));
        Ok(Allocation {
            address: piece.address(),
            owner: Box::new(piece),
        })
    }

    unsafe fn write(&self, to: Address, from: &[u8]) -> Result<()> {
        // SAFETY: the caller says that the memory is there.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to as *mut u8, from.len()) };
        Ok(())
    }

    unsafe fn read(&self, from: Address, to: &mut [u8]) -> Result<()> {
        // SAFETY: the caller says that the memory is there.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    /// No tensor lies here.
    fn borrow(&self, _: &Tensor) -> Result<Option<Allocation>> {
        Ok(None)
    }

    fn storage_of(&self, _: Allocation, _: usize) -> Result<Storage> {
        Err(failed("make a tensor", "its tensors are those of the CPU"))
    }

    unsafe fn launch(&self, launch: Launch) -> Result<()> {
        if self.reverse && self.beside.load(Ordering::Relaxed) {
            lock(&self.late).push(launch);
            return Ok(());
        }
        self.carry_out(launch)
    }

    fn wait(&self) -> Result<()> {
        Ok(())
    }

    fn begin_beside(&self) -> Result<()> {
        self.beside.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn end_beside(&self) {
        self.beside.store(false, Ordering::Relaxed);
    }

    fn join(&self) -> Result<()> {
        let late = std::mem::take(&mut *lock(&self.late));
        late.into_iter()
            .try_for_each(|launch| self.carry_out(launch))
    }

    fn begin_capture(&self, timed: bool) -> Result<()> {
        self.timed.store(timed, Ordering::Relaxed);
        *lock(&self.recorded) = Some(Vec::new());
        Ok(())
    }

    fn end_capture(&self) -> Result<Box<dyn Recording>> {
        let launches = lock(&self.recorded).take().unwrap_or_default();
        Ok(Box::new(Recorded {
            launches,
            reverse: self.reverse,
            pieces: Arc::clone(&self.pieces),
            timed: self.timed.load(Ordering::Relaxed),
            milliseconds: Mutex::default(),
        }))
    }
}

/// Launches, to be carried out one after another.
#[derive(Debug)]
struct Recorded {
    launches: Vec<Launch>,
    reverse: bool,
    pieces: Arc<Mutex<Pieces>>,
    timed: bool,
    /// How long each took the last time, if it is timed.
    milliseconds: Mutex<Vec<f32>>,
}

impl Recording for Recorded {
    unsafe fn launch(&self) -> Result<()> {
        let mut milliseconds = Vec::new();
        for launch in &self.launches {
            let start = Instant::now();
            run(launch, self.reverse, &self.pieces)?;
            milliseconds.push(1e3 * start.elapsed().as_secs_f32());
        }
        if self.timed {
            *lock(&self.milliseconds) = milliseconds;
        }
        Ok(())
    }

    fn times(&self) -> Result<Vec<(String, f32)>> {
        let milliseconds = lock(&self.milliseconds);
        let times = self.launches.iter().zip(&*milliseconds);
        Ok(times
            .map(|(launch, &time)| (launch.kernel.clone(), time))
            .collect())
    }
}

/// Fails if a kernel has written beside the memory that it was given.
fn check_fences(pieces: &Pieces, kernel: &str) -> Result<()> {
    for &(address, bytes) in pieces {
        let after = address + bytes.next_multiple_of(8) as u64;
        let before = address - (FENCE_WORDS * 8) as u64;
        for fence in [before, after] {
            for word in 0..FENCE_WORDS {
                let word = (fence as *const u64).wrapping_add(word);
                // SAFETY: a listed piece has a fence on either side (see `allocate`), and is
                // taken from the list before its memory goes.
                if unsafe { word.read() } != FENCE {
                    return Err(failed(kernel, "it has written beside its memory"));
                }
            }
        }
    }
    Ok(())
}

/// Runs a kernel to its end.
fn run(launch: &Launch, reverse: bool, pieces: &Mutex<Pieces>) -> Result<()> {
    let Ok(name) = CString::new(launch.kernel.as_str()) else {
        return Err(failed(&launch.kernel, "its name holds a zero byte"));
    };
    // SAFETY: the name ends in zero.
    let parameter = |place| unsafe { emulation_parameter(name.as_ptr(), place) };
    let parameters = (0..).take_while(|&place| parameter(place) > 0).count();
    if parameters > 0 && parameters != launch.arguments.len() {
        let given = launch.arguments.len();
        let reason = format!("it takes {parameters} arguments, and was given {given}");
        return Err(failed(&launch.kernel, &reason));
    }
    let mut arguments: Vec<*mut c_void> = launch.arguments.iter().map(Argument::pointer).collect();
    // SAFETY: the name ends in zero, the two sizes are three numbers each, and there is an argument
    // for each parameter of the kernel, as whoever made the launch has promised.
    let code = unsafe {
        emulation_launch(
            name.as_ptr(),
            launch.grid.as_ptr(),
            launch.block.as_ptr(),
            launch.shared_bytes,
            arguments.as_mut_ptr(),
            c_int::from(reverse),
        )
    };
    match code {
        0 => check_fences(&lock(pieces), &launch.kernel),
        1 => Err(failed(&launch.kernel, "there is no kernel of this name")),
        2 => Err(failed(
            &launch.kernel,
            "not all threads of a block reach a barrier",
        )),
        3 => Err(failed(&launch.kernel, "more than 1024 threads in a block")),
        4 => Err(failed(
            &launch.kernel,
            "it moves 16 bytes at an address that is no multiple of 16",
        )),
        _ => Err(failed(
            &launch.kernel,
            "it has written behind its shared memory",
        )),
    }
}

#[cfg(emulation)]
unsafe extern "C" {
    /// See `kernels/emulation.cpp`.
    fn emulation_parameter(name: *const c_char, place: usize) -> usize;

    /// Likewise.
    fn emulation_launch(
        name: *const c_char,
        grid: *const u32,
        block: *const u32,
        shared_bytes: usize,
        arguments: *mut *mut c_void,
        reverse: c_int,
    ) -> c_int;
}

/// Never called: without a compiler there is no [`Emulated`].
///
/// # Safety
/// None needed.
#[cfg(not(emulation))]
unsafe fn emulation_parameter(_: *const c_char, _: usize) -> usize {
    0
}

/// Likewise.
///
/// # Safety
/// None needed.
#[cfg(not(emulation))]
unsafe fn emulation_launch(
    _: *const c_char,
    _: *const u32,
    _: *const u32,
    _: usize,
    _: *mut *mut c_void,
    _: c_int,
) -> c_int {
    1
}
