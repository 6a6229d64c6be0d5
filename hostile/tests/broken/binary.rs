//! Broken binary batches.

use std::path::Path;

use ir_hostile::seeds;

use super::{case, put, put_sparse};
use crate::Case;

pub(crate) const CASES: &[Case] = &[
    case(
        "binary batch, an odd length",
        |to| train(to, &seeds::BINARY_10[..6001]),
        &[
            "data_batch_1.bin: file size: expected a whole number of records of 3,073 or 3,074 bytes, found 6001 bytes",
        ],
    ),
    case(
        "binary batch, empty",
        |to| train(to, b""),
        &[
            "data_batch_1.bin: file size",
            "found 0 bytes that begin with ``",
        ],
    ),
    case(
        "binary batch, a label out of range",
        |to| {
            let mut content = seeds::BINARY_10.to_vec();
            content[3073] = 77;
            train(to, &content);
        },
        &["data_batch_1.bin: content: expected CIFAR's binary batches, found label 77 in record 1"],
    ),
    case(
        "binary batch, a page of a web site",
        |to| train(to, b"<html>Not found</html>"),
        &[
            "data_batch_1.bin: file size",
            "found 22 bytes that begin with `<htm`",
        ],
    ),
    case(
        "binary batch, as long as a disk",
        |to| put_sparse(to, "data_batch_1.bin", b"", 3073 << 30),
        &[
            "data_batch_1.bin: file size: expected at most 1073741824 bytes, found 3299608625152 bytes",
        ],
    ),
    case(
        "binary batches, one in between missing",
        |to| {
            train(to, seeds::BINARY_10);
            put(to, "data_batch_3.bin", seeds::BINARY_10);
        },
        &["data_batch_2 is missing from its files; complete the data set"],
    ),
    case(
        "binary batches, the last of five missing",
        |to| {
            for batch in 1..=4 {
                put_sparse(to, &format!("data_batch_{batch}.bin"), b"", 10_000 * 3073);
            }
            put(to, "test_batch.bin", seeds::BINARY_10);
        },
        &["FOLDER: data_batch_5 is missing from its files; complete the data set"],
    ),
    case(
        "binary batches of two data sets",
        |to| {
            train(to, seeds::BINARY_10);
            put(to, "train.bin", seeds::BINARY_100);
        },
        &["FOLDER holds cifar10 and cifar100; name the folder"],
    ),
];

fn train(folder: &Path, content: &[u8]) {
    put(folder, "data_batch_1.bin", content);
    put(folder, "test_batch.bin", seeds::BINARY_10);
}
