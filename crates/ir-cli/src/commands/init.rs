//! `ir init`: the checkpoint of an untrained network.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use ir_models::{Checkpoint, DataDescription, ResNet};
use serde_json::json;

use crate::arguments::{Init, NamedDataset};
use crate::{network, output};

pub(crate) fn run(arguments: &Init) -> Result<ExitCode> {
    let (dataset, classes) = match arguments.dataset {
        NamedDataset::Cifar10 => ("cifar10", 10),
        NamedDataset::Cifar100 => ("cifar100", 100),
    };
    ensure!(
        !arguments.out.exists(),
        "{}: exists already; give another name",
        arguments.out.display()
    );
    let architecture = network::architecture(&arguments.model, classes)?;
    let network = ResNet::initialize(&architecture, arguments.seed)?;
    let data = DataDescription {
        dataset: Some(dataset.into()),
        normalization: None,
    };
    Checkpoint::save_network(&arguments.out, &network, &data)?;
    if arguments.json {
        output::json(&json!({
            "file": arguments.out.display().to_string(),
            "network": architecture.name,
            "parameters": architecture.parameters(),
            "seed": arguments.seed,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(
        std::io::stdout().lock(),
        "{}: {}, {} parameters, seed {}",
        arguments.out.display(),
        architecture.name,
        architecture.parameters().all,
        arguments.seed
    )?;
    Ok(ExitCode::SUCCESS)
}
