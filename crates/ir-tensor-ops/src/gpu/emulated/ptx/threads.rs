//! What an instruction does, for the threads of a warp that carry it out together.

use super::instruction::{Action, At, Space};
use super::memory::{Global, Shared};
use super::{Kernel, LANES, Lanes, Special, count, matrix};
use crate::gpu::Counts;
use crate::gpu::backend::Launch;

/// Threads of a warp, one bit each.
pub(super) type Mask = u32;

/// What a warp's instructions work on.
#[derive(Debug)]
pub(super) struct Execution<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) arguments: &'a [u64],
    pub(super) global: &'a mut Global,
    pub(super) shared: &'a mut Shared,
    pub(super) counts: &'a mut Counts,
}

/// The state of a warp's threads, but for which instruction they are at.
#[derive(Debug)]
pub(super) struct Threads {
    registers: Vec<Lanes>,
    copies: Vec<Copy>,
    /// The groups of copies that each thread has ended.
    ended: [usize; LANES],
}

/// A copy of 16 bytes that a thread has begun, as one of a group.
#[derive(Debug)]
struct Copy {
    lane: usize,
    group: usize,
    to: u64,
    from: u64,
}

/// The threads in a mask.
fn lanes(mask: Mask) -> impl Iterator<Item = usize> {
    (0..LANES).filter(move |lane| mask >> lane & 1 == 1)
}

impl Threads {
    /// Those of a block from the number `first` on.
    pub(super) fn new(kernel: &Kernel, launch: &Launch, first: usize) -> Self {
        let mut registers = vec![[0; LANES]; kernel.registers];
        for &(register, value) in &kernel.constants {
            registers[register] = [value; LANES];
        }
        let [width, height, _] = launch.block.map(|size| size as usize);
        let thread: [usize; LANES] = std::array::from_fn(|lane| first + lane);
        registers[Special::ThreadX as usize] = thread.map(|thread| (thread % width) as u64);
        registers[Special::ThreadY as usize] =
            thread.map(|thread| (thread / width % height) as u64);
        registers[Special::ThreadZ as usize] =
            thread.map(|thread| (thread / width / height) as u64);
        let sizes = [
            (Special::BlockSizeX, launch.block[0]),
            (Special::BlockSizeY, launch.block[1]),
            (Special::BlockSizeZ, launch.block[2]),
            (Special::GridX, launch.grid[0]),
            (Special::GridY, launch.grid[1]),
            (Special::GridZ, launch.grid[2]),
        ];
        for (name, size) in sizes {
            registers[name as usize] = [u64::from(size); LANES];
        }
        Self {
            registers,
            copies: Vec::new(),
            ended: [0; LANES],
        }
    }

    /// They are those of this block from now on.
    pub(super) fn begin(&mut self, block: [u32; 3]) {
        let names = [Special::BlockX, Special::BlockY, Special::BlockZ];
        for (name, place) in names.into_iter().zip(block) {
            self.registers[name as usize] = [u64::from(place); LANES];
        }
        self.copies.clear();
        self.ended = [0; LANES];
    }

    /// The threads that a guard lets through.
    pub(super) fn guarded(&self, guard: Option<(usize, bool)>) -> Mask {
        guard.map_or(Mask::MAX, |(predicate, positive)| {
            let of_lanes = self.registers[predicate].iter().enumerate();
            let set = of_lanes.fold(0, |mask, (lane, &bit)| mask | (bit as Mask & 1) << lane);
            if positive { set } else { !set }
        })
    }

