//! `image/buildroot` held against a tree of Buildroot's: its configurations, packages and their
//! graph, what licences they have, and a build of everything as far as its sources can be had.

use super::hold;
use crate::{
    build,
    buildroot::{self, Buildroot, TREE},
    image::manifest,
    setup::{self, Sources, recipe},
    workspace,
};
use anyhow::{Context, bail};
use image::Packages;
use lab::{Accelerator, accel, tools::Purpose};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
};

/// The flavour that is built; the others' configurations are held alone.
const BUILT: &str = build::CPU;
/// Ours by name, with the beginning of their licence.
const OURS: [(&str, &str); 3] =
    [("alia-compute", "Apache-2.0"), ("alia-init", "Apache-2.0"), ("alia-linux", "GPL-2.0")];
/// What no image of ours has.
const NEVER: [&str; 3] = ["busybox", "bash", "dropbear"];
/// The steps of a package, in order, by the files that tell of them in its folder.
const STEPS: [&str; 9] = [
    "downloaded",
    "extracted",
    "patched",
    "configured",
    "built",
    "images_installed",
    "staging_installed",
    "target_installed",
    "host_installed",
];

/// A package, as `make show-info` tells of it.
#[derive(Debug, Deserialize)]
struct Info {
    #[serde(default)]
    version: String,
    #[serde(default)]
    licenses: String,
    #[serde(default)]
    r#virtual: bool,
    #[serde(default)]
    dependencies: Vec<String>,
}

pub(super) fn run(sources: &Sources) -> anyhow::Result<()> {
    let Some(tree) = env::var_os(TREE).map(PathBuf::from) else {
        bail!("name the folder of Buildroot's tree in {TREE}; docs/image.md says how to get it");
    };
    if !setup::announce(sources, Purpose::Buildroot, &[])? {
        return Ok(());
    }
    setup::install(Purpose::Buildroot)?;
    let packages = setup::packages(sources)?;
    println!("Buildroot {}", buildroot::version(&tree)?);
    let mut unchecked = Vec::new();
    let flavours = recipe()?.flavours;
    for (name, flavour) in &flavours {
        if let Err(why) = buildroot::possible(flavour) {
            unchecked.push(format!("flavour {name}: {why}"));
            continue;
        }
        configuration(&packages, &tree, name)?;
    }
    let buildroot = Buildroot::prepare(&packages, &tree, BUILT)?;
    described(&packages, &buildroot)?;
    graph(&buildroot)?;
    if let Err(error) = legal(&buildroot) {
        unchecked.push(format!("licences by `make legal-info`: {error:#}"));
    }
    let output = workspace::target().join("long/buildroot-image");
    let _ = fs::remove_dir_all(&output);
    let built = buildroot::image(&packages, &tree, BUILT, &output);
    println!("how far each package came:");
    for (name, step) in progress(&buildroot.output().join("build"))? {
        println!("  {name:<32} {step}");
    }
    match built {
        Ok(()) => image(&output)?,
        Err(error) => unchecked.push(format!("the image: {error:#}")),
    }
    for what in &unchecked {
        println!("not checked: {what}");
    }
    let whole = !unchecked.iter().any(|what| what.starts_with("the image"));
    hold(whole, "everything was built, and the image of it boots")
}

/// Loads a flavour's configuration and saves it back.
fn configuration(packages: &Packages, tree: &Path, flavour: &str) -> anyhow::Result<()> {
    let buildroot = Buildroot::prepare(packages, tree, flavour)?;
    let name = buildroot::defconfig(flavour);
    let (said, errors) = buildroot.said(&[&name])?;
    let warns = |line: &&str| line.to_lowercase().contains("warning");
    let warnings: Vec<&str> = said.lines().chain(errors.lines()).filter(warns).collect();
    hold(warnings.is_empty(), &format!("{name} loads without a warning {warnings:?}"))?;
    let saved = buildroot.output().join("saved_defconfig");
    let to = format!("BR2_DEFCONFIG={}", saved.display());
    buildroot.said(&["savedefconfig", &to])?;
    let lost = difference(
        &fs::read_to_string(buildroot::external().join("configs").join(&name))?,
        &fs::read_to_string(&saved)?,
    );
    hold(lost.is_empty(), &format!("{name} is saved back as it was {lost:?}"))
}

/// Lines that only one of two texts has. Pure.
fn difference(before: &str, after: &str) -> Vec<String> {
    let [before, after] = [before, after].map(|text| text.lines().collect::<BTreeSet<_>>());
    before.symmetric_difference(&after).map(|line| line.to_string()).collect()
}

