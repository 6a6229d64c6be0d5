//! A trained linear readout at every representation, beside the plugged head (Huang et al. 2018).

use ir_analysis::results::{Exit, Readout, Split};

use crate::group::Group;

use super::blocks::Look;
use super::colour::Colour;
use super::curves::{MARGINS, Value, both, curve, loss_scale};
use super::grid::{self, Cell, Margins};
use super::panel::Series;
use super::scale::{Scale, significant};
use super::{Figure, absent};

const HEAD: Look = Look {
    colour: Colour::ExitGradient,
    band: false,
    ..Look::TEST
};

/// Draws it.
pub(super) fn draw(groups: &[Group]) -> Figure {
    let has = |split: &Split| !split.readouts.is_empty();
    let shown: Vec<&Group> = groups.iter().filter(|g| g.all_splits().any(has)).collect();
    let rows: Vec<[Cell; 2]> = shown
        .iter()
        .map(|group| [accuracy(group), loss(group)])
        .collect();
    let margins = Margins {
        right: 108.0,
        ..MARGINS
    };
    Figure {
        name: "readouts",
        title: "Readouts: a linear classifier trained on every representation",
        paper: "Huang et al. 2018 build a residual network of blocks whose linear readouts are weak \
                learners, each a little better than the one before.",
        absent: absent(groups, &shown),
        seen: shown.iter().filter_map(|group| seen(group)).collect(),
        reading: "At h_j a linear softmax classifier reads the mean of each channel over space, \
                  standardised, fitted on the training images analysed (blue, thick: test; \
                  orange-red, thin: train). Green: the network’s own head plugged in at the same \
                  place of the last stage, on test images; at its entrance it reads s_j. Loss \
                  panels are logarithmic where the loss grows more than tenfold."
            .into(),
        drawing: grid::draw(
            &rows,
            margins,
            "Accuracy and loss of a trained linear readout at every representation, and of the plugged head",
        ),
    }
}

/// Index of the representation after a block; h_0 is before all.
fn place(after_block: Option<usize>, entrance: usize) -> f64 {
    after_block.map_or(entrance, |block| block + 1) as f64
}

fn readouts(split: &Split, of: impl Fn(&Readout) -> f64) -> Vec<Value> {
    let value = |readout: &Readout| Value::new(place(readout.after_block, 0), of(readout));
    split.readouts.iter().map(value).collect()
}

fn heads(group: &Group, of: impl Fn(&Exit) -> Option<f64>) -> Series {
    let start = group
        .stages()
        .and_then(<[_]>::last)
        .map_or(0, |stage| stage.first_block);
    curve(group, "test", HEAD, "plugged head", |split| {
        let value = |exit: &Exit| Some(Value::new(place(exit.after_block, start), of(exit)?));
        split.exits.iter().filter_map(value).collect()
    })
}

fn accuracy(group: &Group) -> Cell {
    let mut series = vec![heads(group, |exit| Some(100.0 * exit.groups.all.accuracy?))];
    series.extend(both(group, |split| {
        readouts(split, |readout| 100.0 * readout.accuracy)
    }));
    cell(
        group,
        group.title.clone(),
        "accuracy (%)",
        Scale::between(0.0, 100.0),
        series,
    )
}

fn loss(group: &Group) -> Cell {
    let mut series = vec![heads(group, |exit| Some(exit.groups.all.loss?.0))];
    series.extend(both(group, |split| {
        readouts(split, |readout| readout.loss.0)
    }));
    let y = loss_scale(&series);
    cell(group, String::new(), "loss (nats)", y, series)
}

fn cell(
    group: &Group,
    title: String,
    y_title: &'static str,
    y: Scale,
    mut series: Vec<Series>,
) -> Cell {
    series.retain(|series| !series.points.is_empty());
    let stages = group.stages().unwrap_or_default().to_vec();
    let last = stages.last().map_or(0, |stage| stage.last_block) as f64;
    Cell {
        title,
        x_title: "representation h_j",
        x: Scale::between(-0.5, last + 1.5),
        y_title,
        y,
        series,
        stages,
        ..Cell::default()
    }
}

fn seen(group: &Group) -> Option<String> {
    let series = both(group, |split| {
        readouts(split, |readout| 100.0 * readout.accuracy)
    });
    let test = &series.iter().find(|series| series.label == "test")?.points;
    let (first, last) = (test.first()?.y, test.last()?.y);
    let rising = test.windows(2).filter(|pair| pair[1].y > pair[0].y).count();
    let network = group.summary("test", |split| Some(100.0 * split.accuracy))?;
    Some(format!(
        "{}: test accuracy of the readouts goes from {} % at h_0 to {} % at the last block and \
         rises at {rising} of {} blocks; the network’s own is {} %.",
        group.title,
        significant(first, 3),
        significant(last, 3),
        test.len() - 1,
        significant(network.mean, 3)
    ))
}
