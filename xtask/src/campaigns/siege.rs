//! `cargo xtask fleet --siege`, as a campaign.

use crate::{
    build,
    setup::{self, Sources},
    workspace::program,
};
use anyhow::{Context, bail};
use lab::tools::Purpose;
use std::process::Command;

pub(super) fn run(sources: &Sources) -> anyhow::Result<()> {
    if !setup::announce(sources, Purpose::Up, &[])? {
        return Ok(());
    }
    setup::install(Purpose::Up)?;
    build::programs_quietly()?;
    let status = Command::new(program("xtask")).args(["fleet", "1", "--siege"]).status();
    if !status.context("running the siege")?.success() {
        bail!("not all of it held");
    }
    Ok(())
}
