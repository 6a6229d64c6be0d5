//! What `cargo xtask bench` recorded.

use std::collections::HashMap;
use std::error::Error;

/// Milliseconds of ours, by two columns of the record.
pub type Measured = HashMap<(String, String), f64>;

/// The medians of ours in a record, by the values in two columns.
///
/// # Errors
/// A column that is missing, or no number where one should be.
///
/// ```
/// let record = "# threads: 4\nnetwork,batch,mode,ours_ms\nwide,32,train,12.5\n";
/// let measured = ir_benches::record::read(record, ["network", "mode"])?;
/// assert_eq!(measured[&("wide".to_owned(), "train".to_owned())], 12.5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read(record: &str, keys: [&str; 2]) -> Result<Measured, Box<dyn Error>> {
    let mut lines = record.lines().filter(|line| !line.starts_with('#'));
    let header: Vec<&str> = lines
        .next()
        .ok_or("the record is empty")?
        .split(',')
        .collect();
    let column = |name: &str| {
        let found = header.iter().position(|column| *column == name);
        found.ok_or_else(|| format!("the record has no column {name}"))
    };
    let (first, second, time) = (column(keys[0])?, column(keys[1])?, column("ours_ms")?);
    let mut measured = Measured::new();
    for line in lines {
        let cells: Vec<&str> = line.split(',').collect();
        let cell = |index: usize| cells.get(index).copied().ok_or("a line is too short");
        let key = (cell(first)?.to_owned(), cell(second)?.to_owned());
        measured.insert(key, cell(time)?.parse()?);
    }
    Ok(measured)
}

/// The record that the program's first argument names; an empty one without an argument.
///
/// # Errors
/// As [`read`]; the file cannot be read.
pub fn of_argument(keys: [&str; 2]) -> Result<Measured, Box<dyn Error>> {
    match std::env::args_os().nth(1) {
        Some(path) => read(&std::fs::read_to_string(path)?, keys),
        None => Ok(Measured::new()),
    }
}

/// Two cells of a table: the milliseconds that something took, and the share of them that its floor is. Empty where nothing
/// was measured.
///
/// ```
/// use ir_benches::record::cells;
///
/// assert_eq!(cells(Some(&4.0), 1.0, 1), ["4.0", "25 %"]);
/// assert_eq!(cells(None, 1.0, 1), ["", ""]);
/// ```
pub fn cells(took: Option<&f64>, floor: f64, decimals: usize) -> [String; 2] {
    let cells = took.map(|took| {
        let share = 100.0 * floor / took;
        [format!("{took:.decimals$}"), format!("{share:.0} %")]
    });
    cells.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_without_the_column_is_refused() {
        assert!(read("network,mode\n", ["network", "mode"]).is_err());
        assert!(read("", ["network", "mode"]).is_err());
    }
}
