//! The two kinds of picture in the frame: curves over epochs and bars by block.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style, Stylize};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, GraphType, Widget};

/// Columns of the labels at the side, so that pictures one above the other begin at one place.
const LABEL: usize = 6;

/// The smallest area in which a picture says something.
pub(super) const SMALLEST: (u16, u16) = (20, 6);

const TRAIN: Color = Color::Cyan;
const TEST: Color = Color::Yellow;

pub(super) type Points = Vec<(f64, f64)>;

/// What stands at the side of a picture: its ends, and the labels between them.
pub(super) struct Scale {
    bounds: [f64; 2],
    labels: Vec<String>,
}

impl Scale {
    /// From the lowest value to the highest, with 0 among them.
    pub(super) fn linear(values: impl Iterator<Item = f64>) -> Self {
        let finite = values.filter(|value| value.is_finite());
        let [low, high] = finite.fold([0.0, 0.0], |[low, high]: [f64; 2], value| {
            [low.min(value), high.max(value)]
        });
        let high = if low == high { 1.0 } else { high };
        let label = |value: f64| match value.abs() {
            0.0 => format!("{:>LABEL$}", "0"),
            1000.0.. => format!("{value:>LABEL$.0e}"),
            10.0.. => format!("{value:>LABEL$.1}"),
            _ => format!("{value:>LABEL$.3}"),
        };
        Self {
            bounds: [low, high],
            labels: [low, (low + high) / 2.0, high].map(label).into(),
        }
    }

    /// Of decadic logarithms: from power to power.
    pub(super) fn powers(exponents: impl Iterator<Item = f64>) -> Self {
        let [low, high] = exponents.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], x| {
            [low.min(x.floor()), high.max(x.ceil())]
        });
        let (low, high) = match low.is_finite() {
            true => (low as i64, high as i64),
            false => (-1, 0),
        };
        let steps = match high - low {
            steps @ 0..=2 => steps.max(1),
            // There is a power in the middle.
            steps => steps + steps % 2,
        };
        let shown = if steps == 1 {
            vec![0, 1]
        } else {
            vec![0, steps / 2, steps]
        };
        let label = |step: i64| format!("{:>LABEL$}", format!("1e{}", low + step));
        Self {
            bounds: [low as f64, (low + steps) as f64],
            labels: shown.into_iter().map(label).collect(),
        }
    }
}

/// Curves over epochs.
pub(super) struct Curves<'a> {
    title: Line<'static>,
    epochs: usize,
    curves: Vec<(&'a Points, Marker, Color)>,
    scale: Scale,
}

impl<'a> Curves<'a> {
    /// One curve.
    pub(super) fn one(title: String, epochs: usize, points: &'a Points, scale: Scale) -> Self {
        Self {
            title: Line::from(title),
            epochs,
            curves: vec![(points, Marker::Braille, Color::Reset)],
            scale,
        }
    }

    /// One of the training split and one of the test split, which differ by their marks too where
    /// there are no colours.
    pub(super) fn of_splits(
        title: &'static str,
        epochs: usize,
        [train, test]: &'a [Points; 2],
        scale: Scale,
    ) -> Self {
        Self {
            title: Line::from(vec![
                Span::from(title),
                " ⠤ train".fg(TRAIN),
                " • test".fg(TEST),
            ]),
            epochs,
            curves: vec![(train, Marker::Braille, TRAIN), (test, Marker::Dot, TEST)],
            scale,
        }
    }
}

impl Widget for Curves<'_> {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        let datasets = self.curves.into_iter().map(|(points, marker, color)| {
            Dataset::default()
                .data(points)
                .marker(marker)
                .graph_type(GraphType::Line)
                .style(Style::new().fg(color))
        });
        let last = self.epochs.max(1);
        let x_axis = Axis::default()
            .bounds([0.0, last as f64])
            .labels(["0".to_owned(), last.to_string()]);
        let y_axis = Axis::default()
            .bounds(self.scale.bounds)
            .labels(self.scale.labels);
        let frame = Block::bordered().title(self.title);
        chart(frame, datasets.collect(), x_axis, y_axis, area, buffer);
    }
}

/// A bar for each block, transitions in another colour.
pub(super) struct Bars<'a> {
    title: String,
    values: &'a [(bool, Option<f64>)],
}

impl<'a> Bars<'a> {
    /// Whether each block is a transition, and its value if it has one.
    pub(super) fn new(title: String, values: &'a [(bool, Option<f64>)]) -> Self {
        Self { title, values }
    }

    /// The columns of a bar of `width` columns in all: all bars are equally wide, with a gap between
    /// them where there is room for one.
    fn columns(&self, block: usize, width: usize) -> std::ops::Range<usize> {
        let blocks = self.values.len();
        let from = block * width / blocks;
        from..from + (width / blocks).saturating_sub(1).max(1)
    }
}

impl Widget for Bars<'_> {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        // What is left of borders, labels and the axis.
        let width = usize::from(area.width).saturating_sub(LABEL + 3);
        let [mut blocks, mut transitions] = [Points::new(), Points::new()];
        for (block, (transition, value)) in self.values.iter().enumerate() {
            let Some(value) = value.filter(|value| value.is_finite()) else {
                continue;
            };
            let columns = self.columns(block, width);
            let points = columns.map(|column| (column as f64, value));
            match transition {
                true => transitions.extend(points),
                false => blocks.extend(points),
            }
        }
        let dataset = |points, color| {
            Dataset::default()
                .data(points)
                .marker(Marker::HalfBlock)
                .graph_type(GraphType::Bar)
                .style(Style::new().fg(color))
        };
        let scale = Scale::linear(self.values.iter().filter_map(|(_, value)| *value));
        let x_axis = Axis::default()
            .bounds([0.0, width.saturating_sub(1) as f64])
            .labels([
                "0".to_owned(),
                format!("block {}", self.values.len().saturating_sub(1)),
            ]);
        let y_axis = Axis::default().bounds(scale.bounds).labels(scale.labels);
        let foot = match transitions.is_empty() {
            true => Line::default(),
            false => Line::from("▪ transition".fg(TEST)),
        };
        let datasets = vec![dataset(&blocks, TRAIN), dataset(&transitions, TEST)];
        let frame = Block::bordered().title(self.title).title_bottom(foot);
        chart(frame, datasets, x_axis, y_axis, area, buffer);
    }
}

fn chart(
    frame: Block<'_>,
    datasets: Vec<Dataset<'_>>,
    x_axis: Axis<'_>,
    y_axis: Axis<'_>,
    area: Rect,
    buffer: &mut Buffer,
) {
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        return;
    }
    Chart::new(datasets)
        .block(frame)
        .x_axis(x_axis)
        .y_axis(y_axis)
        .legend_position(None)
        .render(area, buffer);
}
