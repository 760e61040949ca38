//! A miner's machine at home: `lab/tests/home.rs`.

use super::{lab_test, machines};
use crate::{
    setup::{self, Sources},
    workspace,
};
use anyhow::Context;
use lab::tools::Purpose;

pub(super) fn run(sources: &Sources) -> anyhow::Result<()> {
    let Some(packages) = machines(sources, Purpose::Up, &[])? else { return Ok(()) };
    let (_, comet) = setup::tools(&packages)?;
    let program = workspace::program("abci-app");
    let programs = program.parent().context("programs lie in no folder")?;
    let more = [
        ("ALIA_LONG", "1".into()),
        ("ALIA_COMETBFT", comet.into()),
        ("ALIA_PROGRAMS", programs.into()),
    ];
    lab_test("home", &more)
}
