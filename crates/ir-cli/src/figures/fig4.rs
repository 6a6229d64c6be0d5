//! Fig. 4: the angle between a block's output and the loss gradient.

use ir_analysis::results::{BlockMeasures, Split};

use crate::group::{BlockSummary, Group};

use super::blocks::{BlockFigure, BlockPanel, Look, left_out, series, transition_sentence};
use super::colour::Colour;
use super::panel::Series;
use super::scale::{Scale, significant};
use super::{Figure, SPLITS, absent, band_sentence};

const EXIT_TEST: Look = Look {
    colour: Colour::ExitGradient,
    ..Look::TEST
};
const EXIT_TRAIN: Look = Look {
    colour: Colour::TrainExitGradient,
    ..Look::TRAIN
};

/// Draws it.
pub(crate) fn draw(groups: &[Group]) -> Figure {
    let shown: Vec<&Group> = groups
        .iter()
        .filter(|g| SPLITS.iter().any(|split| !network(g, split).is_empty()))
        .collect();
    let panels: Vec<BlockPanel<'_>> = shown.iter().map(|group| panel(group)).collect();
    let values = panels
        .iter()
        .flat_map(|panel| panel.series.iter())
        .flat_map(super::panel::Series::values)
        .chain([0.0]);
    let y = Scale::linear(values.collect::<Vec<_>>());
    let figure = BlockFigure {
        panels,
        y,
        y_title: "cos ∠(F_j, ∂L/∂h_j)",
        zero: true,
        name: "Cosine between each block's output and the loss gradient, by network and split",
    };
    Figure {
        name: "fig4",
        title: "Figure 4: cosine between a block's output and the loss gradient",
        paper: "Negative for all blocks, more so for the higher ones and in the deeper networks; \
                about −0.1 in the last block.",
        absent: absent(groups, &shown),
        seen: shown.iter().filter_map(|group| seen(group)).collect(),
        reading: format!(
            "Blue and orange-red: the gradient back-propagated through all later blocks. Green: \
             the exit gradient, of the loss with the head applied to h_j itself, defined in the \
             last stage only (thick: test, thin: train). {}{}",
            band_sentence(&shown),
            transition_sentence(&shown)
        ),
        drawing: figure.drawing(),
    }
}

fn panel(group: &Group) -> BlockPanel<'_> {
    // It has a name where a pointer rests on it, and no room for one at its end.
    let exit_on_train = Series {
        label: String::new(),
        ..series(&exit(group, "train"), EXIT_TRAIN, "train, exit", 1.0)
    };
    BlockPanel {
        group,
        series: vec![
            exit_on_train,
            series(&exit(group, "test"), EXIT_TEST, "test, exit", 1.0),
            series(&network(group, "test"), Look::TEST, "test", 1.0),
            series(&network(group, "train"), Look::TRAIN, "train", 1.0),
        ],
        levels: Vec::new(),
    }
}

fn network(group: &Group, split: &str) -> Vec<BlockSummary> {
    let value = |_: &Split, block: &BlockMeasures| Some((block.cosine?, block.cosine_std));
    group.per_block(split, value)
}

fn exit(group: &Group, split: &str) -> Vec<BlockSummary> {
    let value =
        |_: &Split, block: &BlockMeasures| Some((block.exit_cosine?, block.exit_cosine_std));
    group.per_block(split, value)
}

fn seen(group: &Group) -> Option<String> {
    let test = network(group, "test");
    let negative = test.iter().filter(|block| block.summary.mean < 0.0).count();
    let last = test.last()?;
    let lowest = test
        .iter()
        .min_by(|a, b| a.summary.mean.total_cmp(&b.summary.mean))?;
    Some(format!(
        "{}: on test images {negative} of {} blocks have a negative mean cosine; the last block \
         is at {}, the lowest is block {} with {}.{}",
        group.title,
        test.len(),
        significant(last.summary.mean, 2),
        lowest.block,
        significant(lowest.summary.mean, 2),
        left_out(group, "angle (a zero or overflowed vector)", |block| block
            .undefined
            .cosine),
    ))
}
