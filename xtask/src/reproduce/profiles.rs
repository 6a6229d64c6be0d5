//! The plans as data: which networks each profile trains, how long, on what.

use std::collections::BTreeSet;
use std::fmt;

use super::data::Dataset;

/// The profiles by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Name {
    /// One short epoch on a few images: shows that every command runs, and no figure means anything.
    Smoke,
    /// Two small networks, four to seven minutes on four CPU cores.
    Quick,
    /// Every comparison of the paper once, in a few epochs: two hours on four CPU cores.
    Short,
    /// The paper's networks, about a twentieth of its epochs: a night on four CPU cores.
    Standard,
    /// The paper's epochs, seeds and data sets.
    Paper,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Smoke => "smoke",
            Self::Quick => "quick",
            Self::Short => "short",
            Self::Standard => "standard",
            Self::Paper => "paper",
        })
    }
}

/// What a profile does.
pub(crate) struct Profile {
    /// The trainings, the cheapest first so that a first result is there early.
    pub(super) trainings: &'static [Training],
    /// How many images of each split are analysed; all of them if `None`.
    pub(super) analyzed_images: Option<usize>,
    /// Whether the profile still says something on synthetic images, when there are no others.
    pub(super) synthetic_will_do: bool,
}

/// One network, trained once for each seed.
pub(super) struct Training {
    pub(super) model: Model,
    pub(super) dataset: Dataset,
    pub(super) seeds: &'static [u64],
    pub(super) epochs: u32,
    pub(super) batch_size: u32,
    /// How many images of the training split are used; all of them if `None`.
    pub(super) train_images: Option<usize>,
    /// On how many images of the test split it is evaluated; on all of them if `None`.
    pub(super) test_images: Option<usize>,
    pub(super) schedule: Schedule,
    /// Whether `ir analyze` measures what the works beside the paper do as well.
    pub(super) neighbours: bool,
    /// Blocks and exits are measured every so many epochs (Fig. 5, 8 and the appendix).
    pub(super) measure_every: u32,
}

/// What `ir train` is asked to train.
pub(super) enum Model {
    /// A network that `ir models` lists.
    Named(&'static str),
    /// A network described by a file: its name in the run's folder, and the file.
    File(&'static str, &'static str),
}

/// The learning rate over the epochs.
#[derive(Clone, Copy)]
pub(super) enum Schedule {
    /// The paper's steps at the paper's epochs.
    Paper,
    /// The paper's steps at the same fractions of the training.
    Scaled,
    /// Its own: pieces of `first epoch:learning rate`.
    Pieces(&'static str),
}

impl Schedule {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Paper => "paper",
            Self::Scaled => "scaled",
            Self::Pieces(pieces) => pieces,
        }
    }
}

impl Profile {
    /// The data sets that the trainings need.
    pub(super) fn datasets(&self) -> BTreeSet<Dataset> {
        self.trainings
            .iter()
            .map(|training| training.dataset)
            .collect()
    }
}

/// What belongs to a name.
pub(super) fn of(name: Name) -> &'static Profile {
    match name {
        Name::Smoke => &SMOKE,
        Name::Quick => &QUICK,
        Name::Short => &SHORT,
        Name::Standard => &STANDARD,
        Name::Paper => &PAPER,
    }
}

/// The single-representation net at 4 blocks of 32 channels instead of 10 of 100.
const SMALL_SINGLE_REPRESENTATION: Model = Model::File(
    "single-representation-small",
    "xtask/plans/single-representation-small.json",
);

/// What all profiles share where they say nothing else; 128 is the usual batch size, the paper
/// gives none.
const DEFAULT: Training = Training {
    model: Model::Named("resnet-32"),
    dataset: Dataset::Cifar10,
    seeds: &[0],
    epochs: 1,
    batch_size: 128,
    train_images: None,
    test_images: None,
    schedule: Schedule::Scaled,
    neighbours: false,
    measure_every: 1,
};

static SMOKE: Profile = Profile {
    trainings: &[
        SMOKE_TRAINING,
        Training {
            model: SMALL_SINGLE_REPRESENTATION,
            ..SMOKE_TRAINING
        },
    ],
    analyzed_images: Some(64),
    synthetic_will_do: true,
};

const SMOKE_TRAINING: Training = Training {
    train_images: Some(256),
    test_images: Some(256),
    ..DEFAULT
};

/// Of so few epochs the paper's proportions would leave two at the first learning rate and two
/// at one that changes nothing any more; so these networks have schedules of their own.
static QUICK: Profile = Profile {
    trainings: &[
        Training {
            epochs: 6,
            schedule: Schedule::Pieces("0:0.1,4:0.01"),
            ..DEFAULT
        },
        Training {
            model: SMALL_SINGLE_REPRESENTATION,
            epochs: 3,
            schedule: Schedule::Pieces("0:0.1,2:0.01"),
            ..DEFAULT
        },
    ],
    analyzed_images: Some(1_000),
    synthetic_will_do: true,
};

/// A network of the Table 1 family in so few epochs that each has to count: as in [`QUICK`].
const fn short(name: &'static str, dataset: Dataset) -> Training {
    Training {
        model: Model::Named(name),
        dataset,
        epochs: 12,
        schedule: Schedule::Pieces("0:0.1,8:0.01,11:0.001"),
        ..DEFAULT
    }
}

/// A network that is measured as it begins, for Fig. 8 and 9, and not trained.
const fn initial(name: &'static str, dataset: Dataset) -> Training {
    Training {
        model: Model::Named(name),
        dataset,
        epochs: 0,
        ..DEFAULT
    }
}

