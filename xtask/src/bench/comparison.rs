//! Every network, training and evaluation, ours beside PyTorch by turns.

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use serde_json::json;

use super::record::{aligned, number, shown};
use super::summary::Summary;
use super::worker::{Ready, Worker};
use super::{Bench, progress};

/// The networks of the paper and the batches that they are measured on.
const SUBJECTS: [Subject; 7] = [
    Subject::new("resnet-32", 128),
    Subject::new("resnet-38", 128),
    Subject::new("resnet-56", 128),
    Subject::new("resnet-110", 128),
    Subject::new("single-representation", 32),
    Subject::new("avg-pooling", 32),
    Subject::new("wide", 32),
];

/// What is timed: an optimiser step, or a forward pass.
pub(super) const MODES: [&str; 2] = ["train", "evaluate"];

/// PyTorch's memory formats; whoever uses it takes the better one.
const LAYOUTS: [&str; 2] = ["contiguous", "channels_last"];

/// A network and its batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject {
    pub(super) network: &'static str,
    pub(super) batch: usize,
}

impl Subject {
    const fn new(network: &'static str, batch: usize) -> Self {
        Self { network, batch }
    }
}

/// The names that `--networks` takes.
pub(super) fn names() -> clap::builder::PossibleValuesParser {
    SUBJECTS.map(|subject| subject.network).into()
}

/// The networks with these names, in the order of the table; all of them without a name.
pub(super) fn subjects(names: &[String]) -> Vec<Subject> {
    let asked =
        |subject: &&Subject| names.is_empty() || names.iter().any(|name| name == subject.network);
    SUBJECTS.iter().filter(asked).copied().collect()
}

/// What one process showed.
struct Measured {
    time: Summary,
    peak_memory_mib: Option<f64>,
}

/// What was found for one network in one mode.
struct Finding {
    subject: Subject,
    mode: &'static str,
    ours: Measured,
    /// In the order of [`LAYOUTS`]; empty without PyTorch.
    pytorch: Vec<Measured>,
}

/// What the processes of a run said of themselves, and how they kept still.
#[derive(Default)]
struct Notes {
    ours: String,
    pytorch: String,
    /// The largest share of a core that a waiting process used.
    unrest: f64,
}

/// Measures, records after every network, and prints the table.
pub(super) fn run(bench: &Bench<'_>) -> Result<()> {
    let turns = bench.networks.len() * MODES.len() * bench.rounds;
    let bar = progress(turns);
    let (mut findings, mut notes) = (Vec::new(), Notes::default());
    let mut path = None;
    for &subject in &bench.networks {
        for mode in MODES {
            bar.set_message(format!("{} {mode}", subject.network));
            let finding = measure(bench, subject, mode, &mut notes, &bar)
                .with_context(|| format!("{} {mode}", subject.network))?;
            findings.push(finding);
            path = Some(record(bench, &findings, &notes)?);
        }
    }
    bar.finish_and_clear();
    print!("{}", aligned(&console(&findings)));
    println!(
        "\nms: median (range) of a step; memory: our peak over that of PyTorch's faster format; \
         speed: its time over ours"
    );
    if notes.unrest > 0.05 {
        println!(
            "a process that waited used {:.0} % of a core, which disturbs the one measured",
            100.0 * notes.unrest
        );
    }
    if let Some(advice) = bench.workers.advice() {
        println!("{advice}");
    }
    if let Some(path) = path {
        println!("recorded in {}", path.display());
    }
    Ok(())
}

/// Rounds of turns: ours, the first format, ours, the second.
fn measure(
    bench: &Bench<'_>,
    subject: Subject,
    mode: &'static str,
    notes: &mut Notes,
    bar: &ProgressBar,
) -> Result<Finding> {
    let Subject { network, batch } = subject;
    let task =
        json!({ "network": network, "batch": batch, "mode": mode, "threads": bench.threads });
    let mut workers = vec![bench.workers.ours(&task)?];
    for layout in LAYOUTS {
        workers.extend(bench.workers.pytorch(&task, layout)?);
    }
    notes.take(&workers);
    for worker in &mut workers {
        worker.calibrate(bench.budget)?;
    }
    for _ in 0..bench.rounds {
        for turn in turns(workers.len()) {
            notes.unrest = notes.unrest.max(take_turn(&mut workers, turn)?);
        }
        bar.inc(1);
    }
    let mut measured = workers
        .iter()
        .map(Measured::of)
        .collect::<Result<Vec<_>>>()?;
    let pytorch = measured.split_off(1);
    let ours = measured.pop().context("ours was not measured")?;
    Ok(Finding {
        subject,
        mode,
        ours,
        pytorch,
    })
}

