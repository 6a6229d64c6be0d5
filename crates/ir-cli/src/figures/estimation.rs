//! Each representation as an estimate of its stage's last one (Greff et al. 2017, Fig. 3).

use ir_analysis::results::{Estimation, Split};

use crate::group::Group;

use super::blocks::transition_sentence;
use super::curves::{MARGINS, Value, both, values};
use super::grid::{self, Cell};
use super::panel::Series;
use super::scale::{Scale, significant};
use super::{Figure, absent};

/// Draws it.
pub(super) fn draw(groups: &[Group]) -> Figure {
    let has = |split: &Split| !split.estimations.is_empty();
    let shown: Vec<&Group> = groups.iter().filter(|g| g.all_splits().any(has)).collect();
    let rows: Vec<[Cell; 2]> = shown
        .iter()
        .map(|group| [errors(group), distances(group)])
        .collect();
    Figure {
        name: "estimation",
        title: "Estimation error: each representation against its stage’s last",
        paper: "Greff et al. 2017 (Fig. 3): the mean estimation error stays close to 0 in all \
                stages, and its standard deviation falls from block to block within a stage.",
        absent: absent(groups, &shown),
        seen: shown.iter().filter_map(|group| seen(group)).collect(),
        reading: format!(
            "Left: h_j less h_e, what the last block of the stage gives, mean over all units and \
             samples; band: ± one standard deviation over them. Right: the length of that \
             difference relative to the stage’s last representation, mean over samples, with ± \
             one standard deviation over them (over seeds where a network has several). Blue, \
             thick: test; orange-red, thin: train.{}",
            transition_sentence(&shown)
        ),
        drawing: grid::draw(
            &rows,
            MARGINS,
            "Mean and spread of each representation's difference to its stage's last one, by block",
        ),
    }
}

fn errors(group: &Group) -> Cell {
    let mut series = both(group, |split| {
        let value = |found: &Estimation| Value {
            x: found.block as f64,
            y: found.error.0,
            deviation: Some(found.error_std.0),
        };
        split.estimations.iter().map(value).collect()
    });
    // The spread over units and samples is what this is about, also where there are several seeds.
    for series in &mut series {
        let split = series.label.clone();
        for point in &mut series.points {
            let deviation = group.summary(&split, |split| {
                let same = |found: &&Estimation| found.block as f64 == point.x;
                Some(split.estimations.iter().find(same)?.error_std.0)
            });
            point.deviation = deviation.map(|summary| summary.mean);
        }
    }
    mark_transitions(group, &mut series);
    let y = Scale::linear(values(&series).into_iter().chain([0.0]));
    cell(group, group.title.clone(), "h_j − h_e", y, series)
}

fn distances(group: &Group) -> Cell {
    let mut series = both(group, |split| {
        let value = |found: &Estimation| {
            Some(Value {
                x: found.block as f64,
                y: found.distance?.0,
                deviation: found.distance_std.map(f64::from),
            })
        };
        split.estimations.iter().filter_map(value).collect()
    });
    mark_transitions(group, &mut series);
    let y = Scale::linear(values(&series).into_iter().chain([0.0]));
    cell(group, String::new(), "‖h_j − h_e‖ / ‖h_e‖", y, series)
}

fn cell(
    group: &Group,
    title: String,
    y_title: &'static str,
    y: Scale,
    series: Vec<Series>,
) -> Cell {
    let stages = group.stages().unwrap_or_default().to_vec();
    let last = stages.last().map_or(0, |stage| stage.last_block) as f64;
    Cell {
        title,
        x_title: "block j",
        x: Scale::between(-0.5, last + 0.5),
        y_title,
        y,
        series,
        zero: true,
        stages,
        ..Cell::default()
    }
}

fn mark_transitions(group: &Group, series: &mut [Series]) {
    let Some(split) = group.all_splits().next() else {
        return;
    };
    for point in series.iter_mut().flat_map(|series| &mut series.points) {
        let same = |block: &&ir_analysis::results::BlockMeasures| block.block as f64 == point.x;
        point.hollow = split
            .blocks
            .iter()
            .find(same)
            .is_some_and(|block| block.transition);
    }
}

fn seen(group: &Group) -> Option<String> {
    let largest = group.summary("test", |split| {
        let ratios = split.estimations.iter();
        ratios
            .map(|found| found.error.0.abs() / found.error_std.0)
            .max_by(f64::total_cmp)
    })?;
    let falls = group.summary("test", |split| Some(100.0 * falling(&split.estimations)?))?;
    Some(format!(
        "{}: on test images the mean error is at most {} standard deviations from 0; the standard \
         deviation falls at {} % of the steps from block to block within a stage.",
        group.title,
        significant(largest.mean, 2),
        significant(falls.mean, 3)
    ))
}

/// Share of the steps from block to block within a stage at which the standard deviation falls.
pub(crate) fn falling(rows: &[Estimation]) -> Option<f64> {
    let steps = rows
        .windows(2)
        .filter(|pair| pair[0].stage == pair[1].stage);
    let (mut falls, mut all) = (0usize, 0usize);
    for pair in steps {
        falls += usize::from(pair[1].error_std.0 < pair[0].error_std.0);
        all += 1;
    }
    (all > 0).then(|| falls as f64 / all as f64)
}
