//! What carries out the steps: memory between fences, two queues, and the order of what is in them.

use std::sync::{Arc, Mutex};

use super::native::{self, Moment, Races};
use super::{Step, failed, lock};
use crate::error::Result;
use crate::gpu::backend::{Address, Allocation, Launch};

/// The words on either side of a piece of memory; a kernel that changes them has left it.
const FENCE: u64 = 0xFE4C_E5FE_4CE5_FE4C;
/// Their number: 64 bytes, so that what lies between them is as aligned as on a GPU.
const FENCE_WORDS: usize = 8;

#[derive(Debug)]
pub(super) struct Machine {
    pieces: Arc<Mutex<Pieces>>,
    queues: Mutex<Queues>,
    /// The threads of a block take turns from the last to the first, and what goes on beside happens as late as it may.
    reverse: bool,
}

/// Address and bytes of each piece of memory.
#[derive(Debug, Default)]
struct Pieces {
    used: Vec<(Address, usize)>,
    /// Since [`Queues::races`] last heard of it.
    given_back: Vec<(Address, usize)>,
}

/// What was asked for so far.
#[derive(Debug, Default)]
struct Queues {
    /// Launches and copies.
    count: u32,
    /// The last launch of either queue.
    last: [u32; 2],
    /// For either queue, the last launch of the other that it has waited for.
    awaited: [u32; 2],
    /// What goes beside and has yet to happen.
    late: Vec<(Launch, Moment)>,
    /// What looks for races.
    races: Option<Races>,
}

impl Queues {
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
}

impl Machine {
    pub(super) fn new(reverse: bool) -> Self {
        // Races are the same in either order: one device looks for them.
        let races = (!reverse).then(Races::default);
        Self {
            pieces: Arc::default(),
            queues: Mutex::new(Queues {
                races,
                ..Queues::default()
            }),
            reverse,
        }
    }

    pub(super) fn allocate(&self, bytes: usize) -> Allocation {
        // All ones is not a number, as f32 and as bf16: what is read before it is written shows.
        let mut words = vec![u64::MAX; bytes.div_ceil(8) + 2 * FENCE_WORDS];
        let last = words.len() - FENCE_WORDS;
        words[..FENCE_WORDS].fill(FENCE);
        words[last..].fill(FENCE);
        let pieces = Arc::clone(&self.pieces);
        let piece = Piece { words, pieces };
        let address = piece.address();
        lock(&self.pieces).used.push((address, bytes));
        let races = &mut lock(&self.queues).races;
        self.give_back(races.as_mut());
        if let Some(races) = races {
            races.take(address, bytes, true);
        }
        Allocation {
            address,
            owner: Box::new(piece),
        }
    }

    /// What was given back may become anything.
    fn give_back(&self, races: Option<&mut Races>) {
        let given_back = std::mem::take(&mut lock(&self.pieces).given_back);
        let Some(races) = races else { return };
        for (address, bytes) in given_back {
            races.take(address, bytes, false);
        }
    }

    pub(super) fn carry_out(&self, step: Step) -> Result<()> {
        let mut queues = lock(&self.queues);
        match step {
            Step::Fork => queues.awaited[1] = queues.last[0],
            Step::Join => {
                queues.awaited[0] = queues.last[1];
                for (launch, moment) in std::mem::take(&mut queues.late) {
                    self.run(&launch, moment, queues.races.as_mut())?;
                }
            }
            Step::Launch { launch, beside } => {
                let moment = queues.next(beside);
                if self.reverse && beside {
                    queues.late.push((launch, moment));
                } else {
                    self.run(&launch, moment, queues.races.as_mut())?;
                }
            }
        }
        Ok(())
    }

    /// The host copies, behind all that does not go beside.
    pub(super) fn host_accesses(&self, at: Address, bytes: usize, writes: bool) -> Result<()> {
        let mut queues = lock(&self.queues);
        let moment = queues.next(false);
        let Some(races) = &mut queues.races else {
            return Ok(());
        };
        races.host_accesses(at, bytes, writes, moment);
        match races.found() {
            None => Ok(()),
            Some(race) => Err(failed("copy", &race.reason)),
        }
    }

    /// Runs a kernel to its end.
    fn run(&self, launch: &Launch, moment: Moment, mut races: Option<&mut Races>) -> Result<()> {
        self.give_back(races.as_deref_mut());
        native::launch(launch, self.reverse, races.as_deref_mut(), moment)
            .and_then(|()| self.check_fences())
            .map_err(|reason| failed(&launch.kernel, &reason))?;
        let Some(race) = races.and_then(Races::found) else {
            return Ok(());
        };
        let place = self.place(launch, race.address);
        Err(failed(&launch.kernel, &format!("{place}: {}", race.reason)))
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
        let mut pieces = lock(&self.pieces);
        let place = pieces.used.iter().position(|&(other, _)| other == address);
        if let Some(place) = place {
            let piece = pieces.used.swap_remove(place);
            pieces.given_back.push(piece);
        }
    }
}
