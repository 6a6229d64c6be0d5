//! One panel of a figure: axes, lines with bands and marks, and labels at the lines' ends.

use ir_analysis::results::Stage;

use super::colour::Colour;
use super::scale::Scale;
use super::scene::{Anchor, At, Scene, Stroke, Type, text_width};

/// Size of tick labels and line labels in pixels.
pub(crate) const SMALL: f64 = 11.0;
/// Size of axis titles in pixels.
pub(crate) const MEDIUM: f64 = 12.0;
/// Size of panel titles in pixels.
pub(crate) const LARGE: f64 = 13.5;

/// A value to draw.
#[derive(Debug, Clone)]
pub(crate) struct Point {
    /// Place along the x axis.
    pub(crate) x: f64,
    /// Value. One that is not finite is drawn as a sign at the upper edge.
    pub(crate) y: f64,
    /// Half the height of the band around it.
    pub(crate) deviation: Option<f64>,
    /// Whether its mark is hollow.
    pub(crate) hollow: bool,
    /// What a browser shows where a pointer rests on its mark.
    pub(crate) note: String,
}

/// Points that belong together, and how they are drawn.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    /// The points, in order of x.
    pub(crate) points: Vec<Point>,
    /// The line.
    pub(crate) stroke: Stroke,
    /// Radius of the marks; 0 draws none.
    pub(crate) radius: f64,
    /// Whether the band of ± one standard deviation is drawn.
    pub(crate) band: bool,
    /// What stands at its right end; empty for nothing.
    pub(crate) label: String,
}

impl Series {
    /// Every value that the y axis should hold: the points, and the edges of the band if drawn.
    pub(crate) fn values(&self) -> impl Iterator<Item = f64> {
        self.points.iter().flat_map(|point| {
            let half = if self.band {
                point.deviation.unwrap_or(0.0)
            } else {
                0.0
            };
            [point.y - half, point.y + half]
        })
    }
}

/// What stands at the axes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Labels {
    /// Above the panel.
    pub(crate) title: String,
    /// Under the x axis; empty for nothing.
    pub(crate) x: String,
    /// Beside the y axis; empty for nothing.
    pub(crate) y: String,
    /// Ticks of the x axis.
    pub(crate) x_ticks: Vec<(f64, String)>,
    /// Ticks of the y axis.
    pub(crate) y_ticks: Vec<(f64, String)>,
}

/// A rectangle with two scales.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Panel {
    /// Left edge in pixels.
    pub(crate) left: f64,
    /// Upper edge in pixels.
    pub(crate) top: f64,
    /// Width in pixels.
    pub(crate) width: f64,
    /// Height in pixels.
    pub(crate) height: f64,
    /// Scale of the x axis.
    pub(crate) x: Scale,
    /// Scale of the y axis.
    pub(crate) y: Scale,
}

impl Panel {
    fn at(&self, x: f64, y: f64) -> At {
        (
            self.left + self.x.place(x) * self.width,
            self.top + (1.0 - self.y.place(y)) * self.height,
        )
    }

    fn right(&self) -> f64 {
        self.left + self.width
    }

    fn bottom(&self) -> f64 {
        self.top + self.height
    }