    /// Carries out what leads to no other instruction than the next.
    pub(super) fn perform(
        &mut self,
        execution: &mut Execution<'_>,
        action: &Action,
        active: Mask,
    ) -> Result<(), String> {
        match action {
            Action::Compute { function, from, to } => {
                let result = function(from.map(|register| &self.registers[register]));
                self.set(*to, &result, active);
            }
            Action::Unpack { from, to, bits } => {
                let whole = self.registers[*from];
                for (part, &to) in to.iter().enumerate() {
                    let low = u64::MAX >> (64 - bits);
                    self.set(to, &whole.map(|whole| whole >> (part * bits) & low), active);
                }
            }
            Action::Pack { from, to, bits } => {
                let mut whole = [0; LANES];
                for (part, &from) in from.iter().enumerate() {
                    let low = u64::MAX >> (64 - bits);
                    for (whole, &value) in whole.iter_mut().zip(&self.registers[from]) {
                        *whole |= (value & low) << (part * bits);
                    }
                }
                self.set(*to, &whole, active);
            }
            Action::Parameter { place, bytes, to } => {
                let value = execution.arguments[*place] & u64::MAX >> (64 - 8 * bytes);
                self.set(*to, &[value; LANES], active);
            }
            Action::Load {
                space,
                from,
                bytes,
                to,
            } => self.load(execution, *space, *from, *bytes, to, active)?,
            Action::Store {
                space,
                from,
                bytes,
                to,
            } => self.store(execution, *space, from, *bytes, *to, active)?,
            Action::BeginCopy { to, from } => self.begin_copy(execution, *to, *from, active),
            Action::EndGroup => {
                for lane in lanes(active) {
                    self.ended[lane] += 1;
                }
            }
            Action::WaitForGroups { later } => self.wait_for_groups(execution, *later, active)?,
            Action::Shuffle {
                value,
                mask,
                last,
                members,
                to,
                found,
            } => {
                self.check_members(*members, active)?;
                if self.registers[*last].iter().any(|&last| last != 31) {
                    return Err("only exchanges within whole warps are known".into());
                }
                let (value, mask) = (&self.registers[*value], &self.registers[*mask]);
                let result =
                    std::array::from_fn(|lane| value[lane ^ (mask[lane] as usize % LANES)]);
                self.set(*to, &result, active);
                if let Some(found) = found {
                    self.set(*found, &[1; LANES], active);
                }
            }
            Action::Exchange { at, value, to } => {
                self.count(execution, Space::Global, *at, 4, active, false);
                self.count(execution, Space::Global, *at, 4, active, true);
                for lane in lanes(active) {
                    let address = self.address(*at, lane, Space::Global);
                    let mut before = [0; 4];
                    execution.global.read(address, &mut before)?;
                    let value = self.registers[*value][lane] as u32;
                    execution.global.write(address, &value.to_ne_bytes())?;
                    self.registers[*to][lane] = u64::from(u32::from_ne_bytes(before));
                }
            }
            Action::LoadMatrices {
                from,
                transposed,
                to,
            } => self.load_matrices(execution, *from, *transposed, *to, active)?,
            Action::Multiply { a, b, c, to } => {
                whole(active)?;
                let result = matrix::multiply(
                    a.map(|register| &self.registers[register]),
                    b.map(|register| &self.registers[register]),
                    c.map(|register| &self.registers[register]),
                );
                for (to, result) in to.iter().zip(result) {
                    self.registers[*to] = result;
                }
                execution.counts.products += 1;
            }
            Action::Branch { .. } | Action::Barrier | Action::Return => {}
        }
        Ok(())
    }

    fn set(&mut self, register: usize, values: &Lanes, active: Mask) {
        let register = &mut self.registers[register];
        if active == Mask::MAX {
            *register = *values;
            return;
        }
        for lane in lanes(active) {
            register[lane] = values[lane];
        }
    }

    /// Fails unless the threads that the members name are those that are here.
    fn check_members(&self, members: usize, active: Mask) -> Result<(), String> {
        let named = |lane: usize| self.registers[members][lane] as Mask;
        match lanes(active).find(|&lane| named(lane) != active) {
            None => Ok(()),
            Some(lane) => Err(format!(
                "thread {lane} names the threads {:#x}, and {active:#x} carry it out",
                named(lane)
            )),
        }
    }

    fn address(&self, at: At, lane: usize, space: Space) -> u64 {
        let base = self.registers[at.base][lane];
        match space {
            Space::Global => base.wrapping_add_signed(at.offset),
            Space::Shared => u64::from((base as u32).wrapping_add(at.offset as u32)),
        }
    }

    fn addresses(&self, at: At, space: Space, active: Mask) -> Vec<u64> {
        lanes(active)
            .map(|lane| self.address(at, lane, space))
            .collect()
    }

    fn count(
        &self,
        execution: &mut Execution<'_>,
        space: Space,
        at: At,
        bytes: usize,
        active: Mask,
        writes: bool,
    ) {
        let addresses = self.addresses(at, space, active);
        match space {
            Space::Global => count::global(execution.counts, &addresses, bytes, writes),
            Space::Shared => count::shared(execution.counts, &addresses, bytes),
        }
    }

