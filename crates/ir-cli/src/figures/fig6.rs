//! Fig. 6: accuracy, loss and entropy at the last five exits, for three groups of samples.

use ir_analysis::results::{Exit, Split};

use crate::group::{Group, Summary};

use super::blocks::{LEFT, WIDTH};
use super::panel::{Labels, Panel, Point, Series};
use super::samples::{ACCURACY, ENTROPY, LOSS, Quantity, SAMPLE_GROUPS, SampleGroup};
use super::scale::{Scale, minus, significant, thousands};
use super::scene::{Drawing, Scene, Stroke};
use super::{Figure, SPLITS, absent};

/// Exits shown, as in the paper.
const SHOWN: usize = 5;
const RIGHT: f64 = 152.0;
const GAP: f64 = 14.0;
const ABOVE: f64 = 32.0;
const HEIGHT: f64 = 150.0;
const BETWEEN: f64 = 24.0;
const BELOW: f64 = 52.0;
const QUANTITIES: [Quantity; 3] = [ACCURACY, LOSS, ENTROPY];

/// Draws it.
pub(crate) fn draw(groups: &[Group]) -> Figure {
    let shown: Vec<&Group> = groups.iter().filter(|g| !places(g).is_empty()).collect();
    let bands = if shown.iter().any(|group| group.over_seeds()) {
        " Bands: ± one standard deviation over seeds."
    } else {
        ""
    };
    let entrance = if shown.iter().any(|group| places(group).contains(&None)) {
        " “in” is the entrance of the last stage, before its first block."
    } else {
        ""
    };
    Figure {
        name: "fig6",
        title: "Figure 6: the last exits, by group of samples",
        paper: "Borderline examples gain accuracy at the expense of the loss of those already \
                correct; entropy falls in all groups; training loss falls evenly, test loss rises \
                after the last block.",
        absent: absent(groups, &shown),
        seen: shown.iter().filter_map(|group| seen(group)).collect(),
        reading: format!(
            "The head applied after each of the last {SHOWN} blocks; in brackets, how many \
             samples a group has. {} A sample is borderline if |p(correct) − max p(other)| < 0.1 \
             there.{entrance}{bands}",
            reference_sentence(&shown)
        ),
        drawing: drawing(&shown),
    }
}

fn drawing(groups: &[&Group]) -> Option<Drawing> {
    if groups.is_empty() {
        return None;
    }
    let rows = [ABOVE + HEIGHT + BETWEEN, ABOVE + HEIGHT + BELOW];
    let height = rows[0] + rows[1];
    let columns = QUANTITIES.len() as f64;
    let width = (WIDTH - columns * LEFT - (columns - 1.0) * GAP - RIGHT) / columns;
    let mut scene = Scene::new(WIDTH);
    for (index, group) in groups.iter().enumerate() {
        let places = places(group);
        let x = Scale::between(-0.3, places.len() as f64 - 0.7);
        let all: Vec<[Vec<Series>; 2]> = QUANTITIES
            .iter()
            .enumerate()
            .map(|(column, quantity)| {
                let labelled = column + 1 == QUANTITIES.len();
                SPLITS.map(|split| series(group, split, quantity, labelled))
            })
            .collect();
        for (below, split) in SPLITS.iter().enumerate() {
            for (column, (quantity, splits)) in QUANTITIES.iter().zip(&all).enumerate() {
                let values = splits.iter().flatten().flat_map(Series::values);
                let y = Scale::linear(values.collect::<Vec<_>>());
                let corner = (
                    column as f64 * (LEFT + width + GAP),
                    index as f64 * height + below as f64 * rows[0],
                );
                let room = if column + 1 == QUANTITIES.len() {
                    RIGHT
                } else {
                    GAP
                };
                let panel = Panel {
                    left: corner.0 + LEFT,
                    top: corner.1 + ABOVE,
                    width,
                    height: HEIGHT,
                    x,
                    y,
                };
                let title = format!("{}: {split}", group.title);
                let labels = Labels {
                    title: if column == 0 { title } else { String::new() },
                    x: if below == 1 {
                        "exit after block j".into()
                    } else {
                        String::new()
                    },
                    y: quantity.title.into(),
                    x_ticks: ticks(&places),
                    y_ticks: y.ticks(),
                };
                scene.cell(corner, (LEFT + width + room, rows[below]), |scene| {
                    panel.axes(scene, &labels, 12.0);
                    panel.series(scene, &splits[below]);
                });
            }
        }
    }
    let name = "Accuracy, loss and entropy at the last exits, by network, split and group";
    Some(scene.finish(groups.len() as f64 * height, name))
}

