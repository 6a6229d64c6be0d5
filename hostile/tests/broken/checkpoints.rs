//! Broken checkpoints.

use std::fs;
use std::path::Path;

use ir_hostile::seeds;

use super::{case, put, put_sparse};
use crate::Case;

const FILE: &str = "checkpoint.safetensors";

pub(crate) const CASES: &[Case] = &[
    case(
        "checkpoint, missing",
        |_| {},
        &["FOLDER/checkpoint.safetensors: reading a checkpoint: No such file"],
    ),
    case(
        "checkpoint, a folder",
        |to| fs::create_dir(to.join(FILE)).unwrap(),
        &[
            "checkpoint.safetensors: not a usable checkpoint: it is a folder; name the safetensors file in it",
        ],
    ),
    #[cfg(unix)]
    case(
        "checkpoint, a device",
        |to| std::os::unix::fs::symlink("/dev/zero", to.join(FILE)).unwrap(),
        &["checkpoint.safetensors: not a usable checkpoint: it is no file"],
    ),
    case(
        "checkpoint, empty",
        |to| put(to, FILE, b""),
        &["expected a safetensors file, found 0 bytes"],
    ),
    case(
        "checkpoint, seven bytes",
        |to| put(to, FILE, b"1234567"),
        &["expected a safetensors file, found 7 bytes"],
    ),
    case(
        "checkpoint, a header of 2⁶⁴ − 1 bytes",
        |to| put(to, FILE, [0xff; 100]),
        &["found a header of 18446744073709551615 bytes, expected at most 16777216"],
    ),
    case(
        "checkpoint, a header longer than the file",
        |to| {
            put(
                to,
                FILE,
                [&1000u64.to_le_bytes(), b"{}".as_slice()].concat(),
            );
        },
        &["found a header of 1000 bytes that ends after 2: the file was cut"],
    ),
    case(
        "checkpoint, a header of a terabyte of zeros",
        |to| put_sparse(to, FILE, &(1u64 << 40).to_le_bytes(), (1 << 40) + 8),
        &["found a header of 1099511627776 bytes, expected at most 16777216"],
    ),
    case(
        "checkpoint, a header that is no JSON",
        |to| file(to, "{\"a\":", 0),
        &["found a header that is none (EOF while parsing"],
    ),
    case(
        "checkpoint, a header that is a list",
        |to| file(to, "[]", 0),
        &["found a header that is none ("],
    ),
    case(
        "checkpoint, JSON nested a hundred thousand deep",
        |to| file(to, &format!("{{\"a\":{}", "[".repeat(100_000)), 0),
        &["found a header that is none ("],
    ),
    case(
        "checkpoint, a tensor that begins behind the data",
        |to| {
            file(
                to,
                r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
                8,
            );
        },
        &[
            "found a header that is none (",
            "invalid offset for tensor `a`",
        ],
    ),
    case(
        "checkpoint, a tensor that ends before it begins",
        |to| {
            file(
                to,
                r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#,
                8,
            );
        },
        &["found a header that is none (", "invalid offset for tensor"],
    ),
    case(
        "checkpoint, two tensors in one place",
        |to| {
            file(
                to,
                r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
                4,
            );
        },
        &["found a header that is none (", "invalid offset for tensor"],
    ),
    case(
        "checkpoint, a shape of 2¹²⁶ values",
        |to| {
            file(
                to,
                r#"{"a":{"dtype":"F32","shape":[9223372036854775807,9223372036854775807],"data_offsets":[0,4]}}"#,
                4,
            );
        },
        &["found a header that is none (", "overflow"],
    ),
    case(
        "checkpoint, a shape of fewer values than its bytes",
        |to| {
            file(
                to,
                r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}}"#,
                8,
            );
        },
        &["found a header that is none ("],
    ),
    case(
        "checkpoint, an unknown type",
        |to| {
            file(
                to,
                r#"{"a":{"dtype":"F7","shape":[1],"data_offsets":[0,4]}}"#,
                4,
            );
        },
        &["found a header that is none (unknown variant `F7`"],
    ),
    case(
        "checkpoint, a tensor of a terabyte that is not there",
        |to| {
            file(
                to,
                r#"{"a":{"dtype":"U8","shape":[1099511627776],"data_offsets":[0,1099511627776]}}"#,
                4,
            );
        },
        &["found 4 bytes of tensors where the header announces 1099511627776"],
    ),
    case(
        "checkpoint, a tensor of a terabyte of zeros",
        |to| {
            let header =
                r#"{"a":{"dtype":"U8","shape":[1099511627776],"data_offsets":[0,1099511627776]}}"#;
            let head = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
            put_sparse(to, FILE, &head, (1 << 40) + head.len() as u64);
        },
        &["expected at most 8589934592 bytes of tensors, found 1099511627776"],
    ),
    case(
        "checkpoint, bytes behind its end",
        |to| put(to, FILE, [sound(), b"more".to_vec()].concat()),
        &["bytes of tensors where the header announces"],
    ),
    case(
        "checkpoint, cut in the middle",
        |to| put(to, FILE, &sound()[..8000]),
        &["bytes of tensors where the header announces"],
    ),
    case(
        "checkpoint, of another program",
        |to| file(to, r#"{"__metadata__":{"format":"pt"}}"#, 0),
        &["its metadata has no `architecture`"],
    ),
    case(
        "checkpoint, of another version",
        |to| replaced(to, "\"format_version\":\"", "\"format_version\":\"99"),
        &["format_version 99", "this program reads 1 to"],
    ),
    case(
        "checkpoint, an architecture that cannot be built",
        |to| replaced(to, r#"\"stem_channels\":2"#, r#"\"stem_channels\":0"#),
        &[
            "in its metadata: the architecture `tiny` cannot be built: classes, image, stem_channels",
        ],
    ),
    case(
        "checkpoint, an architecture of another size",
        |to| replaced(to, r#"\"classes\":3"#, r#"\"classes\":4"#),
        &[
            "head.fc.bias has shape [3], expected [4]; head.fc.weight has shape [3, 3], expected [4, 3]",
        ],
    ),
    case(
        "checkpoint, an architecture of four thousand blocks",
        |to| replaced(to, r#"\"blocks\":2"#, r#"\"blocks\":4000"#),
        &["blocks.2.bn2.bias has shape [3], expected [2]", " more"],
    ),
    case(
        "checkpoint, a tensor under another name",
        |to| replaced(to, "blocks.0.bn1.bias", "blocks.7.bn1.bias"),
        &["missing blocks.0.bn1.bias", "unexpected blocks.7.bn1.bias"],
    ),
    case(
        "checkpoint, a normalisation that is none",
        |to| replaced(to, r#"\"mean\":[0.5,"#, r#"\"mean\":[null,"#),
        &["`normalization` in its metadata: invalid type: null"],
    ),
    case(
        "checkpoint, a network without its training",
        |to| put(to, FILE, &seeds::of("checkpoint")[0]),
        &["it holds a network but no training run to go on with"],
    ),
];

/// A safetensors file of this header and so many zeros.
fn file(folder: &Path, header: &str, zeros: usize) {
    let length = (header.len() as u64).to_le_bytes();
    put(
        folder,
        FILE,
        [&length, header.as_bytes(), &vec![0; zeros]].concat(),
    );
}

/// A training run of the tiny network, without a checksum that would notice every change.
fn sound() -> Vec<u8> {
    seeds::without_checksum(&seeds::of("checkpoint")[1])
}

/// A sound checkpoint with another text in its header.
fn replaced(folder: &Path, from: &str, to: &str) {
    let sound = sound();
    let (length, rest) = sound.split_first_chunk().unwrap();
    let (header, tensors) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let header = str::from_utf8(header).unwrap();
    assert!(header.contains(from), "{from}");
    let header = header.replace(from, to);
    let length = (header.len() as u64).to_le_bytes();
    put(folder, FILE, [&length, header.as_bytes(), tensors].concat());
}
