//! Prints the table of `benches/ROOFLINE.md`: what each network needs at least, and what it took.
//!
//! ```text
//! cargo run --release -p ir-benches --bin roofline [RECORD]
//! ```
//!
//! RECORD is a comparison that `cargo xtask bench` recorded on this machine; without it the columns of what was
//! measured are empty.

use std::io::Write;

use ir_benches::roofline::Cost;
use ir_benches::{Failure, SUBJECTS, peak, record};
use ir_models::Architecture;

fn main() -> Result<(), Failure> {
    let mut output = std::io::stdout().lock();
    let measured = record::of_argument(["network", "mode"])?;
    let (operations, bytes) = (peak::operations_per_second(), peak::bytes_per_second());
    writeln!(
        output,
        "Measured on {} threads: {:.0} GFLOP/s, {:.0} GB/s.\n",
        rayon::current_num_threads(),
        operations / 1e9,
        bytes / 1e9
    )?;
    writeln!(
        output,
        "| network, batch | mode | GFLOP direct | GFLOP Winograd | GB moved | ms direct | ms Winograd | ms memory | \
         floor ms | measured ms | floor / measured |"
    )?;
    writeln!(output, "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")?;
    for (name, batch) in SUBJECTS {
        let network = Architecture::named(name, 10)?;
        let modes = [
            ("train", Cost::of_training_step(&network, batch)),
            ("evaluate", Cost::of_evaluation(&network, batch)),
        ];
        for (mode, cost) in modes {
            let [direct, fewest] = [cost.direct, cost.fewest].map(|o| 1e3 * o / operations);
            let memory = 1e3 * cost.bytes / bytes;
            let floor = fewest.max(memory);
            let took = measured.get(&(name.to_owned(), mode.to_owned()));
            let [took, share] = record::cells(took, floor, 1);
            writeln!(
                output,
                "| {name}, {batch} | {mode} | {:.1} | {:.1} | {:.2} | {direct:.1} | {fewest:.1} | {memory:.1} | \
                 {floor:.1} | {took} | {share} |",
                cost.direct / 1e9,
                cost.fewest / 1e9,
                cost.bytes / 1e9
            )?;
        }
    }
    Ok(())
}