/// Who works when: ours, the index 0, before each of the others.
fn turns(workers: usize) -> Vec<usize> {
    match workers {
        1 => vec![0],
        _ => (1..workers).flat_map(|other| [0, other]).collect(),
    }
}

/// One measurement of one process; returns the share of a core that the busiest of the others
/// used meanwhile, 0 where the system does not tell.
fn take_turn(workers: &mut [Worker], turn: usize) -> Result<f64> {
    let start = std::time::Instant::now();
    let before: Vec<_> = workers.iter().map(Worker::processor_seconds).collect();
    workers[turn].measure()?;
    let seconds = start.elapsed().as_secs_f64();
    let used = workers
        .iter()
        .zip(before)
        .enumerate()
        .map(|(index, (worker, before))| {
            let used = worker
                .processor_seconds()
                .zip(before)
                .map(|(after, before)| after - before);
            if index == turn {
                0.0
            } else {
                used.unwrap_or(0.0)
            }
        });
    Ok(used.fold(0.0, f64::max) / seconds)
}

impl Measured {
    fn of(worker: &Worker) -> Result<Self> {
        Ok(Self {
            time: Summary::of(&worker.times)?,
            peak_memory_mib: worker.peak_memory_mib,
        })
    }

    fn cells(&self) -> [String; 4] {
        let Summary { median, min, max } = self.time;
        let [median, min, max] = [median, min, max].map(|time| number(Some(time), 2));
        [median, min, max, number(self.peak_memory_mib, 0)]
    }
}

impl Finding {
    /// PyTorch in its faster format.
    fn better(&self) -> Option<&Measured> {
        let faster = |a: &&Measured, b: &&Measured| a.time.median.total_cmp(&b.time.median);
        self.pytorch.iter().min_by(faster)
    }

    fn images_per_second(&self) -> f64 {
        1e3 * self.subject.batch as f64 / self.ours.time.median
    }

    /// How many times faster than PyTorch.
    fn speed_ratio(&self) -> Option<f64> {
        Some(self.better()?.time.median / self.ours.time.median)
    }

    /// Our peak memory over that of PyTorch in its faster format.
    fn memory_ratio(&self) -> Option<f64> {
        Some(self.ours.peak_memory_mib? / self.better()?.peak_memory_mib?)
    }
}

impl Notes {
    fn take(&mut self, workers: &[Worker]) {
        let mut described = workers.iter().map(|worker| describe(&worker.ready));
        self.ours = described.next().unwrap_or_default();
        self.pytorch = described.next().unwrap_or_else(|| "none".to_owned());
    }
}

fn describe(ready: &Ready) -> String {
    let Ready {
        version,
        instruction_set,
        base_memory_mib,
        cuda_graphs: _,
    } = ready;
    let memory = shown(*base_memory_mib, 0);
    format!("{version}, {instruction_set}, {memory} MiB before the first step")
}

fn record(bench: &Bench<'_>, findings: &[Finding], notes: &Notes) -> Result<std::path::PathBuf> {
    let notes = [
        ("threads", bench.threads.to_string()),
        ("rounds", bench.rounds.to_string()),
        ("ours", notes.ours.clone()),
        ("pytorch", notes.pytorch.clone()),
        (
            "largest share of a core that a waiting process used",
            format!("{:.4}", notes.unrest),
        ),
    ];
    bench.records.write("comparison", &notes, &file(findings))
}

