//! Panels of lines, two side by side in a row.

use ir_analysis::results::Stage;

use super::blocks::WIDTH;
use super::panel::{Labels, Panel, Series};
use super::scale::Scale;
use super::scene::{Drawing, Scene};

const ABOVE: f64 = 52.0;
const HEIGHT: f64 = 210.0;
const BELOW: f64 = 52.0;

/// One panel.
pub(crate) struct Cell {
    /// Above it.
    pub(crate) title: String,
    /// Under the x axis.
    pub(crate) x_title: &'static str,
    /// The x axis.
    pub(crate) x: Scale,
    /// Whether its ticks may be other than whole numbers.
    pub(crate) x_fractions: bool,
    /// Beside the y axis.
    pub(crate) y_title: &'static str,
    /// The y axis.
    pub(crate) y: Scale,
    /// Names along the y axis in place of numbers.
    pub(crate) y_names: Option<Vec<(f64, String)>>,
    /// The lines.
    pub(crate) series: Vec<Series>,
    /// Whether the line at 0 is drawn.
    pub(crate) zero: bool,
    /// The stages, where the x axis is blocks.
    pub(crate) stages: Vec<Stage>,
}

impl Default for Cell {
    fn default() -> Self {
        Self {
            title: String::new(),
            x_title: "",
            x: Scale::between(0.0, 1.0),
            x_fractions: false,
            y_title: "",
            y: Scale::between(0.0, 1.0),
            y_names: None,
            series: Vec::new(),
            zero: false,
            stages: Vec::new(),
        }
    }
}

/// Room beside the panels, in pixels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Margins {
    /// Left of each panel, for its y axis.
    pub(crate) left: f64,
    /// Right of each panel, for the lines' names.
    pub(crate) right: f64,
}

/// The panels, a cell each; `None` without any.
pub(crate) fn draw(rows: &[[Cell; 2]], margins: Margins, name: &str) -> Option<Drawing> {
    if rows.is_empty() {
        return None;
    }
    let (width, height) = (WIDTH / 2.0, ABOVE + HEIGHT + BELOW);
    let mut scene = Scene::new(WIDTH);
    for (row, cells) in rows.iter().enumerate() {
        for (column, cell) in cells.iter().enumerate() {
            let corner = (column as f64 * width, row as f64 * height);
            let panel = Panel {
                left: corner.0 + margins.left,
                top: corner.1 + ABOVE,
                width: width - margins.left - margins.right,
                height: HEIGHT,
                x: cell.x,
                y: cell.y,
            };
            let labels = Labels {
                title: cell.title.clone(),
                x: cell.x_title.into(),
                y: cell.y_title.into(),
                x_ticks: if cell.x_fractions {
                    cell.x.ticks()
                } else {
                    cell.x.whole_ticks(10)
                },
                y_ticks: cell.y_names.clone().unwrap_or_else(|| cell.y.ticks()),
            };
            scene.cell(corner, (width, height), |scene| {
                panel.axes(scene, &labels, 33.0);
                panel.stages(scene, &cell.stages);
                if cell.zero {
                    panel.zero(scene);
                }
                panel.series(scene, &cell.series);
            });
        }
    }
    Some(scene.finish(rows.len() as f64 * height, name))
}
