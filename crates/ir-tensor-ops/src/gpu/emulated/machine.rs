//! What carries out the steps: memory between fences, two queues, and the order of what is in them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::native::{self, Moment, Races};
use super::ptx::Module;
use super::{Step, failed, lock};
use crate::error::Result;
use crate::gpu::Counts;
use crate::gpu::backend::{Address, Allocation, Launch};

/// The words on either side of a piece of memory; a kernel that changes them has left it.
const FENCE: u64 = 0xFE4C_E5FE_4CE5_FE4C;
/// Their number.
const FENCE_WORDS: usize = 8;

/// As much memory as a GPU aligns a piece to.
#[derive(Debug, Clone, Copy)]
#[repr(align(256))]
struct Line([u64; LINE_WORDS]);

const LINE_WORDS: usize = 32;

/// In which form the kernels are run.
#[derive(Debug)]
pub(in crate::gpu) enum Code {
    /// As this machine's compiler makes them from their source. Races are looked for.
    Source,
    /// Likewise, but the threads of a block take turns from the last to the first, and what goes on beside happens as late
    /// as it may. Races are the same in either order, and looked for in one.
    SourceInReverse,
    /// As CUDA's compiler makes them.
    Assembly(Module),
}

#[derive(Debug)]
pub(super) struct Machine {
    pieces: Arc<Mutex<Pieces>>,
    /// Launches and copies so far.
    count: u32,
    /// The last one of either queue.
    last: [u32; 2],
    /// For either queue, the last one of the other that it has waited for.
    awaited: [u32; 2],
    code: Code,
    /// What has yet to happen.
    late: Vec<(Launch, Moment)>,
    races: Option<Races>,
    /// Of each kernel.
    counts: BTreeMap<String, Counts>,
}

/// Address and bytes of each piece of memory.
#[derive(Debug, Default)]
struct Pieces {
    used: Vec<(Address, usize)>,
    /// Since the machine last looked.
    given_back: Vec<(Address, usize)>,
}

impl Machine {
    pub(super) fn new(code: Code) -> Self {
        Self {
            pieces: Arc::default(),
            count: 0,
            last: [0; 2],
            awaited: [0; 2],
            late: Vec::new(),
            races: matches!(code, Code::Source).then(Races::default),
            counts: BTreeMap::new(),
            code,
        }
    }

    pub(super) fn allocate(&mut self, bytes: usize) -> Allocation {
        // All ones is not a number, as f32 and as bf16: what is read before it is written shows.
        let words = bytes.div_ceil(8);
        let behind = (words + FENCE_WORDS).div_ceil(LINE_WORDS);
        let mut lines = vec![Line([u64::MAX; LINE_WORDS]); 1 + behind];
        for word in words..words + FENCE_WORDS {
            lines[1 + word / LINE_WORDS].0[word % LINE_WORDS] = FENCE;
        }
        lines[0].0[LINE_WORDS - FENCE_WORDS..].fill(FENCE);
        let pieces = Arc::clone(&self.pieces);
        let piece = Piece { lines, pieces };
        let address = piece.address();
        lock(&self.pieces).used.push((address, bytes));
        self.take_back();
        if let Some(races) = &mut self.races {
            races.take(address, bytes);
        }
        Allocation {
            address,
            owner: Box::new(piece),
        }
    }

    /// What was given back may become anything.
    fn take_back(&mut self) {
        let given_back = std::mem::take(&mut lock(&self.pieces).given_back);
        let Some(races) = &mut self.races else { return };
        for (address, bytes) in given_back {
            races.give_back(address, bytes);
        }
    }

    /// Carries out the steps, of which nothing else comes in between. `done` hears how long each launch took.
    pub(super) fn carry_out(
        &mut self,
        steps: &[Step],
        mut done: impl FnMut(&Launch, Duration),
    ) -> Result<()> {
        let carried_out = steps.iter().try_for_each(|step| match step {
            Step::Fork => {
                self.awaited[1] = self.last[0];
                Ok(())
            }
            Step::Join => self.join(),
            Step::Launch { launch, beside } => {
                let start = Instant::now();
                self.launch(launch, *beside)?;
                done(launch, start.elapsed());
                Ok(())
            }
        });
        // What would have ordered the rest may be among what is left out.
        carried_out.inspect_err(|_| {
            self.late.clear();
            self.awaited = [self.last[1], self.last[0]];
        })
    }

    fn launch(&mut self, launch: &Launch, beside: bool) -> Result<()> {
        let moment = self.next(beside);
        if beside && matches!(self.code, Code::SourceInReverse) {
            self.late.push((launch.clone(), moment));
            return Ok(());
        }
        self.run(launch, moment)
    }