fn ticks(places: &[Option<usize>]) -> Vec<(f64, String)> {
    let ticks = places.iter().enumerate();
    ticks
        .map(|(index, &place)| (index as f64, place_name(place)))
        .collect()
}

/// The block before an exit; the entrance of the stage has none.
fn place_name(place: Option<usize>) -> String {
    place.map_or("in".into(), |block| block.to_string())
}

/// The last exits of a split.
fn last(split: &Split) -> &[Exit] {
    &split.exits[split.exits.len().saturating_sub(SHOWN)..]
}

fn places(group: &Group) -> Vec<Option<usize>> {
    let first = group.all_splits().find(|split| !split.exits.is_empty());
    first.map_or(Vec::new(), |split| {
        last(split).iter().map(|exit| exit.after_block).collect()
    })
}

fn series(group: &Group, split: &str, quantity: &Quantity, labelled: bool) -> Vec<Series> {
    let places = places(group);
    let each = SAMPLE_GROUPS.iter().map(|samples| {
        let points = places.iter().enumerate().filter_map(|(index, &place)| {
            let summary = at(group, split, place, samples, quantity)?;
            Some(Point {
                x: index as f64,
                y: summary.mean,
                deviation: summary.deviation,
                hollow: false,
                note: format!(
                    "exit {}, {split}, {}: {}",
                    place_name(place),
                    samples.name,
                    significant(summary.mean, 3)
                ),
            })
        });
        Series {
            points: points.collect(),
            stroke: Stroke::solid(samples.colour, 2.0),
            radius: 3.0,
            band: group.over_seeds(),
            label: if labelled {
                label(group, split, samples)
            } else {
                String::new()
            },
        }
    });
    each.filter(|series| !series.points.is_empty()).collect()
}

fn at(
    group: &Group,
    split: &str,
    place: Option<usize>,
    samples: &SampleGroup,
    quantity: &Quantity,
) -> Option<Summary> {
    let values = group.splits(split).filter_map(|split| {
        let exit = last(split).iter().find(|exit| exit.after_block == place)?;
        (quantity.of)((samples.of)(&exit.groups))
    });
    Summary::of_means(&values.collect::<Vec<_>>())
}

/// The group's name and its size; the mean size over several runs.
fn label(group: &Group, split: &str, samples: &SampleGroup) -> String {
    let size = group.summary(split, |split| {
        Some((samples.of)(&split.exits.last()?.groups).samples as f64)
    });
    size.map_or(samples.name.into(), |size| {
        format!(
            "{} ({})",
            samples.name,
            thousands(size.mean.round() as usize)
        )
    })
}

/// Where the groups were decided, if every network says the same kind of place.
fn reference_sentence(groups: &[&Group]) -> &'static str {
    let splits: Vec<&Split> = groups.iter().flat_map(|group| group.all_splits()).collect();
    let first = |split: &&Split| last(split).first().is_some_and(|exit| exit.reference);
    let end = |split: &&Split| split.exits.last().is_some_and(|exit| exit.reference);
    if splits.iter().all(first) {
        "The groups are decided at the first exit shown."
    } else if splits.iter().all(end) {
        "The groups are decided at the last exit."
    } else {
        "The groups are decided at the exit that results.json marks as the reference."
    }
}

fn seen(group: &Group) -> Option<String> {
    let places = places(group);
    let (first, last) = (*places.first()?, *places.last()?);
    let change = |split: &str, samples: &SampleGroup, quantity: &Quantity| {
        let at = |place| Some(at(group, split, place, samples, quantity)?.mean);
        Some(at(last)? - at(first)?)
    };
    let [correct, borderline, all] = &SAMPLE_GROUPS;
    let signed = |value: f64| {
        let sign = if value > 0.0 { "+" } else { "" };
        format!("{sign}{}", minus(&format!("{value:.3}")))
    };
    let borderline = match change("test", borderline, &ACCURACY) {
        Some(gain) => format!(
            "borderline accuracy changes by {} points",
            minus(&format!("{gain:.1}"))
        ),
        None => "there are no borderline images".into(),
    };
    Some(format!(
        "{}: from the first exit shown to the last, on test images, {borderline}, the loss of \
         those already correct by {} nats and the entropy over all by {} nats.",
        group.title,
        change("test", correct, &LOSS).map_or("?".into(), signed),
        change("test", all, &ENTROPY).map_or("?".into(), signed),
    ))
}
