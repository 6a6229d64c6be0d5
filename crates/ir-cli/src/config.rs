//! `ir train --config`: a TOML file as the defaults of a command line.
//!
//! There is one list of flags, that of [`Arguments`]. The values of a file become defaults of the
//! arguments with these names, so the command line wins and each value is read by the parser of
//! its flag.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use clap::error::ContextKind;
use clap::{Arg, Command, CommandFactory};
use serde::Serialize;
use toml::{Table, Value};

use crate::arguments::{Arguments, Train};
use crate::{files, text};

/// The file in a run's folder that repeats it.
pub(crate) const NAME: &str = "config.toml";

/// The command line's definition, with the values of the file that `words` name as defaults.
///
/// # Errors
/// The file cannot be read, is no TOML, or has a key or a value that `ir train` does not take; the
/// message names the file and the key.
pub(crate) fn command(words: &[OsString]) -> Result<Command> {
    let command = Arguments::command();
    // What the file is to give is not there yet.
    let lenient = command.clone().mut_subcommand("train", |train| {
        train.mut_args(|argument| argument.required(false))
    });
    let Some(path) = named(&lenient, words) else {
        return Ok(command);
    };
    read(&path)?
        .into_iter()
        .try_fold(command, |command, (key, value)| {
            with_default(command, &lenient, &key, &value)
                .with_context(|| format!("{}: {key}", path.display()))
        })
}

/// The file that a command line names. One that is wrong anyway names none.
fn named(lenient: &Command, words: &[OsString]) -> Option<PathBuf> {
    let matches = lenient.clone().try_get_matches_from(words).ok()?;
    let train = matches.subcommand_matches("train")?;
    train.get_one::<PathBuf>("config").cloned()
}

fn read(path: &Path) -> Result<Table> {
    let text = text::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    toml::from_str(&text).map_err(|error: toml::de::Error| {
        let start = error.span().map_or(0, |span| span.start);
        let line = 1 + text.get(..start).unwrap_or_default().matches('\n').count();
        let found = error.message().replace('\n', ", ");
        anyhow!("{}: line {line}: {found}", path.display())
    })
}

/// Makes the value of a key the default of the argument with this name.
fn with_default(command: Command, lenient: &Command, key: &str, value: &Value) -> Result<Command> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => value.to_string(),
        other => bail!(
            "expected a text, a number, true or false, found {}",
            other.type_str()
        ),
    };
    let Some((id, positional, global)) = settable(&command, key) else {
        bail!("{}", unknown(lenient, key));
    };
    let word = if positional {
        text.clone()
    } else {
        format!("--{key}={text}")
    };
    let alone = lenient.clone().try_get_matches_from(["ir", "train", &word]);
    if let Err(error) = alone {
        bail!("{}", sentence(&error));
    }
    let set = move |argument: Arg| argument.required(false).default_value(text);
    Ok(if global {
        command.mut_arg(id, set)
    } else {
        command.mut_subcommand("train", |train| train.mut_arg(id, set))
    })
}

/// The argument of `ir train` with this name: its identifier, whether it is found by its place,
/// and whether it belongs to every command.
fn settable(command: &Command, key: &str) -> Option<(String, bool, bool)> {
    let of = |command: &Command, global| {
        let mut arguments = command.get_arguments();
        let found = arguments.find(|argument| match argument.get_long() {
            Some(long) => long == key && long != "config",
            None => argument.get_id() == key,
        })?;
        Some((found.get_id().to_string(), found.is_positional(), global))
    };
    of(command.find_subcommand("train")?, false).or_else(|| of(command, true))
}

/// What to say of a key that is no argument, with the one that was perhaps meant.
fn unknown(lenient: &Command, key: &str) -> String {
    let tried = lenient
        .clone()
        .try_get_matches_from(["ir", "train", &format!("--{key}=")]);
    let error = tried.err();
    let near = error
        .as_ref()
        .and_then(|error| error.get(ContextKind::SuggestedArg));
    match near {
        Some(near) => {
            let near = near.to_string();
            let near = near.trim_start_matches('-');
            format!("`ir train` has no such argument; is `{near}` meant?")
        }
        None => "`ir train` has no such argument; `ir train --help` lists them".into(),
    }
}

/// An error of the command line without its frame.
fn sentence(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.is_empty());
    let sentence = lines.collect::<Vec<_>>().join(" ");
    sentence.trim_start_matches("error: ").to_owned()
}

/// Writes what a run was asked for into its folder, defaults and all.
///
/// # Errors
/// A path is no UTF-8; the file cannot be written.
pub(crate) fn write(arguments: &Train, threads: Option<u16>) -> Result<()> {
    #[derive(Serialize)]
    struct Effective<'a> {
        #[serde(flatten)]
        train: &'a Train,
        #[serde(skip_serializing_if = "Option::is_none")]
        threads: Option<u16>,
    }
    let path = arguments.out.join(NAME);
    let effective = Effective {
        train: arguments,
        threads,
    };
    let values = toml::to_string(&effective)
        .with_context(|| format!("{}: cannot be written", path.display()))?;
    let head =
        "# The arguments of this run. To repeat it: ir train --config THIS_FILE --out OTHER\n";
    files::write(&path, format!("{head}{values}").as_bytes())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::FromArgMatches;

    use super::*;

    /// Of the arguments of `ir train` those that say how a command runs and not what.
    const NOT_OF_THE_RUN: [&str; 3] = ["config", "resume", "json"];

    #[test]
    fn every_argument_has_the_same_name_in_the_file() {
        let command = Arguments::command();
        let train = command.find_subcommand("train").expect("a command");
        let name = |argument: &Arg| match argument.get_long() {
            Some(long) => long.to_owned(),
            None => argument.get_id().to_string(),
        };
        let mut names: BTreeSet<String> = train.get_arguments().map(name).collect();
        for other in NOT_OF_THE_RUN {
            names.remove(other);
        }
        let words = "ir train a --data b --out c --epochs 1 --train-samples 2 --test-samples 3";
        let matches = command.get_matches_from(words.split(' '));
        let arguments = Arguments::from_arg_matches(&matches).expect("arguments");
        let crate::arguments::Command::Train(train) = arguments.command else {
            panic!("not `ir train`");
        };
        let table = Table::try_from(&train).expect("a table");
        assert_eq!(table.keys().cloned().collect::<BTreeSet<_>>(), names);
    }
}
