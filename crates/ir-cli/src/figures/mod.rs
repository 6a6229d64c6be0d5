//! The paper's figures, drawn from run folders.

use crate::group::Group;

mod blocks;
pub(crate) mod colour;
mod curves;
mod deletion;
pub(crate) mod estimation;
mod fig2;
mod fig3;
mod fig4;
mod fig5;
mod fig6;
mod fig7;
mod fig8;
mod fig9;
mod grid;
mod panel;
pub(crate) mod paths;
pub(crate) mod png;
mod readouts;
mod recorded;
mod samples;
pub(crate) mod scale;
mod scene;
mod steps;
pub(crate) mod taylor;
mod through_training;

pub(crate) use scene::{CellSvg, Drawing, FONTS, escape, pieces};

/// A figure and the words around it.
#[derive(Debug)]
pub(crate) struct Figure {
    /// Its name in file names and links, `fig2`.
    pub(crate) name: &'static str,
    /// Its heading, `Figure 2: …`.
    pub(crate) title: &'static str,
    /// What the paper found, in one sentence.
    pub(crate) paper: &'static str,
    /// What the numbers here show, one sentence a network, computed from them.
    pub(crate) seen: Vec<String>,
    /// The networks that it lacks.
    pub(crate) absent: Vec<String>,
    /// How to read it: marks, bands, groups.
    pub(crate) reading: String,
    /// The drawing; `None` where no run has the numbers.
    pub(crate) drawing: Option<Drawing>,
}

/// Every figure, in the paper's order. `untrained` are runs of no epoch: they show networks at
/// initialisation and are in no other figure.
pub(crate) fn all(groups: &[Group], untrained: &[Group]) -> Vec<Figure> {
    let [fig9, fig9_norms] = fig9::draw(groups, untrained);
    vec![
        fig2::draw(groups),
        fig3::draw(groups),
        fig4::draw(groups),
        fig5::draw(groups),
        fig6::draw(groups),
        fig7::draw(groups),
        fig8::draw(groups, untrained),
        fig9,
        fig9_norms,
        through_training::draw(groups),
        taylor::draw(groups),
        steps::draw(groups),
        deletion::draw(groups),
        paths::draw(groups),
        estimation::draw(groups),
        readouts::draw(groups),
    ]
}

/// The figures of other works, which a report leaves out where no run has their numbers.
const NEIGHBOURS: [&str; 4] = ["deletion", "paths", "estimation", "readouts"];

impl Figure {
    /// Whether it is another work's than the paper's.
    pub(crate) fn is_of_neighbours(&self) -> bool {
        NEIGHBOURS.contains(&self.name)
    }
}

/// The splits, in the order of panels side by side.
const SPLITS: [&str; 2] = ["train", "test"];

/// The titles of the groups that are not shown.
fn absent(groups: &[Group], shown: &[&Group]) -> Vec<String> {
    groups
        .iter()
        .filter(|group| !shown.iter().any(|other| std::ptr::eq(*other, *group)))
        .map(|group| group.title.clone())
        .collect()
}

/// What the bands of a figure are, for its caption.
fn band_sentence(groups: &[&Group]) -> &'static str {
    let seeds = groups.iter().filter(|group| group.over_seeds()).count();
    if seeds == 0 {
        "Bands: ± one standard deviation over samples."
    } else if seeds == groups.len() {
        "Bands: ± one standard deviation over seeds."
    } else {
        "Bands: ± one standard deviation, over seeds where a network has several, otherwise over samples."
    }
}
