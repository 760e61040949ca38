//! Machines that live through what goes wrong, and what their displays show: lab/tests/living.rs
//! with images of its own, whose node-init fails on command.

use super::lab_test;
use crate::{
    build::{self, KernelFrom},
    setup::{self, Sources},
    workspace,
};
use lab::tools::Purpose;
use std::{fs, path::Path};

/// What goes wrong, and what becomes of the machine.
pub(super) fn living(sources: &Sources) -> anyhow::Result<()> {
    run(sources, "living")
}

/// What displays show.
pub(super) fn console(sources: &Sources) -> anyhow::Result<()> {
    run(sources, "console")
}

fn run(sources: &Sources, what: &str) -> anyhow::Result<()> {
    let kernel = KernelFrom::of_campaign()?;
    let purpose = Purpose::Test.max(kernel.purpose());
    if !setup::announce(sources, purpose, &[])? {
        return Ok(());
    }
    setup::install(purpose)?;
    let packages = setup::packages(sources)?;
    setup::tools(&packages)?;
    build::programs()?;
    build::run(
        &[
            "build",
            "--quiet",
            "--release",
            "--workspace",
            "--exclude",
            "fuzz",
            "--example",
            "bad_service",
        ],
        &[],
    )?;
    let bad = workspace::target().join("release/examples/bad_service");
    let folder = workspace::target().join("living");
    fs::create_dir_all(&folder)?;
    // It takes the place of the one without faults, which is put back from what is built already.
    build::init_with(&["--features", "faults"])?;
    let image = |name: &str, compute: &Path| {
        let output = folder.join(name);
        build::image_with(&packages, kernel, build::CPU, compute, &output)
    };
    let images = image("image", &workspace::program("compute"))
        .and_then(|good| Ok((good, image("bad-image", &bad)?)));
    build::init()?;
    let (good, bad) = images?;
    let more = [
        ("ALIA_LIVING", what.into()),
        ("ALIA_IMAGE", good.folder.into()),
        ("ALIA_BAD_IMAGE", bad.folder.into()),
    ];
    lab_test("living", &more)?;
    println!("logs and screenshots are in {}", folder.join("living").display());
    Ok(())
}