static SHORT: Profile = Profile {
    trainings: &[
        initial("resnet-110", Dataset::Cifar10),
        initial("resnet-110-naive-gamma", Dataset::Cifar10),
        initial("resnet-110-statistics", Dataset::Cifar10),
        initial("resnet-110-statistics-gamma", Dataset::Cifar10),
        initial("resnet-110-batch-norm", Dataset::Cifar10),
        short("resnet-38", Dataset::Cifar10),
        short("resnet-110-ubn", Dataset::Cifar10),
        short("resnet-110-naive", Dataset::Cifar10),
        short("resnet-32", Dataset::Cifar10),
        short("resnet-32", Dataset::Cifar100),
        Training {
            epochs: 2,
            schedule: Schedule::Pieces("0:0.1,1:0.01"),
            ..short("single-representation", Dataset::Cifar10)
        },
    ],
    analyzed_images: Some(2_000),
    synthetic_will_do: false,
};

/// A training of the standard profile, with the paper's schedule in proportion.
const fn standard(name: &'static str, dataset: Dataset, epochs: u32) -> Training {
    Training {
        model: Model::Named(name),
        dataset,
        epochs,
        neighbours: true,
        ..DEFAULT
    }
}

static STANDARD: Profile = Profile {
    trainings: &[
        standard("resnet-32", Dataset::Cifar10, 15),
        standard("resnet-32", Dataset::Cifar100, 15),
        standard("resnet-38", Dataset::Cifar10, 15),
        standard("resnet-56", Dataset::Cifar10, 15),
        standard("resnet-110", Dataset::Cifar10, 15),
        standard("resnet-110-ubn", Dataset::Cifar10, 15),
        standard("resnet-110-naive", Dataset::Cifar10, 15),
        standard("resnet-110-naive-gamma", Dataset::Cifar10, 15),
        standard("resnet-110-statistics", Dataset::Cifar10, 15),
        standard("resnet-110-statistics-gamma", Dataset::Cifar10, 15),
        standard("resnet-110-batch-norm", Dataset::Cifar10, 15),
        standard("single-representation", Dataset::Cifar10, 10),
        standard("avg-pooling", Dataset::Cifar10, 5),
        standard("wide", Dataset::Cifar10, 5),
    ],
    analyzed_images: Some(2_000),
    synthetic_will_do: false,
};

/// Table 1 averages four runs.
const FOUR_SEEDS: &[u64] = &[0, 1, 2, 3];

/// A net of the Table 1 family as the paper trains it.
const fn table_1(name: &'static str, dataset: Dataset) -> Training {
    Training {
        seeds: FOUR_SEEDS,
        ..as_in_paper(name, dataset, 300)
    }
}

/// One run of a net over the paper's epochs.
const fn as_in_paper(name: &'static str, dataset: Dataset, epochs: u32) -> Training {
    Training {
        model: Model::Named(name),
        dataset,
        epochs,
        schedule: Schedule::Paper,
        neighbours: true,
        measure_every: 10,
        ..DEFAULT
    }
}

static PAPER: Profile = Profile {
    trainings: &[
        table_1("resnet-32", Dataset::Cifar10),
        table_1("resnet-32", Dataset::Cifar100),
        table_1("resnet-38", Dataset::Cifar10),
        table_1("resnet-38", Dataset::Cifar100),
        table_1("resnet-56", Dataset::Cifar10),
        table_1("resnet-56", Dataset::Cifar100),
        table_1("resnet-110", Dataset::Cifar10),
        table_1("resnet-110", Dataset::Cifar100),
        table_1("resnet-110-ubn", Dataset::Cifar10),
        table_1("resnet-110-ubn", Dataset::Cifar100),
        table_1("resnet-146-ubn", Dataset::Cifar10),
        table_1("resnet-146-ubn", Dataset::Cifar100),
        table_1("resnet-182-ubn", Dataset::Cifar10),
        table_1("resnet-182-ubn", Dataset::Cifar100),
        // Fig. 8 and 9.
        table_1("resnet-110-naive", Dataset::Cifar10),
        table_1("resnet-110-naive", Dataset::Cifar100),
        table_1("resnet-110-naive-gamma", Dataset::Cifar10),
        table_1("resnet-110-statistics", Dataset::Cifar10),
        table_1("resnet-110-statistics-gamma", Dataset::Cifar10),
        table_1("resnet-110-batch-norm", Dataset::Cifar10),
        as_in_paper("single-representation", Dataset::Cifar10, 200),
        as_in_paper("single-representation", Dataset::Cifar100, 200),
        as_in_paper("avg-pooling", Dataset::Cifar10, 100),
        as_in_paper("avg-pooling", Dataset::Cifar100, 100),
        as_in_paper("wide", Dataset::Cifar10, 100),
        as_in_paper("wide", Dataset::Cifar100, 100),
    ],
    analyzed_images: None,
    synthetic_will_do: false,
};

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_architecture_file_is_there() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for name in Name::value_variants() {
            for training in of(*name).trainings {
                if let Model::File(_, path) = training.model {
                    assert!(root.join(path).is_file(), "{path}");
                }
            }
        }
    }

    #[test]
    fn the_paper_profile_trains_four_seeds_of_table_1() {
        let runs: usize = PAPER.trainings.iter().map(|t| t.seeds.len()).sum();
        // Seven networks of Table 1 and the naive one on both data sets, four ablations on one, the
        // other three networks once on each.
        assert_eq!(runs, 4 * (8 * 2 + 4) + 3 * 2);
        assert_eq!(PAPER.datasets().len(), 2);
    }
}
