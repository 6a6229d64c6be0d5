//! The kernels on the CPU: `kernels/emulation.h` in place of a GPU.

mod machine;
mod native;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use candle_core::{Device, Storage, Tensor};

use super::backend::{Address, Allocation, Backend, Launch, Recording};
use crate::error::{Error, Result};
use machine::Machine;

/// A device that carries out everything at once.
#[derive(Debug)]
pub(super) struct Emulated {
    machine: Arc<Machine>,
    /// Whether launches go beside.
    beside: AtomicBool,
    /// What was asked for since [`Backend::begin_capture`].
    recorded: Mutex<Option<Vec<Step>>>,
    /// Whether it is timed.
    timed: AtomicBool,
}

/// What a device is asked for.
#[derive(Debug, Clone)]
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

impl Emulated {
    pub(super) fn new(reverse: bool) -> Self {
        Self {
            machine: Arc::new(Machine::new(reverse)),
            beside: AtomicBool::new(false),
            recorded: Mutex::default(),
            timed: AtomicBool::new(false),
        }
    }

    fn ask(&self, step: Step) -> Result<()> {
        if let Some(recorded) = &mut *lock(&self.recorded) {
            recorded.push(step);
            return Ok(());
        }
        self.machine.carry_out(step)
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
        Ok(self.machine.allocate(bytes))
    }

    unsafe fn write(&self, to: Address, from: &[u8]) -> Result<()> {
        self.machine.host_accesses(to, from.len(), true)?;
        // SAFETY: the caller says that the memory is there.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to as *mut u8, from.len()) };
        Ok(())
    }

    unsafe fn read(&self, from: Address, to: &mut [u8]) -> Result<()> {
        self.machine.host_accesses(from, to.len(), false)?;
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
        let beside = self.beside.load(Ordering::Relaxed);
        self.ask(Step::Launch { launch, beside })
    }

    fn wait(&self) -> Result<()> {
        Ok(())
    }

    fn begin_beside(&self) -> Result<()> {
        self.beside.store(true, Ordering::Relaxed);
        self.ask(Step::Fork)
    }

    fn end_beside(&self) {
        self.beside.store(false, Ordering::Relaxed);
    }

    fn join(&self) -> Result<()> {
        self.ask(Step::Join)
    }

    fn begin_capture(&self, timed: bool) -> Result<()> {
        self.timed.store(timed, Ordering::Relaxed);
        *lock(&self.recorded) = Some(Vec::new());
        Ok(())
    }

    fn end_capture(&self) -> Result<Box<dyn Recording>> {
        let steps = lock(&self.recorded).take().unwrap_or_default();
        Ok(Box::new(Recorded {
            steps,
            machine: Arc::clone(&self.machine),
            timed: self.timed.load(Ordering::Relaxed),
            times: Mutex::default(),
        }))
    }
}

/// Steps, to be carried out one after another.
#[derive(Debug)]
struct Recorded {
    steps: Vec<Step>,
    machine: Arc<Machine>,
    timed: bool,
    /// Each kernel with its milliseconds of the last time, if it is timed.
    times: Mutex<Vec<(String, f32)>>,
}

impl Recording for Recorded {
    unsafe fn launch(&self) -> Result<()> {
        let mut times = Vec::new();
        for step in &self.steps {
            let start = Instant::now();
            self.machine.carry_out(step.clone())?;
            if let Step::Launch { launch, .. } = step {
                times.push((launch.kernel.clone(), 1e3 * start.elapsed().as_secs_f32()));
            }
        }
        if self.timed {
            *lock(&self.times) = times;
        }
        Ok(())
    }

    fn times(&self) -> Result<Vec<(String, f32)>> {
        Ok(lock(&self.times).clone())
    }
}
