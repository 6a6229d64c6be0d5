//! The three groups of samples of Fig. 6 and 7, and the quantities drawn for them.

use ir_analysis::results::{Group as Samples, Groups};

use super::colour::Colour;

/// A group of samples: its name, its colour, and where its numbers are.
pub(crate) struct SampleGroup {
    /// Its name in labels.
    pub(crate) name: &'static str,
    /// Its colour.
    pub(crate) colour: Colour,
    /// Its numbers.
    pub(crate) of: fn(&Groups) -> &Samples,
}

/// In the order in which they are drawn.
pub(crate) const SAMPLE_GROUPS: [SampleGroup; 3] = [
    SampleGroup {
        name: "already correct",
        colour: Colour::Correct,
        of: |groups| &groups.correct,
    },
    SampleGroup {
        name: "borderline",
        colour: Colour::Borderline,
        of: |groups| &groups.borderline,
    },
    SampleGroup {
        name: "all",
        colour: Colour::Ink,
        of: |groups| &groups.all,
    },
];

/// A number of a group of samples, in the unit of its axis.
pub(crate) struct Quantity {
    /// The axis title.
    pub(crate) title: &'static str,
    /// The number.
    pub(crate) of: fn(&Samples) -> Option<f64>,
}

/// Accuracy in percent.
pub(crate) const ACCURACY: Quantity = Quantity {
    title: "accuracy (%)",
    of: |samples| Some(100.0 * samples.accuracy?),
};

/// Cross-entropy in nats.
pub(crate) const LOSS: Quantity = Quantity {
    title: "loss (nats)",
    of: |samples| Some(samples.loss?.0),
};

/// Entropy of the prediction in nats.
pub(crate) const ENTROPY: Quantity = Quantity {
    title: "entropy (nats)",
    of: |samples| Some(samples.entropy?.0),
};
