//! Fig. 8: a naively shared network beside those that share nothing.

use crate::family::Member;
use crate::group::{Group, dataset_name};
use crate::run::{Epoch, GradientNormRatio};

use super::grid::{Cell, Margins, draw as draw_grid};
use super::panel::Series;
use super::recorded::{over_blocks, over_epochs};
use super::scale::{Scale, significant};
use super::scene::Stroke;
use super::{Figure, colour::Colour};

const MARGINS: Margins = Margins {
    left: 66.0,
    right: 138.0,
};

/// Index of naive sharing in [`crate::family::SHARINGS`].
const NAIVE: usize = 1;

/// Draws it. `untrained` are runs of no epoch, which have norms at initialisation.
pub(crate) fn draw(trained: &[Group], untrained: &[Group]) -> Figure {
    let families = families(trained, untrained, |member| member.sharing <= NAIVE);
    let shown: Vec<&Family<'_>> = families
        .iter()
        .filter(|family| family.has(NAIVE) && family.has(0))
        .collect();
    let rows: Vec<[Cell; 2]> = shown.iter().flat_map(|family| rows(family)).collect();
    Figure {
        name: "fig8",
        title: "Figure 8: sharing blocks naively",
        paper: "A resnet-110 whose blocks 5 and up of each stage are one block both under- and \
                overfits beside resnet-32; the gradient-norm ratio r is much larger; at \
                initialisation the activation norms explode with depth.",
        absent: Vec::new(),
        seen: shown.iter().flat_map(|family| seen(family)).collect(),
        reading: "r = ‖∂L/∂h_1‖ / ‖∂L/∂h_k‖, h_k behind the first block of the last stage, of the \
                  mean norms over a fixed part of the split. Training accuracy is that of the \
                  batches as they came, augmented. Norms before the first step: in evaluation, \
                  where batch norm still passes everything on as it is (running mean 0, \
                  variance 1), and with the statistics of a batch, as training sees it. Hollow \
                  marks: transition blocks."
            .into(),
        drawing: draw_grid(
            &rows,
            MARGINS,
            "Accuracy and gradient-norm ratio over training, and norms at initialisation, of \
             networks that share blocks naively or not at all",
        ),
    }
}

/// The `resnet-D` networks on one data set, trained ones first.
pub(super) struct Family<'a> {
    pub(super) dataset: &'a str,
    pub(super) members: Vec<(Member, &'a Group)>,
}

impl Family<'_> {
    pub(super) fn has(&self, sharing: usize) -> bool {
        self.members
            .iter()
            .any(|(member, _)| member.sharing == sharing)
    }

    pub(super) fn trained(&self) -> impl Iterator<Item = &(Member, &Group)> {
        self.members.iter().filter(|(_, group)| group.is_trained())
    }
}

/// The families of a report. A network that was trained is not shown untrained too.
pub(super) fn families<'a>(
    trained: &'a [Group],
    untrained: &'a [Group],
    wanted: impl Fn(Member) -> bool,
) -> Vec<Family<'a>> {
    let mut families: Vec<Family<'a>> = Vec::new();
    for group in trained.iter().chain(untrained) {
        let info = group.info();
        let Some(member) = Member::of(&info.model).filter(|member| wanted(*member)) else {
            continue;
        };
        let index = families
            .iter()
            .position(|family| family.dataset == info.dataset)
            .unwrap_or_else(|| {
                families.push(Family {
                    dataset: &info.dataset,
                    members: Vec::new(),
                });
                families.len() - 1
            });
        let members = &mut families[index].members;
        if group.is_trained() || !members.iter().any(|(other, _)| *other == member) {
            members.push((member, group));
        }
    }
    families
}

/// Dashes of the lines that are not the deepest of their sharing, from the second deepest on.
const DASHES: [(f64, f64); 3] = [(7.0, 3.0), (1.6, 2.4), (3.5, 2.0)];

/// The line of a member: coloured by its sharing; of those with the same sharing the deepest is
/// drawn whole, the others dashed.
fn stroke(family: &Family<'_>, member: Member) -> Stroke {
    let alike = family.members.iter().map(|(member, _)| member);
    let deeper = alike
        .filter(|other| other.sharing == member.sharing && other.depth > member.depth)
        .count();
    let colour = Colour::Sharing(member.sharing);
    match deeper.checked_sub(1) {
        None => Stroke::solid(colour, 1.8),
        Some(rank) => Stroke {
            dash: Some(DASHES[rank.min(DASHES.len() - 1)]),
            ..Stroke::solid(colour, 1.4)
        },
    }
}

