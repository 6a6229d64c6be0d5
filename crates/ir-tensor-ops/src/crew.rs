//! Threads of rayon's pool that stay at hand for a sequence of short parallel regions.
//!
//! A training step is hundreds of regions of a fraction of a millisecond, with little between
//! them. To wake sleeping threads for each would take as long as some of the regions; so the
//! threads are asked once, for the whole step, and between two regions they wait awake.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::{hint, ptr, thread};

use rayon::prelude::*;

thread_local! {
    /// The crew that the work of this thread has at hand.
    static CREW: Cell<*const Crew> = const { Cell::new(ptr::null()) };
    /// Whether this thread leads or helps a crew: it joins no other one before that is done.
    static ENGAGED: Cell<bool> = const { Cell::new(false) };
}

/// Does `work` with the threads of rayon's pool at hand: the operations of this crate that it
/// calls, on this thread, start in a microsecond instead of waking sleeping threads each.
///
/// Worth it around a pass through a network, or a training step. The threads wait awake
/// between two operations, so what is slow and not one of these operations (reading files,
/// say) belongs outside, and so do Candle's operations on large tensors, which have threads of their
/// own that wait awake as well. Other work for rayon's pool is taken up meanwhile, if with delay; a thread that is
/// busy with it joins when it is done, and nobody waits for it.
/// Results do not depend on it.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
///
/// # fn main() -> ir_tensor_ops::Result<()> {
/// let x = Tensor::ones((2, 16, 8, 8), DType::F32, &Device::Cpu)?;
/// let y = ir_tensor_ops::together(|| ir_tensor_ops::relu(&ir_tensor_ops::relu(&x)?))?;
/// assert_eq!(y.dims(), x.dims());
/// # Ok(())
/// # }
/// ```
pub fn together<R>(work: impl FnOnce() -> R) -> R {
    let wanted = rayon::current_num_threads() - 1;
    if wanted == 0 || ENGAGED.get() {
        return work();
    }
    let crew = Arc::new(Crew::new());
    let (helped, leader) = (Arc::clone(&crew), rayon::current_thread_index());
    // A thread of the pool that leads comes by its own call too, wherever it waits for others.
    rayon::spawn_broadcast(move |here| {
        if Some(here.index()) != leader {
            helped.help();
        }
    });
    let _dismissed = Dismissal(&crew);
    let _engaged = Engagement::new();
    CREW.set(Arc::as_ptr(&crew));
    work()
}

/// Calls `task` with every number below `tasks`, each once, on all threads at hand.
pub(crate) fn for_each(tasks: usize, task: impl Fn(usize) + Sync) {
    let crew = CREW.get();
    if tasks < 2 {
        (0..tasks).for_each(task);
    } else if crew.is_null() {
        (0..tasks).into_par_iter().with_max_len(1).for_each(&task);
    } else {
        // A task that starts a region of its own goes the other way.
        let _busy = Busy(CREW.replace(ptr::null()));
        // SAFETY: `together` keeps the crew in place for as long as CREW points to it, and this
        // thread is inside of it.
        unsafe { (*crew).run(tasks, &task) };
    }
}

/// Takes the crew out of reach when the work is done or unwinds, and lets its threads go.
struct Dismissal<'a>(&'a Crew);

impl Drop for Dismissal<'_> {
    fn drop(&mut self) {
        CREW.set(ptr::null());
        self.0.dismissed.store(true, Ordering::SeqCst);
    }
}

/// Keeps a thread from joining another crew.
struct Engagement;

impl Engagement {
    fn new() -> Self {
        ENGAGED.set(true);
        Self
    }
}

impl Drop for Engagement {
    fn drop(&mut self) {
        ENGAGED.set(false);
    }
}

/// Puts the crew back within reach after a region.
struct Busy(*const Crew);

impl Drop for Busy {
    fn drop(&mut self) {
        CREW.set(self.0);
    }
}

/// A task for any number, its lifetime left out.
type Task = *const (dyn Fn(usize) + Sync);

