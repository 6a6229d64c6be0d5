//! `ir export`: what training recorded, for other programs.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::arguments::Export;
use crate::run::{BlockRow, Epoch, ExitRow, Run};
use crate::tensorboard::{self, Scalars};
use crate::{files, output};

/// TensorBoard reads every file with `tfevents` in its name; the same name each time, so that an
/// export replaces the one before.
const NAME: &str = "events.out.tfevents.ir";

pub(crate) fn run(arguments: &Export) -> Result<ExitCode> {
    let run = Run::read_training(&arguments.run)?;
    ensure!(
        !run.history.is_empty(),
        "{}: nothing is recorded yet; wait for the first epoch, or go on with the run by `ir train … --resume`",
        arguments.run.display()
    );
    let steps = scalars(&run, ended(&arguments.run)?);
    let folder = &arguments.tensorboard;
    std::fs::create_dir_all(folder)
        .with_context(|| format!("{}: cannot be made", folder.display()))?;
    let path = folder.join(NAME);
    files::write(&path, &tensorboard::events(&steps))?;
    if arguments.json {
        let count: usize = steps.iter().map(|step| step.values.len()).sum();
        output::json(
            &json!({ "file": path.display().to_string(), "epochs": steps.len(), "scalars": count }),
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(std::io::stdout().lock(), "{}", path.display())?;
    Ok(ExitCode::SUCCESS)
}

/// When the last epoch was recorded, in seconds since 1970.
fn ended(folder: &Path) -> Result<f64> {
    let path = folder.join("history.jsonl");
    let modified = std::fs::metadata(&path).and_then(|found| found.modified());
    let modified = modified.with_context(|| format!("{}: cannot be read", path.display()))?;
    let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(since.as_secs_f64())
}

/// Everything recorded, by epoch. The times are counted back from the end, as if nothing had
/// passed between the epochs.
fn scalars(run: &Run, ended: f64) -> Vec<Scalars> {
    let mut left = run.seconds();
    let steps = run.history.iter().map(|epoch| {
        left -= epoch.seconds;
        let blocks = run.columns.blocks.iter();
        let exits = run.columns.exits.iter();
        let mut values = of_epoch(epoch);
        values.extend(
            blocks
                .filter(|row| row.epoch == epoch.epoch)
                .flat_map(of_block),
        );
        values.extend(
            exits
                .filter(|row| row.epoch == epoch.epoch)
                .flat_map(of_exit),
        );
        Scalars {
            wall_time: ended - left,
            step: epoch.epoch,
            values: values
                .into_iter()
                .filter_map(|(tag, value)| Some((tag, value?)))
                .collect(),
        }
    });
    steps.collect()
}

/// A tag and its value, where there is one.
type Tagged = (String, Option<f64>);

fn of_epoch(epoch: &Epoch) -> Vec<Tagged> {
    vec![
        ("loss/train".into(), epoch.train_loss.map(f64::from)),
        ("loss/test".into(), Some(epoch.test_loss.into())),
        ("accuracy/train".into(), epoch.train_accuracy),
        ("accuracy/test".into(), Some(epoch.test_accuracy)),
        ("learning_rate".into(), Some(epoch.learning_rate)),
    ]
}

fn of_block(row: &BlockRow) -> [Tagged; 2] {
    let tag = |measure| format!("{measure}_{}/block_{:03}", row.split, row.block);
    [(tag("cosine"), row.cosine), (tag("l2_ratio"), row.l2_ratio)]
}

fn of_exit(row: &ExitRow) -> [Tagged; 2] {
    let place = match row.after_block {
        Some(block) => format!("after_block_{block:03}"),
        None => "at_the_entrance".into(),
    };
    let tag = |measure| format!("exit_{measure}_{}/{place}", row.split);
    [(tag("accuracy"), row.accuracy), (tag("loss"), row.loss)]
}
