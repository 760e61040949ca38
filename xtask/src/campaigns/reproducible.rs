//! What a release is made of, made twice: in different folders, at different times, by another cargo
//! folder; and the same bytes.

use super::hold;
use crate::{
    build::{self, KernelFrom, Place},
    setup::{self, Sources, recipe},
    workspace,
};
use anyhow::{Context, bail};
use image::kernel::source;
use lab::tools::Purpose;
use protocol::Digest;
use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

/// Leaves the kernel out, which is an hour of it.
const NO_KERNEL: &str = "ALIA_NO_KERNEL";

pub(super) fn run(sources: &Sources) -> anyhow::Result<()> {
    if !setup::announce(sources, Purpose::Kernel, &[])? {
        return Ok(());
    }
    setup::install(Purpose::Kernel)?;
    let folder = workspace::target().join("long/reproducible");
    let _ = fs::remove_dir_all(&folder);
    programs(&folder)?;
    if env::var_os(NO_KERNEL).is_some() {
        println!("the kernel is left out: {NO_KERNEL} is set");
        return Ok(());
    }
    kernel(sources, &folder)
}

/// The programs of an image, from this checkout and from a copy of it.
fn programs(folder: &Path) -> anyhow::Result<()> {
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
    hold(first == second, "two builds of the programs give the same bytes")
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

/// The kernel, from the cache or built now, and one more in another cache.
fn kernel(sources: &Sources, folder: &Path) -> anyhow::Result<()> {
    let packages = setup::packages(sources)?;
    let first = build::kernel(KernelFrom::Source, &packages)?;
    let recipe = recipe()?;
    let fetched = packages.fetch(&[&recipe.kernel.source.package])?;
    let second = source::build(&source::Inputs {
        package: fetched.first().context("the kernel's source was not fetched")?,
        options: &recipe.kernel.source.options,
        key: &workspace::keys().join("modules.pem"),
        cache: &folder.join("another-cache"),
        // How many compilers run at a time changes the order of what they do.
        jobs: std::thread::available_parallelism().map_or(2, usize::from) + 1,
        say: Arc::new(|text| println!("  {text}")),
    })?;
    let (first, second) = (tree(&first.root)?, tree(&second.root)?);
    let differ: Vec<_> = first
        .keys()
        .chain(second.keys())
        .filter(|path| first.get(*path) != second.get(*path))
        .collect();
    println!("{} files of the kernel: {} differ {differ:?}", first.len(), differ.len());
    hold(differ.is_empty() && first.len() > 100, "two builds of the kernel give the same bytes")
}

/// The digest of each file that goes into an image.
fn tree(root: &Path) -> anyhow::Result<BTreeMap<PathBuf, Digest>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.join("boot"), root.join("lib")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            } else if path.is_file() && !name_of_key(&path) {
                found.insert(path.strip_prefix(root)?.into(), digest(&path)?);
            }
        }
    }
    Ok(found)
}

/// Configurations name the builder's key, wherever that lies; no image holds them.
fn name_of_key(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("config-"))
}

fn digest(path: &Path) -> anyhow::Result<Digest> {
    Ok(Digest::of_bytes(&fs::read(path).with_context(|| path.display().to_string())?))
}
