//! Whether training learns as PyTorch does: one epoch from the same weights on the same batches.
//!
//! Rounding makes two runs drift apart, even of one program with itself. So the question is whether ours is
//! nearer to PyTorch's than PyTorch's runs with different seeds are to one another.

use std::fs;
use std::panic;
use std::path::PathBuf;
use std::thread;

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use serde::Deserialize;
use serde_json::json;

use super::chart::{Chart, Line};
use super::process::Process;
use super::record::{aligned, number};
use super::{Bench, progress};

const NETWORK: &str = "resnet-32";
const BATCH: usize = 128;
const LEARNING_RATE: f64 = 0.1;
const SEEDS: [u64; 3] = [0, 1, 2];

/// Steps of an epoch of CIFAR's 50,000 images in whole batches.
const EPOCH: usize = 390;
/// Steps where only the working is tried.
const QUICK: usize = 40;
/// Steps over which a curve is smoothed.
const WINDOW: usize = 20;

/// What the table compares curves by.
const DIFFERENCE: &str = "mean difference";

/// Bytes of a batch: labels and images, 4 each.
const BATCH_BYTES: usize = 4 * BATCH * (1 + 3 * 32 * 32);

/// The losses of one seed, step by step.
struct Curves {
    seed: u64,
    ours: Vec<f64>,
    pytorch: Vec<f64>,
    /// Of PyTorch.
    version: String,
}

#[derive(Deserialize)]
struct Steps {
    steps: usize,
}

#[derive(Deserialize)]
struct Version {
    version: String,
}

#[derive(Deserialize)]
struct Loss {
    loss: f64,
}

/// Trains with every seed on both sides, records, draws, and says whether they agree.
pub(super) fn run(bench: &Bench<'_>) -> Result<()> {
    if let Some(advice) = bench.workers.advice() {
        bail!("the curves are compared with PyTorch's: {advice}");
    }
    let (data, steps) = match bench.quick {
        true => ("synthetic10", QUICK),
        false => ("cifar10", EPOCH),
    };
    let bar = progress(SEEDS.len() * steps);
    bar.set_message(format!("{NETWORK} on {data}, {} seeds", SEEDS.len()));
    let found = thread::scope(|scope| {
        let (bench, bar) = (bench, &bar);
        let started = SEEDS.map(|seed| {
            let train = move || train(bench, data, seed, steps, bar);
            scope.spawn(move || train().with_context(|| format!("seed {seed}")))
        });
        let ended = started.map(|seed| {
            seed.join()
                .unwrap_or_else(|cause| panic::resume_unwind(cause))
        });
        ended.into_iter().collect::<Result<Vec<_>>>()
    })?;
    bar.finish_and_clear();
    let verdict = Verdict::of(&found)?;
    print!("{}", aligned(&verdict.table()));
    println!("\n{verdict}");
    let settings = format!("{NETWORK}, batch {BATCH}, learning rate {LEARNING_RATE}, {data}");
    let mut notes = vec![("training", settings), ("verdict", verdict.to_string())];
    notes.extend(
        found
            .first()
            .map(|curves| ("pytorch", curves.version.clone())),
    );
    notes.extend(
        verdict
            .table()
            .iter()
            .skip(1)
            .map(|row| (DIFFERENCE, row.join(": "))),
    );
    let path = bench.records.write("curves", &notes, &file(&found))?;
    let figure = bench.records.file("curves", "svg");
    fs::write(&figure, draw(&found, data))
        .with_context(|| format!("writing {}", figure.display()))?;
    println!("recorded in {} and {}", path.display(), figure.display());
    Ok(())
}

/// One epoch on both sides by turns: ours takes a step and hands on its batch. The seeds share the
/// threads, since three processes of one thread get on faster than one of three.
fn train(
    bench: &Bench<'_>,
    data: &str,
    seed: u64,
    steps: usize,
    bar: &ProgressBar,
) -> Result<Curves> {
    let weights = weights_file(seed)?;
    let task = json!({
        "network": NETWORK, "batch": BATCH, "learning_rate": LEARNING_RATE,
        "threads": (bench.threads / SEEDS.len()).max(1), "weights": weights, "data": data, "seed": seed,
    });
    let mut ours = Process::start(bench.workers.our_curve())?;
    let available: Steps = ours.ask(&task)?;
    if available.steps < steps {
        bail!(
            "{data} has {} batches, expected at least {steps}",
            available.steps
        );
    }
    let mut pytorch = Process::start(bench.workers.pytorch_curve())?;
    let Version { version } = pytorch.ask(&task)?;
    let mut curves = Curves {
        seed,
        ours: Vec::with_capacity(steps),
        pytorch: Vec::with_capacity(steps),
        version,
    };
    let (mut loss, mut batch) = ([0; 8], vec![0; BATCH_BYTES]);
    for _ in 0..steps {
        ours.send(b"\n")?;
        ours.receive(&mut loss)?;
        ours.receive(&mut batch)?;
        curves.ours.push(f64::from_le_bytes(loss));
        pytorch.send(&batch)?;
        let Loss { loss } = pytorch.answer()?;
        curves.pytorch.push(loss);
        bar.inc(1);
    }
    Ok(curves)
}

/// Where the untrained network is handed over.
fn weights_file(seed: u64) -> Result<PathBuf> {
    let folder = PathBuf::from("target/bench");
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    Ok(folder.join(format!("untrained-{seed}.safetensors")))
}

/// The mean over every [`WINDOW`] steps in a row.
fn smoothed(losses: &[f64]) -> Vec<f64> {
    let means = losses
        .windows(WINDOW)
        .map(|window| window.iter().sum::<f64>());
    means.map(|sum| sum / WINDOW as f64).collect()
}

