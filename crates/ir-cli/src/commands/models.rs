//! `ir models`: the networks of the paper.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use ir_models::{Architecture, NAMES, ParameterCount};
use serde::Serialize;

use crate::arguments::Models;
use crate::output;

/// One network, as `--json` prints it.
#[derive(Serialize)]
struct Model {
    name: &'static str,
    blocks: usize,
    stages: Vec<Stage>,
    stem_channels: usize,
    parameters: Parameters,
}

/// One stage, as `--json` prints it.
#[derive(Serialize)]
struct Stage {
    blocks: usize,
    channels: usize,
    height: usize,
    width: usize,
}

/// Parameter counts by data set, as `--json` prints them.
#[derive(Serialize)]
struct Parameters {
    cifar10: ParameterCount,
    cifar100: ParameterCount,
}

pub(crate) fn run(arguments: &Models) -> Result<ExitCode> {
    let models = NAMES.into_iter().map(model).collect::<Result<Vec<_>>>()?;
    if arguments.json {
        output::json(&models)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut out = std::io::stdout().lock();
    write!(out, "{}", table(&models))?;
    Ok(ExitCode::SUCCESS)
}

/// A line for each network, within the 80 columns of a terminal.
fn table(models: &[Model]) -> String {
    let sizes = models.first().map_or(&[][..], |model| &model.stages);
    let sizes = joined(sizes, |stage| format!("{}²", stage.height));
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header([
        "network".to_owned(),
        format!("blocks × channels\nat {sizes}"),
        "all for\nCIFAR-10".into(),
        "trained\nCIFAR-10".into(),
        "trained\nCIFAR-100".into(),
    ]);
    for model in models {
        let Parameters { cifar10, cifar100 } = model.parameters;
        table.add_row([
            model.name.to_owned(),
            joined(&model.stages, |stage| {
                format!("{}×{}", stage.blocks, stage.channels)
            }),
            cifar10.all.to_string(),
            cifar10.trainable.to_string(),
            cifar100.trainable.to_string(),
        ]);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 1));
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{}\n\nThe numbers are parameters.\n", table.trim_fmt())
}

fn joined(stages: &[Stage], text: impl Fn(&Stage) -> String) -> String {
    stages.iter().map(text).collect::<Vec<_>>().join(", ")
}

fn model(name: &'static str) -> Result<Model> {
    let architecture = Architecture::named(name, 10)?;
    let sizes = architecture.stage_sizes();
    let stages = architecture
        .stages
        .iter()
        .zip(sizes)
        .map(|(stage, [height, width])| Stage {
            blocks: stage.blocks,
            channels: stage.channels,
            height,
            width,
        });
    Ok(Model {
        name,
        blocks: architecture.blocks().len(),
        stages: stages.collect(),
        stem_channels: architecture.stem_channels,
        parameters: Parameters {
            cifar10: architecture.parameters(),
            cifar100: Architecture::named(name, 100)?.parameters(),
        },
    })
}
