//! From what a user calls a network to its architecture and recipe.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use ir_models::{Architecture, Piece, Recipe, Schedule};

use crate::text;

/// The network of the paper that a name means, or the one that a JSON file describes.
pub(crate) fn architecture(model: &str, classes: usize) -> Result<Architecture> {
    if !model.ends_with(".json") {
        return Ok(Architecture::named(model, classes)?);
    }
    let path = Path::new(model);
    let text = text::read(path).with_context(|| format!("{model}: cannot be read"))?;
    let architecture = Architecture::from_json(&text).with_context(|| model.to_owned())?;
    ensure!(
        architecture.classes == classes,
        "{model}: its network has {} classes and the data {classes}; set `classes` to {classes}",
        architecture.classes
    );
    Ok(architecture)
}

/// How the paper trains this network. One of the user's own is trained as the paper's network
/// that is most like it: with one stage as single-representation, with several as resnet-110.
pub(crate) fn recipe(architecture: &Architecture) -> Result<Recipe> {
    let like = match architecture.stages.len() {
        1 => "single-representation",
        _ => "resnet-110",
    };
    Ok(Recipe::of(&architecture.name).or_else(|_| Recipe::of(like))?)
}

/// The schedule that `--schedule` asks for.
pub(crate) fn schedule(text: &str, recipe: &Recipe, epochs: usize) -> Result<Schedule> {
    match text {
        "paper" => return Ok(recipe.schedule.clone()),
        "scaled" => return Ok(recipe.schedule.scaled(recipe.epochs, epochs)),
        _ => {}
    }
    let pieces = text.split(',').map(piece).collect::<Option<Vec<_>>>();
    match pieces {
        Some(pieces)
            if pieces[0].from_epoch == 0
                && pieces
                    .windows(2)
                    .all(|pair| pair[0].from_epoch < pair[1].from_epoch) =>
        {
            Ok(Schedule { pieces })
        }
        _ => bail!(
            "--schedule {text}: expected `paper`, `scaled`, or pieces with rising epochs from 0 on, such as \
             0:0.1,6:0.01"
        ),
    }
}

fn piece(text: &str) -> Option<Piece> {
    let (from_epoch, learning_rate) = text.split_once(':')?;
    let (from_epoch, learning_rate) =
        (from_epoch.parse().ok()?, learning_rate.parse::<f64>().ok()?);
    (learning_rate.is_finite() && learning_rate >= 0.0).then_some(Piece {
        from_epoch,
        learning_rate,
    })
}