/// Holds what Buildroot says of our packages and of all that come with them.
fn described(packages: &Packages, buildroot: &Buildroot) -> anyhow::Result<()> {
    buildroot.said(&[&buildroot::defconfig(BUILT)])?;
    let (said, _) = buildroot.said(&["-s", "show-info"])?;
    let from = said.find('{').context("show-info says nothing")?;
    let all: BTreeMap<String, Info> = serde_json::from_str(&said[from..]).context("show-info")?;
    for (name, info) in all.iter().filter(|(_, info)| !info.r#virtual) {
        println!("  {name:<28} {:<12} {}", info.version, info.licenses);
    }
    let kernel = build::kernel_source(packages)?.origin.version;
    for (name, licence) in OURS {
        let info = all.get(name).with_context(|| format!("show-info has no {name}"))?;
        let version = if name == "alia-linux" { &kernel } else { env!("CARGO_PKG_VERSION") };
        let right = info.version == version && info.licenses.starts_with(licence);
        hold(right, &format!("{name} is of version {version} and under {licence}"))?;
        let needs = |other: &str| info.dependencies.iter().any(|name| name == other);
        let rust = name != "alia-linux";
        hold(
            needs("toolchain") && needs("host-rustc") == rust,
            &format!("{name} is built by the toolchain{}", if rust { " and rustc" } else { "" }),
        )?;
    }
    let strays: Vec<&&str> = NEVER.iter().filter(|name| all.contains_key(**name)).collect();
    hold(strays.is_empty(), &format!("no shell comes with them {strays:?}"))
}

/// Draws the graph of dependencies (as text: `dot` is Graphviz's) and asks for circles in it.
fn graph(buildroot: &Buildroot) -> anyhow::Result<()> {
    let output = buildroot.output();
    let dot = output.join("graph-depends.dot");
    for arguments in [vec!["--check-only".into()], vec!["-o".into(), dot.clone().into_os_string()]]
    {
        let script = buildroot.tree().join("support/scripts/graph-depends");
        let mut command = buildroot.command(&script.to_string_lossy(), output);
        let said = command.args(&arguments).output().context("running graph-depends")?;
        let errors = String::from_utf8_lossy(&said.stderr).into_owned();
        let holds = said.status.success() && !errors.to_lowercase().contains("recursion");
        hold(holds, &format!("graph-depends {arguments:?} finds no circle {}", errors.trim()))?;
    }
    let text = fs::read_to_string(&dot)?;
    let edge = |line: &str| Some(line.split_once(" [")?.0.to_string());
    let edges: BTreeSet<String> =
        text.lines().filter(|line| line.contains(" -> ")).filter_map(edge).collect();
    println!("  {} edges, in {}", edges.len(), dot.display());
    // An edge that follows from others is left out.
    for wanted in ["_aliainit -> _hostrustc", "_aliacompute -> _hostrustc", "_all -> _alialinux"] {
        hold(edges.contains(wanted), &format!("the graph has {wanted}"))?;
    }
    Ok(())
}

/// Has Buildroot collect licences, for which it fetches every source.
fn legal(buildroot: &Buildroot) -> anyhow::Result<()> {
    buildroot.said(&["legal-info"])?;
    let folder = buildroot.output().join("legal-info");
    let manifest = fs::read_to_string(folder.join("manifest.csv"))?;
    for (name, _) in OURS {
        let line = manifest.lines().find(|line| line.starts_with(&format!("\"{name}\"")));
        println!("  {}", line.unwrap_or_default());
        hold(line.is_some(), &format!("legal-info lists {name}"))?;
    }
    Ok(())
}

/// How far each package of a build folder came.
fn progress(build: &Path) -> anyhow::Result<BTreeMap<String, &'static str>> {
    let mut packages = BTreeMap::new();
    let Ok(entries) = fs::read_dir(build) else { return Ok(packages) };
    for entry in entries {
        let path = entry?.path();
        let last = STEPS.iter().rev().find(|step| path.join(format!(".stamp_{step}")).exists());
        if let (Some(step), Some(name)) = (last, path.file_name()) {
            packages.insert(name.to_string_lossy().into_owned(), *step);
        }
    }
    Ok(packages)
}

/// Holds the image that came of it, and boots it.
fn image(folder: &Path) -> anyhow::Result<()> {
    let manifest = manifest(folder)?;
    println!(
        "image of kernel {}: {:.1} MB to download; digest {}",
        manifest.kernel_release,
        manifest.bytes() as f64 / 1e6,
        manifest.digest()
    );
    for name in
        ["vmlinuz", "initramfs.zst", "root.erofs", "report.txt", "sbom.json", "licences.txt"]
    {
        hold(folder.join(name).exists(), &format!("it has its {name}"))?;
    }
    let boots = accel::boot_kernel(Accelerator::Tcg, folder);
    hold(boots.is_ok(), &format!("its kernel starts its PID 1 {boots:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_are_compared_by_their_lines() {
        assert_eq!(difference("A=y\nB=y\n", "B=y\nA=y\n"), [""; 0]);
        assert_eq!(difference("A=y\n# B is not set\n", "A=y\nC=y\n"), ["# B is not set", "C=y"]);
    }

    #[test]
    fn a_package_is_as_far_as_its_last_step() {
        let folder = tempfile::tempdir().unwrap();
        let stamp = |package: &str, step: &str| {
            let path = folder.path().join(package);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join(format!(".stamp_{step}")), "").unwrap();
        };
        stamp("alia-linux-6", "downloaded");
        stamp("alia-linux-6", "configured");
        stamp("host-rustc", "configured");
        stamp("host-rustc", "host_installed");
        let found = progress(folder.path()).unwrap();
        assert_eq!(found["alia-linux-6"], "configured");
        assert_eq!(found["host-rustc"], "host_installed");
    }
}