    fn join(&mut self) -> Result<()> {
        self.awaited[0] = self.last[1];
        let late = std::mem::take(&mut self.late);
        late.iter()
            .try_for_each(|(launch, moment)| self.run(launch, *moment))
    }

    /// Of a launch or copy that is asked for now.
    fn next(&mut self, beside: bool) -> Moment {
        let queue = usize::from(beside);
        self.count += 1;
        self.last[queue] = self.count;
        Moment {
            number: self.count,
            queue: queue as u32,
            awaited: self.awaited[queue],
        }
    }

    /// # Safety
    /// There are as many bytes.
    pub(super) unsafe fn write(&mut self, to: Address, from: &[u8]) -> Result<()> {
        self.host_accesses(to, from.len(), true)?;
        // SAFETY: the caller says that the memory is there.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to as *mut u8, from.len()) };
        Ok(())
    }

    /// # Safety
    /// There are as many bytes.
    pub(super) unsafe fn read(&mut self, from: Address, to: &mut [u8]) -> Result<()> {
        self.host_accesses(from, to.len(), false)?;
        // SAFETY: the caller says that the memory is there.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    /// The host copies, behind all that does not go beside.
    fn host_accesses(&mut self, at: Address, bytes: usize, writes: bool) -> Result<()> {
        let moment = self.next(false);
        let Some(races) = &mut self.races else {
            return Ok(());
        };
        races.host_accesses(at, bytes, writes, moment);
        match races.found() {
            None => Ok(()),
            Some(race) => Err(failed("copy", &race.reason)),
        }
    }

    /// Runs a kernel to its end.
    fn run(&mut self, launch: &Launch, moment: Moment) -> Result<()> {
        self.take_back();
        let done = match &self.code {
            Code::Source => native::launch(launch, false, self.races.as_mut(), moment),
            Code::SourceInReverse => native::launch(launch, true, None, moment),
            Code::Assembly(module) => {
                let memory = lock(&self.pieces).used.clone();
                module.launch(launch, &memory).map(|counts| {
                    *self.counts.entry(launch.kernel.clone()).or_default() += counts;
                })
            }
        };
        done.and_then(|()| self.check_fences())
            .map_err(|reason| failed(&launch.kernel, &reason))?;
        let Some(race) = self.races.as_mut().and_then(Races::found) else {
            return Ok(());
        };
        let place = self.place(launch, race.address);
        Err(failed(&launch.kernel, &format!("{place}, {}", race.reason)))
    }

    /// What each kernel has done so far, if it is counted.
    pub(super) fn counts(&self) -> Vec<(String, Counts)> {
        let counts = self.counts.iter();
        counts
            .map(|(kernel, &counts)| (kernel.clone(), counts))
            .collect()
    }

    /// Where an address leads that a kernel has used.
    fn place(&self, launch: &Launch, address: Address) -> String {
        let pieces = lock(&self.pieces);
        let piece = pieces
            .used
            .iter()
            .find(|&&(start, bytes)| (start..start + bytes as u64).contains(&address));
        let Some(&(start, _)) = piece else {
            return "shared memory".into();
        };
        let is_here = |memory: &Arc<Allocation>| memory.address == start;
        let argument = launch
            .arguments
            .iter()
            .position(|argument| argument.memory().is_some_and(is_here));
        match argument {
            Some(argument) => format!("argument {argument}, byte {}", address - start),
            None => format!("{address:#x}"),
        }
    }

    /// Fails if a kernel has written beside the memory that it was given.
    fn check_fences(&self) -> std::result::Result<(), String> {
        for &(address, bytes) in &lock(&self.pieces).used {
            let after = address + bytes.next_multiple_of(8) as u64;
            let before = address - (FENCE_WORDS * 8) as u64;
            for fence in [before, after] {
                for word in 0..FENCE_WORDS {
                    let word = (fence as *const u64).wrapping_add(word);
                    // SAFETY: a listed piece has a fence on either side (see `allocate`), and is
                    // taken from the list before its memory goes.
                    if unsafe { word.read() } != FENCE {
                        return Err("it has written beside its memory".into());
                    }
                }
            }
        }
        Ok(())
    }
}

/// A piece of memory between its fences.
#[derive(Debug)]
struct Piece {
    /// The first ends in a fence, and what the piece is of begins with the second.
    lines: Vec<Line>,
    pieces: Arc<Mutex<Pieces>>,
}

impl Piece {
    fn address(&self) -> Address {
        self.lines.as_ptr().wrapping_add(1) as Address
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let address = self.address();
        let mut pieces = lock(&self.pieces);
        let place = pieces.used.iter().position(|&(other, _)| other == address);
        if let Some(place) = place {
            let piece = pieces.used.swap_remove(place);
            pieces.given_back.push(piece);
        }
    }
}
