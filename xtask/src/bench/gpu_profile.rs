//! Where the time of a step on a GPU goes, kernel by kernel.

use anyhow::Result;
use serde::Deserialize;
use serde_json::json;

use super::Bench;
use super::comparison::Subject;
use super::gpu::task;
use super::process::Process;
use super::record::number;

/// The last kernel of the forward pass, and the first behind the backward pass.
const LAST_FORWARD: &str = "cross_entropy";
const FIRST_AFTER: &str = "total_loss";

/// The answer of our program, whose kernels are timed.
#[derive(Debug, Deserialize)]
struct Answer {
    milliseconds: Vec<f64>,
    /// Kernel and milliseconds, in order.
    kernels: Vec<(String, f64)>,
}

/// One kernel in one part of the step.
#[derive(Debug, PartialEq)]
struct Share {
    phase: &'static str,
    kernel: String,
    launches: usize,
    milliseconds: f64,
}

/// The file's name without date, commit and ending.
fn question(subject: Subject, precision: &str) -> String {
    format!("gpu-{}-{precision}", subject.network)
}

/// Whether the profile was written before.
pub(super) fn is_there(bench: &Bench<'_>, subject: Subject, precision: &str) -> bool {
    let question = question(subject, precision);
    bench.records.file(&question, "csv").exists()
}

/// Times the kernels of a step and writes `DATE-gpu-NETWORK-PRECISION-COMMIT.csv`.
pub(super) fn record(bench: &Bench<'_>, subject: Subject, precision: &str) -> Result<()> {
    let mut task = task(subject, precision, 8);
    task["timed"] = json!(true);
    let mut process = Process::start(bench.workers.our_gpu_program())?;
    let _: serde_json::Value = process.ask(&task)?;
    let answer: Answer = process.ask(&json!({ "warm_up": 1, "steps": 1 }))?;
    let shares = shares(&answer.kernels);
    let sum: f64 = shares.iter().map(|share| share.milliseconds).sum();
    let whole = answer.milliseconds.first().copied();
    let notes = [
        ("launches", answer.kernels.len().to_string()),
        ("ms of all kernels", number(Some(sum), 3)),
        (
            "ms of a step with a look at the clock behind each kernel",
            number(whole, 3),
        ),
    ];
    let question = question(subject, precision);
    bench
        .records
        .write(&question, &notes, &table(&shares, sum))?;
    Ok(())
}

/// What each kernel takes in each part of the step, parts in order, kernels as they come first.
fn shares(kernels: &[(String, f64)]) -> Vec<Share> {
    let mut shares: Vec<Share> = Vec::new();
    let mut phase = "forward";
    for (kernel, milliseconds) in kernels {
        if kernel == FIRST_AFTER {
            phase = "update";
        }
        let found = shares
            .iter_mut()
            .find(|share| share.phase == phase && share.kernel == *kernel);
        match found {
            Some(share) => {
                share.launches += 1;
                share.milliseconds += milliseconds;
            }
            None => shares.push(Share {
                phase,
                kernel: kernel.clone(),
                launches: 1,
                milliseconds: *milliseconds,
            }),
        }
        if kernel == LAST_FORWARD {
            phase = "backward";
        }
    }
    shares
}

fn table(shares: &[Share], sum: f64) -> Vec<Vec<String>> {
    let header = ["phase", "kernel", "launches", "ms", "percent"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for share in shares {
        rows.push(vec![
            share.phase.to_owned(),
            share.kernel.clone(),
            share.launches.to_string(),
            number(Some(share.milliseconds), 4),
            number(Some(100.0 * share.milliseconds / sum), 1),
        ]);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_summed_by_the_part_of_the_step() {
        let kernels = [
            ("convolve", 1.0),
            ("convolve", 2.0),
            ("cross_entropy", 0.5),
            ("convolve", 3.0),
            ("total_loss", 0.25),
            ("update", 0.75),
        ];
        let kernels = kernels.map(|(kernel, time)| (kernel.to_owned(), time));
        let shares = shares(&kernels);
        let found: Vec<_> = shares
            .iter()
            .map(|share| {
                (
                    share.phase,
                    share.kernel.as_str(),
                    share.launches,
                    share.milliseconds,
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                ("forward", "convolve", 2, 3.0),
                ("forward", "cross_entropy", 1, 0.5),
                ("backward", "convolve", 1, 3.0),
                ("update", "total_loss", 1, 0.25),
                ("update", "update", 1, 0.75),
            ]
        );
        assert_eq!(
            table(&shares, 7.5)[1].join(","),
            "forward,convolve,2,3.0000,40.0"
        );
    }
}
