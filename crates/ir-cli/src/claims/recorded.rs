//! The numbers that claims are about, from what training recorded.

use std::collections::BTreeSet;

use crate::run::Run;

use super::measures::mean;

/// The share of blocks with a negative mean cosine on test images, over all epochs recorded after
/// the first step, transitions aside.
pub(super) fn negative_cosines(run: &Run) -> Option<f64> {
    let rows = run.columns.blocks.iter();
    let rows = rows.filter(|row| row.epoch > 0 && row.split == "test" && !row.transition);
    mean(rows.filter_map(|row| Some(f64::from(u8::from(row.cosine? < 0.0)))))
}

/// The share of epochs recorded after the first step in which the last exit is more accurate on
/// test images than the first.
pub(super) fn exits_rise(run: &Run) -> Option<f64> {
    let rows = run.columns.exits.iter();
    let rows: Vec<_> = rows
        .filter(|row| row.epoch > 0 && row.split == "test")
        .collect();
    let epochs: BTreeSet<usize> = rows.iter().map(|row| row.epoch).collect();
    mean(epochs.into_iter().filter_map(|epoch| {
        // An entrance, which is after no block, comes before every block.
        let of_epoch = || rows.iter().filter(move |row| row.epoch == epoch);
        let first = of_epoch().min_by_key(|row| row.after_block)?.accuracy?;
        let last = of_epoch().max_by_key(|row| row.after_block)?.accuracy?;
        Some(f64::from(u8::from(last > first)))
    }))
}
