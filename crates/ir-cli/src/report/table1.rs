//! Table 1: errors of the `resnet-D` networks beside the paper's.

use serde::Serialize;

use crate::family::{Errors, Member, paper_errors, table_1};
use crate::figures::scale::{minus, thousands};
use crate::group::{Group, Summary, dataset_name};

/// The table of one data set.
#[derive(Serialize)]
pub(super) struct Table1 {
    dataset: String,
    rows: Vec<Row>,
}

/// A network's line.
#[derive(Serialize)]
struct Row {
    network: String,
    train: String,
    test: String,
    paper_train: String,
    paper_test: String,
    trainable: String,
    epochs: usize,
    seeds: usize,
}

/// One table for each data set that a network of the family was trained on: the paper's networks
/// in its order, then the others.
pub(super) fn tables(groups: &[Group]) -> Vec<Table1> {
    let family = || {
        let known = |group: &&Group| Member::of(&group.info().model).is_some();
        groups.iter().filter(known)
    };
    let mut datasets: Vec<&str> = Vec::new();
    for group in family() {
        let dataset = group.info().dataset.as_str();
        if !datasets.contains(&dataset) {
            datasets.push(dataset);
        }
    }
    let table = |dataset: &str| {
        let mut members: Vec<&Group> = family().filter(|g| g.info().dataset == dataset).collect();
        members.sort_by_key(|group| {
            let model = &group.info().model;
            let place = table_1().position(|name| name == model);
            (
                place.unwrap_or(usize::MAX),
                Member::of(model).map(|m| (m.depth, m.sharing)),
            )
        });
        Table1 {
            dataset: dataset_name(dataset),
            rows: members.into_iter().map(row).collect(),
        }
    };
    datasets.into_iter().map(table).collect()
}

fn row(group: &Group) -> Row {
    let info = group.info();
    let error = |split: &str| {
        let error = group.summary(split, |split| Some(100.0 * (1.0 - split.accuracy)));
        error.map_or("–".into(), percent)
    };
    let paper = paper_errors(&info.model, &info.dataset);
    let of_paper =
        |of: fn(Errors) -> f64| paper.map_or("–".into(), |errors| format!("{:.2} %", of(errors)));
    Row {
        network: group.title.clone(),
        train: error("train"),
        test: error("test"),
        paper_train: of_paper(|errors| errors.train),
        paper_test: of_paper(|errors| errors.test),
        trainable: thousands(info.parameters.trainable),
        epochs: info.epochs,
        seeds: group.runs.len(),
    }
}

/// "7.1 ± 0.2 %".
fn percent(summary: Summary) -> String {
    summary.written(|error| minus(&format!("{error:.2}")), " %")
}
