//! Every measure of every block as text, for the part of the page that shows one block at a time.

use ir_analysis::results::{BlockMeasures, Split};
use serde::Serialize;

use crate::group::{Group, Summary};

/// A network's blocks.
#[derive(Serialize)]
pub(super) struct Network {
    title: String,
    blocks: Vec<Block>,
}

/// A block: a row a measure, with its name, its value on training and on test images.
#[derive(Serialize)]
struct Block {
    name: String,
    rows: Vec<[String; 3]>,
}

/// A measure of a block: its value and, where it has one, its deviation over samples.
type Value = fn(&BlockMeasures) -> Option<(f64, Option<f64>)>;

/// A measure: its name, where it is found, and how it is written.
type Measure = (&'static str, Value, fn(Summary) -> String);

const MEASURES: [Measure; 7] = [
    (
        "cosine with the gradient",
        |b| Some((b.cosine?, b.cosine_std)),
        Summary::text,
    ),
    (
        "cosine with the exit gradient",
        |b| Some((b.exit_cosine?, b.exit_cosine_std)),
        Summary::text,
    ),
    (
        "‖F‖ / ‖h‖",
        |b| Some((b.l2_ratio?.0, b.l2_ratio_std.map(f64::from))),
        Summary::text,
    ),
    (
        "‖∂L/∂h‖",
        |b| Some((b.grad_norm?.0, b.grad_norm_std.map(f64::from))),
        Summary::text,
    ),
    (
        "‖h‖",
        |b| Some((b.h_norm?.0, b.h_norm_std.map(f64::from))),
        Summary::text,
    ),
    (
        "accuracy without the block",
        |b| Some((b.drop_accuracy?, None)),
        Summary::percent,
    ),
    (
        "loss without the block",
        |b| Some((b.drop_loss?.0, b.drop_loss_std.map(f64::from))),
        Summary::text,
    ),
];

/// The networks that were analysed.
fn networks(groups: &[Group]) -> Vec<Network> {
    let analysed = groups
        .iter()
        .filter(|group| group.all_splits().next().is_some());
    analysed.map(network).collect()
}

/// The measures as JSON that can stand inside a page.
pub(super) fn json(groups: &[Group]) -> serde_json::Result<String> {
    Ok(serde_json::to_string(&networks(groups))?.replace('<', "\\u003c"))
}

fn network(group: &Group) -> Network {
    let columns = MEASURES.map(|(name, value, write)| {
        let of = |split: &str| group.per_block(split, |_: &Split, block| value(block));
        (name, [of("train"), of("test")], write)
    });
    let Some(split) = group.all_splits().next() else {
        return Network {
            title: group.title.clone(),
            blocks: Vec::new(),
        };
    };
    let block = |about: &BlockMeasures| Block {
        name: format!(
            "block {}, stage {}{}",
            about.block,
            about.stage,
            if about.transition {
                ", a transition"
            } else {
                ""
            }
        ),
        rows: columns
            .iter()
            .map(|(name, splits, write)| {
                let [train, test] = splits.each_ref().map(|blocks| {
                    let found = blocks.iter().find(|block| block.block == about.block);
                    found.map_or("–".into(), |block| write(block.summary))
                });
                [(*name).to_owned(), train, test]
            })
            .collect(),
    };
    Network {
        title: group.title.clone(),
        blocks: split.blocks.iter().map(block).collect(),
    }
}