/// The table as it is recorded: times in milliseconds, memory in MiB.
fn file(findings: &[Finding]) -> Vec<Vec<String>> {
    let sides = ["ours", "pytorch_contiguous", "pytorch_channels_last"];
    let measured = sides.iter().flat_map(|side| {
        ["ms", "ms_min", "ms_max", "peak_mib"].map(|quantity| format!("{side}_{quantity}"))
    });
    let mut header: Vec<String> = ["network", "batch", "mode"].map(str::to_owned).into();
    header.extend(measured);
    header.extend(["ours_images_per_second", "memory_ratio", "speed_ratio"].map(str::to_owned));
    let mut rows = vec![header];
    for finding in findings {
        let Subject { network, batch } = finding.subject;
        let mut row = vec![
            network.to_owned(),
            batch.to_string(),
            finding.mode.to_owned(),
        ];
        row.extend(finding.ours.cells());
        for index in 0..LAYOUTS.len() {
            let cells = finding.pytorch.get(index).map(Measured::cells);
            row.extend(cells.unwrap_or_default());
        }
        row.push(number(Some(finding.images_per_second()), 1));
        row.push(number(finding.memory_ratio(), 3));
        row.push(number(finding.speed_ratio(), 3));
        rows.push(row);
    }
    rows
}

/// The table for people.
fn console(findings: &[Finding]) -> Vec<Vec<String>> {
    let header = [
        "network",
        "batch",
        "mode",
        "ours ms",
        "PyTorch NCHW ms",
        "channels_last ms",
        "images/s",
        "ours MiB",
        "PyTorch MiB",
        "memory",
        "speed",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for finding in findings {
        let Subject { network, batch } = finding.subject;
        let time = |index: usize| {
            let measured = finding.pytorch.get(index);
            measured.map_or_else(|| "–".to_owned(), |measured| measured.time.to_string())
        };
        rows.push(vec![
            network.to_owned(),
            batch.to_string(),
            finding.mode.to_owned(),
            finding.ours.time.to_string(),
            time(0),
            time(1),
            shown(Some(finding.images_per_second()), 0),
            shown(finding.ours.peak_memory_mib, 0),
            shown(
                finding.better().and_then(|better| better.peak_memory_mib),
                0,
            ),
            shown(finding.memory_ratio(), 2),
            shown(finding.speed_ratio(), 2),
        ]);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(times: &[f64], memory: f64) -> Measured {
        Measured {
            time: Summary::of(times).unwrap(),
            peak_memory_mib: Some(memory),
        }
    }

    fn finding(pytorch: Vec<Measured>) -> Finding {
        Finding {
            subject: SUBJECTS[0],
            mode: "train",
            ours: measured(&[50.0, 40.0, 60.0], 300.0),
            pytorch,
        }
    }

    #[test]
    fn ours_works_before_each_of_the_others() {
        assert_eq!(turns(1), [0]);
        assert_eq!(turns(3), [0, 1, 0, 2]);
    }

    #[test]
    fn the_ratios_are_those_to_the_faster_format() {
        let finding = finding(vec![measured(&[200.0], 500.0), measured(&[125.0], 1000.0)]);
        assert_eq!(finding.speed_ratio(), Some(2.5));
        assert_eq!(finding.memory_ratio(), Some(0.3));
        assert_eq!(finding.images_per_second(), 2560.0);
        let rows = file(&[finding]);
        assert_eq!(rows[0].len(), rows[1].len());
        assert_eq!(
            rows[1].join(","),
            "resnet-32,128,train,50.00,40.00,60.00,300,200.00,200.00,200.00,500,125.00,125.00,125.00,1000,\
             2560.0,0.300,2.500"
        );
    }

    #[test]
    fn without_pytorch_its_columns_are_empty() {
        let rows = file(&[finding(Vec::new())]);
        assert_eq!(rows[0].len(), rows[1].len());
        assert_eq!(
            rows[1].join(","),
            "resnet-32,128,train,50.00,40.00,60.00,300,,,,,,,,,2560.0,,"
        );
    }

    #[test]
    fn networks_keep_their_order() {
        let asked = subjects(&["wide".to_owned(), "resnet-32".to_owned()]);
        assert_eq!(asked.len(), 2);
        assert_eq!((asked[0].network, asked[1].network), ("resnet-32", "wide"));
        assert_eq!(subjects(&[]).len(), SUBJECTS.len());
    }
}
