//! The colours of the figures: one thing, one colour, in every figure.
//!
//! Series are drawn in the palette of Okabe and Ito, which people with any of the common kinds
//! of colour blindness can tell apart; blocks from low to high on viridis, which grows evenly
//! lighter. Each colour has a second value for dark pages. The SVG carries the light value as
//! an attribute and a class beside it, so that a page's style sheet ([`style_sheet`]) can
//! replace it.

use std::fmt::Write as _;

use crate::family::SHARINGS;

/// Number of steps of [`Colour::Ramp`].
pub(crate) const RAMP: usize = 16;

/// What a colour stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    /// Text and the samples as a whole.
    Ink,
    /// Secondary text, axes, reference lines.
    Muted,
    /// Grid lines and stage boundaries.
    Grid,
    /// The page.
    Paper,
    /// The test split.
    Test,
    /// The training split.
    Train,
    /// The gradient of the loss with the head plugged in at the block itself.
    ExitGradient,
    /// The same on the training split.
    TrainExitGradient,
    /// What a first-order prediction leaves out.
    Remainder,
    /// Samples that the reference exit classifies correctly.
    Correct,
    /// Samples that the reference exit is undecided about.
    Borderline,
    /// A way to share the blocks, by its index in [`crate::family::SHARINGS`].
    Sharing(usize),
    /// A block's place between the first shown (0) and the last (`RAMP` − 1).
    Ramp(usize),
}

/// viridis at 16 even places between 0.05 and 0.85, for light pages.
const RAMP_LIGHT: [&str; RAMP] = [
    "#471365", "#482576", "#453781", "#404688", "#39558c", "#32648e", "#2d718e", "#277e8e",
    "#228b8d", "#1f978b", "#20a486", "#2ab07f", "#3fbc73", "#5ac864", "#77d153", "#9bd93c",
];

/// viridis at 16 even places between 0.3 and 1, for dark pages.
const RAMP_DARK: [&str; RAMP] = [
    "#355f8d", "#2f6b8e", "#2a768e", "#26828e", "#228d8d", "#1f988b", "#20a386", "#28ae80",
    "#38b977", "#4ec36b", "#67cc5c", "#84d44b", "#a2da37", "#c2df23", "#e2e418", "#fde725",
];

/// Black and six colours of the palette, for light pages.
const SHARING_LIGHT: [&str; SHARINGS.len()] = [
    "#1a1a1a", "#d55e00", "#e69f00", "#56b4e9", "#0072b2", "#cc79a7", "#009e73",
];

/// The same for dark pages.
const SHARING_DARK: [&str; SHARINGS.len()] = [
    "#e8eaed", "#ee7b30", "#e69f00", "#56b4e9", "#3f9fdb", "#cc79a7", "#1fc196",
];

impl Colour {
    const NAMED: [Self; 11] = [
        Self::Ink,
        Self::Muted,
        Self::Grid,
        Self::Paper,
        Self::Test,
        Self::Train,
        Self::ExitGradient,
        Self::TrainExitGradient,
        Self::Remainder,
        Self::Correct,
        Self::Borderline,
    ];

    /// The colour of the block at `index` among `count`, low to high.
    pub(crate) fn ramp(index: usize, count: usize) -> Self {
        let last = count.saturating_sub(1).max(1);
        Self::Ramp((index * (RAMP - 1) + last / 2) / last)
    }

    /// Its name in style sheets.
    pub(crate) fn class(self) -> String {
        match self {
            Self::Ink => "ink".into(),
            Self::Muted => "muted".into(),
            Self::Grid => "grid".into(),
            Self::Paper => "paper".into(),
            Self::Test => "test".into(),
            Self::Train => "train".into(),
            Self::ExitGradient => "exit-gradient".into(),
            Self::TrainExitGradient => "train-exit-gradient".into(),
            Self::Remainder => "remainder".into(),
            Self::Correct => "correct".into(),
            Self::Borderline => "borderline".into(),
            Self::Sharing(index) => format!("sharing-{index}"),
            Self::Ramp(step) => format!("ramp-{step}"),
        }
    }

    /// Its value on a light page.
    pub(crate) fn light(self) -> &'static str {
        match self {
            Self::Ink => "#1a1a1a",
            Self::Muted => "#5f6368",
            Self::Grid => "#dcdfe3",
            Self::Paper => "#ffffff",
            Self::Test => "#0072b2",
            Self::Train => "#d55e00",
            Self::ExitGradient | Self::TrainExitGradient => "#009e73",
            Self::Remainder => "#cc79a7",
            Self::Correct => "#56b4e9",
            Self::Borderline => "#e69f00",
            Self::Sharing(index) => SHARING_LIGHT[index.min(SHARINGS.len() - 1)],
            Self::Ramp(step) => RAMP_LIGHT[step.min(RAMP - 1)],
        }
    }

    /// Its value on a dark page.
    pub(crate) fn dark(self) -> &'static str {
        match self {
            Self::Ink => "#e8eaed",
            Self::Muted => "#a4aab2",
            Self::Grid => "#353a41",
            Self::Paper => "#15181c",
            Self::Test => "#3f9fdb",
            Self::Train => "#ee7b30",
            Self::ExitGradient | Self::TrainExitGradient => "#1fc196",
            Self::Sharing(index) => SHARING_DARK[index.min(SHARINGS.len() - 1)],
            Self::Ramp(step) => RAMP_DARK[step.min(RAMP - 1)],
            other => other.light(),
        }
    }
}

/// Style rules that give every figure of a page the dark values.
pub(crate) fn style_sheet() -> String {
    let mut css = String::new();
    let sharings = (0..SHARINGS.len()).map(Colour::Sharing);
    let ramp = (0..RAMP).map(Colour::Ramp);
    for colour in Colour::NAMED.into_iter().chain(sharings).chain(ramp) {
        let (class, value) = (colour.class(), colour.dark());
        let _ = write!(
            css,
            ".s-{class}{{stroke:{value}}}.f-{class}{{fill:{value}}}"
        );
    }
    css
}
