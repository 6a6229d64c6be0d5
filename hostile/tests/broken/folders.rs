//! Folders that are no data set.

use std::fs;

use ir_hostile::seeds;

use super::{case, put};
use crate::Case;

pub(crate) const CASES: &[Case] = &[
    case(
        "folder, empty",
        |_| {},
        &["no CIFAR data in FOLDER: expected parquet files"],
    ),
    case(
        "folder, one split alone",
        |to| put(to, "test_batch.bin", seeds::BINARY_10),
        &["FOLDER: the train split is missing; complete the folder"],
    ),
    case(
        "folder, names that say nothing",
        |to| put(to, "0001.bin", seeds::BINARY_10),
        &["0001.bin: cannot tell whether this is the train or the test split"],
    ),
    case(
        "folder, with too many files",
        |to| {
            for name in 0..=10_000 {
                fs::write(to.join(name.to_string()), b"").unwrap();
            }
        },
        &["FOLDER has more than 10000 entries"],
    ),
    #[cfg(unix)]
    case(
        "folder, links that lead nowhere",
        |to| {
            let link = |name| std::os::unix::fs::symlink("nowhere", to.join(name)).unwrap();
            link("train.parquet");
            link("test.parquet");
        },
        &[
            "no CIFAR data in FOLDER",
            "FOLDER/test.parquet (a link that leads nowhere)",
        ],
    ),
    #[cfg(unix)]
    case(
        "folder, a link to itself",
        |to| {
            std::os::unix::fs::symlink(".", to.join("again")).unwrap();
            put(to, "train.parquet", seeds::sound_parquet());
            put(to, "test.parquet", seeds::sound_parquet());
        },
        &["FOLDER holds a train split in FOLDER/again/again/train.parquet and"],
    ),
];
