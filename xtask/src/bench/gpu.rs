//! Training on a GPU: every network in both precisions, ours beside PyTorch by turns.
//!
//! A record that is there already is gone on with: what it has a line of is not measured again. A comparison can so be
//! made in several sittings.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::comparison::Subject;
use super::gpu_profile;
use super::record::{aligned, number};
use super::summary::Summary;
use super::worker::{Ready, Worker};
use super::{Bench, first_line, progress};

/// What numbers are stored as, the one that counts most first.
const PRECISIONS: [&str; 2] = ["bf16", "f32"];

/// How PyTorch runs: an operation at a time, and compiled with CUDA graphs.
const WAYS: [(&str, bool); 2] = [("eager", false), ("compiled", true)];

/// Steps of a run, which is timed as a whole.
const STEPS: usize = 32;

/// Images of an epoch of CIFAR-10.
const IMAGES: usize = 50_000;

/// A network, what its numbers are stored as, and how it was measured.
struct Finding {
    subject: Subject,
    precision: &'static str,
    ours: Summary,
    /// In the order of [`WAYS`]; `None` where it could not be measured.
    pytorch: Vec<Option<Summary>>,
    /// Seconds of an epoch of ours.
    epoch: f64,
}

/// Measures what the record lacks, records it line by line, and prints the table.
pub(super) fn run(bench: &Bench<'_>) -> Result<()> {
    let path = bench.records.file("gpu", "csv");
    let mut rows = read(&path)?;
    let bar = progress(bench.networks.len() * PRECISIONS.len());
    let mut notes = vec![("gpu", gpu())];
    for &subject in &bench.networks {
        for precision in PRECISIONS {
            let key = [subject.network, precision];
            let is_there = rows
                .iter()
                .any(|row| row.get(..2).is_some_and(|row| row == key));
            if !is_there {
                bar.set_message(format!("{} {precision}", subject.network));
                let (finding, said) = measure(bench, subject, precision)
                    .with_context(|| format!("{} {precision}", subject.network))?;
                rows.push(finding.row());
                notes.truncate(1);
                notes.extend(said);
                bench.records.write("gpu", &notes, &rows)?;
                gpu_profile::record(bench, subject, precision)?;
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    print!("{}", aligned(&rows));
    println!(
        "\nms: median and range of a step, timed in runs of {STEPS}; speed: the time of PyTorch's faster way over ours"
    );
    println!("recorded in {}", path.display());
    if let Some(advice) = bench.workers.advice() {
        println!("{advice}");
    }
    Ok(())
}

/// The first line of the table.
fn header() -> Vec<String> {
    let mut header: Vec<String> = ["network", "precision", "batch"].map(str::to_owned).into();
    for side in ["ours", WAYS[0].0, WAYS[1].0] {
        header.extend(["ms", "ms_min", "ms_max"].map(|quantity| format!("{side}_{quantity}")));
    }
    header.extend(["ours_epoch_s", "speed_ratio"].map(str::to_owned));
    header
}

/// The table of an earlier sitting, or an empty one.
fn read(path: &Path) -> Result<Vec<Vec<String>>> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(vec![header()]),
        text => text.with_context(|| format!("reading {}", path.display()))?,
    };
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let rows: Vec<Vec<String>> = lines
        .map(|line| line.split(',').map(str::to_owned).collect())
        .collect();
    anyhow::ensure!(
        rows.first() == Some(&header()),
        "{}: has other columns; move it away",
        path.display()
    );
    Ok(rows)
}

/// Name and driver of the GPU, as the driver's own program says.
fn gpu() -> String {
    let arguments = [
        "--query-gpu=name,driver_version,clocks.max.sm",
        "--format=csv,noheader",
    ];
    first_line(&PathBuf::from("nvidia-smi"), &arguments).unwrap_or_else(|| "unknown".into())
}

/// Rounds of turns, then epochs of ours; with what the processes said of themselves.
fn measure(
    bench: &Bench<'_>,
    subject: Subject,
    precision: &'static str,
) -> Result<(Finding, Vec<(&'static str, String)>)> {
    let steps = if bench.quick { 2 } else { STEPS };
    let mut ours = bench.workers.our_gpu(&task(subject, precision, steps))?;
    let mut pytorch: Vec<Option<Worker>> = WAYS
        .iter()
        .map(|&(_, compiled)| {
            let mut task = task(subject, precision, steps);
            task["compiled"] = json!(compiled);
            // Where one way fails, as compiling may, the other still counts; what it said stands on stderr.
            bench.workers.pytorch_gpu(&task).ok().flatten()
        })
        .collect();
    let said = describe(&ours, &pytorch);
    let budget = bench.budget / steps as f64;
    ours.calibrate(budget)?;
    for worker in pytorch.iter_mut().flatten() {
        worker.calibrate(budget)?;
    }
    for _ in 0..bench.rounds {
        for worker in pytorch.iter_mut().flatten() {
            ours.measure()?;
            worker.measure()?;
        }
        if pytorch.iter().all(Option::is_none) {
            ours.measure()?;
        }
    }
    let summary = |worker: &Worker| Summary::of(&worker.times);
    let found = pytorch
        .iter()
        .map(|way| way.as_ref().map(summary).transpose());
    let finding = Finding {
        subject,
        precision,
        ours: summary(&ours)?,
        pytorch: found.collect::<Result<_>>()?,
        epoch: epoch(bench, subject, precision)?,
    };
    Ok((finding, said))
}

/// What a process of ours is told; PyTorch's takes no notice of `timed`.
pub(super) fn task(subject: Subject, precision: &str, steps: usize) -> Value {
    let Subject { network, batch } = subject;
    json!({ "network": network, "batch": batch, "precision": precision, "steps": steps, "timed": false })
}

/// Seconds of an epoch of CIFAR-10, all of it: the median of as many as there are rounds.
fn epoch(bench: &Bench<'_>, subject: Subject, precision: &str) -> Result<f64> {
    let steps = if bench.quick {
        2
    } else {
        IMAGES / subject.batch
    };
    let mut worker = bench.workers.our_gpu(&task(subject, precision, steps))?;
    for _ in 0..bench.rounds {
        worker.measure()?;
    }
    Ok(Summary::of(&worker.times)?.median * steps as f64 / 1e3)
}

fn describe(ours: &Worker, pytorch: &[Option<Worker>]) -> Vec<(&'static str, String)> {
    let describe = |ready: &Ready| format!("{}, {}", ready.version, ready.instruction_set);
    let pytorch = pytorch.iter().flatten().next();
    vec![
        ("ours", describe(&ours.ready)),
        (
            "pytorch",
            pytorch.map_or_else(|| "none".into(), |worker| describe(&worker.ready)),
        ),
    ]
}

impl Finding {
    /// How many times faster than PyTorch's faster way.
    fn speed_ratio(&self) -> Option<f64> {
        let times = self.pytorch.iter().flatten().map(|time| time.median);
        Some(times.min_by(f64::total_cmp)? / self.ours.median)
    }

    fn row(&self) -> Vec<String> {
        let Subject { network, batch } = self.subject;
        let mut row = vec![
            network.to_owned(),
            self.precision.to_owned(),
            batch.to_string(),
        ];
        for time in [Some(self.ours)].iter().chain(&self.pytorch) {
            let cells = time.map(|Summary { median, min, max }| [median, min, max]);
            let cell = |index: usize| number(cells.map(|cells| cells[index]), 3);
            row.extend([cell(0), cell(1), cell(2)]);
        }
        row.extend([number(Some(self.epoch), 3), number(self.speed_ratio(), 3)]);
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(pytorch: [Option<f64>; 2]) -> Finding {
        let summary = |time: f64| Summary::of(&[time]).unwrap();
        Finding {
            subject: super::super::comparison::subjects(&["resnet-110".into()])[0],
            precision: "bf16",
            ours: summary(4.0),
            pytorch: pytorch.map(|time| time.map(summary)).into(),
            epoch: 1.75,
        }
    }

    #[test]
    fn the_ratio_is_that_to_the_faster_way() {
        assert_eq!(finding([Some(20.0), Some(8.0)]).speed_ratio(), Some(2.0));
        assert_eq!(finding([Some(20.0), None]).speed_ratio(), Some(5.0));
        assert_eq!(finding([None, None]).speed_ratio(), None);
    }

    #[test]
    fn a_record_is_read_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gpu.csv");
        assert_eq!(read(&path).unwrap(), [header()]);
        let row = finding([Some(20.0), None]).row();
        assert_eq!(row.len(), header().len());
        assert_eq!(
            row.join(","),
            "resnet-110,bf16,128,4.000,4.000,4.000,20.000,20.000,20.000,,,,1.750,5.000"
        );
        let text = format!("# gpu: some\n{}\n{}\n", header().join(","), row.join(","));
        fs::write(&path, text).unwrap();
        assert_eq!(read(&path).unwrap(), [header(), row]);
        fs::write(&path, "network,ms\n").unwrap();
        assert!(read(&path).is_err());
    }
}
