//! Fig. 9: which part of the remedies does what.

use crate::family::{Member, SHARINGS};
use crate::group::{Group, dataset_name};

use super::fig8::{Family, families, norm_sentence, norms};
use super::grid::{Cell, Margins, draw as draw_grid};
use super::panel::{Point, Series};
use super::scale::{Scale, significant};
use super::scene::Stroke;
use super::{Figure, colour::Colour};

const MARGINS: Margins = Margins {
    left: 150.0,
    right: 40.0,
};
const LINE_MARGINS: Margins = Margins {
    left: 66.0,
    right: 168.0,
};

/// Draws it.
pub(crate) fn draw(trained: &[Group], untrained: &[Group]) -> [Figure; 2] {
    let deepest = |member: Member| depth(trained, untrained) == Some(member.depth);
    let families = families(trained, untrained, deepest);
    let shown: Vec<&Family<'_>> = families
        .iter()
        .filter(|family| (1..SHARINGS.len()).filter(|&s| family.has(s)).count() > 1)
        .collect();
    let accuracies: Vec<[Cell; 2]> = shown
        .iter()
        .filter(|family| family.trained().count() > 1)
        .map(|family| [dots(family, "train"), dots(family, "test")])
        .collect();
    let lines: Vec<[Cell; 2]> = shown
        .iter()
        .map(|family| {
            norms(family, |member, _| {
                let colour = Colour::Sharing(member.sharing);
                (
                    Stroke::solid(colour, 1.6),
                    SHARINGS[member.sharing].1.into(),
                )
            })
        })
        .collect();
    let paper = "Giving each step of the shared block batch-norm statistics of its own, γ and β of \
                 its own and γ = 0.1 at initialisation all help; unsharing the statistics matters \
                 most, and the activation norms no longer explode.";
    [
        Figure {
            name: "fig9",
            title: "Figure 9: the remedies one by one, error",
            paper,
            absent: untrained_sharings(&shown),
            seen: shown.iter().filter_map(|family| seen(family)).collect(),
            reading: "Error at the end of training; dots are means over seeds, bars one standard \
                      deviation where there are several seeds. “Train” is measured on images as \
                      they are, without augmentation."
                .into(),
            drawing: draw_grid(
                &accuracies,
                MARGINS,
                "Error by way of sharing, on both splits",
            ),
        },
        Figure {
            name: "fig9-norms",
            title: "Figure 9, norms: the remedies one by one at initialisation",
            paper,
            absent: Vec::new(),
            seen: shown
                .iter()
                .filter_map(|family| norm_sentence(family))
                .collect(),
            reading:
                "Norms before the first step, as in Figure 8. Ways to share that differ only in what \
                      training changes begin as the same network and have one line: with γ = 1 \
                      that of naive sharing, with γ = 0.1 that of naive sharing with this γ."
                    .into(),
            drawing: draw_grid(
                &lines,
                LINE_MARGINS,
                "Norms of the representations at initialisation by way of sharing",
            ),
        },
    ]
}

/// The ways to share that no network here was trained with.
fn untrained_sharings(families: &[&Family<'_>]) -> Vec<String> {
    let trained = |sharing: usize| {
        let mut all = families.iter().flat_map(|family| family.trained());
        all.any(|(member, _)| member.sharing == sharing)
    };
    let absent = (0..SHARINGS.len()).filter(|&sharing| !trained(sharing));
    absent
        .map(|sharing| SHARINGS[sharing].1.to_owned())
        .collect()
}

/// The depth that has the most ways to share.
fn depth(trained: &[Group], untrained: &[Group]) -> Option<usize> {
    let shared = |group: &Group| Member::of(&group.info().model).filter(|m| m.sharing > 0);
    let depths: Vec<usize> = trained
        .iter()
        .chain(untrained)
        .filter_map(shared)
        .map(|member| member.depth)
        .collect();
    let count = |depth: usize| depths.iter().filter(|&&other| other == depth).count();
    depths.iter().copied().max_by_key(|&depth| count(depth))
}

/// One line a way to share, its error as a dot.
fn dots(family: &Family<'_>, split: &str) -> Cell {
    let mut sharings: Vec<usize> = family.trained().map(|(member, _)| member.sharing).collect();
    sharings.sort_unstable_by(|a, b| b.cmp(a));
    sharings.dedup();
    let row = |sharing: usize| sharings.iter().position(|&s| s == sharing).unwrap_or(0) as f64;
    let series: Vec<Series> = family
        .trained()
        .filter_map(|&(member, group)| {
            let error = group.summary(split, |split| Some(100.0 * (1.0 - split.accuracy)))?;
            let (mean, half) = (error.mean, error.deviation.unwrap_or(0.0));
            let point = |x: f64, note: String| Point {
                x,
                y: row(member.sharing),
                deviation: None,
                hollow: false,
                note,
            };
            let note = format!("{}: {} %", SHARINGS[member.sharing].1, significant(mean, 3));
            // A bar of one standard deviation with the mean in its middle.
            let ends = [mean - half, mean, mean + half];
            Some(Series {
                points: ends.map(|x| point(x, note.clone())).into(),
                stroke: Stroke::solid(Colour::Sharing(member.sharing), 2.0),
                radius: 3.6,
                band: false,
                label: String::new(),
            })
        })
        .collect();
    let errors = series.iter().flat_map(|s| &s.points).map(|point| point.x);
    Cell {
        title: format!("{}: {split} error", dataset_name(family.dataset)),
        x_title: "error (%)",
        x: Scale::linear(errors.chain([0.0])),
        y: Scale::between(-0.5, sharings.len() as f64 - 0.5),
        y_names: Some(
            sharings
                .iter()
                .map(|&sharing| (row(sharing), SHARINGS[sharing].1.to_owned()))
                .collect(),
        ),
        series,
        ..Cell::default()
    }
}

fn seen(family: &Family<'_>) -> Option<String> {
    let parts: Vec<String> = family
        .trained()
        .filter_map(|(member, group)| {
            let error = group.summary("test", |split| Some(100.0 * (1.0 - split.accuracy)))?;
            Some(format!(
                "{} {} %",
                SHARINGS[member.sharing].1,
                significant(error.mean, 3)
            ))
        })
        .collect();
    (!parts.is_empty()).then(|| {
        format!(
            "{}, test error: {}.",
            dataset_name(family.dataset),
            parts.join(", ")
        )
    })
}
