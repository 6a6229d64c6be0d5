//! Numbers of a split as lines, over the runs of a group.

use ir_analysis::results::Split;

use crate::group::{Group, Summary};

use super::blocks::Look;
use super::grid::Margins;
use super::panel::{Point, Series};
use super::scale::Scale;
use super::scene::Stroke;

/// Room for the names of the two splits.
pub(super) const MARGINS: Margins = Margins {
    left: 66.0,
    right: 66.0,
};

/// A value at a place on the x axis, with its own deviation within the run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Value {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) deviation: Option<f64>,
}

impl Value {
    /// Without a deviation.
    pub(super) fn new(x: f64, y: f64) -> Self {
        Self {
            x,
            y,
            deviation: None,
        }
    }
}

/// The values of one split as a line: mean over the runs at each place of the first run that has
/// any, with the deviation over runs where there are several.
pub(super) fn curve(
    group: &Group,
    split: &str,
    look: Look,
    label: &str,
    values: impl Fn(&Split) -> Vec<Value>,
) -> Series {
    let runs: Vec<Vec<Value>> = group.splits(split).map(values).collect();
    let first = runs.iter().find(|values| !values.is_empty());
    let point = |x: f64| {
        let at = runs.iter().flatten().filter(|value| value.x == x);
        let at: Vec<_> = at.map(|value| (value.y, value.deviation)).collect();
        let summary = Summary::of(&at)?;
        Some(Point {
            x,
            y: summary.mean,
            deviation: summary.deviation,
            hollow: false,
            note: format!("{label}, {x}: {}", summary.text()),
        })
    };
    Series {
        points: first
            .into_iter()
            .flatten()
            .filter_map(|value| point(value.x))
            .collect(),
        stroke: look.stroke(),
        radius: if look.strong { 2.4 } else { 1.4 },
        band: look.band,
        label: label.to_owned(),
    }
}

/// Both splits, training below test.
pub(super) fn both(group: &Group, values: impl Fn(&Split) -> Vec<Value>) -> Vec<Series> {
    [("train", Look::TRAIN), ("test", Look::TEST)]
        .into_iter()
        .map(|(split, look)| curve(group, split, look, split, &values))
        .filter(|series| !series.points.is_empty())
        .collect()
}

/// Every value that an axis should hold.
pub(super) fn values(series: &[Series]) -> Vec<f64> {
    series.iter().flat_map(Series::values).collect()
}

/// A scale for losses: logarithmic where they grow more than tenfold.
pub(super) fn loss_scale(series: &[Series]) -> Scale {
    let values: Vec<f64> = series.iter().flat_map(|s| &s.points).map(|p| p.y).collect();
    match Scale::for_ratios(&values) {
        Scale::Linear { .. } => Scale::linear(values),
        log => log,
    }
}

/// A line across the panel at one x.
pub(super) fn upright(x: f64, y: Scale, stroke: Stroke, label: &str) -> Series {
    let (Scale::Linear { low, high, .. } | Scale::Log { low, high }) = y;
    let end = |y: f64| Point {
        x,
        y,
        deviation: None,
        hollow: false,
        note: String::new(),
    };
    Series {
        points: vec![end(low), end(high)],
        stroke,
        radius: 0.0,
        band: false,
        label: label.to_owned(),
    }
}

/// The largest x of any point, at least `least`.
pub(super) fn last_x(series: &[Series], least: f64) -> f64 {
    let places = series.iter().flat_map(|s| &s.points).map(|point| point.x);
    places.fold(least, f64::max)
}
