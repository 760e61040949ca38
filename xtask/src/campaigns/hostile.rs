//! A node whose compute service turned: `node-init/examples/hostile.rs` in an image, booted.

use super::lab_test;
use crate::{
    build::{self, KernelFrom},
    setup::{self, Sources},
    workspace,
};
use anyhow::Context;
use lab::tools::Purpose;

pub(super) fn run(sources: &Sources) -> anyhow::Result<()> {
    let kernel = KernelFrom::of_campaign()?;
    let purpose = Purpose::Up.max(kernel.purpose());
    if !setup::announce(sources, purpose, &[])? {
        return Ok(());
    }
    setup::install(purpose)?;
    let packages = setup::packages(sources)?;
    build::init()?;
    build::programs_quietly()?;
    build::run(
        &[
            "build",
            "--quiet",
            "--release",
            "--workspace",
            "--exclude",
            "fuzz",
            "--example",
            "hostile",
        ],
        &[],
    )?;
    let service = workspace::target().join("release/examples/hostile");
    let image = workspace::target().join("long/hostile").join(format!("{kernel:?}"));
    build::image_with(&packages, kernel, build::CPU, &service, &image)
        .context("the hostile image")?;
    println!("the machine boots the {kernel:?} kernel (ALIA_KERNEL)");
    lab_test("hostile", &[("ALIA_HOSTILE_IMAGE", image.into())])
}
