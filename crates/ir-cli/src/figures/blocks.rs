//! What Fig. 2, 3 and 4 share: one panel a network, blocks along the x axis, the train and the
//! test split in it.

use ir_analysis::results::BlockMeasures;

use crate::group::{BlockSummary, Group};

use super::colour::Colour;
use super::panel::{Labels, Panel, Point, Series};
use super::scale::{Scale, significant, thousands};
use super::scene::{Drawing, Scene, Stroke};

/// Width of every figure in pixels.
pub(crate) const WIDTH: f64 = 940.0;
/// Room left of a panel for its y axis.
pub(crate) const LEFT: f64 = 66.0;
const RIGHT: f64 = 116.0;
const ABOVE: f64 = 52.0;
const HEIGHT: f64 = 230.0;
const BELOW: f64 = 52.0;

/// One network's panel of a figure over blocks.
pub(crate) struct BlockPanel<'a> {
    /// Whose blocks.
    pub(crate) group: &'a Group,
    /// What to draw; series later in the list lie above earlier ones.
    pub(crate) series: Vec<Series>,
    /// Horizontal lines to compare with: value, name, stroke.
    pub(crate) levels: Vec<(f64, String, Stroke)>,
}

/// A figure of such panels, all with one y scale.
pub(crate) struct BlockFigure<'a> {
    /// The panels.
    pub(crate) panels: Vec<BlockPanel<'a>>,
    /// The y axis.
    pub(crate) y: Scale,
    /// Its title.
    pub(crate) y_title: &'a str,
    /// Whether the line at 0 is drawn.
    pub(crate) zero: bool,
    /// The whole figure in words, for those who cannot see it.
    pub(crate) name: &'a str,
}

impl BlockFigure<'_> {
    /// The figure, a cell for each panel; `None` without panels.
    pub(crate) fn drawing(&self) -> Option<Drawing> {
        let columns = self.panels.len().min(2);
        if columns == 0 {
            return None;
        }
        let cell = (WIDTH / columns as f64, ABOVE + HEIGHT + BELOW);
        let mut scene = Scene::new(WIDTH);
        for (index, panel) in self.panels.iter().enumerate() {
            let (row, column) = (index / columns, index % columns);
            let corner = (column as f64 * cell.0, row as f64 * cell.1);
            scene.cell(corner, cell, |scene| {
                self.panel(scene, panel, corner, cell.0);
            });
        }
        let rows = self.panels.len().div_ceil(columns);
        Some(scene.finish(rows as f64 * cell.1, self.name))
    }

    fn panel(&self, scene: &mut Scene, content: &BlockPanel<'_>, corner: (f64, f64), width: f64) {
        let stages = content.group.stages().unwrap_or_default();
        let last = stages.last().map_or(0, |stage| stage.last_block) as f64;
        let x = Scale::between(-0.5, last + 0.5);
        let panel = Panel {
            left: corner.0 + LEFT,
            top: corner.1 + ABOVE,
            width: width - LEFT - RIGHT,
            height: HEIGHT,
            x,
            y: self.y,
        };
        let labels = Labels {
            title: content.group.title.clone(),
            x: "block j".into(),
            y: self.y_title.to_owned(),
            x_ticks: x.whole_ticks(if width < WIDTH { 10 } else { 20 }),
            y_ticks: self.y.ticks(),
        };
        panel.axes(scene, &labels, 33.0);
        panel.stages(scene, stages);
        if self.zero {
            panel.zero(scene);
        }
        let levels = content.levels.iter().map(|level| level_series(level, last));
        let all: Vec<Series> = levels.chain(content.series.iter().cloned()).collect();
        panel.series(scene, &all);
    }
}

/// A level as a line through the whole panel.
fn level_series((value, name, stroke): &(f64, String, Stroke), last: f64) -> Series {
    let end = |x: f64| Point {
        x,
        y: *value,
        deviation: None,
        hollow: false,
        note: String::new(),
    };
    Series {
        points: vec![end(-0.5), end(last + 0.5)],
        stroke: *stroke,
        radius: 0.0,
        band: false,
        label: name.clone(),
    }
}

/// How a series over blocks looks.
#[derive(Clone, Copy)]
pub(crate) struct Look {
    /// Colour of line and marks.
    pub(crate) colour: Colour,
    /// Whether it is the thick one of two.
    pub(crate) strong: bool,
    /// Whether its band is drawn.
    pub(crate) band: bool,
}

impl Look {
    /// The test split: the thick line.
    pub(crate) const TEST: Self = Self {
        colour: Colour::Test,
        strong: true,
        band: true,
    };
    /// The training split: the thin line.
    pub(crate) const TRAIN: Self = Self {
        colour: Colour::Train,
        strong: false,
        band: false,
    };

    /// The line.
    pub(crate) fn stroke(self) -> Stroke {
        Stroke::solid(self.colour, if self.strong { 2.0 } else { 1.1 })
    }
}

/// Block summaries as a series, values times `unit`.
pub(crate) fn series(blocks: &[BlockSummary], look: Look, label: &str, unit: f64) -> Series {
    let dense = blocks.last().is_some_and(|last| last.block > 40);
    let radius = match (look.strong, dense) {
        (true, false) => 3.2,
        (true, true) => 2.2,
        (false, false) => 1.8,
        (false, true) => 1.3,
    };
    let points = blocks.iter().map(|block| Point {
        x: block.block as f64,
        y: block.summary.mean * unit,
        deviation: block.summary.deviation.map(|deviation| deviation * unit),
        hollow: block.transition,
        note: note(block, label, unit),
    });
    Series {
        points: points.collect(),
        stroke: look.stroke(),
        radius,
        band: look.band,
        label: label.to_owned(),
    }
}

fn note(block: &BlockSummary, label: &str, unit: f64) -> String {
    let transition = if block.transition {
        " (transition)"
    } else {
        ""
    };
    let deviation = match block.summary.deviation {
        Some(deviation) => format!(" ± {}", significant(deviation * unit, 2)),
        None => String::new(),
    };
    format!(
        "block {}{transition}, {label}: {}{deviation}",
        block.block,
        significant(block.summary.mean * unit, 3)
    )
}

/// How many test images had to be left out of a mean, where there are any: the most at one block.
pub(crate) fn left_out(
    group: &Group,
    what: &str,
    count: impl Fn(&BlockMeasures) -> usize,
) -> String {
    let each = group.splits("test").flat_map(|split| {
        let count = &count;
        split
            .blocks
            .iter()
            .map(move |block| (count(block), split.samples))
    });
    match each.max() {
        Some((most, samples)) if most > 0 => format!(
            " Up to {} of {} images have no {what} at a block and are left out of its mean.",
            thousands(most),
            thousands(samples)
        ),
        _ => String::new(),
    }
}

/// The sentence on hollow marks, where there are any.
pub(crate) fn transition_sentence(groups: &[&Group]) -> &'static str {
    let transitions = groups.iter().any(|group| {
        group
            .all_splits()
            .any(|split| split.blocks.iter().any(|block| block.transition))
    });
    if transitions {
        " Hollow marks: transition blocks, whose shortcut is a convolution; \
         s_j = S_j(h_j) stands for h_j there."
    } else {
        ""
    }
}
