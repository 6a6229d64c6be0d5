//! Fig. 7: the last block applied again and again.

use ir_analysis::results::{ScaleSource, Split, Unroll, UnrollStep};

use crate::group::{Group, Summary};

use super::blocks::{LEFT, Look, WIDTH};
use super::colour::Colour;
use super::curves::loss_scale;
use super::panel::{LARGE, Labels, MEDIUM, Panel, Point, Series};
use super::samples::{ACCURACY, LOSS, Quantity, SAMPLE_GROUPS, SampleGroup};
use super::scale::{Scale, significant};
use super::scene::{Drawing, Scene, Stroke, Type};
use super::{Figure, SPLITS, absent};

const RIGHT: f64 = 118.0;
const GAP: f64 = 8.0;
const ABOVE: f64 = 52.0;
const HEIGHT: f64 = 124.0;
const BETWEEN: f64 = 38.0;
const BELOW: f64 = 52.0;

/// One row of panels.
enum Row {
    /// A quantity by group of samples.
    BySamples(Quantity),
    /// The cosine with the exit gradient.
    Cosine,
    /// The ℓ2 ratio of the scaled branch to its input.
    Ratio,
}

const ROWS: [Row; 4] = [
    Row::BySamples(ACCURACY),
    Row::BySamples(LOSS),
    Row::Cosine,
    Row::Ratio,
];

/// Draws it.
pub(crate) fn draw(groups: &[Group]) -> Figure {
    let shown: Vec<&Group> = groups.iter().filter(|g| !variants(g).is_empty()).collect();
    Figure {
        name: "fig7",
        title: "Figure 7: the last block unrolled for more steps",
        paper: "Without scaling the activations explode; with it training loss falls further \
                (0.0012 to 0.001), test loss rises, borderline test examples go from 43 % to 53 % \
                accuracy, and the cosine stays negative.",
        absent: absent(groups, &shown),
        seen: shown.iter().filter_map(|group| seen(group)).collect(),
        reading: "Step k applies the last block's branch k more times, its output times the \
                  scale: h ← h + scale · F(h). Thick: test, thin: train. The groups are decided at \
                  step 0, whose cosine (with the exit gradient) and ratio are the last block's \
                  own. Loss panels have their own scales, logarithmic where the loss grows \
                  more than tenfold; ∞ marks a value beyond what can be represented, × one that \
                  is not a number."
            .into(),
        drawing: drawing(&shown),
    }
}

fn drawing(groups: &[&Group]) -> Option<Drawing> {
    if groups.is_empty() {
        return None;
    }
    let rows = ROWS.len() as f64;
    let block = ABOVE + rows * HEIGHT + (rows - 1.0) * BETWEEN + BELOW;
    let mut scene = Scene::new(WIDTH);
    for (index, group) in groups.iter().enumerate() {
        network(&mut scene, group, index as f64 * block, block);
    }
    let name =
        "Accuracy, loss, cosine and ratio while the last block is unrolled, by network and scale";
    Some(scene.finish(groups.len() as f64 * block, name))
}

