//! `ir models`: the networks of the paper.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
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
    writeln!(
        out,
        "{:<22} {:>6}  {:<42} {:>11} {:>11} {:>11}",
        "", "", "", "parameters", "trainable", "trainable"
    )?;
    writeln!(
        out,
        "{:<22} {:>6}  {:<42} {:>11} {:>11} {:>11}",
        "network",
        "blocks",
        "stages (blocks × channels, size)",
        "CIFAR-10",
        "CIFAR-10",
        "CIFAR-100"
    )?;
    for model in models {
        let stage =
            |stage: &Stage| format!("{}×{} {}²", stage.blocks, stage.channels, stage.height);
        let stages = model
            .stages
            .iter()
            .map(stage)
            .collect::<Vec<_>>()
            .join(", ");
        let Parameters { cifar10, cifar100 } = model.parameters;
        writeln!(
            out,
            "{:<22} {:>6}  {stages:<42} {:>11} {:>11} {:>11}",
            model.name, model.blocks, cifar10.all, cifar10.trainable, cifar100.trainable
        )?;
    }
    Ok(ExitCode::SUCCESS)
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
