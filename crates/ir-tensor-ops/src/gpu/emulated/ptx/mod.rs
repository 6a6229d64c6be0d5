//! The kernels as CUDA's compiler made them, in its assembly language PTX, run on the CPU instruction by instruction.
//!
//! Where the emulation of `kernels/emulation.h` compiles the source of the kernels otherwise than for a GPU, this runs what
//! a GPU gets: the instructions that are written out in the source, and what the compiler made of the rest. The threads of a warp go
//! together, and where they part, those that are behind go first, until they have caught up. It knows the instructions that the
//! kernels come to, as the manual *Parallel Thread Execution ISA* describes them; any other is an error. So is an access to
//! memory that the device does not have, or at an address that is not aligned. It looks for no races.

mod arithmetic;
mod count;
mod instruction;
mod matrix;
mod memory;
mod parse;
#[cfg(test)]
mod tests;
mod threads;
mod warp;

use std::collections::HashMap;

use crate::gpu::Counts;
use crate::gpu::backend::{Address, Argument, Launch};
use instruction::Instruction;
use memory::{Global, Shared};
use threads::Execution;
use warp::{Stop, Warp};

/// The threads of a warp.
const LANES: usize = 32;

/// A register of each thread of a warp: its bits, with zeros in front of them; a predicate is 0 or 1.
type Lanes = [u64; LANES];

/// The kernels of a file.
#[derive(Debug)]
pub(in crate::gpu) struct Module {
    kernels: HashMap<String, Kernel>,
}

#[derive(Debug, Default)]
struct Kernel {
    /// How many it takes.
    parameters: usize,
    instructions: Vec<Instruction>,
    /// All registers: [`Special`] ones, those of the kernel, and its constants.
    registers: usize,
    /// The constants among the registers.
    constants: Vec<(usize, u64)>,
    /// Bytes of shared memory in front of the dynamic part.
    shared_bytes: usize,
}

/// The registers that say where a thread is, by their number.
#[derive(Debug, Clone, Copy)]
enum Special {
    ThreadX,
    ThreadY,
    ThreadZ,
    BlockX,
    BlockY,
    BlockZ,
    BlockSizeX,
    BlockSizeY,
    BlockSizeZ,
    GridX,
    GridY,
    GridZ,
    Count,
}

impl Module {
    /// Reads a file of kernels.
    ///
    /// # Errors
    /// What it holds that is not known, with the line.
    pub(in crate::gpu) fn parse(text: &str) -> Result<Self, String> {
        parse::kernels(text).map(|kernels| Self { kernels })
    }

    /// Runs a kernel to its end; `memory` is what the device has, address and bytes of each piece.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn launch(
        &self,
        launch: &Launch,
        memory: &[(Address, usize)],
    ) -> Result<Counts, String> {
        let kernel = self
            .kernels
            .get(&launch.kernel)
            .ok_or("there is no kernel of this name")?;
        if kernel.parameters != launch.arguments.len() {
            return Err(super::native::wrong_count(
                kernel.parameters,
                launch.arguments.len(),
            ));
        }
        let arguments: Vec<u64> = launch.arguments.iter().map(Argument::bits).collect();
        let mut global = Global::new(memory);
        let mut counts = Counts {
            launches: 1,
            ..Counts::default()
        };
        let threads = launch.block.iter().product::<u32>() as usize;
        let mut warps: Vec<Warp> = (0..threads.div_ceil(LANES))
            .map(|warp| Warp::new(kernel, launch, warp))
            .collect();
        let [width, height, depth] = launch.grid;
        for block in 0..width * height * depth {
            let mut shared = Shared::new(kernel.shared_bytes + launch.shared_bytes);
            let place = [
                block % width,
                block / width % height,
                block / width / height,
            ];
            let mut execution = Execution {
                kernel,
                arguments: &arguments,
                global: &mut global,
                shared: &mut shared,
                counts: &mut counts,
            };
            for warp in &mut warps {
                warp.begin(place);
            }
            run_block(&mut warps, &mut execution)
                .map_err(|reason| format!("block {place:?}: {reason}"))?;
        }
        Ok(counts)
    }
}

/// Runs the warps of a block from barrier to barrier.
fn run_block(warps: &mut [Warp], execution: &mut Execution<'_>) -> Result<(), String> {
    loop {
        let mut waiting = false;
        for (number, warp) in warps.iter_mut().enumerate() {
            let stop = warp
                .run(execution)
                .map_err(|reason| format!("warp {number}: {reason}"))?;
            waiting |= matches!(stop, Stop::Barrier);
        }
        if !waiting {
            return Ok(());
        }
        for warp in warps.iter_mut() {
            warp.pass_barrier();
        }
    }
}