/// One network: a cell for each way to scale, with the rows one below the other.
fn network(scene: &mut Scene, group: &Group, top: f64, height: f64) {
    let variants = variants(group);
    let columns = variants.len() as f64;
    let width = (WIDTH - columns * LEFT - (columns - 1.0) * GAP - RIGHT) / columns;
    let rows: Vec<Vec<Vec<Series>>> = ROWS
        .iter()
        .map(|row| {
            let labelled = |column: usize| column + 1 == variants.len();
            let columns = variants.iter().enumerate();
            columns
                .map(|(column, variant)| row.series(group, variant, labelled(column)))
                .collect()
        })
        .collect();
    for (column, variant) in variants.iter().enumerate() {
        let left = column as f64 * (LEFT + width + GAP);
        let room = if column + 1 == variants.len() {
            RIGHT
        } else {
            GAP
        };
        let size = (LEFT + width + room, height);
        scene.cell((left, top), size, |scene| {
            for (index, (row, panels)) in ROWS.iter().zip(&rows).enumerate() {
                let x = Scale::between(0.0, variant.last_step);
                let panel = Panel {
                    left: left + LEFT,
                    top: top + ABOVE + index as f64 * (HEIGHT + BETWEEN),
                    width,
                    height: HEIGHT,
                    x,
                    y: row.scale(panels, column),
                };
                let last = index + 1 == ROWS.len();
                let labels = Labels {
                    title: String::new(),
                    x: if last {
                        "additional steps".into()
                    } else {
                        String::new()
                    },
                    y: row.title().into(),
                    x_ticks: x.whole_ticks(if columns > 2.0 { 5 } else { 10 }),
                    y_ticks: panel.y.ticks(),
                };
                panel.axes(scene, &labels, 0.0);
                if matches!(row, Row::Cosine) {
                    panel.zero(scene);
                }
                panel.series(scene, &panels[column]);
            }
            let set = Type::new(MEDIUM, Colour::Ink);
            scene.text((left + LEFT, top + ABOVE - 12.0), &variant.title, set);
            if column == 0 {
                let set = Type::new(LARGE, Colour::Ink).bold();
                scene.text((LEFT, top + 18.0), &group.title, set);
            }
        });
    }
}

impl Row {
    fn title(&self) -> &'static str {
        match self {
            Self::BySamples(quantity) => quantity.title,
            Self::Cosine => "cos ∠(F, ∂L/∂h)",
            Self::Ratio => "‖scale · F‖ / ‖h‖",
        }
    }

    /// The y axis of a column; losses have their own, the others share one.
    fn scale(&self, panels: &[Vec<Series>], column: usize) -> Scale {
        let values = |series: &[Series]| series.iter().flat_map(Series::values).collect::<Vec<_>>();
        let together: Vec<f64> = panels.iter().flat_map(|series| values(series)).collect();
        match self {
            Self::BySamples(quantity) if quantity.title == ACCURACY.title => {
                Scale::between(0.0, 100.0)
            }
            Self::BySamples(_) => loss_scale(&panels[column]),
            Self::Cosine => Scale::linear(together.into_iter().chain([0.0])),
            Self::Ratio => Scale::for_ratios(&together),
        }
    }

    fn series(&self, group: &Group, variant: &Variant, labelled: bool) -> Vec<Series> {
        let mut all = Vec::new();
        for split in SPLITS {
            let look = if split == "test" {
                Look::TEST
            } else {
                Look::TRAIN
            };
            let width = if split == "test" { 2.0 } else { 1.0 };
            match self {
                Self::BySamples(quantity) => all.extend(SAMPLE_GROUPS.iter().map(|samples| {
                    let name = if split == "test" && labelled {
                        samples.name
                    } else {
                        ""
                    };
                    let stroke = Stroke::solid(samples.colour, width);
                    let value = |step: &UnrollStep| by_samples(step, samples, quantity);
                    series(group, variant, split, stroke, name, value)
                })),
                Self::Cosine => {
                    let name = if labelled { split } else { "" };
                    all.push(series(group, variant, split, look.stroke(), name, |step| {
                        step.cosine
                    }));
                }
                Self::Ratio => {
                    let name = if labelled { split } else { "" };
                    let value = |step: &UnrollStep| Some(step.l2_ratio?.0);
                    all.push(series(group, variant, split, look.stroke(), name, value));
                }
            }
        }
        all.retain(|series| !series.points.is_empty());
        all
    }
}

fn by_samples(step: &UnrollStep, samples: &SampleGroup, quantity: &Quantity) -> Option<f64> {
    (quantity.of)((samples.of)(&step.groups))
}

/// A way to scale the branch, over the runs.
#[derive(Debug, Clone)]
struct Variant {
    source: ScaleSource,
    /// The scale, where it is the same in every run by definition.
    scale: Option<f64>,
    last_step: f64,
    title: String,
}

impl Variant {
    fn is(&self, unroll: &Unroll) -> bool {
        unroll.scale_source == self.source && self.scale.is_none_or(|scale| scale == unroll.scale)
    }

    fn of<'a>(&self, split: &'a Split) -> Option<&'a Unroll> {
        split.unroll.iter().find(|unroll| self.is(unroll))
    }
}

