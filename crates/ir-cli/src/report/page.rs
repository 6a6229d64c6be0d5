//! The page: what the template is given.

use anyhow::Result;
use minijinja::Environment;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use serde::Serialize;

use crate::claims::{Finding, Judged, Verdict};
use crate::family::Member;
use crate::figures::colour::style_sheet;
use crate::figures::scale::{minus, significant, thousands};
use crate::figures::taylor;
use crate::figures::{CellSvg, FONTS, Figure, escape, pieces};
use crate::group::{Group, Summary, dataset_name};
use crate::run::Run;

use super::explorer;
use super::runs::{NetworkRow, RunRow, network_row, runs};
use super::table1::{Table1, tables};

const TEMPLATE: &str = include_str!("template.html");
const SCRIPT: &str = include_str!("report.js");

/// Everything on the page.
#[derive(Serialize)]
struct Page<'a> {
    fonts: &'static str,
    dark: String,
    script: &'static str,
    measures: String,
    headline: Headline,
    counts: String,
    claims: Vec<ClaimRow<'a>>,
    missing: Vec<String>,
    figures: Vec<FigureRow<'a>>,
    table1: Vec<Table1>,
    networks: Vec<NetworkRow>,
    runs: Vec<RunRow>,
    version: &'static str,
}

/// The page as HTML.
///
/// # Errors
/// The template cannot be filled, which is a defect of the program.
pub(crate) fn render(groups: &[Group], judged: &[Judged], figures: &[Figure]) -> Result<String> {
    let page = Page {
        fonts: FONTS,
        dark: style_sheet(),
        script: SCRIPT,
        measures: explorer::json(groups)?,
        headline: Headline::of(groups),
        counts: counts(judged),
        claims: judged.iter().map(claim_row).collect(),
        missing: missing(groups),
        figures: figures
            .iter()
            .filter(|figure| figure.drawing.is_some() || !figure.is_of_neighbours())
            .map(|figure| figure_row(figure, groups))
            .collect(),
        table1: tables(groups),
        networks: groups.iter().map(network_row).collect(),
        runs: groups.iter().flat_map(runs).collect(),
        version: env!("CARGO_PKG_VERSION"),
    };
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()?;
    environment.set_syntax(syntax);
    environment.add_filter("prose", |text: &str| Value::from_safe_string(prose(text)));
    // A name that ends in .html turns escaping on.
    environment.add_template("report.html", TEMPLATE)?;
    Ok(environment
        .get_template("report.html")?
        .render(Serde(page))?)
}

/// Text as HTML: `h_j` with a subscript, an apostrophe as it is printed, and no line that ends
/// between a number and its unit or begins with an operator.
fn prose(text: &str) -> String {
    let html = |(piece, subscript): (&str, bool)| match subscript {
        true => format!("<sub>{}</sub>", escape(piece)),
        false => escape(piece),
    };
    let text: String = pieces(text).into_iter().map(html).collect();
    ["%", "×", "=", "·", "→", "points", "nats"]
        .iter()
        .fold(text.replace('\'', "’"), |text, sign| {
            text.replace(&format!(" {sign}"), &format!("\u{a0}{sign}"))
        })
}

/// The first line: which images these are.
#[derive(Serialize)]
struct Headline {
    synthetic: bool,
    text: String,
}

impl Headline {
    fn of(groups: &[Group]) -> Self {
        let infos = || groups.iter().map(Group::info);
        let real = listed(
            infos()
                .filter(|i| !i.synthetic)
                .map(|i| dataset_name(&i.dataset)),
        );
        let drawn = listed(
            infos()
                .filter(|i| i.synthetic)
                .map(|i| format!("{} classes", i.classes)),
        );
        let drawn_text = format!(
            "SYNTHETIC images ({drawn}), drawn by a program, not photographs; what they show says \
             nothing about real images"
        );
        let text = match (real.is_empty(), drawn.is_empty()) {
            (_, true) => format!("Data: real images, {real}."),
            (true, false) => format!("Data: {drawn_text}."),
            (false, false) => format!("Data: real images, {real}, and {drawn_text}."),
        };
        Self {
            synthetic: !drawn.is_empty(),
            text,
        }
    }
}

