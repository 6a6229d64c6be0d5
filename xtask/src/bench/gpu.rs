//! Training on a GPU: every network in both precisions, ours beside PyTorch by turns.
//!
//! A record that is there already is gone on with: what it has a line of is not measured again. A comparison can so be
//! made in several sittings.
//!
//! Where PyTorch fails, ours is recorded all the same, without a ratio: whoever has to do without one of PyTorch's ways
//! does not know which is the faster. What failed is said at the end, with an error.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
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

/// The comment lines of a record that say something of one line of its table.
const REMARK: &str = "remark";

/// Most characters of what is said of an error.
const MOST_SAID: usize = 400;

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

/// The table so far, with what has to be said of its lines.
#[derive(Debug, PartialEq)]
struct Record {
    rows: Vec<Vec<String>>,
    remarks: Vec<String>,
}

/// Measures what the record lacks, records it line by line, and prints the table.
pub(super) fn run(bench: &Bench<'_>) -> Result<()> {
    let path = bench.records.file("gpu", "csv");
    let mut record = Record::read(&path)?;
    let bar = progress(bench.networks.len() * PRECISIONS.len());
    let gpu = ("gpu", gpu());
    let mut failures = Vec::new();
    for &subject in &bench.networks {
        for precision in PRECISIONS {
            let name = format!("{} {precision}", subject.network);
            bar.set_message(name.clone());
            if let Some(row) = record.find([subject.network, precision]) {
                let has_ratio = row.last().is_some_and(|ratio| !ratio.is_empty());
                if !has_ratio && bench.workers.has_pytorch() {
                    let where_to = "its line in the record has no ratio; measure it again by taking the line out";
                    failures.push(format!("{name}: {where_to}"));
                }
            } else {
                let measured = measure(bench, subject, precision).with_context(|| name.clone())?;
                record.rows.push(measured.finding.row());
                let graphs = measured.graphs.iter();
                record
                    .remarks
                    .extend(graphs.map(|said| format!("{name}: {said}")));
                let failed = measured.failed.into_iter();
                let failed: Vec<String> = failed.map(|why| format!("{name}: {why}")).collect();
                record.remarks.extend(failed.iter().cloned());
                failures.extend(failed);
                let mut notes = vec![gpu.clone()];
                notes.extend(measured.said);
                let remarks = record.remarks.iter();
                notes.extend(remarks.map(|remark| (REMARK, remark.clone())));
                bench.records.write("gpu", &notes, &record.rows)?;
            }
            // What is measured stays, whatever comes of its profile.
            if !gpu_profile::is_there(bench, subject, precision)
                && let Err(error) = gpu_profile::record(bench, subject, precision)
            {
                failures.push(format!("{name}: profile: {}", in_one_line(&error)));
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    print!("{}", aligned(&record.rows));
    println!(
        "\nms: median and range of a step, timed in runs of {STEPS}; speed: the time of PyTorch's faster way over ours"
    );
    println!("recorded in {}", path.display());
    if let Some(advice) = bench.workers.advice() {
        println!("{advice}");
    }
    ensure!(
        failures.is_empty(),
        "not all was measured:\n{}",
        failures.join("\n")
    );
    Ok(())
}

/// An error with its causes, as a comment line can have it.
fn in_one_line(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(MOST_SAID).collect()
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

impl Record {
    /// That of an earlier sitting, or an empty one.
    fn read(path: &Path) -> Result<Self> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Self {
                    rows: vec![header()],
                    remarks: Vec::new(),
                });
            }
            text => text.with_context(|| format!("reading {}", path.display()))?,
        };
        let (comments, lines): (Vec<_>, Vec<_>) =
            text.lines().partition(|line| line.starts_with('#'));
        let rows: Vec<Vec<String>> = lines
            .iter()
            .map(|line| line.split(',').map(str::to_owned).collect())
            .collect();
        ensure!(
            rows.first() == Some(&header()),
            "{}: has other columns; move it away",
            path.display()
        );
        let prefix = format!("# {REMARK}: ");
        let remarks = comments
            .iter()
            .filter_map(|line| line.strip_prefix(&prefix));
        Ok(Self {
            rows,
            remarks: remarks.map(str::to_owned).collect(),
        })
    }

    /// The line of a network in a precision.
    fn find(&self, key: [&str; 2]) -> Option<&Vec<String>> {
        let has_key = |row: &&Vec<String>| row.get(..2).is_some_and(|row| row == key);
        self.rows.iter().find(has_key)
    }
}

