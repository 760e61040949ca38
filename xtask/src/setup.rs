//! What has to be there before anything can run: said, then installed or fetched.

use crate::workspace;
use anyhow::{Context, bail};
use image::{Packages, Recipe, packages::Options, recipe::Flavour};
use lab::tools::{self, BootFiles, Purpose};
use std::{path::PathBuf, sync::Arc};

/// Where packages come from, as every command that fetches takes it.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Sources {
    /// Fetch packages of the newer suite from here instead of the host's own mirror; one whose
    /// last segment says `security` serves security updates.
    #[arg(long, value_name = "URL")]
    pub mirror: Vec<String>,
    /// Say what would be installed and fetched, and stop.
    #[arg(long)]
    pub no_install: bool,
}

/// The image's recipe.
pub fn recipe() -> anyhow::Result<Recipe> {
    Ok(Recipe::read(&workspace::root().join("image/image.toml"))?)
}

/// Says what the host lacks and what is fetched into the cache; false where that is all that was
/// asked for.
pub fn announce(sources: &Sources, purpose: Purpose, more: &[&str]) -> anyhow::Result<bool> {
    let recipe = recipe()?;
    let missing = tools::missing(purpose);
    if missing.is_empty() {
        println!("of the host's own packages nothing is missing");
    } else {
        println!("to be installed on the host, as root, by apt-get:");
        print!("{}", tools::list(&missing));
    }
    println!(
        "to be fetched into {} and unpacked there, never installed; the host's package sources \
         stay as they are:",
        workspace::cache().display()
    );
    println!("  from suite {}, checked by apt against the archive's keys:", recipe.suite);
    println!(
        "    {}, {}: the image's kernel, its firmware, its libraries",
        match purpose {
            Purpose::Kernel | Purpose::Buildroot => &recipe.kernel.source.package,
            _ => &recipe.kernel.package,
        },
        [recipe.firmware.packages, recipe.libraries.packages].concat().join(", ")
    );
    println!("    ovmf, ipxe: firmware and boot loader of the machines");
    println!(
        "    systemd-boot-efi, shim-signed, shim-helpers-amd64-signed, sbsigntool, openssl: what \
         Secure Boot verifies, and what signs it"
    );
    println!("    a Go toolchain, where the host has none that is new enough");
    for line in more {
        println!("    {line}");
    }
    println!("  by go install: CometBFT {}", tools::COMETBFT_VERSION);
    match lab::sandbox::privilege() {
        Ok(lab::sandbox::Privilege::Root) => {
            println!("the machines' network: in namespaces of its own, as root");
        }
        Ok(lab::sandbox::Privilege::UserNamespace) => {
            println!("the machines' network: in a user namespace; needs no root");
        }
        Err(error) => println!("the machines' network: {error}"),
    }
    Ok(!sources.no_install)
}

/// What a flavour has fetched beside what all have, for people.
pub fn of_flavour(flavour: &Flavour) -> Vec<String> {
    let mut packages = [flavour.firmware.as_slice(), &flavour.libraries].concat();
    packages.extend(flavour.nvidia.iter().flat_map(|n| [n.source.clone(), n.ids.clone()]));
    if packages.is_empty() {
        return Vec::new();
    }
    let areas = match flavour.components.as_slice() {
        [] => String::new(),
        areas => format!(" (of {}, some of it proprietary: yours to use)", areas.join(" and ")),
    };
    vec![format!("{}: for the flavour{areas}", packages.join(", "))]
}

/// Installs what the host lacks.
pub fn install(purpose: Purpose) -> anyhow::Result<()> {
    let missing = tools::missing(purpose);
    if !missing.is_empty() {
        println!("installing {} packages", missing.len());
    }
    Ok(tools::install(&missing)?)
}

/// The packages of the newer suite.
pub fn packages(sources: &Sources) -> anyhow::Result<Packages> {
    packages_in(sources, workspace::cache())
}

/// As [`packages`], in another cache.
pub(crate) fn packages_in(sources: &Sources, cache: PathBuf) -> anyhow::Result<Packages> {
    let mut options = Options::new(cache, recipe()?.suite);
    options.mirrors = sources.mirror.clone();
    Ok(Packages::open(options, Arc::new(|text| println!("  {text}")))?)
}

/// Firmware, boot loaders, and the chain's engine.
pub fn tools(packages: &Packages) -> anyhow::Result<(BootFiles, PathBuf)> {
    let files = tools::boot_files(packages)?;
    let comet = tools::cometbft(packages, &|text| println!("  {text}"))?;
    Ok((files, comet))
}

/// Runs a command in the project's folder and shows what it says.
pub fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let status = std::process::Command::new(program)
        .args(arguments)
        .current_dir(workspace::root())
        .status()
        .with_context(|| format!("running {program}"))?;
    if !status.success() {
        bail!("`{program} {}` failed", arguments.join(" "));
    }
    Ok(())
}
