//! Fewer and more steps of the last stage than were trained: its exits, and its last block unrolled.

use ir_analysis::results::{Exit, ScaleSource, Split, UnrollStep};

use crate::group::Group;

use super::colour::Colour;
use super::curves::{MARGINS, Value, both, last_x, loss_scale, upright, values};
use super::grid::{self, Cell};
use super::panel::Series;
use super::scale::{Scale, significant};
use super::scene::Stroke;
use super::{Figure, absent};

/// Draws it.
pub(super) fn draw(groups: &[Group]) -> Figure {
    let has = |split: &Split| !split.exits.is_empty() && unscaled(split).is_some();
    let shown: Vec<&Group> = groups.iter().filter(|g| g.all_splits().any(has)).collect();
    let rows: Vec<[Cell; 2]> = shown.iter().flat_map(|group| rows(group)).collect();
    Figure {
        name: "steps",
        title: "Steps: fewer and more blocks of the last stage than were trained",
        paper: "The paper unrolls the last block for more steps (Fig. 7) and reads the last stage \
                after fewer (Fig. 5); in a shared network both are other numbers of steps of one \
                block, which it says should refine the representation further.",
        absent: absent(groups, &shown),
        seen: shown.iter().filter_map(|group| seen(group)).collect(),
        reading: "Blocks of the last stage applied before the head reads; the dashed line is the \
                  network as trained. To its left the last ones are left out; to its right the \
                  last block is applied again, unscaled and, in a shared network, with the norms \
                  of its last step. Cosine (with the exit gradient) and ratio are those of the \
                  step that makes the state. Blue, thick: test; orange-red, thin: train."
            .into(),
        drawing: grid::draw(
            &rows,
            MARGINS,
            "Accuracy, loss, cosine and ratio by the number of blocks of the last stage applied",
        ),
    }
}

/// The steps beyond those trained, step 0 left out, which is the last exit.
fn unscaled(split: &Split) -> Option<&[UnrollStep]> {
    let found = split
        .unroll
        .iter()
        .find(|unroll| unroll.scale_source == ScaleSource::Unscaled);
    found?.steps.get(1..)
}

/// Blocks of the last stage.
fn trained(group: &Group) -> usize {
    let last = group.stages().and_then(<[_]>::last);
    last.map_or(0, |stage| stage.last_block + 1 - stage.first_block)
}

/// The state after each number of steps.
fn states(
    split: &Split,
    exit: impl Fn(&Exit) -> Option<f64>,
    step: impl Fn(&UnrollStep) -> Option<f64>,
) -> Vec<Value> {
    let trained = split.exits.len().saturating_sub(1);
    let fewer = split.exits.iter().enumerate();
    let fewer = fewer.filter_map(|(count, found)| Some(Value::new(count as f64, exit(found)?)));
    let more = unscaled(split).unwrap_or_default().iter();
    let more =
        more.filter_map(|found| Some(Value::new((trained + found.step) as f64, step(found)?)));
    fewer.chain(more).collect()
}

/// The move that makes each state; there is none before the first block.
fn moves(
    split: &Split,
    block: impl Fn(&ir_analysis::results::BlockMeasures) -> Option<f64>,
    step: impl Fn(&UnrollStep) -> Option<f64>,
) -> Vec<Value> {
    let trained = split.exits.len().saturating_sub(1);
    let own = &split.blocks[split.blocks.len().saturating_sub(trained)..];
    let own = own.iter().zip(1..);
    let own = own.filter_map(|(found, count)| Some(Value::new(f64::from(count), block(found)?)));
    let more = unscaled(split).unwrap_or_default().iter();
    let more =
        more.filter_map(|found| Some(Value::new((trained + found.step) as f64, step(found)?)));
    own.chain(more).collect()
}

fn rows(group: &Group) -> [[Cell; 2]; 2] {
    let percent = |accuracy: Option<f64>| Some(100.0 * accuracy?);
    let accuracy = both(group, |split| {
        let exit = |exit: &Exit| percent(exit.groups.all.accuracy);
        states(split, exit, |step| percent(step.groups.all.accuracy))
    });
    let loss = both(group, |split| {
        let exit = |exit: &Exit| Some(exit.groups.all.loss?.0);
        states(split, exit, |step| Some(step.groups.all.loss?.0))
    });
    let cosine = both(group, |split| {
        moves(split, |block| block.exit_cosine, |step| step.cosine)
    });
    let ratio = both(group, |split| {
        moves(
            split,
            |block| Some(block.l2_ratio?.0),
            |step| Some(step.l2_ratio?.0),
        )
    });
    let (loss_y, ratio_y) = (loss_scale(&loss), Scale::for_ratios(&values(&ratio)));
    let cosine_y = Scale::linear(values(&cosine).into_iter().chain([0.0]));
    let cell = |title: &str, y_title, y, series| cell(group, title, y_title, y, series);
    [
        [
            cell(
                &group.title,
                "accuracy (%)",
                Scale::between(0.0, 100.0),
                accuracy,
            ),
            cell("", "loss (nats)", loss_y, loss),
        ],
        [
            Cell {
                zero: true,
                ..cell("", "cos ∠(F, ∂L/∂h)", cosine_y, cosine)
            },
            cell("", "‖F‖ / ‖h‖", ratio_y, ratio),
        ],
    ]
}

fn cell(group: &Group, title: &str, y_title: &'static str, y: Scale, series: Vec<Series>) -> Cell {
    let trained = trained(group) as f64;
    let line = upright(trained, y, Stroke::dashed(Colour::Muted, 1.2), "");
    let x = Scale::between(0.0, last_x(&series, trained.max(1.0)));
    Cell {
        title: title.to_owned(),
        x_title: "blocks of the last stage applied",
        x,
        y_title,
        y,
        series: std::iter::once(line).chain(series).collect(),
        ..Cell::default()
    }
}

fn seen(group: &Group) -> Option<String> {
    let series = both(group, |split| {
        let exit = |exit: &Exit| Some(100.0 * exit.groups.all.accuracy?);
        states(split, exit, |step| Some(100.0 * step.groups.all.accuracy?))
    });
    let test = &series.iter().find(|series| series.label == "test")?.points;
    let trained = trained(group) as f64;
    let own = test.iter().find(|point| point.x == trained)?;
    let best = test.iter().max_by(|a, b| a.y.total_cmp(&b.y))?;
    let last = test.last()?;
    Some(format!(
        "{}: test accuracy is {} % with the {trained} blocks trained, highest with {} ({} %), and \
         {} % with {}.",
        group.title,
        significant(own.y, 3),
        best.x,
        significant(best.y, 3),
        significant(last.y, 3),
        last.x
    ))
}
