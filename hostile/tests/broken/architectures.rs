//! Broken architectures, as users write them.

use std::path::Path;

use ir_hostile::seeds::TINY;

use super::{case, put};
use crate::Case;

pub(crate) const CASES: &[Case] = &[
    case(
        "architecture, not JSON",
        |to| json(to, "name = 'tiny'"),
        &["not an architecture: expected ident at line 1 column 2"],
    ),
    case(
        "architecture, nested a hundred thousand deep",
        |to| json(to, &"[".repeat(100_000)),
        &["not an architecture: "],
    ),
    case(
        "architecture, an unknown key",
        |to| json(to, &TINY.replace("classes", "klasses")),
        &["not an architecture: unknown field `klasses`, expected"],
    ),
    case(
        "architecture, a negative number",
        |to| json(to, &TINY.replace("\"classes\":3", "\"classes\":-3")),
        &["not an architecture: invalid value: integer `-3`, expected usize at line"],
    ),
    case(
        "architecture, a number beyond 2⁶⁴",
        |to| {
            json(
                to,
                &TINY.replace("\"classes\":3", "\"classes\":99999999999999999999"),
            );
        },
        &["not an architecture: "],
    ),
    case(
        "architecture, two million blocks",
        |to| json(to, &TINY.replace("\"blocks\":2", "\"blocks\":2000000")),
        &["the architecture `tiny` cannot be built: it has more than 4096 blocks"],
    ),
    case(
        "architecture, no block",
        |to| json(to, &TINY.replace("\"blocks\":2", "\"blocks\":0")),
        &["cannot be built: stage 0: blocks and channels must lie in 1..=16384"],
    ),
    case(
        "architecture, too many parameters",
        |to| json(to, &TINY.replace("\"channels\":3", "\"channels\":16384")),
        &["cannot be built: it has", "at most 1073741824 are built"],
    ),
    case(
        "architecture, a stride of 3",
        |to| json(to, &TINY.replace("\"stride\":2", "\"stride\":3")),
        &["stage 1: stride 3, expected 1 or 2"],
    ),
    case(
        "architecture, without a stage",
        |to| {
            json(
                to,
                r#"{"name":"none","classes":3,"stem_channels":2,"stages":[]}"#,
            );
        },
        &["the architecture `none` cannot be built: it has no stages"],
    ),
];

fn json(folder: &Path, text: &str) {
    put(folder, "architecture.json", text);
}
