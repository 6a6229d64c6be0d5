//! The report: one page, the figures as files, and the claims as JSON.
//!
//! | file | content |
//! |---|---|
//! | `report.html` | claims, figures, runs and provenance; needs no other file and no network |
//! | `claims.json` | the claims table for programs |
//! | `figures/*.svg`, `figures/*.png` | each figure alone, the PNG at twice the size |

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::claims::{self, Judged};
use crate::figures::{self, png};
use crate::group::Group;

mod explorer;
mod page;
mod runs;
mod table1;
mod write;

/// Content of `claims.json`.
#[derive(Serialize)]
struct Claims<'a> {
    schema_version: u32,
    claims: &'a [Judged],
}

/// Draws everything and writes it into a folder; returns the page's path. Nothing is written
/// before everything is drawn, and an earlier report stays whole if writing fails.
///
/// # Errors
/// A figure cannot be drawn, or a file cannot be written.
pub(crate) fn write(groups: Vec<Group>, folder: &Path) -> Result<PathBuf> {
    let (groups, untrained): (Vec<Group>, Vec<Group>) =
        groups.into_iter().partition(Group::is_trained);
    ensure!(
        !groups.is_empty(),
        "none of these runs has trained: `ir train` with at least one epoch, then `ir report`"
    );
    let groups = groups.as_slice();
    let judged = claims::judge(groups, &untrained);
    let figures = figures::all(groups, &untrained);
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    let mut absent = Vec::new();
    for figure in &figures {
        let names = ["svg", "png"].map(|kind| format!("figures/{}.{kind}", figure.name));
        match &figure.drawing {
            Some(drawing) => {
                let svg = &drawing.whole;
                let picture = png::render(svg).with_context(|| figure.title.to_owned())?;
                let contents = [svg.clone().into_bytes(), picture];
                files.extend(names.into_iter().zip(contents));
            }
            None => absent.extend(names),
        }
    }
    let claims = Claims {
        schema_version: claims::SCHEMA_VERSION,
        claims: &judged,
    };
    let mut json = serde_json::to_vec_pretty(&claims).context("the claims are not JSON")?;
    json.push(b'\n');
    files.push(("claims.json".into(), json));
    let page = page::render(groups, &judged, &figures).context("the page cannot be made")?;
    files.push(("report.html".into(), page.into_bytes()));
    write::replace(folder, &files, &absent)?;
    Ok(folder.join("report.html"))
}
