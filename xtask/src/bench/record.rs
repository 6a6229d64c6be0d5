//! Tables that are kept as CSV files and shown on the console.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use time::OffsetDateTime;

use super::machine;

/// Where records are kept.
pub(super) struct Folder {
    path: PathBuf,
    /// Date and revision, which name the files of this run.
    date: String,
    revision: String,
    description: Vec<(&'static str, String)>,
}

impl Folder {
    /// Creates the folder where it is missing, and looks at the machine.
    pub(super) fn new(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            date: OffsetDateTime::now_utc().date().to_string(),
            revision: machine::revision(),
            description: machine::description(),
        })
    }

    /// The path of a file of this run: `2026-01-31-comparison-0a1b2c3.csv`.
    pub(super) fn file(&self, question: &str, extension: &str) -> PathBuf {
        let Self { date, revision, .. } = self;
        self.path
            .join(format!("{date}-{question}-{revision}.{extension}"))
    }

    /// Writes a table under a header of comment lines: date, machine, build and `notes`.
    pub(super) fn write(
        &self,
        question: &str,
        notes: &[(&str, String)],
        table: &[Vec<String>],
    ) -> Result<PathBuf> {
        let mut text = format!("# date: {}\n", self.date);
        for (name, value) in self.description.iter().chain(notes) {
            text.push_str(&format!("# {name}: {value}\n"));
        }
        for row in table {
            text.push_str(&row.join(","));
            text.push('\n');
        }
        let path = self.file(question, "csv");
        let unfinished = path.with_extension("unfinished");
        fs::write(&unfinished, text)
            .and_then(|()| fs::rename(&unfinished, &path))
            .with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }
}

/// A number for a file; empty where there is none.
pub(super) fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(String::new, |value| format!("{value:.decimals$}"))
}

/// A number for the console; a dash where there is none.
pub(super) fn shown(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.decimals$}"))
}

/// Rows with their columns aligned: the first column to the left, numbers to the right.
pub(super) fn aligned(table: &[Vec<String>]) -> String {
    let columns = table.iter().map(Vec::len).max().unwrap_or(0);
    let cell = |row: &[String], column: usize| row.get(column).map_or(0, |c| c.chars().count());
    let widths: Vec<usize> = (0..columns)
        .map(|column| table.iter().map(|row| cell(row, column)).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in table {
        let cells = row.iter().zip(&widths).enumerate();
        let padded = cells.map(|(column, (cell, &width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(table: &[&[&str]]) -> Vec<Vec<String>> {
        let row = |row: &&[&str]| row.iter().map(|cell| (*cell).to_owned()).collect();
        table.iter().map(row).collect()
    }

    #[test]
    fn names_stand_left_and_numbers_right() {
        let table = rows(&[
            &["network", "ms"],
            &["wide", "1234–9"],
            &["resnet-110", "1"],
        ]);
        assert_eq!(
            aligned(&table),
            "network         ms\nwide        1234–9\nresnet-110       1\n"
        );
    }

    #[test]
    fn a_file_has_its_machine_above_its_table() {
        let folder = tempfile::tempdir().unwrap();
        let records = Folder::new(folder.path()).unwrap();
        let notes = [("threads", "4".to_owned())];
        let table = rows(&[&["network", "ms"], &["wide", "1"]]);
        let path = records.write("comparison", &notes, &table).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# date: 20") && text.contains("\n# processor: "));
        assert!(text.ends_with("\n# threads: 4\nnetwork,ms\nwide,1\n"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_number_is_an_empty_cell() {
        assert_eq!(
            (number(None, 1), number(Some(1.26), 1)),
            (String::new(), "1.3".into())
        );
    }
}
