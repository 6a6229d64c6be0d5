//! Whether results fit together: what counts blocks counts the same ones everywhere.

use anyhow::{Result, bail, ensure};
use ir_analysis::results::{Exit, Results, Split, Stage};

/// Checks that stages and blocks are counted without gaps, and that exits, unrolled steps and
/// rows of the Taylor table belong to blocks that there are.
///
/// # Errors
/// The first place where they do not, and what was expected there.
pub(super) fn check(results: &Results) -> Result<()> {
    let blocks = check_stages(&results.stages)?;
    for (name, split) in &results.splits {
        check_split(name, split, &results.stages, blocks)?;
    }
    Ok(())
}

/// Gives the number of blocks.
fn check_stages(stages: &[Stage]) -> Result<usize> {
    let mut next = 0;
    for (index, stage) in stages.iter().enumerate() {
        let is_next = stage.stage == index && stage.first_block == next;
        ensure!(
            is_next && stage.last_block >= next && stage.last_block < usize::MAX,
            "stages[{index}]: expected stage {index} from block {next} on, found stage {} from \
             block {} to {}",
            stage.stage,
            stage.first_block,
            stage.last_block
        );
        next = stage.last_block + 1;
    }
    Ok(next)
}

fn check_split(name: &str, split: &Split, stages: &[Stage], blocks: usize) -> Result<()> {
    let found = split.blocks.len();
    ensure!(
        found == blocks,
        "splits.{name:?}.blocks: expected {blocks}, as the stages have, found {found}"
    );
    let stage_of = stages
        .iter()
        .flat_map(|stage| (stage.first_block..=stage.last_block).map(|_| stage.stage));
    for ((index, block), stage) in split.blocks.iter().enumerate().zip(stage_of) {
        ensure!(
            (block.block, block.stage) == (index, stage),
            "splits.{name:?}.blocks[{index}]: expected block {index} of stage {stage}, found \
             block {} of stage {}",
            block.block,
            block.stage
        );
    }
    let last = stages.last();
    let in_last_stage = |block: usize| {
        last.is_some_and(|stage| (stage.first_block..=stage.last_block).contains(&block))
    };
    check_exits(name, &split.exits, in_last_stage)?;
    for row in &split.taylor {
        ensure!(
            in_last_stage(row.block),
            "splits.{name:?}.taylor: block {} is not in the last stage",
            row.block
        );
    }
    for unroll in &split.unroll {
        let counted = unroll.steps.iter().enumerate();
        for (index, step) in counted {
            ensure!(
                step.step == index,
                "splits.{name:?}.unroll: expected step {index}, found step {}",
                step.step
            );
        }
    }
    check_neighbours(name, split, blocks)
}

/// What the neighbouring works measure is of blocks that there are, and of all of them where it is
/// of all.
fn check_neighbours(name: &str, split: &Split, blocks: usize) -> Result<()> {
    let deleted = split.deletions.iter().flat_map(|found| &found.draws);
    if let Some(block) = deleted
        .flat_map(|draw| &draw.blocks)
        .find(|&&block| block >= blocks)
    {
        bail!("splits.{name:?}.deletions: there is no block {block}");
    }
    for draw in split.reorderings.iter().flat_map(|found| &found.draws) {
        let mut order = draw.order.clone();
        order.sort_unstable();
        ensure!(
            order.iter().copied().eq(0..blocks),
            "splits.{name:?}.reorderings: an order does not have each of the {blocks} blocks once"
        );
    }
    let lengths = split.paths.iter().map(|path| path.length);
    ensure!(
        split.paths.is_empty() || lengths.eq(0..=blocks),
        "splits.{name:?}.paths: expected lengths 0 to {blocks}"
    );
    let of_blocks = split
        .estimations
        .iter()
        .map(|found| (found.block, found.stage));
    let expected = split.blocks.iter().map(|found| (found.block, found.stage));
    ensure!(
        split.estimations.is_empty() || of_blocks.eq(expected),
        "splits.{name:?}.estimations: expected one for each of the {blocks} blocks"
    );
    let places = split.readouts.iter().map(|readout| readout.after_block);
    ensure!(
        split.readouts.is_empty() || places.eq(std::iter::once(None).chain((0..blocks).map(Some))),
        "splits.{name:?}.readouts: expected one at h_0 and one after each of the {blocks} blocks"
    );
    Ok(())
}

fn check_exits(name: &str, exits: &[Exit], in_last_stage: impl Fn(usize) -> bool) -> Result<()> {
    for pair in exits.windows(2) {
        ensure!(
            pair[0].after_block < pair[1].after_block,
            "splits.{name:?}.exits: expected them in the order of blocks"
        );
    }
    for block in exits.iter().filter_map(|exit| exit.after_block) {
        ensure!(
            in_last_stage(block),
            "splits.{name:?}.exits: block {block} is not in the last stage"
        );
    }
    Ok(())
}
