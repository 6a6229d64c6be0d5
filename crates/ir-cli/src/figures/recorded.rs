//! What training recorded, as lines: over epochs, and over blocks at one epoch.

use std::collections::BTreeSet;

use crate::group::{Group, Summary};
use crate::run::{BlockRow, Epoch};

use super::panel::{Point, Series};
use super::scene::Stroke;

/// A value of every epoch of the history as a line, mean over seeds.
pub(crate) fn over_epochs(
    group: &Group,
    label: &str,
    stroke: Stroke,
    value: impl Fn(&Epoch) -> Option<f64>,
) -> Series {
    let history = || group.runs.iter().flat_map(|run| &run.history);
    let epochs: BTreeSet<usize> = history().map(|epoch| epoch.epoch).collect();
    let points = epochs.into_iter().filter_map(|number| {
        let at = history().filter(|epoch| epoch.epoch == number);
        let values: Vec<f64> = at.filter_map(&value).collect();
        let summary = Summary::of_means(&values)?;
        let note = format!("{label}, epoch {number}: {}", summary.text());
        Some(point(number, summary, false, note))
    });
    Series {
        points: points.collect(),
        stroke,
        radius: radius(stroke),
        band: group.over_seeds(),
        label: label.to_owned(),
    }
}

/// A measure of every block on one split after one epoch as a line, mean over seeds.
pub(crate) fn over_blocks(
    group: &Group,
    (split, epoch): (&str, usize),
    label: &str,
    stroke: Stroke,
    value: impl Fn(&BlockRow) -> Option<f64>,
) -> Series {
    let rows = || {
        let all = group.runs.iter().flat_map(|run| &run.columns.blocks);
        all.filter(|row| row.epoch == epoch && row.split == split)
    };
    let blocks: BTreeSet<(usize, bool)> = rows().map(|row| (row.block, row.transition)).collect();
    let points = blocks.into_iter().filter_map(|(block, transition)| {
        let at = rows().filter(|row| row.block == block);
        let values: Vec<f64> = at.filter_map(&value).collect();
        let summary = Summary::of_means(&values)?;
        let note = format!("{label}, block {block}: {}", summary.text());
        Some(point(block, summary, transition, note))
    });
    Series {
        points: points.collect(),
        stroke,
        radius: radius(stroke),
        band: false,
        label: label.to_owned(),
    }
}

/// Marks so small on a dashed line that its dashes show.
fn radius(stroke: Stroke) -> f64 {
    if stroke.dash.is_some() { 0.6 } else { 1.6 }
}

/// The epochs after which blocks were measured on a split.
pub(crate) fn epochs(group: &Group, split: &str) -> BTreeSet<usize> {
    let rows = group.runs.iter().flat_map(|run| &run.columns.blocks);
    rows.filter(|row| row.split == split)
        .map(|row| row.epoch)
        .collect()
}

fn point(x: usize, summary: Summary, hollow: bool, note: String) -> Point {
    Point {
        x: x as f64,
        y: summary.mean,
        deviation: summary.deviation,
        hollow,
        note,
    }
}
