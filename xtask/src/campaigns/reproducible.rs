//! What a release is made of, made twice: in different folders, at different times, by another cargo
//! folder; and the same bytes.

use super::hold;
use crate::{
    build::{self, KernelFrom, Place},
    setup::{self, Sources, recipe},
    workspace,
};
use anyhow::{Context, bail};
use lab::tools::Purpose;
use protocol::Digest;
use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    os::unix,
    path::Path,
    process::Command,
};

/// Leaves the kernel out, and the images of it, which is an hour.
const NO_KERNEL: &str = "ALIA_NO_KERNEL";
/// What of the cache is downloaded or unpacked, and nothing that is built.
const FETCHED: [&str; 3] = ["apt", "debs", "trees"];
const FLAVOURS: [&str; 2] = [build::CPU, "cuda"];

pub(super) fn run(sources: &Sources) -> anyhow::Result<()> {
    let mut more = Vec::new();
    for flavour in FLAVOURS {
        more.extend(setup::of_flavour(&recipe()?.flavoured(flavour)?.1));
    }
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    if !setup::announce(sources, Purpose::Kernel, &more)? {
        return Ok(());
    }
    setup::install(Purpose::Kernel)?;
    let folder = workspace::target().join("long/reproducible");
    let _ = fs::remove_dir_all(&folder);
    let places = programs(&folder)?;
    if env::var_os(NO_KERNEL).is_some() {
        println!("the kernel and the images are left out: {NO_KERNEL} is set");
        return Ok(());
    }
    images(sources, &places, &folder)
}

/// The programs of an image, from this checkout and from a copy of it.
fn programs(folder: &Path) -> anyhow::Result<[Place; 2]> {
    let ours = Place::ours()?;
    let other = Place {
        root: folder.join("elsewhere/checkout"),
        target: folder.join("elsewhere/built"),
        cargo_home: folder.join("another-cargo"),
    };
    copy(&ours.root, &other.root)?;
    fs::create_dir_all(&other.cargo_home)?;
    for file in ["config.toml", "config"] {
        let (from, to) = (ours.cargo_home.join(file), other.cargo_home.join(file));
        if from.exists() {
            fs::copy(&from, &to).with_context(|| from.display().to_string())?;
        }
    }
    for place in [&ours, &other] {
        println!("building node-init and compute in {}", place.root.display());
        place.init(&[])?;
        place.compute()?;
    }
    let programs = |place: &Place| -> anyhow::Result<[Digest; 2]> {
        Ok([digest(&place.init_path())?, digest(&place.compute()?)?])
    };
    let (first, second) = (programs(&ours)?, programs(&other)?);
    for (name, at) in [("node-init", 0), ("compute", 1)] {
        println!("{name}: {} and {}", first[at], second[at]);
    }
    hold(first == second, "two builds of the programs give the same bytes")?;
    Ok([ours, other])
}

/// What git has of a checkout, changes among it.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(from)
        .output()
        .context("running git")?;
    if !listed.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&listed.stderr).trim());
    }
    for name in listed.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = Path::new(std::str::from_utf8(name)?);
        let (from, to) = (from.join(name), to.join(name));
        // One that was deleted is listed still.
        if !from.is_file() {
            continue;
        }
        fs::create_dir_all(to.parent().context("a file in no folder")?)?;
        fs::copy(&from, &to).with_context(|| from.display().to_string())?;
    }
    Ok(())
}

/// Images before they are signed, of each place's programs: of a kernel, and modules, that the cache
/// may have, and of those that another cache has to have built.
fn images(sources: &Sources, places: &[Place; 2], folder: &Path) -> anyhow::Result<()> {
    let usual = workspace::cache();
    // The kernel's makefiles take no space in a folder's name.
    let other = folder.join("another-cache");
    fs::create_dir_all(&other)?;
    let first = setup::packages(sources)?;
    for name in FETCHED {
        unix::fs::symlink(usual.join(name), other.join(name)).with_context(|| name.to_string())?;
    }
    let second = setup::packages_in(sources, other)?;
    for flavour in FLAVOURS {
        let mut made = Vec::new();
        for (number, (place, packages)) in places.iter().zip([&first, &second]).enumerate() {
            let output = folder.join(format!("{flavour}-{}", number + 1));
            println!("building the image of flavour {flavour} into {}", output.display());
            let programs = (place.init_path(), place.compute()?);
            build::unsigned(
                packages,
                KernelFrom::Source,
                flavour,
                (&programs.0, &programs.1),
                &output,
            )?;
            made.push(files(&output)?);
        }
        let [first, second] = &made[..] else { bail!("two images were not made") };
        for (name, digest) in first {
            println!("  {digest} {name}");
        }
        let names = first.keys().chain(second.keys());
        let differ: BTreeSet<_> =
            names.filter(|name| first.get(*name) != second.get(*name)).collect();
        let same = differ.is_empty() && first.contains_key("manifest.json");
        hold(
            same,
            &format!("two images of flavour {flavour} are the same bytes; differ: {differ:?}"),
        )?;
    }
    Ok(())
}

/// The digest of each file of a folder.
fn files(folder: &Path) -> anyhow::Result<BTreeMap<String, Digest>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            found.insert(entry.file_name().to_string_lossy().into(), digest(&entry.path())?);
        }
    }
    Ok(found)
}

fn digest(path: &Path) -> anyhow::Result<Digest> {
    Ok(Digest::of_bytes(&fs::read(path).with_context(|| path.display().to_string())?))
}