    /// Grid, ticks, axis titles and the panel's title, which stands `above` pixels higher.
    pub(crate) fn axes(&self, scene: &mut Scene, labels: &Labels, above: f64) {
        for (value, text) in &labels.y_ticks {
            let (_, y) = self.at(0.0, *value);
            scene.line(
                &[(self.left, y), (self.right(), y)],
                Stroke::solid(Colour::Grid, 0.7),
            );
            let set = Type::new(SMALL, Colour::Muted).anchored(Anchor::End);
            scene.text((self.left - 7.0, y + 4.0), text, set);
        }
        let bottom = self.bottom();
        scene.line(
            &[(self.left, bottom), (self.right(), bottom)],
            Stroke::solid(Colour::Muted, 1.0),
        );
        for (value, text) in &labels.x_ticks {
            let (x, _) = self.at(*value, 0.0);
            scene.line(
                &[(x, bottom), (x, bottom + 4.0)],
                Stroke::solid(Colour::Muted, 1.0),
            );
            let set = Type::new(SMALL, Colour::Muted).anchored(Anchor::Middle);
            scene.text((x, bottom + 16.0), text, set);
        }
        let middle = Type::new(MEDIUM, Colour::Ink).anchored(Anchor::Middle);
        let center = (self.left + self.width / 2.0, self.top + self.height / 2.0);
        if !labels.x.is_empty() {
            scene.text((center.0, bottom + 34.0), &labels.x, middle);
        }
        if !labels.y.is_empty() {
            // Clear of the ticks also where a letter of it is set low.
            let widths = labels
                .y_ticks
                .iter()
                .map(|(_, text)| text_width(text, SMALL));
            let beside = widths.fold(51.0, |beside, width| f64::max(beside, width + 15.0));
            scene.text((self.left - beside, center.1), &labels.y, middle.upwards());
        }
        if !labels.title.is_empty() {
            let set = Type::new(LARGE, Colour::Ink).bold();
            scene.text((self.left, self.top - above), &labels.title, set);
        }
    }

    /// Faint lines between the stages, and each stage's channels and size above the panel.
    pub(crate) fn stages(&self, scene: &mut Scene, stages: &[Stage]) {
        for stage in stages {
            let (first, last) = (stage.first_block as f64, stage.last_block as f64);
            let (from, _) = self.at(first - 0.5, 0.0);
            let (to, _) = self.at(last + 0.5, 0.0);
            if stage.stage > 0 {
                scene.line(
                    &[(from, self.top - 24.0), (from, self.bottom())],
                    Stroke::solid(Colour::Grid, 1.4),
                );
            }
            let (channels, size) = stage_name(&stage.shape);
            let set = Type::new(SMALL - 0.5, Colour::Muted).anchored(Anchor::Middle);
            let middle = (from + to) / 2.0;
            let whole = format!("{channels}, {size}");
            if text_width(&whole, SMALL) < to - from && !size.is_empty() {
                scene.text((middle, self.top - 8.0), &whole, set);
            } else {
                scene.text((middle, self.top - 17.0), &channels, set);
                scene.text((middle, self.top - 5.0), &size, set);
            }
        }
    }

    /// The line at 0, where the sign matters.
    pub(crate) fn zero(&self, scene: &mut Scene) {
        let (_, y) = self.at(0.0, 0.0);
        scene.line(
            &[(self.left, y), (self.right(), y)],
            Stroke::solid(Colour::Ink, 1.0),
        );
    }

    /// Bands first, then lines, then marks, so that none hides another; then the labels.
    pub(crate) fn series(&self, scene: &mut Scene, all: &[Series]) {
        for series in all.iter().filter(|series| series.band) {
            scene.part(series.stroke.colour, |scene| {
                for run in finite_runs(&series.points) {
                    self.band(scene, run, series.stroke.colour);
                }
            });
        }
        for series in all {
            scene.part(series.stroke.colour, |scene| {
                for run in finite_runs(&series.points) {
                    let points: Vec<At> = run.iter().map(|p| self.at(p.x, p.y)).collect();
                    scene.line(&points, series.stroke);
                }
            });
        }
        for series in all {
            scene.part(series.stroke.colour, |scene| self.marks(scene, series));
        }
        self.end_labels(scene, all);
    }

    fn band(&self, scene: &mut Scene, run: &[Point], colour: Colour) {
        let edge = |point: &Point, sign: f64| {
            self.at(point.x, point.y + sign * point.deviation.unwrap_or(0.0))
        };
        let upper = run.iter().map(|point| edge(point, 1.0));
        let lower = run.iter().rev().map(|point| edge(point, -1.0));
        let corners: Vec<At> = upper.chain(lower).collect();
        if run.len() > 1 && run.iter().any(|point| point.deviation.is_some()) {
            scene.area(&corners, colour);
        }
    }

