//! What the page says about the networks and where their numbers come from.

use serde::Serialize;

use crate::family::paper_errors;
use crate::figures::scale::thousands;
use crate::group::{Group, Summary, dataset_name};
use crate::run::Run;

/// A network's line in the table of networks.
#[derive(Serialize)]
pub(super) struct NetworkRow {
    title: String,
    dataset: String,
    trainable: String,
    all: String,
    epochs: usize,
    seeds: String,
    train_accuracy: String,
    test_accuracy: String,
    paper: String,
    wall_time: String,
}

/// The line of a group.
pub(super) fn network_row(group: &Group) -> NetworkRow {
    let info = group.info();
    let over = |value: fn(&Run) -> Option<f64>| {
        let values: Vec<f64> = group.runs.iter().filter_map(value).collect();
        Summary::of_means(&values).map_or("–".into(), Summary::percent)
    };
    let seconds: Vec<f64> = group
        .runs
        .iter()
        .filter(|run| !run.history.is_empty())
        .map(Run::seconds)
        .collect();
    let seeds: Vec<String> = group
        .runs
        .iter()
        .map(|run| run.info.seed.to_string())
        .collect();
    NetworkRow {
        title: group.title.clone(),
        dataset: dataset_name(&info.dataset),
        trainable: thousands(info.parameters.trainable),
        all: thousands(info.parameters.all),
        epochs: info.epochs,
        seeds: seeds.join(", "),
        train_accuracy: over(|run| split_accuracy(run, "train")),
        test_accuracy: over(|run| {
            // Of all test images that training evaluates on; an analysis may be of fewer.
            let trained = run.history.last().filter(|epoch| epoch.epoch > 0);
            let trained = trained.map(|epoch| epoch.test_accuracy);
            trained.or(split_accuracy(run, "test"))
        }),
        paper: paper_errors(&info.model, &info.dataset)
            .map(|errors| 100.0 - errors.test)
            .map_or("–".into(), |accuracy| format!("{accuracy:.2} %")),
        wall_time: Summary::of_means(&seconds).map_or("–".into(), |time| duration(time.mean)),
    }
}

fn split_accuracy(run: &Run, split: &str) -> Option<f64> {
    Some(run.results.as_ref()?.splits.get(split)?.accuracy)
}

/// `41 s`, `5 min 32 s`, `3 h 07 min`.
fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// A run's provenance, as names and values.
#[derive(Serialize)]
pub(super) struct RunRow {
    title: String,
    facts: Vec<(String, String)>,
}

/// The provenance of every run of a group.
pub(super) fn runs(group: &Group) -> impl Iterator<Item = RunRow> {
    group.runs.iter().map(|run| RunRow {
        title: format!("{}, seed {}", group.title, run.info.seed),
        facts: facts(run),
    })
}

fn facts(run: &Run) -> Vec<(String, String)> {
    let info = &run.info;
    let (optimizer, machine) = (&info.optimizer, &info.machine);
    let gpu = machine
        .gpu
        .as_ref()
        .map(|_| format!("{}; ", machine.device()));
    let rates: Vec<String> = optimizer
        .learning_rate
        .iter()
        .map(|piece| format!("{} from epoch {}", piece.learning_rate, piece.from_epoch))
        .collect();
    let numbers = |values: &[f64]| {
        let texts: Vec<String> = values.iter().map(ToString::to_string).collect();
        texts.join(", ")
    };
    let facts = [
        ("folder", run.folder.display().to_string()),
        ("command", info.command.join(" ")),
        ("version", info.version.clone()),
        ("seed", info.seed.to_string()),
        (
            "data",
            format!(
                "{}, {} training and {} test images, {}",
                dataset_name(&info.dataset),
                thousands(info.train_samples),
                thousands(info.test_samples),
                info.data_checksum
            ),
        ),
        (
            "normalisation",
            format!(
                "mean {}, standard deviation {}",
                numbers(&info.normalization.mean),
                numbers(&info.normalization.std)
            ),
        ),
        (
            "augmentation",
            info.augmentation.clone().unwrap_or("none".into()),
        ),
        (
            "optimiser",
            format!(
                "SGD, batches of {}, learning rate {}, momentum {}, weight decay {}",
                info.batch_size,
                rates.join(", "),
                optimizer.momentum,
                optimizer.weight_decay
            ),
        ),
        (
            "machine",
            format!(
                "{}{}, {} cores, {} threads, {}",
                gpu.unwrap_or_default(),
                machine.cpu,
                machine.cores,
                machine.threads,
                machine.instruction_set
            ),
        ),
    ];
    let mut facts: Vec<(String, String)> = facts
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    if let Some(results) = &run.results {
        let analysed: Vec<String> = results
            .splits
            .iter()
            .map(|(name, split)| format!("{} {name} images", thousands(split.samples)))
            .collect();
        facts.push(("analysed".into(), analysed.join(", ")));
        let provenance = results.provenance.as_object().into_iter().flatten();
        facts.extend(
            provenance.map(|(key, value)| (format!("analysis: {}", words(key)), plain(value))),
        );
    }
    facts
}

/// `data_checksum` as words.
fn words(key: &str) -> String {
    key.replace('_', " ")
}

/// A JSON value as people read it: text without quotes, a list of words as a command line, an
/// object as names and values.
fn plain(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(" "),
        serde_json::Value::Object(fields) => {
            let fields = fields.iter();
            let texts = fields.map(|(key, value)| format!("{} {}", words(key), plain(value)));
            texts.collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn provenance_is_readable() {
        let machine = serde_json::json!({"cores": 3, "instruction_set": "AVX-512"});
        assert_eq!(plain(&machine), "cores 3, instruction set AVX-512");
        assert_eq!(plain(&serde_json::json!(["ir", "analyze"])), "ir analyze");
    }

    #[test]
    fn times_are_readable() {
        assert_eq!(duration(41.4), "41 s");
        assert_eq!(duration(332.0), "5 min 32 s");
        assert_eq!(duration(11_220.0), "3 h 07 min");
    }
}
