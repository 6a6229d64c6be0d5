//! Broken and hostile python batches.

use std::path::Path;

use ir_hostile::seeds;

use super::{case, put, put_sparse};
use crate::Case;

/// Two labels.
const LABELS: &[u8] = b"](K\x01K\x02e";

pub(crate) const CASES: &[Case] = &[
    case(
        "python batch, cut in the middle",
        |to| train(to, &seeds::PYTHON_TEST[..5000]),
        &[
            "data_batch_1: content: expected CIFAR's python batches, found the end of the file, 6144 bytes announced and",
        ],
    ),
    case(
        "python batches, the last of two missing",
        |to| {
            let first = seeds::of("python_batch").swap_remove(0);
            train(to, &first);
        },
        &["FOLDER: data_batch_2 is missing from its files; complete the data set"],
    ),
    case(
        "python batch, larger than any",
        |to| put_sparse(to, "data_batch_1", b"\x80\x02", 1 << 40),
        &["data_batch_1: file size: expected at most 1073741824 bytes, found 1099511627776 bytes"],
    ),
    case(
        "python batch, a call of os.system",
        |to| batch(to, LABELS, b"cos\nsystem\nU\x04true\x85R"),
        &["data_batch_1: data: expected a uint8 array of shape [2, 3072], found a call of system"],
    ),
    case(
        "python batch, an instance of a class",
        |to| batch(to, LABELS, b"(ios\nsystem\n"),
        &["data_batch_1: content: expected CIFAR's python batches, found instruction 0x69 at byte"],
    ),
    case(
        "python batch, a persistent identifier",
        |to| batch(to, LABELS, b"Pidentifier\n"),
        &["found instruction 0x50 at byte"],
    ),
    case(
        "python batch, an extension code",
        |to| batch(to, LABELS, b"\x82\x01"),
        &["found instruction 0x82 at byte"],
    ),
    case(
        "python batch, an unknown protocol within",
        |to| batch(to, LABELS, b"\x80\x09"),
        &["found pickle protocol 9 at byte"],
    ),
    case(
        "python batch, bytes of 2⁶³",
        |to| batch(to, LABELS, b"\x8e\0\0\0\0\0\0\0\x80"),
        &["the end of the file, 9223372036854775808 bytes announced and 2 left"],
    ),
    case(
        "python batch, an integer of 255 bytes",
        |to| batch(to, LABELS, &[b"\x8a\xff".as_slice(), &[1; 255]].concat()),
        &["found an integer of 255 bytes at byte"],
    ),
    case(
        "python batch, a memo entry that was not set",
        |to| batch(to, LABELS, b"j\xff\xff\xff\xff"),
        &["found memo entry 4294967295 before it is set at byte"],
    ),
    case(
        "python batch, ten million references",
        |to| {
            batch(
                to,
                LABELS,
                &[b"(Nq\0".as_slice(), &b"h\0".repeat(10_000_000)].concat(),
            );
        },
        &["found more than 2000000 instructions at byte"],
    ),
    case(
        "python batch, ten million marks",
        |to| batch(to, LABELS, &b"(".repeat(10_000_000)),
        &["found more than 2000000 instructions at byte"],
    ),
    case(
        "python batch, lists of lists that would be 10¹⁰⁰ values",
        |to| {
            let mut data = b"]q\0".to_vec();
            for depth in 0..100u8 {
                data.extend(b"](".iter());
                data.extend([b'h', depth].repeat(10));
                data.extend([b'e', b'q', depth + 1]);
            }
            batch(to, LABELS, &data);
        },
        &["data: expected a uint8 array of shape [2, 3072], found no array"],
    ),
    case(
        "python batch, a dictionary within itself",
        |to| {
            train(to, b"\x80\x02}q\0(U\x04datah\0U\x06labelsh\0u.");
        },
        &["data_batch_1: labels: expected a list or an array of integers, found no array"],
    ),
    case(
        "python batch, text that is not UTF-8",
        |to| batch(to, LABELS, b"\x8c\x02\xff\xff"),
        &["found text that is not UTF-8 at byte"],
    ),
    case(
        "python batch, an instruction without operands",
        |to| batch(to, LABELS, b"0000000"),
        &["found an instruction without its operands at byte"],
    ),
    case(
        "python batch, an array of 2³¹ − 1 images",
        |to| batch(to, LABELS, &array([i32::MAX, 3072], "u1", '|', &[0; 8])),
        &[
            "data: expected a uint8 array of shape [2, 3072], found an array of shape [2147483647, 3072]",
        ],
    ),
    case(
        "python batch, an array of −1 images",
        |to| batch(to, LABELS, &array([-1, 3072], "u1", '|', &[0; 8])),
        &["found dimension -1"],
    ),
    case(
        "python batch, fewer pixels than its shape",
        |to| batch(to, LABELS, &array([2, 3072], "u1", '|', &[0; 8])),
        &["found 8 bytes of pixels"],
    ),
    case(
        "python batch, pixels of another type",
        |to| batch(to, LABELS, &array([2, 3072], "f8", '<', &[0; 8])),
        &["found an array of dtype f8"],
    ),
    case(
        "python batch, pixels in big-endian order",
        |to| batch(to, LABELS, &array([2, 3072], "u1", '>', &[0; 8])),
        &["found an array in big-endian order"],
    ),
    case(
        "python batch, a label out of range",
        |to| {
            batch(
                to,
                b"](K\x01K\x0ae",
                &array([2, 3072], "u1", '|', &[0; 6144]),
            );
        },
        &["data_batch_1: sample 1: expected a label from 0 to 9, found 10"],
    ),
];

fn train(folder: &Path, content: &[u8]) {
    put(folder, "data_batch_1", content);
    put(folder, "test_batch", seeds::PYTHON_TEST);
}

/// A batch with these instructions for its labels and its data.
fn batch(folder: &Path, labels: &[u8], data: &[u8]) {
    let parts: [&[u8]; 5] = [b"\x80\x02}(U\x06labels", labels, b"U\x04data", data, b"u."];
    train(folder, &parts.concat());
}

/// An array as numpy pickles it.
fn array(shape: [i32; 2], dtype: &str, order: char, data: &[u8]) -> Vec<u8> {
    let mut out =
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\x01b\x87R(K\x01".to_vec();
    for size in shape {
        out.push(b'J');
        out.extend(size.to_le_bytes());
    }
    out.extend(b"\x86cnumpy\ndtype\nU\x02");
    out.extend(dtype.bytes());
    out.extend(b"K\0K\x01\x87R(K\x03U\x01");
    out.extend(order.to_string().bytes());
    out.extend(b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89T");
    out.extend((data.len() as u32).to_le_bytes());
    out.extend(data);
    out.extend(b"tb");
    out
}
