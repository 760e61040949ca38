//! Building the programs and the image.

use crate::{
    setup::{recipe, run, run_with},
    workspace,
};
use image::{
    Packages,
    build::{Build, Inputs, build},
};
use std::env;

/// The programs of a network, and `alia`.
const PROGRAMS: [&str; 5] = ["abci-app", "cli", "compute", "paramserver", "provisioner"];

fn cargo() -> String {
    env::var("CARGO").unwrap_or_else(|_| "cargo".into())
}

/// Builds the programs that run on the host, and node-init for the image.
pub fn programs() -> anyhow::Result<()> {
    let cargo = cargo();
    let mut arguments = vec!["build", "--quiet", "--release"];
    arguments.extend(PROGRAMS.iter().flat_map(|package| ["-p", package]));
    run(&cargo, &arguments)?;
    init()
}

/// Builds node-init as images take it: static.
pub fn init() -> anyhow::Result<()> {
    let target = "x86_64-unknown-linux-gnu";
    run_with(
        &cargo(),
        &["build", "--quiet", "--profile", "init", "-p", "node-init", "--target", target],
        &[("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "-C target-feature=+crt-static")],
    )
}

/// Builds the image into its folder.
pub fn image(packages: &Packages) -> anyhow::Result<Build> {
    image_into(packages, &workspace::image())
}

/// Builds the image into another folder.
pub fn image_into(packages: &Packages, output: &std::path::Path) -> anyhow::Result<Build> {
    let recipe = recipe()?;
    Ok(build(&Inputs {
        recipe: &recipe,
        packages,
        init: &workspace::init(),
        compute: &workspace::program("compute"),
        version: env!("CARGO_PKG_VERSION"),
        output,
    })?)
}
