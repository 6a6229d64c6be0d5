//! Broken caches of the hub.

use std::path::Path;

use super::{case, put, put_sparse};
use crate::Case;

const ROOT: &str = "datasets--uoft-cs--cifar10";
const COMMIT: &str = "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f";

pub(crate) const CASES: &[Case] = &[
    case(
        "cache, empty",
        |_| {},
        &[
            "cifar10 is not on this machine",
            "snapshots (no such folder)",
        ],
    ),
    case(
        "cache, a commit that is not there",
        |to| main(to, COMMIT.as_bytes()),
        &["snapshots/0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f (no such folder)"],
    ),
    case(
        "cache, a commit that leads out of it",
        |to| {
            main(to, b"../../../outside");
            put(to, "outside/train.bin", ir_hostile::seeds::BINARY_10);
            put(to, "outside/test.bin", ir_hostile::seeds::BINARY_10);
        },
        &[
            "cifar10 is not on this machine",
            "cifar10/snapshots (no such folder)",
        ],
    ),
    case(
        "cache, a commit of a terabyte",
        |to| put_sparse(to, &format!("{ROOT}/refs/main"), b"0f", 1 << 40),
        &["cifar10/snapshots (no such folder)"],
    ),
    #[cfg(unix)]
    case(
        "cache, links to blobs that are gone",
        |to| {
            main(to, COMMIT.as_bytes());
            let folder = to.join(format!("{ROOT}/snapshots/{COMMIT}/plain_text"));
            std::fs::create_dir_all(&folder).unwrap();
            for name in [
                "train-00000-of-00001.parquet",
                "test-00000-of-00001.parquet",
            ] {
                let blob = "../../../blobs/0123";
                std::os::unix::fs::symlink(blob, folder.join(name)).unwrap();
            }
        },
        &[
            "0f0f0f0f0f0f (no such data)",
            "fetch it once with `ir data fetch cifar10`",
        ],
    ),
];

fn main(folder: &Path, commit: &[u8]) {
    put(folder, &format!("{ROOT}/refs/main"), commit);
}