    fn load(
        &mut self,
        execution: &mut Execution<'_>,
        space: Space,
        from: At,
        bytes: usize,
        to: &[usize],
        active: Mask,
    ) -> Result<(), String> {
        let all = bytes * to.len();
        self.count(execution, space, from, all, active, false);
        let mut room = [0; 16];
        // The address may be in a register that is loaded.
        let addresses: Vec<_> = lanes(active)
            .zip(self.addresses(from, space, active))
            .collect();
        for (lane, address) in addresses {
            let found = &mut room[..all];
            match space {
                Space::Global => execution.global.read(address, found)?,
                Space::Shared => execution.shared.read(address, found)?,
            }
            for (number, &to) in found.chunks(bytes).zip(to) {
                let mut whole = [0; 8];
                whole[..bytes].copy_from_slice(number);
                self.registers[to][lane] = u64::from_le_bytes(whole);
            }
        }
        Ok(())
    }

    fn store(
        &self,
        execution: &mut Execution<'_>,
        space: Space,
        from: &[usize],
        bytes: usize,
        to: At,
        active: Mask,
    ) -> Result<(), String> {
        let all = bytes * from.len();
        self.count(execution, space, to, all, active, true);
        let mut room = [0; 16];
        for lane in lanes(active) {
            let address = self.address(to, lane, space);
            for (number, &from) in room.chunks_mut(bytes).zip(from) {
                number.copy_from_slice(&self.registers[from][lane].to_le_bytes()[..bytes]);
            }
            match space {
                Space::Global => execution.global.write(address, &room[..all])?,
                Space::Shared => execution.shared.write(address, &room[..all])?,
            }
        }
        Ok(())
    }

    /// A copy happens as late as it may, so that what does not wait for it finds nothing.
    fn begin_copy(&mut self, execution: &mut Execution<'_>, to: At, from: At, active: Mask) {
        self.count(execution, Space::Global, from, 16, active, false);
        self.count(execution, Space::Shared, to, 16, active, true);
        for lane in lanes(active) {
            self.copies.push(Copy {
                lane,
                group: self.ended[lane],
                to: self.address(to, lane, Space::Shared),
                from: self.address(from, lane, Space::Global),
            });
        }
    }

    fn wait_for_groups(
        &mut self,
        execution: &mut Execution<'_>,
        later: usize,
        active: Mask,
    ) -> Result<(), String> {
        let ended = self.ended;
        let is_due = |copy: &Copy| {
            active >> copy.lane & 1 == 1 && copy.group.saturating_add(later) < ended[copy.lane]
        };
        let (due, left) = std::mem::take(&mut self.copies)
            .into_iter()
            .partition(is_due);
        self.copies = left;
        let due: Vec<Copy> = due;
        due.iter().try_for_each(|copy| {
            let mut bytes = [0; 16];
            execution.global.read(copy.from, &mut bytes)?;
            execution.shared.write(copy.to, &bytes)
        })
    }

    fn load_matrices(
        &mut self,
        execution: &mut Execution<'_>,
        from: At,
        transposed: bool,
        to: [usize; 4],
        active: Mask,
    ) -> Result<(), String> {
        whole(active)?;
        self.count(execution, Space::Shared, from, 16, active, false);
        let mut rows = [[0u16; 8]; LANES];
        for (lane, row) in rows.iter_mut().enumerate() {
            let mut bytes = [0; 16];
            let address = self.address(from, lane, Space::Shared);
            execution.shared.read(address, &mut bytes)?;
            for (number, pair) in row.iter_mut().zip(bytes.chunks(2)) {
                *number = u16::from_le_bytes([pair[0], pair[1]]);
            }
        }
        for (to, result) in to.iter().zip(matrix::distribute(&rows, transposed)) {
            self.registers[*to] = result;
        }
        Ok(())
    }
}

/// Fails for an instruction of whole warps that some threads do not carry out.
fn whole(active: Mask) -> Result<(), String> {
    match active {
        Mask::MAX => Ok(()),
        _ => Err(format!("of the warp, only {active:#x} carry it out")),
    }
}
