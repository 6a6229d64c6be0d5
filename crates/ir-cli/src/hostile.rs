//! What a run folder may hold that nobody wrote there: a target for fuzzing, and the same on
//! mutations of sound folders.

use std::fs;

use tempfile::TempDir;

use crate::group::Group;
use crate::run::Run;
use crate::{claims, figures};

#[cfg(test)]
#[path = "../tests/common/mod.rs"]
mod common;

/// What stands between the files in the bytes of one input.
pub(crate) const SEPARATOR: u8 = 0x1e;

/// The files of a run folder, in the order of an input.
const FILES: [&str; 5] = [
    "run.json",
    "history.jsonl",
    "blocks.csv",
    "exits.csv",
    "results.json",
];

thread_local! {
    static FOLDER: TempDir = tempfile::tempdir().expect("a folder");
}

/// The files of a run folder, read and drawn.
pub(crate) fn run_folder(content: &[u8]) {
    let folder = FOLDER.with(|folder| folder.path().to_path_buf());
    let mut parts = content.split(|&byte| byte == SEPARATOR);
    for name in FILES {
        let part = parts.next().unwrap_or_default();
        fs::write(folder.join(name), part).expect("a file");
    }
    let run = match Run::read(&folder) {
        Ok(run) => run,
        Err(error) => {
            let place = folder.to_string_lossy();
            assert!(error.to_string().contains(&*place), "{error}");
            return;
        }
    };
    let groups = Group::collect(vec![run]).expect("one run is no twin");
    let judged = claims::judge(&groups, &[]);
    serde_json::to_string(&judged).expect("claims are plain data");
    for figure in figures::all(&groups, &[]) {
        drop(figure.drawing);
    }
}

#[cfg(test)]
mod tests {
    use ir_hostile::mutation;

    use super::common::Sample;
    use super::*;

    const MUTATIONS: u64 = 300;

    /// Small folders of two kinds of network.
    fn sound() -> [Vec<u8>; 2] {
        let samples = [
            Sample::three_stages("resnet-32", 2, 0),
            Sample::one_stage("single-representation", 3, 1),
        ];
        samples.map(|sample| sample.bytes())
    }

    #[test]
    fn mutated_folders_are_drawn_or_refused() {
        let sound = sound();
        for index in 0..MUTATIONS {
            let folder = &sound[index as usize % sound.len()];
            run_folder(&mutation::of(folder, index));
        }
    }
}