/// What the leader and the helpers share.
struct Crew {
    dismissed: AtomicBool,
    /// Odd while a region is open.
    region: AtomicUsize,
    /// Helpers that look at the open region.
    inside: AtomicUsize,
    next: AtomicUsize,
    job: UnsafeCell<Option<(Task, usize)>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` is written only while no region is open and no helper is inside one, and read
// only by helpers that are inside an open one; everything else in a crew is Sync, and what
// `job` points to is called only through `Sync`.
unsafe impl Sync for Crew {}

// SAFETY: the last to let go of a crew may be any thread; a job left in it is a pointer that nobody follows any more.
unsafe impl Send for Crew {}

impl Crew {
    fn new() -> Self {
        Self {
            dismissed: AtomicBool::new(false),
            region: AtomicUsize::new(0),
            inside: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            panic: Mutex::new(None),
        }
    }

    /// One region, led by this thread.
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        // SAFETY: only the lifetime changes. The region is closed, and no helper is inside it,
        // before this function returns or unwinds (see `Closing`).
        let erased = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), Task>(task) };
        // SAFETY: no region is open and no helper inside one, so nobody reads the job.
        unsafe { *self.job.get() = Some((erased, tasks)) };
        // What an earlier region left that unwound by itself.
        *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.next.store(0, Ordering::Relaxed);
        self.region.fetch_add(1, Ordering::SeqCst);
        let closing = Closing(self);
        self.take_tasks(tasks, task);
        drop(closing);
        let panicked = self
            .panic
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(payload) = panicked {
            panic::resume_unwind(payload);
        }
    }

    fn take_tasks(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= tasks {
                return;
            }
            task(index);
        }
    }

    /// What a thread of the pool does until the crew is dismissed.
    fn help(&self) {
        if ENGAGED.get() {
            return;
        }
        let _engaged = Engagement::new();
        let (mut done, mut idle) = (0, 0u32);
        while !self.dismissed.load(Ordering::Relaxed) {
            let region = self.region.load(Ordering::Relaxed);
            if region % 2 == 1 && region != done {
                self.inside.fetch_add(1, Ordering::SeqCst);
                done = self.region.load(Ordering::SeqCst);
                if done % 2 == 1 {
                    self.help_in_region();
                }
                self.inside.fetch_sub(1, Ordering::SeqCst);
                idle = 0;
                continue;
            }
            rest(&mut idle);
        }
    }

    fn help_in_region(&self) {
        // SAFETY: this helper counted itself inside before it saw the region open, so the
        // leader waits for it before it writes the job again or leaves the region.
        let Some((task, tasks)) = (unsafe { *self.job.get() }) else {
            return;
        };
        // SAFETY: as above: what the job points to lives until the leader leaves the region.
        let task = unsafe { &*task };
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| self.take_tasks(tasks, task)));
        if let Err(payload) = outcome {
            *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(payload);
        }
    }
}

/// Closes the region, and waits until no helper is inside.
struct Closing<'a>(&'a Crew);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let Self(crew) = self;
        // No further task is taken if one of this thread unwound.
        crew.next.store(usize::MAX / 2, Ordering::Relaxed);
        crew.region.fetch_add(1, Ordering::SeqCst);
        let mut idle = 0;
        while crew.inside.load(Ordering::SeqCst) > 0 {
            idle += 1;
            if idle < SPINS {
                hint::spin_loop();
            } else {
                thread::yield_now();
            }
        }
    }
}

/// How often to look again before letting others have the processor: some ten microseconds.
const SPINS: u32 = 400;

/// Waits a moment; after some of them, does other work of the pool or lets other processes run.
fn rest(idle: &mut u32) {
    *idle += 1;
    if *idle < SPINS {
        hint::spin_loop();
    } else if rayon::yield_now() != Some(rayon::Yield::Executed) {
        thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::{for_each, together};

    /// Every task of thousands of regions runs exactly once.
    #[test]
    fn every_task_runs_once() {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(3)
            .build()
            .unwrap();
        let regions = || {
            for tasks in (0..3000).map(|i| i % 17) {
                let counts: Vec<AtomicU32> = (0..tasks).map(|_| AtomicU32::new(0)).collect();
                for_each(tasks, |index| {
                    counts[index].fetch_add(1, Ordering::Relaxed);
                });
                assert!(
                    counts
                        .iter()
                        .all(|count| count.load(Ordering::Relaxed) == 1)
                );
            }
        };
        together(regions);
        pool.install(|| together(regions));
        regions();
    }

    #[test]
    fn regions_nest_and_pools_stay_usable() {
        let sum = AtomicU32::new(0);
        together(|| {
            together(|| ());
            for_each(8, |_| {
                for_each(8, |index| {
                    sum.fetch_add(index as u32, Ordering::Relaxed);
                });
            });
            // Work of others for the same pool is done, though its threads are at hand here.
            let (a, b) = rayon::join(|| 1, || 2);
            assert_eq!(a + b, 3);
        });
        assert_eq!(sum.into_inner(), 8 * 28);
    }

    #[test]
    fn a_leader_of_the_pool_helps_nobody_and_waits_for_nobody() {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(2)
            .build()
            .unwrap();
        // The other thread is busy for as long as this channel is open.
        let (open, busy) = std::sync::mpsc::channel::<()>();
        pool.spawn(move || {
            let _ = busy.recv();
        });
        let sum = AtomicU32::new(0);
        pool.install(|| {
            together(|| {
                // Does whatever lies in this thread's queues.
                rayon::yield_now();
                for_each(8, |index| {
                    sum.fetch_add(index as u32, Ordering::Relaxed);
                });
            });
        });
        drop(open);
        assert_eq!(sum.into_inner(), 28);
    }

    #[test]
    fn crews_do_not_take_each_others_threads() {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(3)
            .build()
            .unwrap();
        let sum = AtomicU32::new(0);
        let nested = || {
            for _ in 0..200 {
                together(|| {
                    for_each(8, |_| {
                        for_each(8, |index| {
                            sum.fetch_add(index as u32, Ordering::Relaxed);
                        });
                    });
                });
            }
        };
        pool.scope(|scope| {
            scope.spawn(|_| nested());
            scope.spawn(|_| nested());
        });
        assert_eq!(sum.into_inner(), 2 * 200 * 8 * 28);
    }

    #[test]
    fn a_panic_that_was_caught_does_not_come_back() {
        together(|| {
            for _ in 0..100 {
                let all = || for_each(64, |_| panic!("every task of this region"));
                let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(all));
                assert!(caught.is_err());
                for_each(64, |_| ());
            }
        });
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_threads_go_on() {
        for bad in [0, 63] {
            let caught = std::panic::catch_unwind(|| {
                together(|| for_each(64, |index| assert_ne!(index, bad)));
            });
            assert!(caught.is_err());
        }
        let sum = AtomicU32::new(0);
        together(|| {
            for_each(64, |_| {
                sum.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(sum.into_inner(), 64);
    }
}