/// Name and driver of the GPU, as the driver's own program says.
fn gpu() -> String {
    let arguments = [
        "--query-gpu=name,driver_version,clocks.max.sm",
        "--format=csv,noheader",
    ];
    first_line(&PathBuf::from("nvidia-smi"), &arguments).unwrap_or_else(|| "unknown".into())
}

/// What came of measuring.
struct Measured {
    finding: Finding,
    /// What the processes said of themselves.
    said: Vec<(&'static str, String)>,
    /// Which of PyTorch's ways went without CUDA graphs how often, where they say so.
    graphs: Vec<String>,
    /// Which of PyTorch's ways failed, and why.
    failed: Vec<String>,
}

/// One of PyTorch's ways, for as long as it works.
struct Way {
    name: &'static str,
    worker: Option<Worker>,
    /// What ended it.
    error: Option<String>,
}

impl Way {
    /// Without a worker and without an error where there is no PyTorch.
    fn new(name: &'static str, started: Result<Option<Worker>>) -> Self {
        let (worker, error) = match started {
            Ok(worker) => (worker, None),
            Err(error) => (None, Some(in_one_line(&error))),
        };
        Self {
            name,
            worker,
            error,
        }
    }

    /// Lets the worker do something, and lets go of it if that fails.
    fn attempt<T>(&mut self, what: impl FnOnce(&mut Worker) -> Result<T>) -> Option<T> {
        match what(self.worker.as_mut()?) {
            Ok(done) => Some(done),
            Err(error) => {
                self.error = Some(in_one_line(&error));
                self.worker = None;
                None
            }
        }
    }
}

/// Rounds of turns, then epochs of ours.
fn measure(bench: &Bench<'_>, subject: Subject, precision: &'static str) -> Result<Measured> {
    let steps = if bench.quick { 2 } else { STEPS };
    let mut ours = bench.workers.our_gpu(&task(subject, precision, steps))?;
    let mut ways = WAYS.map(|(name, compiled)| {
        let mut task = task(subject, precision, steps);
        task["compiled"] = json!(compiled);
        Way::new(name, bench.workers.pytorch_gpu(&task))
    });
    let said = describe(&ours, &ways);
    let graphs = ways.iter().filter_map(|way| {
        let said = way.worker.as_ref()?.ready.cuda_graphs.as_ref()?;
        Some(format!("PyTorch {}: {said}", way.name))
    });
    let graphs = graphs.collect();
    let budget = bench.budget / steps as f64;
    ours.calibrate(budget)?;
    for way in &mut ways {
        way.attempt(|worker| worker.calibrate(budget));
    }
    for _ in 0..bench.rounds {
        for way in &mut ways {
            if way.worker.is_some() {
                ours.measure()?;
                way.attempt(Worker::measure);
            }
        }
        if ways.iter().all(|way| way.worker.is_none()) {
            ours.measure()?;
        }
    }
    let summary = |worker: &mut Worker| Summary::of(&worker.times);
    let pytorch = ways.iter_mut().map(|way| way.attempt(summary)).collect();
    let finding = Finding {
        subject,
        precision,
        ours: summary(&mut ours)?,
        pytorch,
        epoch: epoch(bench, subject, precision)?,
    };
    let failed = ways.iter().filter_map(|way| {
        let error = way.error.as_ref()?;
        Some(format!("PyTorch {}: {error}", way.name))
    });
    Ok(Measured {
        finding,
        said,
        graphs,
        failed: failed.collect(),
    })
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

fn describe(ours: &Worker, ways: &[Way]) -> Vec<(&'static str, String)> {
    let describe = |ready: &Ready| format!("{}, {}", ready.version, ready.instruction_set);
    let pytorch = ways.iter().find_map(|way| way.worker.as_ref());
    vec![
        ("ours", describe(&ours.ready)),
        (
            "pytorch",
            pytorch.map_or_else(|| "none".into(), |worker| describe(&worker.ready)),
        ),
    ]
}

impl Finding {
    /// How many times faster than PyTorch's faster way, where all were measured.
    fn speed_ratio(&self) -> Option<f64> {
        let times: Option<Vec<f64>> = self
            .pytorch
            .iter()
            .map(|time| time.map(|time| time.median))
            .collect();
        Some(times?.into_iter().min_by(f64::total_cmp)? / self.ours.median)
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
    fn the_ratio_is_that_to_the_faster_of_all_ways() {
        assert_eq!(finding([Some(20.0), Some(8.0)]).speed_ratio(), Some(2.0));
        assert_eq!(finding([Some(20.0), None]).speed_ratio(), None);
        assert_eq!(finding([None, None]).speed_ratio(), None);
    }

    #[test]
    fn a_record_is_read_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gpu.csv");
        let empty = Record::read(&path).unwrap();
        assert_eq!(empty.rows, [header()]);
        let row = finding([Some(20.0), None]).row();
        assert_eq!(row.len(), header().len());
        assert_eq!(
            row.join(","),
            "resnet-110,bf16,128,4.000,4.000,4.000,20.000,20.000,20.000,,,,1.750,"
        );
        let text = format!(
            "# gpu: some\n# remark: resnet-110 bf16: so\n{}\n{}\n",
            header().join(","),
            row.join(",")
        );
        fs::write(&path, text).unwrap();
        let record = Record::read(&path).unwrap();
        assert_eq!(record.find(["resnet-110", "bf16"]), Some(&row));
        assert_eq!(record.find(["resnet-110", "f32"]), None);
        assert_eq!(record.rows, [header(), row]);
        assert_eq!(record.remarks, ["resnet-110 bf16: so"]);
        fs::write(&path, "network,ms\n").unwrap();
        assert!(Record::read(&path).is_err());
    }

    #[test]
    fn an_error_stands_in_one_line() {
        let error =
            anyhow::anyhow!("first\n  second: {}", "x".repeat(2 * MOST_SAID)).context("outer");
        let line = in_one_line(&error);
        assert!(line.starts_with("outer: first second: xx"));
        assert_eq!(line.len(), MOST_SAID);
    }

    /// With `fake-gpu` on both sides.
    #[cfg(unix)]
    fn with_fakes<'a>(folder: &'a Path, fake: &'a Path) -> Bench<'a> {
        std::os::unix::fs::symlink(fake, folder.join("gpu")).unwrap();
        Bench {
            workers: super::super::worker::Workers::new(folder, fake),
            networks: Vec::new(),
            rounds: 3,
            threads: 1,
            budget: 0.0,
            quick: true,
            records: super::super::record::Folder::new(&folder.join("records")).unwrap(),
        }
    }

    /// What is said at the end, and the record.
    #[cfg(unix)]
    fn measured(bench: &mut Bench<'_>, networks: &[&str]) -> (Result<()>, Record) {
        let names: Vec<String> = networks.iter().map(|&name| name.into()).collect();
        bench.networks = super::super::comparison::subjects(&names);
        let done = run(bench);
        let record = Record::read(&bench.records.file("gpu", "csv")).unwrap();
        (done, record)
    }

    #[cfg(unix)]
    #[test]
    fn what_fails_leaves_what_was_measured() {
        let folder = tempfile::tempdir().unwrap();
        let fake = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/bench/fake-gpu"));
        let mut bench = with_fakes(folder.path(), fake);
        let (done, whole) = measured(&mut bench, &["wide"]);
        done.unwrap();
        assert_eq!(whole.rows[1].last().unwrap(), "2.000");
        assert_eq!(
            whole.remarks,
            PRECISIONS.map(|precision| format!("wide {precision}: PyTorch compiled: graphs"))
        );
        // One way does not start, one ends after its first round, one profile does not come.
        let networks = ["resnet-32", "resnet-38", "resnet-56", "wide"];
        let (done, record) = measured(&mut bench, &networks);
        let said = done.unwrap_err().to_string();
        let fake = fake.display();
        for precision in PRECISIONS {
            let failed = [
                format!(
                    "resnet-32 {precision}: PyTorch compiled: {fake} failed: BackendCompilerFailed: no compiler"
                ),
                format!("resnet-38 {precision}: PyTorch eager: {fake} has ended"),
            ];
            for failed in failed {
                let remarks = &record.remarks;
                assert!(
                    remarks.iter().any(|remark| remark.starts_with(&failed)),
                    "{remarks:?}"
                );
                assert!(said.contains(&failed), "{said}");
            }
            assert!(
                said.contains(&format!("resnet-56 {precision}: profile: ")),
                "{said}"
            );
            let row = |network| record.find([network, precision]).unwrap().join(",");
            assert_eq!(
                row("resnet-32"),
                format!(
                    "resnet-32,{precision},128,4.000,4.000,4.000,20.000,20.000,20.000,,,,0.008,"
                )
            );
            assert_eq!(
                row("resnet-38"),
                format!("resnet-38,{precision},128,4.000,4.000,4.000,,,,8.000,8.000,8.000,0.008,")
            );
            assert!(row("resnet-56").ends_with(",2.000"));
        }
        assert!(!said.contains("wide"), "{said}");
        // Again: nothing is measured, and what lacks is still said.
        let (done, again) = measured(&mut bench, &networks);
        assert_eq!(again, record);
        let said = done.unwrap_err().to_string();
        assert!(said.contains("resnet-38 f32: its line in the record has no ratio"));
        assert!(said.contains("resnet-56 f32: profile: "));
    }
}
