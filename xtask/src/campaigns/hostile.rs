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
    if !setup::announce(sources, Purpose::Up, &[])? {
        return Ok(());
    }
    setup::install(Purpose::Up)?;
    let packages = setup::packages(sources)?;
    build::init()?;
    build::run(&["build", "--quiet", "--release", "--workspace"], &[])?;
    build::run(&["build", "--quiet", "--release", "--workspace", "--example", "hostile"], &[])?;
    let service = workspace::target().join("release/examples/hostile");
    for kernel in [KernelFrom::Prebuilt, KernelFrom::Source] {
        if kernel == KernelFrom::Source && std::env::var_os(SOURCE_TOO).is_none() {
            println!("the source kernel is left out: {SOURCE_TOO} is not set");
            continue;
        }
        let image = workspace::target().join("long/hostile").join(format!("{kernel:?}"));
        build::image_with(&packages, kernel, build::CPU, &service, &image)
            .context("the hostile image")?;
        lab_test("hostile", &[("ALIA_HOSTILE_IMAGE", image.into())])?;
    }
    Ok(())
}

/// Has the kernel that is built from source booted too: an hour where none is in the cache.
const SOURCE_TOO: &str = "ALIA_SOURCE_KERNEL";