fn rows(family: &Family<'_>) -> Vec<[Cell; 2]> {
    let name = dataset_name(family.dataset);
    let over = |title: &str, y_title, value: &dyn Fn(&Epoch) -> Option<f64>| {
        let series: Vec<Series> = family
            .trained()
            .map(|(member, group)| {
                over_epochs(group, &group.info().model, stroke(family, *member), value)
            })
            .filter(|series| !series.points.is_empty())
            .collect();
        let last = series.iter().flat_map(|s| &s.points).map(|p| p.x);
        Cell {
            title: format!("{name}: {title}"),
            x_title: "epoch",
            x: Scale::between(0.0, last.fold(1.0, f64::max)),
            y_title,
            series,
            ..Cell::default()
        }
    };
    let accuracy = |title, value: &dyn Fn(&Epoch) -> Option<f64>| {
        let cell = over(title, "accuracy (%)", &|epoch| {
            value(epoch).map(|share| 100.0 * share)
        });
        let y = Scale::linear(values(&cell));
        Cell { y, ..cell }
    };
    let ratio = |title, of: fn(GradientNormRatio) -> Option<f64>| {
        // The first is that of a network whose batch norms do nothing yet.
        let cell = over(title, "gradient-norm ratio r", &|epoch| {
            epoch
                .gradient_norm_ratio
                .and_then(of)
                .filter(|_| epoch.epoch > 0)
        });
        let y = Scale::for_ratios(&values(&cell));
        Cell { y, ..cell }
    };
    vec![
        [
            accuracy("training accuracy", &|epoch| epoch.train_accuracy),
            accuracy("test accuracy", &|epoch| Some(epoch.test_accuracy)),
        ],
        [
            ratio("r on training images", |r| Some(r.train?.0)),
            ratio("r on test images", |r| Some(r.test?.0)),
        ],
        norms(family, |member, group| {
            (stroke(family, member), group.info().model.clone())
        }),
    ]
}

/// The norms of h_j at initialisation: in evaluation, and with the statistics of a batch.
pub(super) fn norms(
    family: &Family<'_>,
    look: impl Fn(Member, &Group) -> (Stroke, String),
) -> [Cell; 2] {
    let name = dataset_name(family.dataset);
    let cell = |title: &str, batch: bool| {
        let mut series: Vec<Series> = Vec::new();
        for &(member, group) in &family.members {
            let (stroke, label) = look(member, group);
            let line = over_blocks(group, ("train", 0), &label, stroke, |row| {
                if batch { row.batch_h_norm } else { row.h_norm }
            });
            // Networks that begin with the same weights have one line.
            let known = |other: &Series| heights(other).eq(heights(&line));
            if !line.points.is_empty() && !series.iter().any(known) {
                series.push(line);
            }
        }
        let last = series.iter().flat_map(|s| &s.points).map(|p| p.x);
        let x = Scale::between(-0.5, last.fold(1.0, f64::max) + 0.5);
        let y = Scale::log(series.iter().flat_map(Series::values));
        Cell {
            title: format!("{name}: {title}"),
            x_title: "block j",
            x,
            y_title: "‖h_j‖ at initialisation",
            y,
            series,
            ..Cell::default()
        }
    };
    [
        cell("norms in evaluation", false),
        cell("norms with batch statistics", true),
    ]
}

fn heights(series: &Series) -> impl Iterator<Item = f64> {
    series.points.iter().map(|point| point.y)
}

fn values(cell: &Cell) -> Vec<f64> {
    cell.series.iter().flat_map(Series::values).collect()
}

fn seen(family: &Family<'_>) -> Vec<String> {
    let name = dataset_name(family.dataset);
    let last = |group: &Group, value: fn(&Epoch) -> Option<f64>| {
        group
            .mean_of(|run| run.history.last().and_then(value))
            .map(|value| significant(100.0 * value, 3))
    };
    let mut sentences: Vec<String> = family
        .trained()
        .filter_map(|(_, group)| {
            Some(format!(
                "{name}, {}: after epoch {} accuracy is {} % on the training batches and {} % on \
                 test images.",
                group.info().model,
                group
                    .runs
                    .iter()
                    .filter_map(|run| Some(run.history.last()?.epoch))
                    .max()?,
                last(group, |epoch| epoch.train_accuracy)?,
                last(group, |epoch| Some(epoch.test_accuracy))?,
            ))
        })
        .collect();
    sentences.extend(norm_sentence(family));
    sentences
}

/// How much the norm grows from the first block to the last before the first step.
pub(super) fn norm_sentence(family: &Family<'_>) -> Option<String> {
    let growth = |group: &Group, batch: bool| {
        let series = over_blocks(
            group,
            ("train", 0),
            "",
            Stroke::solid(Colour::Ink, 1.0),
            |row| {
                if batch { row.batch_h_norm } else { row.h_norm }
            },
        );
        let (first, last) = (series.points.first()?.y, series.points.last()?.y);
        Some(significant(last / first, 2))
    };
    let parts: Vec<String> = family
        .members
        .iter()
        .filter_map(|(_, group)| {
            let (evaluation, batch) = (growth(group, false)?, growth(group, true)?);
            Some(format!("{} {evaluation} ({batch})", group.info().model))
        })
        .collect();
    (!parts.is_empty()).then(|| {
        format!(
            "{}: at initialisation the norm grows from the first block to the last by a factor \
             of (with batch statistics): {}.",
            dataset_name(family.dataset),
            parts.join(", ")
        )
    })
}
