//! Several blocks deleted, or in another order (Veit et al. 2016, Fig. 5).

use ir_analysis::results::{Reordering, Split};

use crate::group::Group;

use super::blocks::Look;
use super::curves::{MARGINS, Value, both, last_x, loss_scale};
use super::grid::{self, Cell};
use super::panel::{Point, Series};
use super::scale::{Scale, significant};
use super::{Figure, SPLITS, absent};

/// Draws it.
pub(super) fn draw(groups: &[Group]) -> Figure {
    let has = |split: &Split| !split.deletions.is_empty() || !split.reorderings.is_empty();
    let shown: Vec<&Group> = groups.iter().filter(|g| g.all_splits().any(has)).collect();
    let rows: Vec<[Cell; 2]> = shown.iter().flat_map(|group| rows(group)).collect();
    Figure {
        name: "deletion",
        title: "Deleting and reordering blocks: accuracy and loss",
        paper: "Veit et al. 2016 (Fig. 5): error increases smoothly with the number of residual \
                modules deleted at random, and with how far their order is from the trained one.",
        absent: absent(groups, &shown),
        seen: shown.iter().filter_map(|group| seen(group)).collect(),
        reading: format!(
            "Upper panels: k random blocks deleted at once, mean over draws; 0 is the network as \
             it is. {} Lower panels: k random swaps of two blocks of one stage, each draw a \
             point at its Kendall τ, 1 for the trained order. Transitions are neither deleted nor \
             moved. Blue, thick: test; orange-red, thin: train.",
            if shown.iter().any(|group| group.over_seeds()) {
                "Bands: ± one standard deviation, over seeds where a network has several, \
                 otherwise over draws."
            } else {
                "Bands: ± one standard deviation over draws."
            }
        ),
        drawing: grid::draw(
            &rows,
            MARGINS,
            "Accuracy and loss by the number of deleted blocks and by the order of blocks",
        ),
    }
}

fn rows(group: &Group) -> Vec<[Cell; 2]> {
    let has = |what: fn(&Split) -> bool| group.all_splits().any(what);
    let mut rows = Vec::new();
    if has(|split| !split.deletions.is_empty()) {
        rows.push([deleted_accuracy(group), deleted_loss(group)]);
    }
    if has(|split| !split.reorderings.is_empty()) {
        let accuracy = |draw: &Reordering| 100.0 * draw.accuracy;
        let loss = |draw: &Reordering| draw.loss.0;
        rows.push([
            reordered(group, accuracy, true),
            reordered(group, loss, false),
        ]);
    }
    rows
}

/// Accuracy in percent by the number of deleted blocks.
fn accuracies(split: &Split) -> Vec<Value> {
    if split.deletions.is_empty() {
        return Vec::new();
    }
    let sizes = split.deletions.iter().map(|found| Value {
        x: found.deleted as f64,
        y: 100.0 * found.accuracy,
        deviation: Some(100.0 * found.accuracy_std),
    });
    let whole = Value::new(0.0, 100.0 * split.accuracy);
    std::iter::once(whole).chain(sizes).collect()
}

fn losses(split: &Split) -> Vec<Value> {
    if split.deletions.is_empty() {
        return Vec::new();
    }
    let sizes = split.deletions.iter().map(|found| Value {
        x: found.deleted as f64,
        y: found.loss.0,
        deviation: Some(found.loss_std.0),
    });
    std::iter::once(Value::new(0.0, split.loss))
        .chain(sizes)
        .collect()
}

fn deleted_accuracy(group: &Group) -> Cell {
    let series = both(group, accuracies);
    Cell {
        title: format!("{}: blocks deleted", group.title),
        x_title: "deleted blocks k",
        x: Scale::between(0.0, last_x(&series, 1.0)),
        y_title: "accuracy (%)",
        y: Scale::between(0.0, 100.0),
        series,
        ..Cell::default()
    }
}

fn deleted_loss(group: &Group) -> Cell {
    let series = both(group, losses);
    Cell {
        x_title: "deleted blocks k",
        x: Scale::between(0.0, last_x(&series, 1.0)),
        y_title: "loss (nats)",
        y: loss_scale(&series),
        series,
        ..Cell::default()
    }
}

/// Every draw of every run as a point.
fn reordered(group: &Group, value: fn(&Reordering) -> f64, accuracy: bool) -> Cell {
    let mut series = Vec::new();
    for name in SPLITS {
        let look = if name == "test" {
            Look::TEST
        } else {
            Look::TRAIN
        };
        for split in group.splits(name) {
            let whole = if accuracy {
                100.0 * split.accuracy
            } else {
                split.loss
            };
            let draws = split.reorderings.iter().flat_map(|of_size| &of_size.draws);
            let points = draws.map(|draw| (draw.kendall_tau, value(draw)));
            series.extend(points.chain([(1.0, whole)]).map(|at| alone(at, look, name)));
        }
    }
    let taus = series.iter().flat_map(|s| &s.points).map(|point| point.x);
    Cell {
        title: if accuracy {
            format!("{}: blocks reordered", group.title)
        } else {
            String::new()
        },
        x_title: "Kendall’s τ of the order",
        x: Scale::linear(taus.chain([1.0]).collect::<Vec<_>>()),
        x_fractions: true,
        y_title: if accuracy {
            "accuracy (%)"
        } else {
            "loss (nats)"
        },
        y: if accuracy {
            Scale::between(0.0, 100.0)
        } else {
            loss_scale(&series)
        },
        series,
        ..Cell::default()
    }
}

/// A single mark.
fn alone((tau, y): (f64, f64), look: Look, split: &str) -> Series {
    let note = format!("{split}, τ {}: {}", significant(tau, 3), significant(y, 3));
    Series {
        points: vec![Point {
            x: tau,
            y,
            deviation: None,
            hollow: false,
            note,
        }],
        stroke: look.stroke(),
        radius: if look.strong { 2.4 } else { 1.4 },
        band: false,
        label: String::new(),
    }
}

fn seen(group: &Group) -> Option<String> {
    let mut parts = Vec::new();
    let series = both(group, accuracies);
    if let Some(test) = series.last()
        && let (Some(whole), Some(last)) = (test.points.first(), test.points.last())
    {
        let at = |k: f64| test.points.iter().find(|point| point.x == k);
        let one = at(1.0).map_or(f64::NAN, |point| point.y);
        parts.push(format!(
            "accuracy {} % falls to {} % without one block and to {} % without {}",
            significant(whole.y, 3),
            significant(one, 3),
            significant(last.y, 3),
            last.x
        ));
    }
    let orders = |split: &Split| {
        split
            .reorderings
            .last()
            .map(|of_size| (of_size.swaps, of_size.accuracy))
    };
    if let Some(swaps) = group
        .splits("test")
        .find_map(orders)
        .map(|(swaps, _)| swaps)
    {
        let accuracy = group.summary("test", |split| Some(100.0 * orders(split)?.1))?;
        let tau = group.summary("test", |split| Some(split.reorderings.last()?.kendall_tau))?;
        parts.push(format!(
            "after {swaps} swaps, at a mean τ of {}, it is {} %",
            significant(tau.mean, 2),
            significant(accuracy.mean, 3)
        ));
    }
    (!parts.is_empty()).then(|| format!("{}: {}.", group.title, parts.join("; ")))
}