/// Each name once, joined by "and".
fn listed(names: impl Iterator<Item = String>) -> String {
    let mut once: Vec<String> = Vec::new();
    for name in names {
        if !once.contains(&name) {
            once.push(name);
        }
    }
    once.join(" and ")
}

/// "21 held, 3 not held, 2 not measured."
fn counts(judged: &[Judged]) -> String {
    let count = |verdict: Verdict| {
        let findings = judged.iter().flat_map(|claim| &claim.networks);
        findings
            .filter(|finding| finding.verdict == verdict)
            .count()
    };
    format!(
        "{} held, {} not held, {} not measured.",
        count(Verdict::Held),
        count(Verdict::NotHeld),
        count(Verdict::NotMeasured)
    )
}

#[derive(Serialize)]
struct ClaimRow<'a> {
    figure: &'a str,
    claim: &'a str,
    criterion: &'a str,
    findings: Vec<FindingRow<'a>>,
}

#[derive(Serialize)]
struct FindingRow<'a> {
    network: &'a str,
    value: &'a str,
    seeds: usize,
    verdict: &'static str,
    class: &'static str,
}

fn claim_row(judged: &Judged) -> ClaimRow<'_> {
    ClaimRow {
        figure: judged.figure,
        claim: judged.claim,
        criterion: judged.criterion,
        findings: judged.networks.iter().map(finding_row).collect(),
    }
}

fn finding_row(finding: &Finding) -> FindingRow<'_> {
    let (verdict, class) = match finding.verdict {
        Verdict::Held => ("✓ held", "held"),
        Verdict::NotHeld => ("✗ not held", "not-held"),
        Verdict::NotMeasured => ("– not measured", "not-measured"),
    };
    FindingRow {
        network: &finding.network,
        value: &finding.text,
        seeds: finding.seeds.len(),
        verdict,
        class,
    }
}

/// What run folders lack, a sentence each.
fn missing(groups: &[Group]) -> Vec<String> {
    let mut sentences = Vec::new();
    for run in groups.iter().flat_map(|group| &group.runs) {
        let folder = run.folder.display();
        if run.results.is_none() {
            sentences.push(format!(
                "{folder} has no results.json, so it is only in the figures of \
                 what training recorded; \
                 ir analyze {folder} --data {} --out {folder}/results.json writes one.",
                run.info.dataset
            ));
        }
        if let Some(results) = &run.results
            && !results.splits.contains_key("test")
        {
            sentences.push(format!(
                "{folder} was not analysed on the test split, which the claims are judged on."
            ));
        }
        if let Some(epoch) = stopped_after(run) {
            sentences.push(format!(
                "{folder} was trained for {epoch} of its {} epochs.",
                run.info.epochs
            ));
        }
        if run.history.is_empty() {
            sentences.push(format!(
                "{folder} has no history.jsonl, so its accuracy over \
                 training and wall time are not known."
            ));
        }
    }
    sentences
}

#[derive(Serialize)]
struct FigureRow<'a> {
    name: &'a str,
    title: &'a str,
    /// Who found what follows.
    source: &'static str,
    paper: &'a str,
    seen: &'a [String],
    absent: String,
    reading: &'a str,
    rows: &'a [Vec<CellSvg>],
    scaled_down: Vec<String>,
    tables: Vec<Table>,
}

fn figure_row<'a>(figure: &'a Figure, groups: &[Group]) -> FigureRow<'a> {
    let tables = if figure.name == "taylor" {
        groups.iter().filter_map(taylor_table).collect()
    } else {
        Vec::new()
    };
    FigureRow {
        name: figure.name,
        title: figure.title,
        source: if figure.is_of_neighbours() {
            "Found elsewhere"
        } else {
            "The paper found"
        },
        paper: figure.paper,
        seen: &figure.seen,
        absent: figure.absent.join(", "),
        reading: &figure.reading,
        rows: figure.drawing.as_ref().map_or(&[], |drawing| &drawing.rows),
        scaled_down: scaled_down(groups),
        tables,
    }
}

