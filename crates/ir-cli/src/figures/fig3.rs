//! Fig. 3: accuracy with one block dropped.

use ir_analysis::results::{BlockMeasures, Split};

use crate::claims::median;
use crate::group::{BlockSummary, Group};

use super::blocks::{BlockFigure, BlockPanel, Look, series, transition_sentence};
use super::colour::Colour;
use super::scale::Scale;
use super::scene::Stroke;
use super::{Figure, SPLITS, absent};

/// Draws it.
pub(crate) fn draw(groups: &[Group]) -> Figure {
    let shown: Vec<&Group> = groups
        .iter()
        .filter(|g| SPLITS.iter().any(|split| !dropped(g, split).is_empty()))
        .collect();
    let figure = BlockFigure {
        panels: shown.iter().map(|group| panel(group)).collect(),
        y: Scale::between(0.0, 100.0),
        y_title: "accuracy without block j (%)",
        zero: false,
        name: "Accuracy with one block dropped, by network and split",
    };
    let bands = if shown.iter().any(|group| group.over_seeds()) {
        "Bands: ± one standard deviation over seeds."
    } else {
        "One run a network, so there are no bands."
    };
    Figure {
        name: "fig3",
        title: "Figure 3: accuracy with one block dropped",
        paper: "In single-representation and avg-pooling dropping the first block is catastrophic \
                and dropping a higher one costs almost nothing; in resnet-110 and wide the cost is \
                mild everywhere.",
        absent: absent(groups, &shown),
        seen: shown.iter().filter_map(|group| seen(group)).collect(),
        reading: format!(
            "Dropping block j sets F_j := 0. Dashed: the whole network on test images; dotted: guessing. {bands}{}",
            transition_sentence(&shown)
        ),
        drawing: figure.drawing(),
    }
}

fn panel(group: &Group) -> BlockPanel<'_> {
    let mut levels = vec![(
        100.0 / group.info().classes.max(1) as f64,
        "chance".to_owned(),
        Stroke {
            dash: Some((1.5, 3.0)),
            ..Stroke::solid(Colour::Muted, 1.0)
        },
    )];
    if let Some(whole) = group.summary("test", |split| Some(split.accuracy)) {
        let value = 100.0 * whole.mean;
        let name = "none dropped".to_owned();
        levels.push((value, name, Stroke::dashed(Colour::Ink, 1.0)));
    }
    BlockPanel {
        group,
        series: vec![
            series(&dropped(group, "train"), Look::TRAIN, "train", 100.0),
            series(&dropped(group, "test"), Look::TEST, "test", 100.0),
        ],
        levels,
    }
}

fn dropped(group: &Group, split: &str) -> Vec<BlockSummary> {
    let value = |_: &Split, block: &BlockMeasures| Some((block.drop_accuracy?, None));
    group.per_block(split, value)
}

fn seen(group: &Group) -> Option<String> {
    let costs = group.per_block("test", |split, block| {
        Some((100.0 * (split.accuracy - block.drop_accuracy?), None))
    });
    let costliest = costs
        .iter()
        .max_by(|a, b| a.summary.mean.total_cmp(&b.summary.mean))?;
    let middle = median(costs.iter().map(|block| block.summary.mean))?;
    let first = costs.first()?;
    Some(format!(
        "{}: dropping block {} costs {} points of test accuracy, the median block {}; the \
         costliest is block {}{} with {}.",
        group.title,
        first.block,
        points(first.summary.mean),
        points(middle),
        costliest.block,
        if costliest.transition {
            " (a transition)"
        } else {
            ""
        },
        points(costliest.summary.mean),
    ))
}

/// Percentage points with one decimal.
fn points(value: f64) -> String {
    super::scale::minus(&format!("{value:.1}"))
}
