//! NVIDIA's driver in an image: open kernel modules built for exactly the image's kernel, the
//! firmware of the cards' own processor (GSP), two libraries, and which card it drives.
//!
//! Everything comes from the distribution's packages, onto the machine of whoever builds: the
//! modules' source is free (MIT, in Debian's contrib), the firmware and the libraries are NVIDIA's
//! own and stay as they are.

pub mod ids;
pub mod patch;

use crate::{
    error::{At, Error},
    kernel::{Kernel, external},
    packages::{Package, Packages},
    recipe::Nvidia,
};
use protocol::{Digest, nvidia::Driver};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Where its package has the source: `usr/src/nvidia-current-open-550.163.01`.
const SOURCES: &str = "usr/src";
const FOLDER: &str = "nvidia-current-open-";
/// What is changed of it, where the kernel needs it.
const CHANGED: &str = "nvidia/nv-pci.c";
/// Where the kernel says how it calls.
const HEADER: &str = "include/linux/pci.h";
/// The lists of cards.
const LISTS: &str = "usr/share/nvidia/";
/// Arrays of one element at a structure's end, which its code has, would trap as out of bounds; and
/// a trap in the kernel ends the machine. The kernel's own build checks its own code.
const NO_TRAPS: &str = "UBSAN_SANITIZE=n";

/// What of NVIDIA's goes into an image beside firmware and libraries.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The modules' bytes, by name, signed.
    pub modules: BTreeMap<String, Vec<u8>>,
    /// What the image says of it.
    pub driver: Driver,
    /// The packages that these are made of: source and lists.
    pub packages: Vec<Package>,
}

impl Parts {
    /// The package that the modules' bytes come from.
    pub(crate) fn source(&self) -> &str {
        self.packages.first().map_or("", |package| &package.origin.name)
    }
}

/// Builds what the recipe says. `lacks` is what the flavour does not do.
///
/// # Errors
/// [`Error`]: packages, a kernel that was not built here, the compiler.
pub fn build(
    recipe: &Nvidia,
    kernel: &Kernel,
    packages: &Packages,
    lacks: &str,
) -> Result<Parts, Error> {
    let Some(built) = &kernel.built else {
        return Err(Error::NoModulesFor { what: "NVIDIA's modules".into() });
    };
    let fetched = packages.fetch(&[&recipe.source, &recipe.ids])?;
    let [source, lists] = fetched.as_slice() else {
        return Err(Error::bad_file("image.toml", "two packages of NVIDIA's were to be fetched"));
    };
    let (folder, version) = folder(source)?;
    let header = built.source.join(HEADER);
    let text = |path: &Path| fs::read_to_string(path).at(path);
    let changed = folder.join(CHANGED);
    let change = patch::resize(&text(&header)?, &text(&changed)?)
        .map_err(|detail| Error::bad_file(&changed, detail))?;
    let prepare = |to: &Path| -> Result<(), Error> {
        copy(&folder, to)?;
        match &change {
            Some(text) => fs::write(to.join(CHANGED), text).at(to),
            None => Ok(()),
        }
    };
    let wanted = format!("NV_KERNEL_MODULES={}", recipe.modules.join(" "));
    let modules = external::build(&external::Inputs {
        kernel,
        what: &format!("NVIDIA's modules {version}"),
        source: Digest::of("aliaOS NVIDIA source v1", &(&source.origin.sha256, &change)),
        prepare: &prepare,
        arguments: &["SYSSRC=@SOURCE", "SYSOUT=@OBJECTS", &wanted, NO_TRAPS, "modules"],
        modules: &recipe.modules,
        cache: packages.cache(),
        jobs: std::thread::available_parallelism().map_or(1, usize::from),
        say: packages.progress(),
    })?;
    let driver = Driver {
        branches: branches(lists, &version)?,
        version,
        modules: recipe.modules.iter().map(|name| crate::kmod::name(name)).collect(),
        lacks: lacks.into(),
    };
    Ok(Parts { modules, driver, packages: fetched })
}

/// The source's folder and version.
fn folder(package: &Package) -> Result<(PathBuf, String), Error> {
    let sources = package.root.join(SOURCES);
    for entry in fs::read_dir(&sources).at(&sources)? {
        let path = entry.at(&sources)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(version) = name.strip_prefix(FOLDER) {
            return Ok((path.clone(), version.into()));
        }
    }
    let detail = format!("the package has no {SOURCES}/{FOLDER}VERSION: look at what it is now");
    Err(Error::bad_file(sources, detail))
}

fn branches(lists: &Package, version: &str) -> Result<BTreeMap<u16, Vec<u16>>, Error> {
    let mut texts = Vec::new();
    for (inside, path) in lists.files(|path| path.starts_with(LISTS) && path.ends_with(".ids"))? {
        texts.push((inside[LISTS.len()..].to_string(), fs::read_to_string(&path).at(&path)?));
    }
    let texts = texts.iter().map(|(name, text)| (name.as_str(), text.as_str()));
    let branches = ids::branches(version, texts).map_err(|d| Error::bad_file(&lists.root, d))?;
    let ours = version.split('.').next().and_then(|branch| branch.parse::<u16>().ok());
    match ours {
        Some(ours) if branches.contains_key(&ours) => Ok(branches),
        _ => Err(Error::bad_file(&lists.root, format!("it lists no card of driver {version}"))),
    }
}

/// Copies a folder of files and folders.
fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    fs::create_dir_all(to).at(to)?;
    for entry in fs::read_dir(from).at(from)? {
        let entry = entry.at(from)?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().at(&from)?.is_dir() {
            copy(&from, &to)?;
        } else {
            fs::copy(&from, &to).at(&from)?;
        }
    }
    Ok(())
}
