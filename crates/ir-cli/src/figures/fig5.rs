//! Fig. 5: accuracy of the head plugged in after each block of the last stage, over training.

use std::collections::BTreeSet;

use crate::group::{Group, Summary};
use crate::run::{ExitRow, Run};

use super::blocks::LEFT;
use super::colour::Colour;
use super::grid::{self, Cell, Margins};
use super::panel::{Point, Series};
use super::scale::{Scale, significant};
use super::scene::{Drawing, Stroke};
use super::{Figure, SPLITS, absent};

const MARGINS: Margins = Margins {
    left: LEFT,
    right: 88.0,
};
/// At most this many lines are named; the colours show the order of the others.
const NAMED: usize = 12;

/// Draws it.
pub(crate) fn draw(groups: &[Group]) -> Figure {
    let shown: Vec<&Group> = groups
        .iter()
        .filter(|g| SPLITS.iter().any(|split| !exits(g, split).is_empty()))
        .collect();
    Figure {
        name: "fig5",
        title: "Figure 5: accuracy of each exit of the last stage over training",
        paper: "Plugging the head in after each block of the last stage, accuracy rises gradually \
                with every block, throughout training.",
        absent: absent(groups, &shown),
        seen: shown.iter().filter_map(|group| seen(group)).collect(),
        reading: "Each line is the head applied after one block of the last stage, dark for the \
                  first and light for the last; “entrance” is the \
                  input of the stage (s_j if its first block is a transition). Measured on a \
                  fixed part of each split, without augmentation; epoch 0 is the network before \
                  its first step."
            .to_owned()
            + if shown.iter().any(|group| group.over_seeds()) {
                " Several seeds of a network are averaged."
            } else {
                ""
            },
        drawing: drawing(&shown),
    }
}

fn drawing(groups: &[&Group]) -> Option<Drawing> {
    let lines: Vec<[Vec<Series>; 2]> = groups
        .iter()
        .map(|group| SPLITS.map(|split| exits(group, split)))
        .collect();
    let values = lines.iter().flatten().flatten().flat_map(Series::values);
    let y = Scale::linear(values.chain([0.0]));
    let row = |(group, [train, test]): (&&Group, [Vec<Series>; 2])| {
        let recorded = group.runs.iter().flat_map(|run| &run.columns.exits);
        let last = recorded.map(|row| row.epoch).max();
        let x = Scale::between(0.0, last.unwrap_or(1).max(1) as f64);
        [("train", train), ("test", test)].map(|(split, series)| Cell {
            title: format!("{}: {split}", group.title),
            x_title: "epoch",
            x,
            y_title: "accuracy of the exit (%)",
            y,
            series,
            ..Cell::default()
        })
    };
    let rows: Vec<[Cell; 2]> = groups.iter().zip(lines).map(row).collect();
    let name = "Accuracy of the head after each block of the last stage over training";
    grid::draw(&rows, MARGINS, name)
}

/// The exits that a run recorded on a split.
fn rows<'a>(run: &'a Run, split: &'a str) -> impl Iterator<Item = &'a ExitRow> {
    run.columns
        .exits
        .iter()
        .filter(move |row| row.split == split)
}

/// One series an exit, from low to high.
fn exits(group: &Group, name: &str) -> Vec<Series> {
    let recorded = || group.runs.iter().flat_map(|run| rows(run, name));
    let places: BTreeSet<Option<usize>> = recorded().map(|row| row.after_block).collect();
    let epochs: BTreeSet<usize> = recorded().map(|row| row.epoch).collect();
    let count = places.len();
    let series = places.into_iter().enumerate().map(|(index, after)| {
        let points = epochs.iter().filter_map(|&epoch| {
            let mean = 100.0 * accuracy(group, name, epoch, after)?.mean;
            Some(Point {
                x: epoch as f64,
                y: mean,
                deviation: None,
                hollow: false,
                note: format!(
                    "{}, epoch {epoch}: {} %",
                    place(after),
                    significant(mean, 3)
                ),
            })
        });
        let width = if index + 1 == count { 2.2 } else { 1.3 };
        Series {
            points: points.collect(),
            stroke: Stroke::solid(Colour::ramp(index, count), width),
            radius: if epochs.len() > 40 { 0.0 } else { 1.6 },
            band: false,
            label: if named(index, count) {
                place(after)
            } else {
                String::new()
            },
        }
    });
    series.collect()
}

fn accuracy(group: &Group, name: &str, epoch: usize, after: Option<usize>) -> Option<Summary> {
    let values: Vec<f64> = group
        .runs
        .iter()
        .filter_map(|run| {
            rows(run, name)
                .find(|row| row.epoch == epoch && row.after_block == after)?
                .accuracy
        })
        .collect();
    Summary::of_means(&values)
}

/// Whether the line at `index` of `count` is named: at most `NAMED` of them, in even steps down
/// from the last.
fn named(index: usize, count: usize) -> bool {
    let step = count.div_ceil(NAMED).max(1);
    (count - 1 - index).is_multiple_of(step)
}

fn place(after: Option<usize>) -> String {
    after.map_or("entrance".into(), |block| format!("block {block}"))
}

fn seen(group: &Group) -> Option<String> {
    let series = exits(group, "test");
    let last: Vec<f64> = series
        .iter()
        .filter_map(|s| Some(s.points.last()?.y))
        .collect();
    let rising = last.windows(2).filter(|pair| pair[1] > pair[0]).count();
    Some(format!(
        "{}: after epoch {} test accuracy goes from {} % at the first exit to {} % at the last \
         and rises at {rising} of {} blocks.",
        group.title,
        series.first()?.points.last()?.x,
        significant(*last.first()?, 3),
        significant(*last.last()?, 3),
        last.len().saturating_sub(1),
    ))
}

#[cfg(test)]
mod tests {
    use super::named;

    #[test]
    fn few_lines_are_all_named_and_many_evenly() {
        assert!((0..12).all(|index| named(index, 12)));
        let names: Vec<usize> = (0..19).filter(|&index| named(index, 19)).collect();
        assert_eq!(names, [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]);
        assert!(named(0, 1));
    }
}
