//! Fig. 2: how much each block changes its input, ‖F_j(h_j)‖ / ‖h_j‖.

use ir_analysis::results::{BlockMeasures, Split};

use crate::claims::median;
use crate::group::{BlockSummary, Group};

use super::blocks::{BlockFigure, BlockPanel, Look, left_out, series, transition_sentence};
use super::scale::{Scale, significant};
use super::{Figure, SPLITS, absent, band_sentence};

/// Draws it.
pub(crate) fn draw(groups: &[Group]) -> Figure {
    let shown: Vec<&Group> = groups
        .iter()
        .filter(|g| SPLITS.iter().any(|split| !ratios(g, split).is_empty()))
        .collect();
    let panels: Vec<BlockPanel<'_>> = shown.iter().map(|group| panel(group)).collect();
    let values: Vec<f64> = panels
        .iter()
        .flat_map(|panel| panel.series.iter())
        .flat_map(|series| series.points.iter())
        .flat_map(|point| [point.y, point.y + point.deviation.unwrap_or(0.0)])
        .collect();
    let figure = BlockFigure {
        panels,
        y: Scale::for_ratios(&values),
        y_title: "ℓ2 ratio ‖F_j(h_j)‖ / ‖h_j‖",
        zero: false,
        name: "Norm of each block's output relative to its input, by network and split",
    };
    Figure {
        name: "fig2",
        title: "Figure 2: ℓ2 ratio of a block's output to its input",
        paper: "Train and validation overlap; in single-representation and avg-pooling the first \
                blocks change the representation most (ratio up to 2) and the ratio then falls \
                steadily, in resnet-110 and wide less drastically.",
        absent: absent(groups, &shown),
        seen: shown.iter().filter_map(|group| seen(group)).collect(),
        reading: format!("{}{}", band_sentence(&shown), transition_sentence(&shown)),
        drawing: figure.drawing(),
    }
}

fn panel(group: &Group) -> BlockPanel<'_> {
    BlockPanel {
        group,
        series: vec![
            series(&ratios(group, "test"), Look::TEST, "test", 1.0),
            series(&ratios(group, "train"), Look::TRAIN, "train", 1.0),
        ],
        levels: Vec::new(),
    }
}

fn ratios(group: &Group, split: &str) -> Vec<BlockSummary> {
    let value = |_: &Split, block: &BlockMeasures| {
        Some((block.l2_ratio?.0, block.l2_ratio_std.map(f64::from)))
    };
    group.per_block(split, value)
}

fn seen(group: &Group) -> Option<String> {
    let test = ratios(group, "test");
    let largest = test
        .iter()
        .max_by(|a, b| a.summary.mean.total_cmp(&b.summary.mean))?;
    let smallest = test
        .iter()
        .min_by(|a, b| a.summary.mean.total_cmp(&b.summary.mean))?;
    let middle = median(test.iter().map(|block| block.summary.mean))?;
    let first = test.first()?;
    Some(format!(
        "{}: on test images block {} starts at {}, the median block is at {}; the largest is \
         block {}{} with {}, the smallest block {} with {}.{}",
        group.title,
        first.block,
        significant(first.summary.mean, 2),
        significant(middle, 2),
        largest.block,
        if largest.transition {
            " (a transition)"
        } else {
            ""
        },
        significant(largest.summary.mean, 2),
        smallest.block,
        significant(smallest.summary.mean, 2),
        left_out(group, "ratio (h_j = 0)", |block| block.undefined.l2_ratio),
    ))
}
