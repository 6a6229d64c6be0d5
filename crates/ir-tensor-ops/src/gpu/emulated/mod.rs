//! The kernels on the CPU: `kernels/emulation.h` in place of a GPU.

mod machine;
mod native;
mod ptx;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{Device, Storage, Tensor};

use super::backend::{Address, Allocation, Backend, Launch, Recording};
use crate::error::{Error, Result};
use crate::gpu::Counts;
use machine::Machine;

pub(super) use machine::Code;
pub(super) use ptx::Module;

/// A device that carries out what it is asked for at once, unless it is made to do what goes on beside late.
#[derive(Debug)]
pub(super) struct Emulated {
    machine: Arc<Mutex<Machine>>,
    /// Whether launches go beside.
    beside: AtomicBool,
    /// What was asked for since [`Backend::begin_capture`].
    recorder: Mutex<Option<Recorder>>,
}

/// What a device is asked for.
#[derive(Debug)]
enum Step {
    Launch {
        launch: Launch,
        beside: bool,
    },
    /// What goes beside from now on begins behind all that does not.
    Fork,
    /// What does not go beside from now on begins behind all that does.
    Join,
}

#[derive(Debug)]
struct Recorder {
    steps: Vec<Step>,
    timed: bool,
}

impl Emulated {
    pub(super) fn new(code: Code) -> Self {
        Self {
            machine: Arc::new(Mutex::new(Machine::new(code))),
            beside: AtomicBool::new(false),
            recorder: Mutex::default(),
        }
    }

    fn ask(&self, step: Step) -> Result<()> {
        if let Some(recorder) = &mut *lock(&self.recorder) {
            recorder.steps.push(step);
            return Ok(());
        }
        lock(&self.machine).carry_out(&[step], |_, _| ())
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

impl Backend for Emulated {
    fn name(&self) -> String {
        "emulated GPU".into()
    }

    fn device(&self) -> Device {
        Device::Cpu
    }

    fn allocate(&self, bytes: usize) -> Result<Allocation> {
        Ok(lock(&self.machine).allocate(bytes))
    }

    unsafe fn write(&self, to: Address, from: &[u8]) -> Result<()> {
        // SAFETY: the caller says that the memory is there.
        unsafe { lock(&self.machine).write(to, from) }
    }

    unsafe fn read(&self, from: Address, to: &mut [u8]) -> Result<()> {
        // SAFETY: the caller says that the memory is there.
        unsafe { lock(&self.machine).read(from, to) }
    }

    /// No tensor lies here.
    fn borrow(&self, _: &Tensor) -> Result<Option<Allocation>> {
        Ok(None)
    }

    fn storage_of(&self, _: Allocation, _: usize) -> Result<Storage> {
        Err(failed("make a tensor", "its tensors are those of the CPU"))
    }

    unsafe fn launch(&self, launch: Launch) -> Result<()> {
        let beside = self.beside.load(Ordering::Relaxed);
        self.ask(Step::Launch { launch, beside })
    }

    fn wait(&self) -> Result<()> {
        Ok(())
    }

    /// As on a GPU, nothing goes beside what is timed.
    fn begin_beside(&self) -> Result<()> {
        let is_timed = |recorder: &Recorder| recorder.timed;
        if lock(&self.recorder).as_ref().is_some_and(is_timed) {
            return Ok(());
        }
        self.ask(Step::Fork)?;
        self.beside.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn end_beside(&self) {
        self.beside.store(false, Ordering::Relaxed);
    }

    fn join(&self) -> Result<()> {
        self.ask(Step::Join)
    }

    fn begin_capture(&self, timed: bool) -> Result<()> {
        let steps = Vec::new();
        *lock(&self.recorder) = Some(Recorder { steps, timed });
        Ok(())
    }

    fn counts(&self) -> Vec<(String, Counts)> {
        lock(&self.machine).counts()
    }

    fn end_capture(&self) -> Result<Box<dyn Recording>> {
        let Some(recorder) = lock(&self.recorder).take() else {
            return Err(failed("end a recording", "none was begun"));
        };
        Ok(Box::new(Recorded {
            recorder,
            machine: Arc::clone(&self.machine),
            times: Mutex::default(),
        }))
    }
}

/// Steps, to be carried out one after another.
#[derive(Debug)]
struct Recorded {
    recorder: Recorder,
    machine: Arc<Mutex<Machine>>,
    /// Each kernel with its milliseconds of the last time, if it is timed.
    times: Mutex<Vec<(String, f32)>>,
}

impl Recording for Recorded {
    unsafe fn launch(&self) -> Result<()> {
        let Recorder { steps, timed } = &self.recorder;
        let mut times = Vec::new();
        lock(&self.machine).carry_out(steps, |launch, time| {
            if *timed {
                times.push((launch.kernel.clone(), 1e3 * time.as_secs_f32()));
            }
        })?;
        *lock(&self.times) = times;
        Ok(())
    }

    fn times(&self) -> Result<Vec<(String, f32)>> {
        Ok(lock(&self.times).clone())
    }
}
