//! The results of an analysis as tables: of each measure that was asked for, and of no other.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use ir_analysis::Number;
use ir_analysis::results::{
    BlockMeasures, Deletions, Estimation, Exit, Group, Groups, PathLength, Readout, Reorderings,
    Results, Split, TaylorRow, Unroll, UnrollStep,
};

use crate::text;

/// What a column is called, and what it says of a row.
type Column<T> = (&'static str, fn(&T) -> Option<String>);

/// The tables of both splits.
pub(crate) fn of(results: &Results) -> String {
    let mut said = String::new();
    let splits = ["train", "test"]
        .into_iter()
        .filter_map(|name| Some((name, results.splits.get(name)?)));
    for (name, split) in splits {
        let title = format!(
            "{} on {} {name}: {} samples, accuracy {:.2} %, loss {:.4}",
            results.network,
            results.dataset,
            split.samples,
            100.0 * split.accuracy,
            split.loss
        );
        said += &text::printable(&title);
        said.push('\n');
        said += &tables(split);
    }
    said
}

fn tables(split: &Split) -> String {
    let mut said = table("", &split.blocks, &BLOCK);
    said += &table("exits of the last stage", &split.exits, &EXIT);
    for unroll in &split.unroll {
        said += &unrolled(unroll);
    }
    let title = "first-order Taylor estimate of what each block does";
    said += &table(title, &split.taylor, &TAYLOR);
    said += &table("random blocks deleted", &split.deletions, &DELETED);
    said += &table("random blocks swapped", &split.reorderings, &REORDERED);
    said += &table("gradient through single paths", &split.paths, &PATH);
    let title = "distance from the end of the stage";
    said += &table(title, &split.estimations, &ESTIMATION);
    said += &table("trained linear readouts", &split.readouts, &READOUT);
    said
}

const BLOCK: [Column<BlockMeasures>; 8] = [
    ("block", |row| {
        let transition = if row.transition { "t" } else { " " };
        Some(format!("{}{transition}", row.block))
    }),
    ("cosine", |row| row.cosine.map(four)),
    ("exit cosine", |row| row.exit_cosine.map(four)),
    ("‖F‖/‖h‖", |row| row.l2_ratio.map(wide)),
    ("‖∂L/∂h‖", |row| row.grad_norm.map(wide)),
    ("‖h‖", |row| row.h_norm.map(wide)),
    ("dropped", |row| row.drop_accuracy.map(percent)),
    ("loss then", |row| row.drop_loss.map(wide)),
];

const EXIT: [Column<Exit>; 6] = [
    ("after block", |row| {
        Some(
            row.after_block
                .map_or("entrance".into(), |block| block.to_string()),
        )
    }),
    ("accuracy", |row| row.groups.all.accuracy.map(percent)),
    ("loss", |row| row.groups.all.loss.map(wide)),
    ("entropy", |row| row.groups.all.entropy.map(wide)),
    ("borderline", |row| {
        borderline(&row.groups).accuracy.map(percent)
    }),
    ("loss of these", |row| {
        borderline(&row.groups).loss.map(wide)
    }),
];

const UNROLLED: [Column<UnrollStep>; 7] = [
    ("step", |row| Some(row.step.to_string())),
    ("accuracy", |row| row.groups.all.accuracy.map(percent)),
    ("loss", |row| row.groups.all.loss.map(wide)),
    ("borderline", |row| {
        borderline(&row.groups).accuracy.map(percent)
    }),
    ("cosine", |row| row.cosine.map(four)),
    ("‖F‖/‖h‖", |row| row.l2_ratio.map(wide)),
    ("‖h‖", |row| row.h_norm.map(wide)),
];

const TAYLOR: [Column<TaylorRow>; 5] = [
    ("block", |row| Some(row.block.to_string())),
    ("exit loss", |row| Some(wide(row.exit_loss))),
    ("next exit loss", |row| Some(wide(row.next_exit_loss))),
    ("predicted change", |row| Some(wide(row.predicted_change))),
    ("remainder", |row| Some(wide(row.remainder))),
];

const DELETED: [Column<Deletions>; 4] = [
    ("deleted", |row| Some(row.deleted.to_string())),
    ("accuracy", |row| Some(percent(row.accuracy))),
    ("± over draws", |row| Some(percent(row.accuracy_std))),
    ("loss", |row| Some(wide(row.loss))),
];

const REORDERED: [Column<Reorderings>; 5] = [
    ("swaps", |row| Some(row.swaps.to_string())),
    ("Kendall's τ", |row| Some(four(row.kendall_tau))),
    ("accuracy", |row| Some(percent(row.accuracy))),
    ("± over draws", |row| Some(percent(row.accuracy_std))),
    ("loss", |row| Some(wide(row.loss))),
];

const PATH: [Column<PathLength>; 5] = [
    ("length", |row| Some(row.length.to_string())),
    ("paths", |row| Some(power(row.paths))),
    ("taken", |row| Some(row.sampled.to_string())),
    ("gradient norm", |row| Some(power(row.gradient_norm))),
    ("times paths", |row| Some(power(row.contribution))),
];

const ESTIMATION: [Column<Estimation>; 4] = [
    ("block", |row| Some(row.block.to_string())),
    ("mean error", |row| Some(wide(row.error))),
    ("its std", |row| Some(wide(row.error_std))),
    ("distance", |row| row.distance.map(wide)),
];

const READOUT: [Column<Readout>; 4] = [
    ("after block", |row| {
        let after = row.after_block.map(|block| block.to_string());
        Some(after.unwrap_or_else(|| "h_0".into()))
    }),
    ("features", |row| Some(row.features.to_string())),
    ("accuracy", |row| Some(percent(row.accuracy))),
    ("loss", |row| Some(wide(row.loss))),
];

fn unrolled(unroll: &Unroll) -> String {
    let title = format!(
        "last block applied again, its branch times {}",
        unroll.scale
    );
    table(&title, &unroll.steps, &UNROLLED)
}

fn borderline(groups: &Groups) -> &Group {
    &groups.borderline
}

/// A table with the columns that have a value in some row; empty where there is nothing but the
/// first, which counts the rows.
fn table<T>(title: &str, rows: &[T], columns: &[Column<T>]) -> String {
    let measured = |(_, value): &&Column<T>| rows.iter().any(|row| value(row).is_some());
    let columns: Vec<&Column<T>> = columns.iter().filter(measured).collect();
    if columns.len() < 2 {
        return String::new();
    }
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(columns.iter().map(|(name, _)| *name));
    for row in rows {
        let value = |(_, value): &&Column<T>| value(row).unwrap_or_else(|| "–".into());
        table.add_row(columns.iter().map(value));
    }
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let title = match title {
        "" => String::new(),
        title => format!("\n{title}\n"),
    };
    format!("{title}{}\n", table.trim_fmt())
}

fn four(value: f64) -> String {
    format!("{value:.4}")
}

/// Of numbers that may grow without bound.
fn wide(value: Number) -> String {
    if value.0.abs() < 1e5 {
        four(value.0)
    } else {
        power(value)
    }
}

/// Of numbers that span many orders of magnitude.
fn power(value: Number) -> String {
    format!("{:.3e}", value.0)
}

fn percent(value: f64) -> String {
    format!("{:.2} %", 100.0 * value)
}
