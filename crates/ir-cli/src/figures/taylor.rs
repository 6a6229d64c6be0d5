//! The Taylor table: the exit loss around each block of the last stage against its first-order
//! prediction. The paper states the expansion and does not show this check.

use ir_analysis::results::{Split, TaylorRow};

use crate::group::{Group, Summary};

use super::blocks::{LEFT, WIDTH};
use super::colour::Colour;
use super::panel::{Labels, Panel, Point, Series};
use super::scale::{Scale, significant};
use super::scene::{Drawing, Scene, Stroke};
use super::{Figure, absent};

const RIGHT: f64 = 100.0;
const ABOVE: f64 = 34.0;
const HEIGHT: f64 = 210.0;
const BELOW: f64 = 52.0;

/// One block's row, over the runs of a group.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// The block.
    pub(crate) block: usize,
    /// Exit loss at h_j.
    pub(crate) exit_loss: Summary,
    /// Exit loss at h_{j+1} less that at h_j.
    pub(crate) change: Summary,
    /// F_j · ∂L/∂h_j.
    pub(crate) predicted: Summary,
    /// Change less prediction.
    pub(crate) remainder: Summary,
}

/// The table of a split, block by block.
pub(crate) fn rows(group: &Group, split: &str) -> Vec<Row> {
    let Some(first) = group.splits(split).find(|split| !split.taylor.is_empty()) else {
        return Vec::new();
    };
    let rows = first.taylor.iter().filter_map(|row| {
        let of = |value: fn(&TaylorRow) -> (f64, Option<f64>)| {
            let find = |split: &Split| {
                let same = |other: &&TaylorRow| other.block == row.block;
                split.taylor.iter().find(same).map(value)
            };
            Summary::of(&group.splits(split).filter_map(find).collect::<Vec<_>>())
        };
        Some(Row {
            block: row.block,
            exit_loss: of(|row| (row.exit_loss.0, None))?,
            change: of(|row| (row.next_exit_loss.0 - row.exit_loss.0, None))?,
            predicted: of(|row| (row.predicted_change.0, Some(row.predicted_change_std.0)))?,
            remainder: of(|row| (row.remainder.0, Some(row.remainder_std.0)))?,
        })
    });
    rows.collect()
}

/// Draws it.
pub(crate) fn draw(groups: &[Group]) -> Figure {
    let shown: Vec<&Group> = groups
        .iter()
        .filter(|g| !rows(g, "test").is_empty())
        .collect();
    let bands = if shown.iter().any(|group| group.over_seeds()) {
        " Bands: ± one standard deviation over seeds."
    } else {
        ""
    };
    Figure {
        name: "taylor",
        title: "Taylor table: the first-order formula, block by block",
        paper: "The paper states L(h_L) = L(h_i) + Σ F_j · ∂L(h_j)/∂h_j + O(F²) and does not show \
                how much the last term is.",
        absent: absent(groups, &shown),
        seen: shown.iter().filter_map(|group| seen(group)).collect(),
        reading: format!(
            "Test images, last stage. Actual: exit loss after the block less exit loss before it; \
             first order: mean of F_j · ∂L/∂h_j with the exit gradient; remainder: their \
             difference.{bands}"
        ),
        drawing: drawing(&shown),
    }
}

fn drawing(groups: &[&Group]) -> Option<Drawing> {
    let panels: Vec<[Series; 3]> = groups.iter().map(|group| series(group)).collect();
    if panels.is_empty() {
        return None;
    }
    let columns = panels.len().min(2);
    let cell = (WIDTH / columns as f64, ABOVE + HEIGHT + BELOW);
    let mut scene = Scene::new(WIDTH);
    for (index, (group, series)) in groups.iter().zip(&panels).enumerate() {
        let (row, column) = (index / columns, index % columns);
        let blocks = series[0].points.iter().map(|point| point.x);
        let (low, high) = blocks.fold((f64::MAX, 0.0f64), |(l, h), x| (l.min(x), h.max(x)));
        let x = Scale::between(low - 0.5, high + 0.5);
        let y = Scale::linear(
            series
                .iter()
                .flat_map(Series::values)
                .chain([0.0])
                .collect::<Vec<_>>(),
        );
        let corner = (column as f64 * cell.0, row as f64 * cell.1);
        let panel = Panel {
            left: corner.0 + LEFT,
            top: corner.1 + ABOVE,
            width: cell.0 - LEFT - RIGHT,
            height: HEIGHT,
            x,
            y,
        };
        let labels = Labels {
            title: group.title.clone(),
            x: "block j".into(),
            y: "change of exit loss (nats)".into(),
            x_ticks: x.whole_ticks(10),
            y_ticks: y.ticks(),
        };
        scene.cell(corner, cell, |scene| {
            panel.axes(scene, &labels, 14.0);
            panel.zero(scene);
            panel.series(scene, series);
        });
    }
    let name =
        "Change of the exit loss at each block of the last stage, and its first-order prediction";
    Some(scene.finish(panels.len().div_ceil(columns) as f64 * cell.1, name))
}

fn series(group: &Group) -> [Series; 3] {
    let rows = rows(group, "test");
    let over_seeds = group.over_seeds();
    let of = |value: fn(&Row) -> Summary, label: &str, stroke: Stroke, hollow: bool| Series {
        points: rows
            .iter()
            .map(|row| Point {
                x: row.block as f64,
                y: value(row).mean,
                deviation: value(row).deviation.filter(|_| over_seeds),
                hollow,
                note: format!(
                    "block {}, {label}: {}",
                    row.block,
                    significant(value(row).mean, 3)
                ),
            })
            .collect(),
        stroke,
        radius: 3.2,
        band: over_seeds,
        label: label.to_owned(),
    };
    [
        of(
            |row| row.remainder,
            "remainder",
            Stroke::solid(Colour::Remainder, 1.2),
            false,
        ),
        of(
            |row| row.change,
            "actual",
            Stroke::solid(Colour::Ink, 2.0),
            false,
        ),
        of(
            |row| row.predicted,
            "first order",
            Stroke::dashed(Colour::ExitGradient, 2.0),
            false,
        ),
    ]
}

fn seen(group: &Group) -> Option<String> {
    let rows = rows(group, "test");
    let agreeing = rows
        .iter()
        .filter(|row| row.change.mean * row.predicted.mean > 0.0)
        .count();
    let change: f64 = rows.iter().map(|row| row.change.mean).sum();
    let predicted: f64 = rows.iter().map(|row| row.predicted.mean).sum();
    (!rows.is_empty()).then(|| {
        format!(
            "{}: over the last stage the exit loss changes by {} nats, and the first-order terms \
             add up to {}; they have the sign of the actual change in {agreeing} of {} blocks.",
            group.title,
            significant(change, 3),
            significant(predicted, 3),
            rows.len()
        )
    })
}
