//! Counts what the kernels of a training step do, as CUDA's compiler made them: no GPU is needed, and no time is measured.
//!
//! ```text
//! nvcc -ptx -arch=sm_90 -std=c++17 -O3 -o kernels.ptx crates/ir-tensor-ops/kernels/kernels.cu
//! cargo run --release -p ir-benches --features emulation --bin gpu_counts -- kernels.ptx resnet-32 128 bf16
//! ```
//!
//! Printed is CSV, a line for each kernel and one for all. The columns of microseconds are what an H100 needs at least for all launches
//! of the kernel in a step, by what is counted: its instructions, what goes in and out of shared memory, and what goes to and from memory
//! beyond the first cache.

#![allow(clippy::print_stdout, reason = "it prints a table")]

use ir_benches::Failure;
use ir_benches::gpu_roofline::Gpu as Limits;
use ir_benches::gpu_run::Run;
use ir_benches::worker::Steps;
use ir_tensor_ops::gpu::{Counts, Gpu, Precision};

/// Multiprocessors of an H100 (SXM).
const MULTIPROCESSORS: f64 = 132.;
/// Their clock, in cycles a microsecond.
const CLOCK: f64 = 1830.;
/// Instructions of warps that one begins in a cycle.
const INSTRUCTIONS: f64 = 4.;
/// Bytes of a sector.
const SECTOR: f64 = 32.;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [ptx, network, batch, precision] = &arguments[..] else {
        return Err("expected KERNELS.ptx NETWORK BATCH f32|bf16".into());
    };
    let precision = match precision.as_str() {
        "f32" => Precision::F32,
        "bf16" => Precision::Bf16,
        other => return Err(format!("{other} is no precision, expected f32 or bf16").into()),
    };
    let text = std::fs::read_to_string(ptx).map_err(|error| format!("{ptx}: {error}"))?;
    let gpu = Gpu::interpreted(&text)?;
    let mut run = Run::new(&gpu, network, batch.parse()?, 1, precision)?;
    let before = gpu.counts();
    run.step()?;
    println!(
        "kernel,launches,instructions,products,sectors_read,sectors_written,shared_turns,shared_turns_at_least,\
         instructions_us,shared_us,memory_us"
    );
    let mut all = Counts::default();
    for (kernel, counts) in gpu.counts() {
        let earlier = before.iter().find(|(other, _)| *other == kernel);
        let counts = counts - earlier.map_or_else(Counts::default, |(_, counts)| *counts);
        if counts.launches > 0 {
            println!("{}", line(&kernel, &counts));
            all += counts;
        }
    }
    println!("{}", line("all", &all));
    Ok(())
}

fn line(kernel: &str, counts: &Counts) -> String {
    let cycles =
        |count: u64, in_a_cycle: f64| count as f64 / (MULTIPROCESSORS * in_a_cycle * CLOCK);
    let bytes = SECTOR * (counts.sectors_read + counts.sectors_written) as f64;
    format!(
        "{kernel},{},{},{},{},{},{},{},{:.1},{:.1},{:.1}",
        counts.launches,
        counts.instructions,
        counts.products,
        counts.sectors_read,
        counts.sectors_written,
        counts.shared_turns,
        counts.shared_turns_at_least,
        cycles(counts.instructions, INSTRUCTIONS),
        cycles(counts.shared_turns, 1.),
        1e6 * bytes / Limits::H100_BF16.bandwidth
    )
}
