//! Learning rates by epoch, and the paper's recipes.

use serde::{Deserialize, Serialize};

use crate::architecture::Architecture;
use crate::error::{Error, Result};

/// A learning rate that changes at given epochs.
///
/// ```
/// use ir_models::Recipe;
///
/// let schedule = Recipe::of("single-representation")?.schedule;
/// assert_eq!(schedule.learning_rate(39), 0.1);
/// assert_eq!(schedule.learning_rate(40), 0.02);
/// # Ok::<(), ir_models::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Pieces in order; the first starts at epoch 0.
    pub pieces: Vec<Piece>,
}

/// A constant piece of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Piece {
    /// The first epoch, from 0, that has this rate.
    pub from_epoch: usize,
    /// The learning rate.
    pub learning_rate: f64,
}

impl Schedule {
    /// One rate throughout.
    pub fn constant(learning_rate: f64) -> Self {
        Self::new(&[(0, learning_rate)])
    }

    fn new(pieces: &[(usize, f64)]) -> Self {
        let piece = |&(from_epoch, learning_rate)| Piece {
            from_epoch,
            learning_rate,
        };
        Self {
            pieces: pieces.iter().map(piece).collect(),
        }
    }

    /// The learning rate of an epoch, from 0. An empty schedule has rate 0.
    pub fn learning_rate(&self, epoch: usize) -> f64 {
        let current = self
            .pieces
            .iter()
            .rev()
            .find(|piece| piece.from_epoch <= epoch);
        current.map_or(0.0, |piece| piece.learning_rate)
    }

    /// The same schedule with its changes moved in proportion, from `epochs` to `to` epochs: epoch
    /// e has the rate that epoch ⌊e · epochs / to⌋ had.
    pub fn scaled(&self, epochs: usize, to: usize) -> Self {
        let mut pieces: Vec<Piece> = Vec::new();
        for piece in &self.pieces {
            let from_epoch = (piece.from_epoch * to).div_ceil(epochs.max(1));
            if pieces
                .last()
                .is_some_and(|last| last.from_epoch == from_epoch)
            {
                pieces.pop();
            }
            if from_epoch < to || pieces.is_empty() {
                pieces.push(Piece {
                    from_epoch,
                    ..*piece
                });
            }
        }
        Self { pieces }
    }
}

/// How the paper trains a network (appendix A), with the usual value where it does not say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Passes over the training split.
    pub epochs: usize,
    /// Learning rate by epoch.
    pub schedule: Schedule,
    /// Images in a step. Not stated in the paper; 128 is usual.
    pub batch_size: usize,
}

impl Recipe {
    /// The recipe of a network of the paper, by name.
    ///
    /// # Errors
    /// [`Error::UnknownArchitecture`].
    pub fn of(name: &str) -> Result<Self> {
        // The last two rates of the first are as the paper prints them.
        let resnet = [
            (0, 0.1),
            (80, 0.01),
            (120, 0.001),
            (200, 0.000_01),
            (240, 0.000_011),
        ];
        let single = [(0, 0.1), (40, 0.02), (60, 0.004), (80, 0.0008)];
        let (epochs, pieces): (usize, &[(usize, f64)]) = match name {
            name if name.starts_with("resnet-") && Architecture::named(name, 10).is_ok() => {
                (300, &resnet)
            }
            "single-representation" => (200, &single),
            "avg-pooling" => (100, &single),
            "wide" => (100, &[(0, 0.1), (60, 0.02)]),
            _ => return Err(Error::UnknownArchitecture { name: name.into() }),
        };
        Ok(Self {
            epochs,
            schedule: Schedule::new(pieces),
            batch_size: 128,
        })
    }
}