/// The ways of the first run that has any.
fn variants(group: &Group) -> Vec<Variant> {
    let first = group.all_splits().find(|split| !split.unroll.is_empty());
    let unrolls = first.map_or(&[][..], |split| &split.unroll);
    unrolls
        .iter()
        .map(|unroll| variant(group, unroll))
        .collect()
}

fn variant(group: &Group, unroll: &Unroll) -> Variant {
    let source = unroll.scale_source;
    let scale = (source != ScaleSource::ChosenOnTrain).then_some(unroll.scale);
    let mut variant = Variant {
        source,
        scale,
        last_step: unroll
            .steps
            .last()
            .map_or(1.0, |step| step.step.max(1) as f64),
        title: String::new(),
    };
    let mut scales: Vec<f64> = group
        .all_splits()
        .filter_map(|split| Some(variant.of(split)?.scale))
        .collect();
    scales.sort_by(f64::total_cmp);
    scales.dedup();
    let scales: Vec<String> = scales.into_iter().map(significant_short).collect();
    variant.title = match source {
        ScaleSource::Unscaled => "not scaled".into(),
        ScaleSource::Fixed => format!("scale {} (fixed)", scales.join(", ")),
        ScaleSource::ChosenOnTrain => format!("scale {} (chosen on train)", scales.join(", ")),
    };
    variant
}

/// `0.05`, not `0.0500`.
fn significant_short(value: f64) -> String {
    let text = significant(value, 3);
    if text.contains('.') && !text.contains('·') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

fn series(
    group: &Group,
    variant: &Variant,
    split: &str,
    stroke: Stroke,
    label: &str,
    value: impl Fn(&UnrollStep) -> Option<f64>,
) -> Series {
    let mut points = Vec::new();
    for step in 0.. {
        let mut there = false;
        let values: Vec<f64> = group
            .splits(split)
            .filter_map(|split| {
                let step = variant.of(split)?.steps.get(step)?;
                there = true;
                value(step)
            })
            .collect();
        if !there {
            break;
        }
        if let Some(summary) = Summary::of_means(&values) {
            points.push(point(step, summary, split));
        }
    }
    Series {
        points,
        stroke,
        // The training split is the thin line; its marks would hide those of the test split.
        radius: if split == "test" { 1.7 } else { 0.0 },
        band: false,
        label: label.to_owned(),
    }
}

fn point(step: usize, summary: Summary, split: &str) -> Point {
    Point {
        x: step as f64,
        y: summary.mean,
        deviation: summary.deviation,
        hollow: false,
        note: format!("step {step}, {split}: {}", significant(summary.mean, 3)),
    }
}

fn seen(group: &Group) -> Option<String> {
    let parts: Vec<String> = variants(group)
        .iter()
        .filter_map(|variant| Some(format!("{}, {}", variant.title, outcome(group, variant)?)))
        .collect();
    (!parts.is_empty()).then(|| format!("{}: {}.", group.title, parts.join("; ")))
}

/// What one way to scale comes to, from step 0 to the last step.
fn outcome(group: &Group, variant: &Variant) -> Option<String> {
    let [_, borderline, all] = &SAMPLE_GROUPS;
    let points = |split: &str, samples: &SampleGroup, quantity: &Quantity| {
        let value = |step: &UnrollStep| by_samples(step, samples, quantity);
        series(group, variant, split, Look::TEST.stroke(), "", value).points
    };
    let change = |points: &[Point]| {
        let (first, last) = (points.first()?.y, points.last()?.y);
        Some(format!(
            "{} → {}",
            significant(first, 3),
            significant(last, 3)
        ))
    };
    let test = points("test", all, &LOSS);
    if let Some(point) = test.iter().find(|point| !point.y.is_finite()) {
        return Some(format!("test loss is not finite from step {} on", point.x));
    }
    let mut outcome = format!("test loss {}", change(&test)?);
    if let Some(train) = change(&points("train", all, &LOSS)) {
        outcome += &format!(", train loss {train}");
    }
    if let Some(accuracy) = change(&points("test", borderline, &ACCURACY)) {
        outcome += &format!(", borderline test accuracy {accuracy} %");
    }
    Some(outcome)
}
