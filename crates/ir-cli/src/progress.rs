//! Progress bars: rate, time left and what matters in the loop, on stderr, only on a terminal.

use std::io::Write;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressStyle};

use crate::text::printable;

/// How the first word of a warning looks.
const WARNING: Style = AnsiColor::Yellow.on_default().bold();

/// A bar over `steps` steps.
pub(crate) fn bar(steps: usize, label: impl Into<String>) -> ProgressBar {
    let template = "{prefix} {wide_bar} {pos}/{len} · {per_sec} · {eta} left · {msg}";
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(steps as u64)
        .with_style(style)
        .with_prefix(label.into());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// A line for what has no steps to count.
pub(crate) fn spinner(label: impl Into<String>) -> ProgressBar {
    let spinner = ProgressBar::new_spinner().with_message(label.into());
    spinner.enable_steady_tick(Duration::from_millis(200));
    spinner
}

/// Says one line on stderr. Where nobody reads it any more the work goes on all the same.
pub(crate) fn say(line: &str) {
    // Names in it may come from a file.
    let line = printable(line);
    let mut stderr = anstream::stderr();
    let _ = match line.strip_prefix("warning:") {
        Some(warning) => writeln!(stderr, "{WARNING}warning:{WARNING:#}{warning}"),
        None => writeln!(stderr, "{line}"),
    };
}