/// One sentence a network; networks that are smaller in the same way share one.
fn scaled_down(groups: &[Group]) -> Vec<String> {
    let mut sentences: Vec<(Vec<&str>, Vec<String>)> = Vec::new();
    for group in groups {
        let how = smaller(group);
        match sentences.iter_mut().find(|(_, other)| *other == how) {
            Some((titles, _)) => titles.push(&group.title),
            None => sentences.push((vec![&group.title], how)),
        }
    }
    let sentence = |(titles, how): (Vec<&str>, Vec<String>)| {
        let how = if how.is_empty() {
            "nothing".into()
        } else {
            how.join("; ")
        };
        format!("{}: {how}.", titles.join(", "))
    };
    sentences.into_iter().map(sentence).collect()
}

/// Runs that the paper averages of the `resnet-D` networks (Table 1, Fig. 7 to 9).
const PAPER_SEEDS: usize = 4;

/// What the runs say themselves, how many seeds there are, where one of them stopped, and how much of each split was
/// analysed if not all of it.
fn smaller(group: &Group) -> Vec<String> {
    let info = group.info();
    let mut how = info.scaled_down.clone();
    let seeds = group.runs.len();
    if seeds < PAPER_SEEDS && Member::of(&info.model).is_some() {
        let seeds = if seeds == 1 {
            "one seed".into()
        } else {
            format!("{seeds} seeds")
        };
        how.push(format!("{seeds} instead of {PAPER_SEEDS}"));
    }
    if let Some(epoch) = group.runs.iter().filter_map(stopped_after).min() {
        how.push(format!("stopped after epoch {epoch}"));
    }
    let splits = [
        ("train", "training", info.train_samples),
        ("test", "test", info.test_samples),
    ];
    let parts: Vec<String> = splits
        .into_iter()
        .filter_map(|(name, words, all)| {
            let samples = group.splits(name).map(|split| split.samples).min()?;
            let (part, whole) = (thousands(samples), thousands(all));
            (samples < all).then(|| format!("{part} of {whole} {words} images"))
        })
        .collect();
    if !parts.is_empty() {
        how.push(format!("measured on {}", parts.join(" and ")));
    }
    how
}

/// The last epoch of a run that did not come to its end.
fn stopped_after(run: &Run) -> Option<usize> {
    let last = run.history.last()?.epoch;
    (last < run.info.epochs).then_some(last)
}

#[derive(Serialize)]
struct Table {
    title: String,
    spread: &'static str,
    rows: Vec<[String; 6]>,
}

fn taylor_table(group: &Group) -> Option<Table> {
    let rows: Vec<[String; 6]> = taylor::rows(group, "test")
        .into_iter()
        .map(|row| {
            [
                row.block.to_string(),
                fixed(row.exit_loss),
                fixed(row.change),
                fixed(row.predicted),
                fixed(row.remainder),
                share(row.predicted.mean / row.change.mean),
            ]
        })
        .collect();
    (!rows.is_empty()).then(|| Table {
        title: group.title.clone(),
        spread: if group.over_seeds() {
            "seeds"
        } else {
            "images"
        },
        rows,
    })
}

fn fixed(summary: Summary) -> String {
    let write = |value: f64| {
        if value.is_finite() && value.abs() < 1e4 {
            minus(&format!("{value:.4}"))
        } else {
            significant(value, 3)
        }
    };
    summary.written(write, "")
}

fn share(value: f64) -> String {
    if value.is_finite() {
        format!("{} %", minus(&format!("{:.0}", 100.0 * value)))
    } else {
        "–".into()
    }
}
