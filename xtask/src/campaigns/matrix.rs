//! Every way to boot on every kind of network: `lab/tests/matrix.rs`, and the page that it makes.

use super::{lab_test, machines};
use crate::{setup::Sources, workspace};
use anyhow::{Context, bail};
use lab::{matrix::Report, tools::Purpose};
use std::{ffi::OsString, fs};

/// All of it, and the page of the documentation. ALIA_CELLS names some cells by a part of their
/// names: those are booted anew, and the others' figures stay as they are.
pub(super) fn run(sources: &Sources) -> anyhow::Result<()> {
    let cells = std::env::var_os("ALIA_CELLS");
    let report = workspace::target().join("long/matrix.json");
    if cells.is_none() {
        let _ = fs::remove_file(&report);
    }
    let tested = tested(sources, cells.unwrap_or_default())?;
    let Some(tested) = tested else { return Ok(()) };
    let read = fs::read(&report).with_context(|| report.display().to_string())?;
    let read: Report = serde_json::from_slice(&read)?;
    let page = workspace::root().join("docs/matrix.md");
    fs::write(&page, read.page()).with_context(|| page.display().to_string())?;
    println!("{}\n{}", page.display(), report.display());
    let open = read.open();
    if !open.is_empty() {
        bail!("not all cells boot:\n{}", open.join("\n"));
    }
    tested
}

/// The cells by IPv6.
pub(super) fn ipv6(sources: &Sources) -> anyhow::Result<()> {
    tested(sources, "IPv6".into())?.unwrap_or(Ok(()))
}

/// Those by HTTPS.
pub(super) fn https(sources: &Sources) -> anyhow::Result<()> {
    tested(sources, "HTTPS".into())?.unwrap_or(Ok(()))
}

/// What the test came to; none where only what it needs was said.
fn tested(sources: &Sources, cells: OsString) -> anyhow::Result<Option<anyhow::Result<()>>> {
    if machines(sources, Purpose::Test, &[])?.is_none() {
        return Ok(None);
    }
    let folder = workspace::target().join("long");
    fs::create_dir_all(&folder)?;
    let report = folder.join("matrix.json").into();
    let more = [("ALIA_LONG", "1".into()), ("ALIA_CELLS", cells), ("ALIA_MATRIX", report)];
    Ok(Some(lab_test("matrix", &more)))
}
