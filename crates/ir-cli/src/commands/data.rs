//! `ir data`: what is there, fetching it, drawing a stand-in.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use ir_data::synthetic::{self, Classes};
use ir_data::{Dataset, ImageFolder, LabelSet, Locations, Split};
use serde_json::json;

use crate::arguments::{Data, DataFetch, DataInfo, DataSynthesize};
use crate::images::Found;
use crate::{output, text};

pub(crate) fn run(arguments: &Data) -> Result<ExitCode> {
    match arguments {
        Data::Info(arguments) => info(arguments)?,
        Data::Fetch(arguments) => fetch(arguments)?,
        Data::Synthesize(arguments) => synthesize(arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn info(arguments: &DataInfo) -> Result<()> {
    let dataset = match Found::open(&arguments.data, arguments.offline)? {
        Found::Cifar(dataset) => dataset,
        Found::Folder(folder) => return info_of_folder(arguments, &folder),
    };
    if arguments.json {
        return output::json(&describe(&dataset));
    }
    let mut out = std::io::stdout().lock();
    let normalization = dataset.normalization();
    let numbers = |values: [f64; 3]| values.map(|value| format!("{value:.4}")).join(", ");
    writeln!(
        out,
        "{}: {} classes, {}",
        dataset.name(),
        dataset.classes().len(),
        dataset.format()
    )?;
    for file in dataset.files() {
        writeln!(out, "  from      {}", file.display())?;
    }
    for (name, split) in [("train", dataset.train()), ("test", dataset.test())] {
        writeln!(
            out,
            "  {name:<9} {} images\n  sha256    {}",
            split.len(),
            split.checksum()
        )?;
    }
    writeln!(
        out,
        "  mean      {} (red, green, blue of train, 0–1)",
        numbers(normalization.mean)
    )?;
    writeln!(out, "  std       {}", numbers(normalization.std))?;
    writeln!(out, "  classes   {}", dataset.classes().join(", "))?;
    Ok(())
}

/// Of a folder of images nothing is read but names and lengths.
fn info_of_folder(arguments: &DataInfo, folder: &ImageFolder) -> Result<()> {
    let splits = [("train", folder.train()), ("test", folder.test())];
    let splits: Vec<_> = splits
        .into_iter()
        .filter_map(|(name, split)| Some((name, split?)))
        .collect();
    let mut out = std::io::stdout().lock();
    if arguments.json {
        let mut described = json!({
            "name": folder.name(),
            "format": "images",
            "folder": folder.root().display().to_string(),
            "classes": folder.classes(),
        });
        for (name, split) in splits {
            described[name] = json!({
                "images": split.len(),
                "bytes": split.bytes(),
                "sha256_of_names_and_lengths": split.checksum(),
            });
        }
        drop(out);
        return output::json(&described);
    }
    writeln!(
        out,
        "{}: {} classes, image files",
        folder.name(),
        folder.classes().len()
    )?;
    writeln!(out, "  from      {}", folder.root().display())?;
    for (name, split) in splits {
        writeln!(
            out,
            "  {name:<9} {} images, {}; SHA-256 of names and lengths\n            {}",
            split.len(),
            HumanBytes(split.bytes()),
            split.checksum()
        )?;
    }
    writeln!(
        out,
        "  classes   {}",
        text::printable(&folder.classes().join(", "))
    )?;
    Ok(())
}

/// Paths as JSON has them, in Unicode.
fn paths(paths: &[PathBuf]) -> Vec<String> {
    let lossy = |path: &PathBuf| path.display().to_string();
    paths.iter().map(lossy).collect()
}

fn describe(dataset: &Dataset) -> serde_json::Value {
    let split = |split: &Split| {
        json!({
            "images": split.len(),
            "sha256": split.checksum(),
            "per_class": split.class_counts(dataset.classes().len()),
        })
    };
    json!({
        "name": dataset.name(),
        "format": dataset.format(),
        "files": paths(dataset.files()),
        "classes": dataset.classes(),
        "normalization": dataset.normalization(),
        "train": split(dataset.train()),
        "test": split(dataset.test()),
    })
}

fn fetch(arguments: &DataFetch) -> Result<()> {
    let name = &arguments.name;
    let labels = LabelSet::from_name(name).with_context(|| {
        format!("no data set on the hub is known as `{name}`; known are cifar10, cifar100")
    })?;
    let style = "{msg} {wide_bar} {bytes}/{total_bytes} · {bytes_per_sec} · {eta} left";
    let style =
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(0).with_style(style);
    let folder = ir_data::fetch(labels, &Locations::from_env(), &mut |progress| {
        bar.set_message(progress.file.clone());
        bar.set_length(progress.total);
        bar.set_position(progress.done);
    })?;
    bar.finish_and_clear();
    if arguments.json {
        return output::json(&json!({ "name": name, "folder": folder.display().to_string() }));
    }
    writeln!(std::io::stdout().lock(), "{}", folder.display())?;
    Ok(())
}

fn synthesize(arguments: &DataSynthesize) -> Result<()> {
    let classes = if arguments.classes == 100 {
        Classes::Hundred
    } else {
        Classes::Ten
    };
    let dataset = synthetic::dataset(
        classes,
        arguments.seed,
        arguments.train_samples,
        arguments.test_samples,
    )?;
    let files = ir_data::write_binary(&dataset, &arguments.out)?;
    if arguments.json {
        let folder = arguments.out.display().to_string();
        let files = paths(&files);
        return output::json(&json!({ "name": dataset.name(), "folder": folder, "files": files }));
    }
    let mut out = std::io::stdout().lock();
    for file in files {
        writeln!(out, "{}", file.display())?;
    }
    Ok(())
}
