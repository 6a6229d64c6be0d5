//! Prints the table of the GPU in `benches/ROOFLINE.md`: what a step needs at least, and what it took.
//!
//! ```text
//! cargo run --release -p ir-benches --bin gpu_roofline [RECORD]
//! ```
//!
//! RECORD is what `cargo xtask bench --device cuda` recorded; without it the columns of what was measured are empty.

use std::io::Write;

use ir_benches::gpu_roofline::{Gpu, StepCost};
use ir_benches::{Failure, SUBJECTS, record};
use ir_models::Architecture;

fn main() -> Result<(), Failure> {
    let mut output = std::io::stdout().lock();
    let measured = record::of_argument(["network", "precision"])?;
    writeln!(
        output,
        "| network, batch | precision | GFLOP | GB at least | GB of the kernels | kernels | ms arithmetic | floor ms | \
         kernels ms | measured ms | floor / measured |"
    )?;
    writeln!(output, "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")?;
    for (name, batch) in SUBJECTS {
        let network = Architecture::named(name, 10)?;
        for (precision, bytes, gpu) in [("bf16", 2, Gpu::H100_BF16), ("f32", 4, Gpu::H100_F32)] {
            let step = StepCost::of(&network, batch, bytes);
            let floor = step.floor_milliseconds(&gpu);
            let took = measured.get(&(name.to_owned(), precision.to_owned()));
            let [took, share] = record::cells(took, floor, 2);
            writeln!(
                output,
                "| {name}, {batch} | {precision} | {:.0} | {:.2} | {:.2} | {} | {:.2} | {floor:.2} | {:.2} | {took} | {share} |",
                step.operations / 1e9,
                step.fewest_bytes / 1e9,
                step.kernel_bytes / 1e9,
                step.launches,
                1e3 * step.operations / gpu.operations,
                step.kernels_milliseconds(&gpu)
            )?;
        }
    }
    Ok(())
}
