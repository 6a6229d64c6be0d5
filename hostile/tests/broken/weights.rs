//! Broken files of someone else's weights.

use std::io::{Cursor, Write};
use std::path::Path;

use ir_hostile::seeds;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::{case, put, put_sparse};
use crate::Case;

const FILE: &str = "weights.pth";

pub(crate) const CASES: &[Case] = &[
    case(
        "weights, missing",
        |_| {},
        &["FOLDER/weights.pth: reading a checkpoint: No such file"],
    ),
    case(
        "weights, empty",
        |to| put(to, FILE, b""),
        &["expected a safetensors file, found 0 bytes"],
    ),
    case(
        "weights, a zip archive cut in the middle",
        |to| put(to, FILE, &seeds::STATE[..9000]),
        &["a zip archive that is damaged or cut off"],
    ),
    case(
        "weights, two bytes of a zip archive",
        |to| put(to, FILE, b"PK"),
        &["a zip archive that is damaged or cut off"],
    ),
    case(
        "weights, a zip archive of a terabyte of zeros",
        |to| put_sparse(to, FILE, b"PK\x03\x04", 1 << 40),
        &["a zip archive that is damaged or cut off"],
    ),
    case(
        "weights, a zip archive of something else",
        |to| archive(to, &[("notes.txt", b"nothing")]),
        &["a zip archive without data.pkl"],
    ),
    case(
        "weights, a pickle that runs a command",
        |to| put(to, FILE, seeds::COMMAND),
        &["no dictionary of tensors", "torch.save(model.state_dict()"],
    ),
    case(
        "weights, a command by protocol 0",
        |to| {
            archive(
                to,
                &[("a/data.pkl", b"cos\nsystem\n(S'touch pickle-was-run'\ntR.")],
            );
        },
        &["at byte 13 expected a pickle of protocol 2 to 5, found instruction 0x53"],
    ),
    case(
        "weights, an object in place of a dictionary",
        |to| pickle(to, b"cevil\nThing\n)R."),
        &["an object of evil.Thing and no dictionary of tensors"],
    ),
    case(
        "weights, a pickle that doubles itself eighty times",
        |to| {
            pickle(
                to,
                &[b"K\x00".as_slice(), &b"2\x86".repeat(80), b"."].concat(),
            );
        },
        &["no dictionary of tensors"],
    ),
    case(
        "weights, a pickle nested a hundred thousand deep",
        |to| {
            pickle(
                to,
                &[b"K\x00".as_slice(), &b"\x85".repeat(100_000), b"."].concat(),
            );
        },
        &["no dictionary of tensors"],
    ),
    case(
        "weights, a text of four gigabytes that is not there",
        |to| pickle(to, b"X\xff\xff\xff\xff."),
        &["4294967295 bytes announced and 1 left"],
    ),
    case(
        "weights, a tensor of a terabyte",
        |to| tensor(to, "\u{8a}\u{6}\0\0\0\0\0\u{1}", &[0; 16]),
        &[
            "w: shape [1099511627776] with strides [1]",
            "in a storage of 4 elements",
        ],
    ),
    case(
        "weights, a tensor longer than its storage",
        |to| tensor(to, "K\u{5}", &[0; 16]),
        &["w: shape [5] with strides [1] from element 0 on, in a storage of 4 elements"],
    ),
    case(
        "weights, a tensor without its storage",
        |to| archive(to, &[("a/data.pkl", &one_tensor("K\u{4}"))]),
        &["a/data/0 cannot be read (specified file not found in archive)"],
    ),
    case(
        "weights, a call with too few arguments",
        |to| {
            pickle(
                to,
                b"}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\nK\x00\x85Rs.",
            );
        },
        &["w: expected a tensor as torch.save writes it, found a call with too few arguments"],
    ),
    case(
        "weights, tensors of no network",
        |to| tensor(to, "K\u{4}", &[0; 16]),
        &["its tensors (w, …) are of no known network"],
    ),
    case(
        "weights, a pickle before PyTorch 1.6",
        |to| {
            put(
                to,
                FILE,
                b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.",
            );
        },
        &["before version 1.6", "torch.save(torch.load("],
    ),
];

/// A zip archive of these entries, as they are.
fn archive(folder: &Path, entries: &[(&str, &[u8])]) {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, content) in entries {
        writer.start_file(*name, stored).unwrap();
        writer.write_all(content).unwrap();
    }
    put(folder, FILE, writer.finish().unwrap().into_inner());
}

/// An archive of a pickle of protocol 2.
fn pickle(folder: &Path, instructions: &[u8]) {
    let content = [b"\x80\x02", instructions].concat();
    archive(folder, &[("a/data.pkl", &content)]);
}

/// An archive of the f32 tensor `w` of so many elements (an instruction), and its storage.
fn tensor(folder: &Path, elements: &str, storage: &[u8]) {
    let content = one_tensor(elements);
    archive(folder, &[("a/data.pkl", &content), ("a/data/0", storage)]);
}

fn one_tensor(elements: &str) -> Vec<u8> {
    // Characters up to 255 stand for bytes.
    let elements: Vec<u8> = elements.chars().map(|c| u8::try_from(c).unwrap()).collect();
    let head = b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\n\
FloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQK\x00";
    [head.as_slice(), &elements, b"\x85K\x01\x85\x89}tRs."].concat()
}
