//! A model's weights and descriptions, from the cache or into it.

use std::path::{Path, PathBuf};

use super::cache::Repository;
use super::{FetchProgress, transfer};
use crate::error::{Error, Result};
use crate::locate::Locations;

/// What stands before the name of a model on the hub.
const SCHEME: &str = "hf:";

/// Files of weights, the better first.
const WEIGHTS: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];

/// Files that describe a model.
const DESCRIPTIONS: [&str; 2] = ["config.json", "preprocessor_config.json"];

/// Fetches a model from the hub into its cache, as `hf:owner/name` or `hf:owner/name@revision`, unless it
/// is there; gives the folder that holds `model.safetensors` or `pytorch_model.bin` and, where the
/// model has them, `config.json` and `preprocessor_config.json`.
///
/// The network is not used if weights and `config.json` are in the cache. `progress` is called as
/// bytes arrive.
///
/// ```no_run
/// use ir_data::{Locations, fetch_model};
///
/// # fn main() -> ir_data::Result<()> {
/// let folder = fetch_model("hf:timm/resnet18.a1_in1k", &Locations::from_env(), &mut |_| {})?;
/// println!("{}", folder.display());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::ModelReference`] for a name that cannot be one; [`Error::ModelOffline`] if the network
/// must not be used and there are no weights; [`Error::FetchModel`] if the transfer fails.
pub fn fetch_model(
    reference: &str,
    locations: &Locations,
    progress: &mut dyn FnMut(&FetchProgress),
) -> Result<PathBuf> {
    let refuse = || Error::ModelReference {
        reference: reference.into(),
    };
    let (id, revision) = parse(reference).ok_or_else(refuse)?;
    let failed = |reason: String| Error::FetchModel {
        model: id.into(),
        endpoint: locations.endpoint.clone(),
        reason,
    };
    let Some(cache) = &locations.hub_cache else {
        let reason = "no folder to put it in: neither HF_HOME nor HOME is set";
        return Err(failed(reason.into()));
    };
    // hf-hub links its files by relative paths, which it makes of absolute ones.
    let cache = std::path::absolute(cache).map_err(|error| failed(error.to_string()))?;
    let repository = Repository::model(&cache, id, revision);
    let weights = || WEIGHTS.into_iter().find_map(|file| repository.file(file));
    let complete = weights().is_some() && repository.file(DESCRIPTIONS[0]).is_some();
    if !complete && !locations.offline {
        let listed = transfer::list(&locations.endpoint, &repository).map_err(failed)?;
        let there = |file: &&str| listed.iter().any(|name| name == file);
        let Some(best) = WEIGHTS.into_iter().find(there) else {
            let reason = format!("it has neither of {}", WEIGHTS.join(", "));
            return Err(failed(reason));
        };
        let descriptions = DESCRIPTIONS.into_iter().filter(there);
        for file in descriptions.chain([best]) {
            if repository.file(file).is_none() {
                let fetched = transfer::fetch(&locations.endpoint, &repository, file, progress);
                fetched.map_err(failed)?;
            }
        }
    }
    let offline = || Error::ModelOffline {
        model: id.into(),
        cache: cache.display().to_string(),
    };
    let folder = weights()
        .as_deref()
        .and_then(Path::parent)
        .map(Path::to_path_buf);
    folder.ok_or_else(offline)
}

/// Owner and name, and the revision.
fn parse(reference: &str) -> Option<(&str, &str)> {
    let rest = reference.strip_prefix(SCHEME)?;
    let (id, revision) = rest.split_once('@').unwrap_or((rest, "main"));
    let (owner, name) = id.split_once('/')?;
    // Each becomes part of a path: letters, digits, and -._ but no dot in front.
    let plain = |part: &str| {
        let known = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        !part.is_empty() && !part.starts_with('.') && part.bytes().all(known)
    };
    [owner, name, revision]
        .into_iter()
        .all(plain)
        .then_some((id, revision))
}
