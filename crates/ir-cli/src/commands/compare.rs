//! `ir compare`: several runs side by side.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde_json::{Value, json};

use crate::arguments::Compare;
use crate::outcome::{Measures, Outcome};
use crate::run::{Run, RunInfo};
use crate::{output, text};

/// Of `run.json` what does not say how a run was meant: it follows from the rest, or is the
/// command line, which says the rest once more.
const NO_SETTINGS: [&str; 4] = ["schema_version", "command", "scaled_down", "parameters"];

pub(crate) fn run(arguments: &Compare) -> Result<ExitCode> {
    let runs = arguments.runs.iter().map(|folder| Run::read(folder));
    let outcomes = runs
        .map(|run| Ok(Outcome::of(&run?)))
        .collect::<Result<Vec<_>>>()?;
    let differing = differing(&outcomes)?;
    if arguments.json {
        output::json(&json!({ "runs": outcomes, "settings_that_differ": differing }))?;
    } else {
        write!(std::io::stdout().lock(), "{}", table(&outcomes, &differing))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The settings in which the runs are not all alike, with the value of each run.
fn differing(outcomes: &[Outcome]) -> Result<BTreeMap<String, Vec<Value>>> {
    let settings = outcomes
        .iter()
        .map(|outcome| settings(&outcome.settings))
        .collect::<Result<Vec<_>>>()?;
    let names = settings.iter().flat_map(BTreeMap::keys);
    let mut differing = BTreeMap::new();
    for name in names {
        let value =
            |settings: &BTreeMap<String, Value>| settings.get(name).cloned().unwrap_or(Value::Null);
        let values: Vec<Value> = settings.iter().map(value).collect();
        if values.iter().any(|value| *value != values[0]) {
            differing.insert(name.clone(), values);
        }
    }
    Ok(differing)
}

/// The settings by name, `optimizer.momentum` for what is inside another.
fn settings(info: &RunInfo) -> Result<BTreeMap<String, Value>> {
    let mut found = BTreeMap::new();
    let Value::Object(all) = serde_json::to_value(info)? else {
        return Ok(found);
    };
    for (name, value) in all {
        match value {
            _ if NO_SETTINGS.contains(&name.as_str()) => {}
            Value::Object(inner) => {
                let named = |(key, value)| (format!("{name}.{key}"), value);
                found.extend(inner.into_iter().map(named));
            }
            value => {
                found.insert(name, value);
            }
        }
    }
    Ok(found)
}

/// Names and values, a column a run.
fn table(outcomes: &[Outcome], differing: &BTreeMap<String, Vec<Value>>) -> String {
    let mut rows: BTreeMap<(Place, String), Vec<String>> = BTreeMap::new();
    for (run, outcome) in outcomes.iter().enumerate() {
        for (place, name, value) in facts(outcome) {
            let row = rows
                .entry((place, name))
                .or_insert_with(|| vec![none(); outcomes.len()]);
            row[run] = value;
        }
    }
    let mut table = Table::new();
    table.load_style(NOTHING);
    add(&mut table, "run", names(outcomes).into_iter());
    for (name, values) in differing {
        add(&mut table, name, values.iter().map(plain));
    }
    for ((_, name), values) in rows {
        add(&mut table, &name, values.into_iter());
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    if let Some(names) = table.column_mut(0) {
        names.set_padding((0, 1));
    }
    table.trim_fmt() + "\n"
}

/// The folders without what all of them are in.
fn names(outcomes: &[Outcome]) -> Vec<String> {
    let folders = || outcomes.iter().map(|outcome| Path::new(&outcome.folder));
    let common = |ancestor: &&Path| folders().all(|folder| folder.starts_with(ancestor));
    let parent = folders().next().and_then(Path::parent);
    let mut ancestors = parent.into_iter().flat_map(Path::ancestors);
    let within = ancestors.find(common).unwrap_or(Path::new(""));
    let rest = |folder: &Path| {
        let rest = folder.strip_prefix(within).unwrap_or(folder);
        rest.display().to_string()
    };
    folders().map(rest).collect()
}

fn add(table: &mut Table, name: &str, values: impl Iterator<Item = String>) {
    let row = std::iter::once(name.to_owned()).chain(values);
    table.add_row(row.map(|cell| text::printable(&cell)));
}

/// Where a row of the table stands: which part, and there which stage or exit.
type Place = [usize; 3];

/// What a run came to, by name.
fn facts(outcome: &Outcome) -> Vec<(Place, String, String)> {
    let mut facts = Vec::new();
    if let Some(last) = &outcome.last {
        facts.extend([
            ("epochs done", last.epoch.to_string()),
            ("train loss", number(last.train_loss.map(f64::from))),
            ("train accuracy", percent(last.train_accuracy)),
            ("test loss", number(Some(last.test_loss.into()))),
            ("test accuracy", percent(Some(last.test_accuracy))),
        ]);
    }
    if let Some(best) = &outcome.best {
        let accuracy = percent(Some(best.test_accuracy));
        facts.push((
            "best test accuracy",
            format!("{accuracy}, epoch {}", best.epoch),
        ));
    }
    facts.push(("seconds of training", format!("{:.0}", outcome.seconds)));
    let placed = facts.into_iter().enumerate();
    let mut facts: Vec<_> = placed
        .map(|(place, (name, value))| ([0, place, 0], name.to_owned(), value))
        .collect();
    for (part, split) in [(1, "train"), (2, "test")] {
        if let Some(measures) = outcome.splits.get(split) {
            measured(part, split, measures, &mut facts);
        }
    }
    facts
}

/// The measures of a split.
fn measured(
    part: usize,
    split: &str,
    measures: &Measures,
    facts: &mut Vec<(Place, String, String)>,
) {
    let mut add = |place, name: String, value| {
        facts.push((place, format!("{split}, {name}"), value));
    };
    add([part, 0, 0], "measures from".into(), measures.from.into());
    let samples = measures.samples.map_or_else(none, |n| n.to_string());
    add([part, 0, 1], "images measured".into(), samples);
    for means in &measures.stages {
        let (stage, ratio) = (means.stage, means.l2_ratio.map(f64::from));
        add(
            [part, 1, stage],
            format!("cosine of stage {stage}"),
            number(means.cosine),
        );
        add(
            [part, 2, stage],
            format!("‖F‖/‖h‖ of stage {stage}"),
            number(ratio),
        );
    }
    if split == "train" {
        return;
    }
    // By their place in the stage: networks of another depth count other blocks.
    for (place, exit) in measures.exits.iter().enumerate() {
        let name = match place {
            0 => "exit 0, its entrance".into(),
            _ => format!("exit {place} of last stage"),
        };
        add([part, 3, place], name, percent(exit.accuracy));
    }
}

fn none() -> String {
    "–".into()
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(none, |value| format!("{value:.4}"))
}

fn percent(value: Option<f64>) -> String {
    value.map_or_else(none, |value| format!("{:.2} %", 100.0 * value))
}

/// A setting as people read it.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => none(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(values) => {
            let named = values
                .iter()
                .map(|(name, value)| format!("{name} {}", plain(value)));
            named.collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}
