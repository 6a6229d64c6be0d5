//! Broken files of every kind: what each is, what is said about it, and how much memory it took.
//!
//! No case may panic, and none may allocate more than [`ALLOWANCE`] plus [`FACTOR`] times the
//! bytes that its files really have, whatever they claim.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the table is there to be looked at")]

mod broken;

use std::fs;
use std::path::Path;

use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Memory that opening anything may take. The most is for the tensors that the largest architecture
/// asks for, of which a checkpoint names a few.
const ALLOWANCE: usize = 24 << 20;
/// Memory for each byte of a file: its content, and values that refer to it.
const FACTOR: usize = 4;

/// One kind of broken input.
pub(crate) struct Case {
    /// What is wrong.
    kind: &'static str,
    /// Writes the files into a folder.
    make: fn(&Path),
    /// Parts of the message, in any order.
    says: &'static [&'static str],
}

/// A file beyond this length counts with what it has on the disk.
const SPARSE: u64 = 1 << 30;

/// Bytes that the files of a folder have, without the holes of the ones that claim a disk's.
fn bytes_of(folder: &Path) -> usize {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .map(|path| match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => bytes_of(&path),
            #[cfg(unix)]
            Ok(metadata) if metadata.len() > SPARSE => {
                use std::os::unix::fs::MetadataExt;
                (metadata.blocks() * 512).min(metadata.len()) as usize
            }
            Ok(metadata) => metadata.len() as usize,
            Err(_) => 0,
        })
        .sum()
}

/// Runs every case with `open`, which gives the message or nothing where the input was taken, and
/// gives what was not as expected.
fn check(cases: &[Case], open: impl Fn(&Path) -> Option<String>) -> Vec<String> {
    // What is allocated once, such as the threads that decode, belongs to no case.
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let mut complaints = Vec::new();
    for case in cases {
        let folder = tempfile::tempdir().unwrap();
        (case.make)(folder.path());
        let bound = ALLOWANCE + FACTOR * bytes_of(folder.path());
        MEMORY.reset_peak_usage();
        let before = MEMORY.current_usage();
        let message = open(folder.path());
        let peak = MEMORY.peak_usage() - before;
        let message = message.unwrap_or("nothing: it was taken".into());
        let message = message.replace(folder.path().to_str().unwrap(), "FOLDER");
        println!("{peak:>9} of {bound:>9} bytes  {}: {message}", case.kind);
        if peak > bound {
            complaints.push(format!("{}: {peak} bytes, allowed are {bound}", case.kind));
        }
        for part in case.says.iter().filter(|part| !message.contains(**part)) {
            complaints.push(format!("{}: `{part}` is not in: {message}", case.kind));
        }
    }
    complaints
}

/// All in one test, since memory is counted for the whole process.
#[test]
fn every_kind_of_broken_input_is_an_error_that_says_what_is_wrong() {
    let data = |folder: &Path| {
        let opened = ir_hostile::data::open(folder);
        opened.err().map(|error| error.to_string())
    };
    let hub = |folder: &Path| {
        let locations = ir_data::Locations {
            hub_cache: Some(folder.into()),
            ..ir_hostile::data::nowhere()
        };
        let opened = ir_data::Dataset::open("cifar10", &locations);
        opened.err().map(|error| error.to_string())
    };
    let checkpoint = |folder: &Path| {
        let path = folder.join("checkpoint.safetensors");
        let opened = ir_models::Checkpoint::open(&path);
        let trainer = opened.and_then(|checkpoint| checkpoint.trainer());
        trainer.err().map(|error| error.to_string())
    };
    let weights = |folder: &Path| {
        use ir_models::import::{ImportedResNet, ModelFiles, Strictness};
        let files = ModelFiles::find(&folder.join("weights.pth"));
        let opened = files.and_then(|files| ImportedResNet::open(&files, Strictness::Strict));
        opened.err().map(|error| error.to_string())
    };
    let architecture = |folder: &Path| {
        let text = fs::read_to_string(folder.join("architecture.json")).unwrap_or_default();
        let read = ir_models::Architecture::from_json(&text);
        read.err().map(|error| error.to_string())
    };
    let complaints = [
        check(broken::parquet::CASES, data),
        check(broken::images::CASES, data),
        check(broken::python::CASES, data),
        check(broken::binary::CASES, data),
        check(broken::folders::CASES, data),
        check(broken::hub::CASES, hub),
        check(broken::checkpoints::CASES, checkpoint),
        check(broken::weights::CASES, weights),
        check(broken::architectures::CASES, architecture),
    ]
    .concat();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}
