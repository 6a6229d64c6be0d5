//! The three groups of samples of Fig. 6 and 7, and what is averaged over each.

use crate::outcome::Outcomes;
use crate::results::{Group, Groups};
use crate::statistics::Moments;

/// A prediction that a change of the probabilities by less than this could flip, to or from the
/// correct class, is borderline: |p_correct − max_{other} p| < 0.1 (paper, Fig. 6).
pub(crate) const BORDERLINE_MARGIN: f64 = 0.1;

/// Which samples of a batch belong to which group, decided at the reference exit.
pub(crate) struct Membership<'a> {
    reference: &'a Outcomes,
}

impl<'a> Membership<'a> {
    pub(crate) fn decided_at(reference: &'a Outcomes) -> Self {
        Self { reference }
    }

    fn correct(&self, sample: usize) -> bool {
        self.reference.correct[sample]
    }

    fn borderline(&self, sample: usize) -> bool {
        self.reference.margin[sample].abs() < BORDERLINE_MARGIN
    }
}

/// Accuracy, loss and entropy by group, over the batches so far.
#[derive(Clone, Default)]
pub(crate) struct GroupsSoFar {
    all: GroupSoFar,
    correct: GroupSoFar,
    borderline: GroupSoFar,
}

impl GroupsSoFar {
    pub(crate) fn add(&mut self, outcomes: &Outcomes, membership: &Membership<'_>) {
        for sample in 0..outcomes.loss.len() {
            self.all.add(outcomes, sample);
            if membership.correct(sample) {
                self.correct.add(outcomes, sample);
            }
            if membership.borderline(sample) {
                self.borderline.add(outcomes, sample);
            }
        }
    }

    pub(crate) fn finish(&self) -> Groups {
        Groups {
            all: self.all.finish(),
            correct: self.correct.finish(),
            borderline: self.borderline.finish(),
        }
    }
}

/// One group.
#[derive(Clone, Default)]
struct GroupSoFar {
    right: usize,
    loss: Moments,
    entropy: Moments,
}

impl GroupSoFar {
    fn add(&mut self, outcomes: &Outcomes, sample: usize) {
        self.right += usize::from(outcomes.correct[sample]);
        self.loss.add(outcomes.loss[sample]);
        self.entropy.add(outcomes.entropy[sample]);
    }

    fn finish(&self) -> Group {
        let samples = self.loss.count();
        Group {
            samples,
            accuracy: (samples > 0).then(|| self.right as f64 / samples as f64),
            loss: self.loss.mean().map(Into::into),
            loss_std: self.loss.std().map(Into::into),
            entropy: self.entropy.mean().map(Into::into),
            entropy_std: self.entropy.std().map(Into::into),
        }
    }
}

/// Accuracy and loss over the batches so far.
#[derive(Clone, Default)]
pub(crate) struct ScoreSoFar {
    right: usize,
    loss: Moments,
}

impl ScoreSoFar {
    pub(crate) fn add(&mut self, outcomes: &Outcomes) {
        self.right += outcomes.correct.iter().filter(|&&correct| correct).count();
        self.loss.extend(&outcomes.loss);
    }

    pub(crate) fn samples(&self) -> usize {
        self.loss.count()
    }

    /// `None` before the first sample, as in all of these.
    pub(crate) fn accuracy(&self) -> Option<f64> {
        (self.samples() > 0).then(|| self.right as f64 / self.samples() as f64)
    }

    pub(crate) fn loss(&self) -> Option<f64> {
        self.loss.mean()
    }

    pub(crate) fn loss_std(&self) -> Option<f64> {
        self.loss.std()
    }
}
