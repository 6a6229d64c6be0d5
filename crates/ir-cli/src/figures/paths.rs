//! The gradient through single paths of each length (Veit et al. 2016, Fig. 6).

use ir_analysis::results::{PathLength, Split};

use crate::group::Group;

use super::blocks::Look;
use super::colour::Colour;
use super::curves::{MARGINS, Value, both, curve, last_x, values};
use super::grid::{self, Cell, Margins};
use super::scale::{Scale, significant};
use super::{Figure, absent};

/// Draws it.
pub(super) fn draw(groups: &[Group]) -> Figure {
    let has = |split: &Split| !split.paths.is_empty();
    let shown: Vec<&Group> = groups.iter().filter(|g| g.all_splits().any(has)).collect();
    let rows: Vec<[Cell; 2]> = shown
        .iter()
        .map(|group| [norms(group), shares(group)])
        .collect();
    Figure {
        name: "paths",
        title: "Paths: the gradient that arrives through those of each length",
        paper: "Veit et al. 2016 (Fig. 6): the gradient through a path shrinks exponentially with \
                its length, so that almost all of it comes through paths far shorter than most \
                (5 to 17 of 54 modules).",
        absent: absent(groups, &shown),
        seen: shown.iter().filter_map(|group| seen(group)).collect(),
        reading:
            "The forward pass is the whole network’s; backwards the gradient takes the branch \
                  alone of k blocks and the shortcut alone of the others. Left: its norm at h_0, \
                  mean over samples and over the paths drawn; bands: ± one standard deviation over \
                  paths (over seeds where a network has several). Right: of all paths, the share \
                  of length k (grey), and of norm times number of paths (blue, thick: test; \
                  orange-red, thin: train), which is what they would bring if no two gradients \
                  cancelled."
                .into(),
        drawing: grid::draw(
            &rows,
            Margins {
                right: 86.0,
                ..MARGINS
            },
            "Norm of the gradient through one path by its length, and share of all paths and of their gradient",
        ),
    }
}

fn norms(group: &Group) -> Cell {
    let series = both(group, |split| {
        let value = |path: &PathLength| Value {
            x: path.length as f64,
            y: path.gradient_norm.0,
            deviation: Some(path.gradient_norm_std.0),
        };
        split.paths.iter().map(value).collect()
    });
    let means = series.iter().flat_map(|s| &s.points).map(|point| point.y);
    Cell {
        title: group.title.clone(),
        x_title: "length of the path k",
        x: Scale::between(0.0, last_x(&series, 1.0)),
        y_title: "‖gradient at h_0‖, one path",
        y: Scale::for_ratios(&means.collect::<Vec<_>>()),
        series,
        ..Cell::default()
    }
}

fn shares(group: &Group) -> Cell {
    const ALL: Look = Look {
        colour: Colour::Muted,
        strong: false,
        band: false,
    };
    let unbanded = |mut series: super::panel::Series| {
        series.band = false;
        series
    };
    let paths = |split: &Split| percent(split, |path| path.paths.0);
    let name = if group.splits("test").next().is_some() {
        "test"
    } else {
        "train"
    };
    let mut series = vec![curve(group, name, ALL, "all paths", paths)];
    let gradient = both(group, |split| percent(split, |path| path.contribution.0));
    series.extend(gradient.into_iter().map(unbanded));
    Cell {
        x_title: "length of the path k",
        x: Scale::between(0.0, last_x(&series, 1.0)),
        y_title: "share (%)",
        y: Scale::linear(values(&series).into_iter().chain([0.0])),
        series,
        ..Cell::default()
    }
}

/// Each length's share of the sum over all lengths.
fn percent(split: &Split, of: fn(&PathLength) -> f64) -> Vec<Value> {
    let total: f64 = split.paths.iter().map(of).sum();
    let share = |path: &PathLength| Value::new(path.length as f64, 100.0 * of(path) / total);
    split.paths.iter().map(share).collect()
}

/// Mean length of a path, each weighted by what `of` says.
pub(crate) fn mean_length(paths: &[PathLength], of: fn(&PathLength) -> f64) -> Option<f64> {
    let total: f64 = paths.iter().map(of).sum();
    let weighted: f64 = paths.iter().map(|path| path.length as f64 * of(path)).sum();
    (total > 0.0).then(|| weighted / total)
}

fn seen(group: &Group) -> Option<String> {
    let length = group.summary("test", |split| {
        mean_length(&split.paths, |p| p.contribution.0)
    })?;
    let all = group.summary("test", |split| mean_length(&split.paths, |p| p.paths.0))?;
    let shrinks = group.summary("test", |split| {
        let [first, .., last] = &split.paths[..] else {
            return None;
        };
        let factor = last.gradient_norm.0 / first.gradient_norm.0;
        Some(factor.powf(1.0 / last.length as f64))
    })?;
    Some(format!(
        "{}: weighted by the gradient they carry, paths on test images have a mean length of {}, \
         all paths one of {}; from the shortest path to the longest the norm changes by a factor of \
         {} a block.",
        group.title,
        significant(length.mean, 3),
        significant(all.mean, 3),
        significant(shrinks.mean, 2)
    ))
}