    fn marks(&self, scene: &mut Scene, series: &Series) {
        for point in &series.points {
            if point.y.is_finite() {
                if series.radius > 0.0 {
                    let at = self.at(point.x, point.y);
                    let colour = series.stroke.colour;
                    scene.mark(at, series.radius, colour, point.hollow, &point.note);
                }
                continue;
            }
            let sign = if point.y.is_nan() { "×" } else { "∞" };
            let (x, _) = self.at(point.x, 0.0);
            let set = Type::new(MEDIUM, series.stroke.colour)
                .anchored(Anchor::Middle)
                .halo();
            scene.text((x, self.top + 9.0), sign, set);
        }
    }

    /// Each series' label at the height of its last finite point, moved apart where they would
    /// overlap.
    fn end_labels(&self, scene: &mut Scene, all: &[Series]) {
        let mut labels: Vec<(f64, &Series)> = Vec::new();
        for series in all.iter().filter(|series| !series.label.is_empty()) {
            if let Some(last) = series.points.last() {
                let y = if last.y.is_finite() {
                    self.at(0.0, last.y).1
                } else {
                    self.top
                };
                labels.push((y, series));
            }
        }
        labels.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut heights: Vec<f64> = labels.iter().map(|label| label.0).collect();
        spread(
            &mut heights,
            SMALL + 2.5,
            self.top + 2.0,
            self.bottom() - 2.0,
        );
        for (y, (_, series)) in heights.into_iter().zip(labels) {
            let left = self.right() + 8.0;
            scene.part(series.stroke.colour, |scene| {
                scene.line(&[(left, y), (left + 12.0, y)], series.stroke);
                let set = Type::new(SMALL, Colour::Ink);
                scene.text((left + 16.0, y + 4.0), &series.label, set);
            });
        }
    }
}

/// `[16, 32, 32]` as "16 ch" and "32×32"; another shape as its numbers.
fn stage_name(shape: &[usize]) -> (String, String) {
    match shape {
        [channels, height, width] => (format!("{channels} ch"), format!("{height}×{width}")),
        _ => {
            let sizes: Vec<String> = shape.iter().map(ToString::to_string).collect();
            (sizes.join("×"), String::new())
        }
    }
}

/// The pieces of a series between points that are not finite.
fn finite_runs(points: &[Point]) -> impl Iterator<Item = &[Point]> {
    points
        .split(|point| !point.y.is_finite())
        .filter(|run| !run.is_empty())
}

/// Moves sorted heights apart to at least `gap`, inside `low ..= high` if they fit at all. Those
/// that are too close form a pile around their mean.
fn spread(heights: &mut [f64], gap: f64, low: f64, high: f64) {
    // A pile of n heights, with the mean of where its members would put its middle.
    let mut piles: Vec<(f64, usize)> = Vec::new();
    for &height in heights.iter() {
        let mut pile = (height, 1);
        while let Some(&(middle, count)) = piles.last()
            && pile.0 - middle < gap * (count + pile.1) as f64 / 2.0
        {
            let (above, below) = (count as f64, pile.1 as f64);
            pile = (
                (middle * above + pile.0 * below) / (above + below),
                count + pile.1,
            );
            piles.pop();
        }
        piles.push(pile);
    }
    let places = piles.into_iter().flat_map(|(middle, count)| {
        let first = middle - gap * (count - 1) as f64 / 2.0;
        (0..count).map(move |index| first + gap * index as f64)
    });
    for (height, place) in heights.iter_mut().zip(places) {
        *height = place;
    }
    let mut least = low;
    for height in heights.iter_mut() {
        *height = height.max(least);
        least = *height + gap;
    }
    let mut most = high;
    for height in heights.iter_mut().rev() {
        *height = height.min(most);
        most = *height - gap;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_moved_apart_and_stay_inside() {
        let mut heights = [10.0, 11.0, 99.0];
        spread(&mut heights, 10.0, 0.0, 100.0);
        assert_eq!(heights, [5.5, 15.5, 99.0]);
        let mut heights = [95.0, 96.0, 99.0];
        spread(&mut heights, 10.0, 0.0, 100.0);
        assert_eq!(heights, [80.0, 90.0, 100.0]);
    }

    #[test]
    fn stages_are_named_by_channels_and_size() {
        assert_eq!(stage_name(&[16, 32, 32]), ("16 ch".into(), "32×32".into()));
        assert_eq!(stage_name(&[7, 64]), ("7×64".into(), String::new()));
    }
}
