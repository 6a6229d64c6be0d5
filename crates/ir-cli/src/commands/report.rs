//! `ir report`: figures, claims and one page from run folders.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use crate::arguments::Report;
use crate::group::Group;
use crate::run::Run;
use crate::{output, report};

pub(crate) fn run(arguments: &Report) -> Result<ExitCode> {
    let runs = arguments.runs.iter().map(|folder| Run::read(folder));
    let groups = Group::collect(runs.collect::<Result<_>>()?)?;
    let page = report::write(groups, &arguments.out)?;
    if arguments.json {
        let claims = arguments.out.join("claims.json");
        let [page, claims] = [page, claims].map(|path| path.display().to_string());
        output::json(&json!({ "page": page, "claims": claims }))?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(std::io::stdout().lock(), "{}", page.display())?;
    Ok(ExitCode::SUCCESS)
}
