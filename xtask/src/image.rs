//! `cargo xtask image`: the image alone.

use crate::{
    build::{self, KernelFrom},
    setup,
    setup::Sources,
    workspace,
};
use anyhow::Context;
use std::{fs, path::PathBuf, time::Instant};

/// Builds the image that machines boot: kernel, initramfs, root, manifest and a report of what is in it.
#[derive(clap::Args, Debug)]
pub struct Flags {
    #[command(flatten)]
    sources: Sources,
    /// The kernel: the distribution's own, or its source with our options, which takes a while
    /// once.
    #[arg(long, value_enum, default_value = "prebuilt")]
    kernel: KernelFrom,
    /// What it is for: cpu, validator; `image/image.toml` names them all.
    #[arg(long, default_value = build::CPU)]
    flavour: String,
    /// Where it is written.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Take the programs as they were built before.
    #[arg(long)]
    no_build: bool,
    /// Print the manifest as JSON at the end.
    #[arg(long)]
    json: bool,
}

/// Builds the image.
pub fn run(flags: Flags) -> anyhow::Result<()> {
    if !setup::announce(&flags.sources, flags.kernel.purpose(), &[])? {
        return Ok(());
    }
    setup::install(flags.kernel.purpose())?;
    let packages = setup::packages(&flags.sources)?;
    if !flags.no_build {
        build::programs()?;
    }
    let at = Instant::now();
    let output = flags.output.unwrap_or_else(workspace::image);
    let built = build::image_into(&packages, flags.kernel, &flags.flavour, &output)?;
    let manifest = &built.manifest;
    let seconds = at.elapsed().as_secs_f64();
    println!(
        "kernel {}: {:.1} MB; initramfs: {:.1} MB; root: {:.1} MB; in {seconds:.1} s",
        manifest.kernel_release,
        manifest.kernel.bytes as f64 / 1e6,
        manifest.initramfs.bytes as f64 / 1e6,
        manifest.root.file.bytes as f64 / 1e6
    );
    println!(
        "flavour {}: {:.1} MB to download, of {:.1} MB",
        flags.flavour,
        manifest.bytes() as f64 / 1e6,
        built.report.budget as f64 / 1e6
    );
    println!("digest {}", manifest.digest());
    println!(
        "in {}; report.txt there lists what is in it, report.svg draws it, sbom.json says whence",
        output.display()
    );
    if flags.json {
        let path = output.join("manifest.json");
        print!("{}", fs::read_to_string(&path).with_context(|| path.display().to_string())?);
    }
    Ok(())
}
