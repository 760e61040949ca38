//! `cargo xtask image`: the image alone.

use crate::{
    build::{self, KernelFrom},
    buildroot, setup,
    setup::Sources,
    workspace,
};
use ::image::{
    Packages, Recipe,
    drivers::{self, Driver, Place},
    kernel::Kind,
};
use anyhow::{Context, bail};
use lab::tools::Purpose;
use protocol::boot::ImageManifest;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

/// Builds the image that machines boot: kernel, initramfs, root, manifest and a report of what is in it.
#[derive(clap::Args, Debug)]
pub struct Flags {
    #[command(flatten)]
    sources: Sources,
    /// The kernel: the distribution's own, or its source with our options, which takes a while
    /// once.
    #[arg(long, value_enum, default_value = "prebuilt")]
    kernel: KernelFrom,
    /// What compiles kernel and programs. Buildroot always builds the kernel from source.
    #[arg(long, value_enum, default_value = "own")]
    builder: Builder,
    /// The folder of Buildroot's tree, for `--builder buildroot`: docs/image.md says which.
    #[arg(long, value_name = "DIR", env = buildroot::TREE)]
    buildroot: Option<PathBuf>,
    /// What Buildroot's last step asks for: the image of what lies in this output folder of its.
    #[arg(long, value_name = "DIR", hide = true)]
    built: Option<PathBuf>,
    /// What it is for: cpu, cuda, validator; `image/image.toml` names them all.
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
    /// Instead of building, list the distribution kernel's drivers of wired networks and disks:
    /// which of them are in the image, which are not and why. Fails where one is neither
    #[arg(long)]
    drivers: bool,
}

/// What compiles an image's kernel and programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Builder {
    /// This command, by cargo and, for a kernel from source, the host's compiler.
    Own,
    /// Buildroot, with a toolchain of the suite's.
    Buildroot,
}

/// Builds the image.
pub fn run(flags: Flags) -> anyhow::Result<()> {
    if let Some(built) = &flags.built {
        let packages = setup::packages(&flags.sources)?;
        let output = flags.output.clone().unwrap_or_else(workspace::image);
        buildroot::image_of(&packages, built, &flags.flavour, &output)?;
        return Ok(());
    }
    let purpose = match flags.builder {
        Builder::Own => flags.kernel.purpose(),
        Builder::Buildroot => Purpose::Buildroot,
    };
    let (_, flavour) = setup::recipe()?.flavoured(&flags.flavour)?;
    let more = setup::of_flavour(&flavour);
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    if !setup::announce(&flags.sources, purpose, &more)? {
        return Ok(());
    }
    setup::install(purpose)?;
    let packages = setup::packages(&flags.sources)?;
    if flags.drivers {
        return drivers(&packages);
    }
    let output = flags.output.clone().unwrap_or_else(workspace::image);
    if flags.builder == Builder::Own && !flags.no_build {
        build::programs()?;
    }
    let at = Instant::now();
    match flags.builder {
        Builder::Own => {
            build::image_into(&packages, flags.kernel, &flags.flavour, &output)?;
        }
        Builder::Buildroot => {
            let tree = flags.buildroot.as_deref().context(
                "name the folder of Buildroot's tree by --buildroot DIR; docs/image.md says how \
                 to get it",
            )?;
            buildroot::image(&packages, tree, &flags.flavour, &output)?;
        }
    }
    let manifest = &manifest(&output)?;
    let (_, flavour) = setup::recipe()?.flavoured(&flags.flavour)?;
    let kind = match (flags.builder, flags.kernel) {
        (Builder::Own, KernelFrom::Prebuilt) => Kind::Prebuilt,
        _ => Kind::Source,
    };
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
        flavour.budget.of(kind) as f64 / 1e6
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

/// The manifest of an image's folder.
pub(crate) fn manifest(folder: &Path) -> anyhow::Result<ImageManifest> {
    let path = folder.join("manifest.json");
    let said = || path.display().to_string();
    serde_json::from_slice(&fs::read(&path).with_context(said)?).with_context(said)
}

/// Holds `image.toml` against the distribution kernel's drivers: each is in the image or left out for a
/// reason.
pub(crate) fn surveyed(packages: &Packages) -> anyhow::Result<()> {
    let recipe = setup::recipe()?;
    let drivers = drivers::survey(&build::kernel(KernelFrom::Prebuilt, packages)?, &recipe)?;
    println!("image.toml says of each of {} drivers whether it is in the image", drivers.len());
    said(&drivers, &recipe)
}

fn said(drivers: &[Driver], recipe: &Recipe) -> anyhow::Result<()> {
    let unsaid = drivers.iter().filter(|driver| driver.place == Place::Unsaid);
    let unsaid: Vec<&str> = unsaid.map(|driver| driver.name.as_str()).collect();
    let stale = drivers::stale(drivers, recipe);
    if !unsaid.is_empty() || !stale.is_empty() {
        bail!(
            "image.toml: say of {unsaid:?} whether they are in kernel.modules or kernel.left_out; \
             of what is left out, {stale:?} are no drivers of this kernel's or in the image"
        );
    }
    Ok(())
}

/// Lists the kernel's drivers.
fn drivers(packages: &Packages) -> anyhow::Result<()> {
    let kernel = build::kernel(KernelFrom::Prebuilt, packages)?;
    let recipe = setup::recipe()?;
    let drivers = drivers::survey(&kernel, &recipe)?;
    println!("{:<16} {:>4} {:>4} {:>5}  in the image", "driver", "PCI", "USB", "other");
    for driver in &drivers {
        let place = match &driver.place {
            Place::In => "yes",
            Place::LeftOut(why) => why,
            Place::Unsaid => "NOBODY SAYS",
        };
        let (name, pci, usb, other) = (&driver.name, driver.pci, driver.usb, driver.other);
        println!("{name:<16} {pci:>4} {usb:>4} {other:>5}  {place}");
    }
    let ids = |taken: bool| -> usize {
        let these = drivers.iter().filter(|driver| (driver.place == Place::In) == taken);
        these.map(|driver| driver.pci + driver.usb + driver.other).sum()
    };
    println!("{} ids have a driver in the image, {} have none", ids(true), ids(false));
    said(&drivers, &recipe)
}
