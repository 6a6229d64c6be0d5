//! The appendix's figures: cosine and ratio of every block as training goes on.

use crate::group::Group;
use crate::run::BlockRow;

use super::grid::{Cell, Margins, draw as draw_grid};
use super::panel::Series;
use super::recorded::{epochs, over_blocks};
use super::scale::{Scale, significant};
use super::scene::Stroke;
use super::{Figure, absent, colour::Colour};

const MARGINS: Margins = Margins {
    left: 66.0,
    right: 92.0,
};

/// How many epochs are drawn.
const SHOWN: usize = 6;

/// Draws it.
pub(crate) fn draw(groups: &[Group]) -> Figure {
    let shown: Vec<&Group> = groups
        .iter()
        .filter(|group| !picked(group).is_empty())
        .collect();
    let rows: Vec<[Cell; 2]> = shown.iter().map(|group| row(group)).collect();
    Figure {
        name: "training",
        title: "Appendix: cosine and ratio through training",
        paper: "The cosine is negative for most blocks all through training, more so for the \
                higher ones, and the ratio settles early.",
        absent: absent(groups, &shown),
        seen: shown.iter().filter_map(|group| seen(group)).collect(),
        reading: "On test images of a fixed part of the split; dark for the first epochs, light \
                  for the last. Hollow marks: transition blocks, s_j for h_j."
            .into(),
        drawing: draw_grid(
            &rows,
            MARGINS,
            "Cosine with the gradient and ratio of norms of every block at several epochs",
        ),
    }
}

/// Epochs to draw: evenly from the first after a step to the last.
fn picked(group: &Group) -> Vec<usize> {
    let epochs: Vec<usize> = epochs(group, "test")
        .into_iter()
        .filter(|&e| e > 0)
        .collect();
    let count = epochs.len().min(SHOWN);
    let at = |index: usize| epochs[index * (epochs.len() - 1) / (count - 1).max(1)];
    (0..count).map(at).collect()
}

fn row(group: &Group) -> [Cell; 2] {
    let epochs = picked(group);
    let cell = |title: &str, y_title, zero, value: fn(&BlockRow) -> Option<f64>| {
        let series: Vec<Series> = epochs
            .iter()
            .enumerate()
            .map(|(index, &epoch)| {
                let stroke = Stroke::solid(Colour::ramp(index, epochs.len()), 1.4);
                let label = format!("epoch {epoch}");
                over_blocks(group, ("test", epoch), &label, stroke, value)
            })
            .collect();
        let values: Vec<f64> = series.iter().flat_map(Series::values).collect();
        let last = series.iter().flat_map(|s| &s.points).map(|p| p.x);
        let x = Scale::between(-0.5, last.fold(1.0, f64::max) + 0.5);
        Cell {
            title: format!("{}: {title}", group.title),
            x_title: "block j",
            x,
            y_title,
            y: if zero {
                Scale::linear(values.into_iter().chain([0.0]))
            } else {
                Scale::for_ratios(&values)
            },
            series,
            zero,
            stages: group.stages().unwrap_or_default().to_vec(),
            ..Cell::default()
        }
    };
    [
        cell("cosine", "cos ∠(F_j, ∂L/∂h_j)", true, |row| {
            row.cosine
        }),
        cell("ratio", "‖F_j‖ / ‖h_j‖", false, |row| row.l2_ratio),
    ]
}

fn seen(group: &Group) -> Option<String> {
    let epochs = picked(group);
    let share = |epoch: usize| {
        let rows = group.runs.iter().flat_map(|run| &run.columns.blocks);
        let cosines: Vec<f64> = rows
            .filter(|row| row.split == "test" && row.epoch == epoch && !row.transition)
            .filter_map(|row| row.cosine)
            .collect();
        let negative = cosines.iter().filter(|&&cosine| cosine < 0.0).count();
        (!cosines.is_empty()).then(|| {
            let share = 100.0 * negative as f64 / cosines.len() as f64;
            format!("{} % after epoch {epoch}", significant(share, 3))
        })
    };
    let parts: Vec<String> = epochs.into_iter().filter_map(share).collect();
    (!parts.is_empty()).then(|| {
        format!(
            "{}: blocks with a negative cosine, transitions aside: {}.",
            group.title,
            parts.join(", ")
        )
    })
}
