//! One thread against several, ours alone.

use anyhow::{Context, Result};
use serde_json::json;

use super::comparison::{MODES, Subject};
use super::record::{aligned, number};
use super::summary::Summary;
use super::{Bench, progress};

/// Measures every network on 1 and on `threads` threads by turns; records and prints.
pub(super) fn run(bench: &Bench<'_>, threads: usize) -> Result<()> {
    let bar = progress(bench.networks.len() * MODES.len() * bench.rounds);
    let mut table = vec![header(threads)];
    for &Subject { network, batch } in &bench.networks {
        for mode in MODES {
            bar.set_message(format!("{network} {mode}"));
            let start = |threads: usize| {
                let task =
                    json!({ "network": network, "batch": batch, "mode": mode, "threads": threads });
                bench.workers.ours(&task)
            };
            let mut workers = [start(1)?, start(threads)?];
            for worker in &mut workers {
                worker.calibrate(bench.budget)?;
            }
            for _ in 0..bench.rounds {
                for worker in &mut workers {
                    worker
                        .measure()
                        .with_context(|| format!("{network} {mode}"))?;
                }
                bar.inc(1);
            }
            let [one, many] = &workers;
            let name = [network.to_owned(), batch.to_string(), mode.to_owned()];
            table.push(row(
                name,
                &Summary::of(&one.times)?,
                &Summary::of(&many.times)?,
            ));
        }
    }
    bar.finish_and_clear();
    print!("{}", aligned(&table));
    let notes = [("rounds", bench.rounds.to_string())];
    let path = bench.records.write("threads", &notes, &table)?;
    println!("\nrecorded in {}", path.display());
    Ok(())
}

fn header(threads: usize) -> Vec<String> {
    let mut header: Vec<String> = ["network", "batch", "mode"].map(str::to_owned).into();
    for count in [1, threads] {
        let of_count = |quantity| format!("threads_{count}_{quantity}");
        header.extend(["ms", "ms_min", "ms_max"].map(of_count));
    }
    header.push("ratio".to_owned());
    header
}

fn row(name: [String; 3], one: &Summary, many: &Summary) -> Vec<String> {
    let mut row: Vec<String> = name.into();
    for summary in [one, many] {
        let Summary { median, min, max } = *summary;
        row.extend([median, min, max].map(|time| number(Some(time), 2)));
    }
    row.push(number(Some(one.median / many.median), 2));
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_that_of_the_medians() {
        let [one, four] =
            [[80.0, 60.0, 90.0], [20.0, 19.0, 30.0]].map(|t| Summary::of(&t).unwrap());
        let name = ["wide", "32", "train"].map(str::to_owned);
        assert_eq!(
            row(name, &one, &four).join(","),
            "wide,32,train,80.00,60.00,90.00,20.00,19.00,30.00,4.00"
        );
        assert_eq!(header(4).len(), 10);
    }
}
