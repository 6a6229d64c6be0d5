//! What to measure, and how.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::error::Error;
use crate::readouts::Readouts;
use crate::results::ScaleSource;

/// One of the measures. What is not asked for is not computed.
///
/// ```
/// use ir_analysis::Measure;
///
/// assert_eq!("drop".parse::<Measure>()?, Measure::Drop);
/// assert_eq!(Measure::ExitCosine.to_string(), "exit-cosine");
/// # Ok::<(), ir_analysis::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Measure {
    /// Cosine between F_j and the network gradient, and the gradient's norm (Fig. 4).
    Cosine,
    /// Cosine between F_j and the exit gradient (last stage).
    ExitCosine,
    /// ‖F_j‖ / ‖h_j‖ and ‖h_j‖ (Fig. 2).
    Ratio,
    /// Accuracy and loss with one block dropped (Fig. 3).
    Drop,
    /// Accuracy, loss and entropy at the exits of the last stage (Fig. 5, 6).
    Exits,
    /// The last block applied again and again (Fig. 7).
    Unroll,
    /// The first-order prediction of each block's effect on the loss (section 3, Eq. 4).
    Taylor,
    /// Random blocks deleted together (Veit et al. 2016).
    Delete,
    /// Random pairs of blocks swapped (Veit et al. 2016).
    Reorder,
    /// The gradient through single paths of each length (Veit et al. 2016).
    Paths,
    /// Each block's distance from its stage's end (Greff et al. 2017).
    Estimation,
    /// A trained linear classifier after each block: those of [`Options::readouts`].
    Readouts,
}

impl Measure {
    /// The measures of the paper, in the order of its text: what is measured by default.
    pub const PAPER: [Self; 7] = [
        Self::Cosine,
        Self::ExitCosine,
        Self::Ratio,
        Self::Drop,
        Self::Exits,
        Self::Unroll,
        Self::Taylor,
    ];

    /// Those of the works beside it, which cost several times as much.
    pub const NEIGHBOURS: [Self; 5] = [
        Self::Delete,
        Self::Reorder,
        Self::Paths,
        Self::Estimation,
        Self::Readouts,
    ];

    /// Every measure: [`Measure::PAPER`], then [`Measure::NEIGHBOURS`].
    ///
    /// ```
    /// assert_eq!(ir_analysis::Measure::all().count(), 12);
    /// ```
    pub fn all() -> impl Iterator<Item = Self> {
        Self::PAPER.into_iter().chain(Self::NEIGHBOURS)
    }

    /// The name that [`FromStr`] reads.
    ///
    /// ```
    /// assert_eq!(ir_analysis::Measure::Ratio.name(), "ratio");
    /// ```
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cosine => "cosine",
            Self::ExitCosine => "exit-cosine",
            Self::Ratio => "ratio",
            Self::Drop => "drop",
            Self::Exits => "exits",
            Self::Unroll => "unroll",
            Self::Taylor => "taylor",
            Self::Delete => "delete",
            Self::Reorder => "reorder",
            Self::Paths => "paths",
            Self::Estimation => "estimation",
            Self::Readouts => "readouts",
        }
    }

    /// All names, for a message.
    pub(crate) fn names() -> String {
        Self::all().map(Self::name).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Measure {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::all()
            .find(|measure| measure.name() == name)
            .ok_or_else(|| Error::UnknownMeasure {
                name: name.to_owned(),
            })
    }
}

/// The exit at which the groups "correct" and "borderline" of Fig. 6 are decided. The paper
/// leaves it open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReferenceExit {
    /// The first of the last [`Options::exits_shown`] exits: the groups are then followed from
    /// where the figure starts.
    #[default]
    FirstShown,
    /// The last exit, which is the network itself.
    Final,
}

/// A factor on the branch of the unrolled block.
///
/// ```
/// use ir_analysis::UnrollScale;
///
/// assert_eq!(UnrollScale::UNSCALED.factor, 1.0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UnrollScale {
    /// The factor.
    pub factor: f64,
    /// Where it comes from; it is passed on to the results.
    pub source: ScaleSource,
}

impl UnrollScale {
    /// The branch as it is.
    pub const UNSCALED: Self = Self {
        factor: 1.0,
        source: ScaleSource::Unscaled,
    };

    /// A factor that the user named.
    ///
    /// ```
    /// assert_eq!(ir_analysis::UnrollScale::fixed(0.1).factor, 0.1);
    /// ```
    #[must_use]
    pub const fn fixed(factor: f64) -> Self {
        Self {
            factor,
            source: ScaleSource::Fixed,
        }
    }
}

/// What [`analyze_split`](crate::analyze_split) computes.
///
/// ```
/// use ir_analysis::{Measure, Options};
///
/// let only_cosines = Options { measures: [Measure::Cosine].into(), ..Options::default() };
/// assert_eq!(only_cosines.unroll_steps, 20);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The measures; by default those of the paper.
    pub measures: BTreeSet<Measure>,
    /// How many of the last exits Fig. 6 shows, 5 in the paper. The results hold every exit of
    /// the last stage; this only places [`ReferenceExit::FirstShown`]. Where there are fewer
    /// exits, the first of them is meant.
    pub exits_shown: usize,
    /// The exit that decides the groups.
    pub reference: ReferenceExit,
    /// Additional applications of the last block, 20 in the paper.
    pub unroll_steps: usize,
    /// One unrolling for each of these; by default one, unscaled.
    pub unroll_scales: Vec<UnrollScale>,
    /// Random draws for each number of deleted blocks or swaps and each length of a path. Of blocks and of paths, different
    /// ones, fewer where there are no more; swaps are drawn one after another, whatever they were before.
    pub draws: usize,
    /// What the draws are a function of, together with their kind, their size and their index.
    pub draw_seed: u64,
    /// The classifiers of [`Measure::Readouts`], from
    /// [`fit_readouts`](crate::fit_readouts) on the training split. `None`, the default, measures
    /// none.
    pub readouts: Option<Readouts>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            measures: Measure::PAPER.into(),
            exits_shown: 5,
            reference: ReferenceExit::FirstShown,
            unroll_steps: 20,
            unroll_scales: vec![UnrollScale::UNSCALED],
            draws: 5,
            draw_seed: 0,
            readouts: None,
        }
    }
}

impl Options {
    /// Whether any of these measures is asked for.
    pub(crate) fn any(&self, measures: &[Measure]) -> bool {
        measures
            .iter()
            .any(|measure| self.measures.contains(measure))
    }
}