/// The mean over all steps of the difference of two smoothed curves, without its sign.
fn difference(a: &[f64], b: &[f64]) -> f64 {
    let (a, b) = (smoothed(a), smoothed(b));
    let differences: Vec<f64> = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).collect();
    differences.iter().sum::<f64>() / differences.len() as f64
}

/// How far ours is from PyTorch's with each seed, and PyTorch's with two seeds from each other.
struct Verdict {
    ours: Vec<(u64, f64)>,
    pytorch: Vec<([u64; 2], f64)>,
}

impl Verdict {
    fn of(found: &[Curves]) -> Result<Self> {
        let mut verdict = Self {
            ours: Vec::new(),
            pytorch: Vec::new(),
        };
        for (index, curves) in found.iter().enumerate() {
            let distance = difference(&curves.ours, &curves.pytorch);
            if !distance.is_finite() {
                bail!(
                    "seed {}: a loss is not finite, or there are too few",
                    curves.seed
                );
            }
            verdict.ours.push((curves.seed, distance));
            for other in &found[index + 1..] {
                let distance = difference(&curves.pytorch, &other.pytorch);
                verdict.pytorch.push(([curves.seed, other.seed], distance));
            }
        }
        Ok(verdict)
    }

    /// The largest of ours, and the smallest between two seeds.
    fn extremes(&self) -> (f64, f64) {
        let ours = self.ours.iter().map(|(_, difference)| *difference);
        let pytorch = self.pytorch.iter().map(|(_, difference)| *difference);
        (
            ours.fold(0.0, f64::max),
            pytorch.fold(f64::INFINITY, f64::min),
        )
    }

    fn table(&self) -> Vec<Vec<String>> {
        let mut table = vec![vec![
            "of the smoothed losses".to_owned(),
            DIFFERENCE.to_owned(),
        ]];
        for (seed, difference) in &self.ours {
            let name = format!("ours and PyTorch, seed {seed}");
            table.push(vec![name, number(Some(*difference), 4)]);
        }
        for ([a, b], difference) in &self.pytorch {
            let name = format!("PyTorch, seeds {a} and {b}");
            table.push(vec![name, number(Some(*difference), 4)]);
        }
        table
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (ours, pytorch) = self.extremes();
        let relation = if ours < pytorch {
            "agree"
        } else {
            "do not agree"
        };
        write!(
            f,
            "the curves {relation} within the spread of PyTorch's seeds: {ours:.4} at most against {pytorch:.4} at least"
        )
    }
}

/// The losses as they are recorded, one line a step.
fn file(found: &[Curves]) -> Vec<Vec<String>> {
    let names = found.iter().flat_map(|Curves { seed, .. }| {
        [format!("ours_seed_{seed}"), format!("pytorch_seed_{seed}")]
    });
    let mut table = vec![std::iter::once("step".to_owned()).chain(names).collect()];
    let steps = found
        .iter()
        .map(|curves| curves.ours.len())
        .min()
        .unwrap_or(0);
    for step in 0..steps {
        let losses = found.iter().flat_map(|c| [c.ours[step], c.pytorch[step]]);
        let losses = losses.map(|loss| number(Some(loss), 6));
        table.push(std::iter::once(step.to_string()).chain(losses).collect());
    }
    table
}

/// All smoothed curves over each other.
fn draw(found: &[Curves], data: &str) -> String {
    let line = |losses: &[f64], name: &str, colour: &'static str| Line {
        name: name.to_owned(),
        colour,
        values: smoothed(losses),
    };
    let mut lines = Vec::new();
    for curves in found {
        lines.push(line(&curves.pytorch, "PyTorch", "#D55E00"));
        lines.push(line(&curves.ours, "ours", "#0072B2"));
    }
    Chart {
        title: format!(
            "{NETWORK} on {data}: training loss, mean over {WINDOW} steps, {} seeds",
            found.len()
        ),
        x_title: "step".to_owned(),
        y_title: "cross-entropy (nats)".to_owned(),
        first_x: WINDOW,
        lines,
    }
    .to_svg()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curves(seed: u64, ours: f64, pytorch: f64) -> Curves {
        Curves {
            seed,
            ours: vec![ours; 30],
            pytorch: vec![pytorch; 30],
            version: String::new(),
        }
    }

    #[test]
    fn a_curve_is_smoothed_over_its_window() {
        let ramp: Vec<f64> = (0..WINDOW + 1).map(|step| step as f64).collect();
        let middle = (WINDOW - 1) as f64 / 2.0;
        assert_eq!(smoothed(&ramp), [middle, middle + 1.0]);
    }

    #[test]
    fn curves_agree_when_ours_is_nearer_than_another_seed() {
        let near = Verdict::of(&[curves(0, 1.0, 1.125), curves(1, 2.0, 2.0)]).unwrap();
        assert_eq!(near.extremes(), (0.125, 0.875));
        assert!(near.to_string().starts_with("the curves agree"));
        let far = Verdict::of(&[curves(0, 1.0, 2.5), curves(1, 2.0, 2.0)]).unwrap();
        assert!(far.to_string().starts_with("the curves do not agree"));
    }

    #[test]
    fn a_loss_that_is_no_number_is_an_error() {
        assert!(Verdict::of(&[curves(0, f64::NAN, 1.0), curves(1, 1.0, 1.0)]).is_err());
    }

    #[test]
    fn the_record_has_a_line_a_step() {
        let table = file(&[curves(0, 1.0, 2.0), curves(7, 3.0, 4.0)]);
        assert_eq!(table.len(), 31);
        assert_eq!(
            table[0].join(","),
            "step,ours_seed_0,pytorch_seed_0,ours_seed_7,pytorch_seed_7"
        );
        assert_eq!(
            table[30].join(","),
            "29,1.000000,2.000000,3.000000,4.000000"
        );
    }
}
