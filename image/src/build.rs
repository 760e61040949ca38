//! The image builder: packages and two programs in; kernel, initramfs, root, manifest and report
//! out.
//!
//! The initramfs is two compressed archives one after the other, which the kernel unpacks in
//! turn: what comes from packages, and PID 1. The first is the larger by far, changes
//! seldom, and is kept in the cache by the digest of its content.

mod libraries;
pub(crate) mod modules;

use crate::{
    cpio::{Node, PathError, Tree},
    elf,
    error::{At, Error},
    kernel::Kernel,
    licences,
    microcode::{self, Maker},
    nvidia,
    packages::{Package, Packages},
    picture,
    recipe::{self, Flavour, Recipe},
    report::{self, MADE, OWNER, Place, Report},
    root,
    sbom::{self, Origins},
};
use modules::Modules;
use protocol::{
    Digest,
    boot::{ImageFile, ImageManifest, Microcode, RootImage},
    nvidia::DRIVER,
    release::ROOT_FILE,
    sandbox::SANDBOXES,
};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    path::{Path, PathBuf},
};

/// Where the files of Debian's library packages lie below a package's root.
const LIBRARY_FOLDERS: [&str; 3] = [
    "usr/lib/x86_64-linux-gnu",
    "lib/x86_64-linux-gnu",
    // NVIDIA's, where several versions of them can be installed.
    "usr/lib/x86_64-linux-gnu/nvidia/current",
];
/// Where they lie in the image: on the default search path of Debian's loader.
const LIBRARIES: &str = "/usr/lib/x86_64-linux-gnu";
/// What PID 1 reads about its own image.
const BUILD_JSON: &str = "/etc/alia/build.json";
/// What machines fetch, beside the manifest.
const KERNEL: &str = "vmlinuz";
const INITRAMFS: &str = "initramfs.zst";
const ROOT: &str = "root.erofs";

/// What an image is built from.
pub struct Inputs<'a> {
    /// What goes in.
    pub recipe: &'a Recipe,
    /// Where packages come from; its suite is the recipe's.
    pub packages: &'a Packages,
    /// The kernel.
    pub kernel: Kernel,
    /// Libraries to take in place of the recipe's packages' own.
    pub libraries: Option<Vec<Package>>,
    /// node-init, a static program.
    pub init: &'a Path,
    /// The compute service.
    pub compute: &'a Path,
    /// What it is built for: a flavour of the recipe.
    pub flavour: &'a str,
    /// The flavour's own programs, by name.
    pub others: &'a BTreeMap<String, PathBuf>,
    /// What programs and kernel were made with.
    pub origins: &'a Origins,
    /// The image's version.
    pub version: &'a str,
    /// The TUF root that machines trust releases by.
    pub trust: &'a [u8],
    /// The folder that the image is written to.
    pub output: &'a Path,
}

/// An image that was built.
#[derive(Clone, Debug)]
pub struct Build {
    /// Its folder.
    pub folder: PathBuf,
    /// What the provisioner serves by.
    pub manifest: ImageManifest,
    /// Where each byte came from.
    pub report: Report,
}

/// The packages of an image.
pub struct Parts {
    /// The kernel.
    pub kernel: Kernel,
    /// Firmware.
    pub firmware: Vec<Package>,
    /// Libraries.
    pub libraries: Vec<Package>,
    /// Of those, the ones that programs load while they run, by name.
    pub loaded: Vec<String>,
    /// Microcode, AMD's and Intel's.
    pub microcode: Vec<(Maker, Package)>,
    /// NVIDIA's driver.
    pub nvidia: Option<nvidia::Parts>,
}

impl Parts {
    /// All packages but the kernel's.
    fn packages(&self) -> impl Iterator<Item = &Package> {
        let nvidia = self.nvidia.iter().flat_map(|nvidia| &nvidia.packages);
        let microcode = self.microcode.iter().map(|(_, package)| package);
        self.firmware.iter().chain(&self.libraries).chain(microcode).chain(nvidia)
    }
}

/// Fetches the recipe's packages, builds the image, and writes `vmlinuz`, `initramfs.zst`,
/// `root.erofs`, the archives of microcode, `report.json`, `report.txt`, `report.svg`, `sbom.json`, `licences.txt` and, last,
/// `manifest.json`.
///
/// # Errors
/// [`Error`]; an image over its budget among them, which has all its files but the manifest.
pub fn build(inputs: &Inputs<'_>) -> Result<Build, Error> {
    let (recipe, flavour) = inputs.recipe.flavoured(inputs.flavour)?;
    let parts = fetch(inputs, &recipe, &flavour)?;
    let init = fs::read(inputs.init).at(inputs.init)?;
    let compute = fs::read(inputs.compute).at(inputs.compute)?;
    let mut others = Vec::new();
    for (name, path) in &flavour.programs {
        let file = inputs.others.get(name).ok_or_else(|| Error::Recipe {
            path: "image.toml".into(),
            detail: format!("the flavour {} names {name:?}: nothing builds it", inputs.flavour),
        })?;
        others.push((path.clone(), file.clone(), fs::read(file).at(file)?));
    }
    let programs =
        Programs { init: (inputs.init, init), compute: (inputs.compute, compute), others };
    let mut content = assemble(&recipe, &parts, programs, inputs.version)?;
    let trust = content.ours.file(ROOT_FILE, inputs.trust.to_vec(), false);
    trust.map_err(|error| Error::bad_file(ROOT_FILE, error))?;
    let trust = listed(Place::Initramfs, &plain(ROOT_FILE), inputs.trust, OWNER);
    content.report.files.push(trust);
    let level = recipe.compression_level;
    let cache = inputs.packages.cache();
    let base = compressed(&content.base.to_newc(), level, cache)?;
    let ours = compressed(&content.ours.to_newc(), level, cache)?;
    let root = root::Builder::new(inputs.packages, &recipe.root)?;
    let root = root.build(&content.root, content.unix_time)?;
    let mut report = content.report;
    report.compressed = [
        ("initramfs: packages".into(), base.len() as u64),
        ("initramfs: PID 1".into(), ours.len() as u64),
        ("root".into(), root.bytes.len() as u64),
    ]
    .into_iter()
    .collect();
    let initramfs = [base, ours].concat();

    let output = inputs.output;
    fs::create_dir_all(output).at(output)?;
    let manifest = ImageManifest {
        version: inputs.version.into(),
        kernel_release: content.kernel_release,
        kernel: put(output, KERNEL, &content.kernel)?,
        initramfs: put(output, INITRAMFS, &initramfs)?,
        root: RootImage { file: put(output, ROOT, &root.bytes)?, verity: root.verity },
        microcode: put_microcode(output, &content.microcode)?,
        unix_time: content.unix_time,
    };
    report.image = Some(manifest.clone());
    report.flavour = inputs.flavour.into();
    report.budget = flavour.budget.of(parts.kernel.kind);
    let configuration = parts.kernel.configuration()?;
    let configuration = fs::read(&configuration).at(&configuration)?;
    report.kernel_configuration = sha256(&configuration);
    put(output, "report.json", &json(&report))?;
    put(output, "report.txt", report.to_string().as_bytes())?;
    put(output, "report.svg", picture::sizes(&report).as_bytes())?;
    put(
        output,
        "sbom.json",
        &json(&sbom::bill(&manifest, &report, &recipe.suite, inputs.origins)),
    )?;
    let packages: Vec<&Package> = parts.packages().collect();
    let licences = licences::collect(&parts.kernel, &packages, inputs.origins)?;
    put(output, "licences.txt", licences.as_bytes())?;
    if manifest.bytes() > report.budget {
        return Err(Error::Budget {
            flavour: inputs.flavour.into(),
            bytes: manifest.bytes(),
            over: manifest.bytes() - report.budget,
            budget: report.budget,
            folder: output.into(),
        });
    }
    put(output, "manifest.json", &json(&manifest))?;
    Ok(Build { folder: output.into(), manifest, report })
}

fn fetch(inputs: &Inputs<'_>, recipe: &Recipe, flavour: &Flavour) -> Result<Parts, Error> {
    let Inputs { packages, kernel, .. } = inputs;
    // One call for all, so that they are fetched together.
    let fetch = |packages: &Packages, firmware: &[String], libraries: &[String]| {
        let mut fetched = packages.fetch(&[firmware, libraries].concat())?.into_iter();
        let firmware: Vec<Package> = fetched.by_ref().take(firmware.len()).collect();
        Ok::<_, Error>((firmware, fetched.collect::<Vec<_>>()))
    };
    let Recipe { firmware, libraries, .. } = recipe;
    let recipe::Microcode { amd, intel } = recipe.microcode.clone();
    let microcode = [amd, intel];
    let makers = [Maker::Amd, Maker::Intel];
    let first = [microcode.as_slice(), &firmware.packages].concat();
    let (mut firmware, fetched) = fetch(packages, &first, &libraries.packages)?;
    let mut libraries = inputs.libraries.clone().unwrap_or(fetched);
    let microcode = makers.into_iter().zip(firmware.drain(..microcode.len())).collect();
    let more = packages.with_components(&flavour.components)?;
    if !flavour.firmware.is_empty() || !flavour.libraries.is_empty() {
        let (of_cards, of_programs) = fetch(&more, &flavour.firmware, &flavour.libraries)?;
        firmware.extend(of_cards);
        libraries.extend(of_programs);
    }
    let nvidia = flavour.nvidia.as_ref();
    let nvidia = nvidia.map(|nvidia| nvidia::build(nvidia, kernel, &more, &flavour.lacks));
    let (kernel, loaded) = (kernel.clone(), flavour.loaded.clone());
    Ok(Parts { kernel, firmware, libraries, loaded, microcode, nvidia: nvidia.transpose()? })
}

/// Fetches the distribution's own kernel, which the recipe's metapackage names.
pub fn prebuilt(recipe: &Recipe, packages: &Packages) -> Result<Kernel, Error> {
    let missing = || Error::Missing {
        what: "a kernel (a dependency linux-image-…)".into(),
        packages: recipe.kernel.package.clone(),
        mend: "name a kernel metapackage in image.toml",
    };
    let meta = packages.fetch(&[&recipe.kernel.package])?.pop().ok_or_else(missing)?;
    let name = meta.dependency("linux-image-").ok_or_else(missing)?;
    Ok(Kernel::prebuilt(packages.fetch(&[name])?.pop().ok_or_else(missing)?))
}

/// The two programs, with where they were read from.
pub struct Programs<'a> {
    /// node-init.
    pub init: (&'a Path, Vec<u8>),
    /// The compute service.
    pub compute: (&'a Path, Vec<u8>),
    /// A flavour's own: path in the root, where it was read from, content.
    pub others: Vec<(String, PathBuf, Vec<u8>)>,
}

/// What goes into an image, before compression.
pub struct Content {
    /// The kernel.
    pub kernel: Vec<u8>,
    /// As `uname -r` prints it.
    pub kernel_release: String,
    /// Of the newest package, seconds since 1970.
    pub unix_time: u64,
    /// Of the initramfs, what comes from packages.
    pub base: Tree,
    /// Of the initramfs, PID 1 and what tells it of the image.
    pub ours: Tree,
    /// The root.
    pub root: Tree,
    /// Archives of microcode.
    pub microcode: Vec<(Maker, Vec<u8>)>,
    /// Where each byte came from.
    pub report: Report,
}

/// Puts an image together. Reads the packages' trees and nothing else.
pub fn assemble(
    recipe: &Recipe,
    parts: &Parts,
    programs: Programs<'_>,
    version: &str,
) -> Result<Content, Error> {
    let mut report = Report::default();
    let (mut base, mut ours, mut root) = (Tree::default(), Tree::default(), Tree::default());
    let bad_path =
        |error: PathError| Error::Recipe { path: "image.toml".into(), detail: error.to_string() };
    for folder in &recipe.folders {
        base.put(folder, Node::Folder).map_err(bad_path)?;
        root.put(folder, Node::Folder).map_err(bad_path)?;
    }
    // The kernel opens the first for PID 1 before anything is mounted; programs want the second.
    for (path, major, minor) in [("/dev/console", 5, 1), ("/dev/null", 1, 3)] {
        base.put(path, Node::Device { major, minor }).map_err(bad_path)?;
    }

    let (kernel_path, kernel_release) = parts.kernel.image()?;
    let kernel = fs::read(&kernel_path).at(&kernel_path)?;
    report.add("kernel", &kernel);
    report.kernel = parts.kernel.kind;
    report.stands_beside(KERNEL, &parts.kernel.origin.name);
    report.stands_beside(INITRAMFS, MADE);
    report.stands_beside(ROOT, MADE);
    let mut from = BTreeMap::new();
    let mut modules = Modules::read(recipe, &parts.kernel, &kernel_release)?;
    for (name, bytes) in parts.nvidia.iter().flat_map(|nvidia| &nvidia.modules) {
        let path = modules.add(name, bytes.clone())?;
        let source = parts.nvidia.as_ref().map(nvidia::Parts::source);
        from.insert(path, source.unwrap_or_default().into());
    }
    let all = modules.names();
    let early = modules.early(recipe)?;
    modules.report(&mut report);
    let nothing = BTreeSet::new();
    for (names, before, tree) in [(&early, &nothing, &mut base), (&all, &early, &mut root)] {
        modules.put(names, before, tree).map_err(bad_path)?;
        report.firmware_absent =
            modules.put_firmware(names, before, &parts.firmware, tree, &mut from)?;
    }
    for (path, node) in base.iter().chain(root.iter()) {
        if let (true, Node::File { bytes, .. }) = (path.starts_with("lib/firmware/"), node) {
            report.add("firmware", bytes);
        }
    }

    let (init_path, init) = programs.init;
    let needs = elf::needs(&init).map_err(|error| Error::bad_file(init_path, error))?;
    if needs.interpreter.is_some() || !needs.libraries.is_empty() {
        let detail = "PID 1 must be static: build it with -C target-feature=+crt-static";
        return Err(Error::bad_file(init_path, detail));
    }
    report.add("init", &init);
    ours.file(&recipe.programs.init, init, true).map_err(bad_path)?;
    let (compute_path, compute) = programs.compute;
    libraries::put(&parts.libraries, compute_path, &compute, &mut root, &mut report, &mut from)?;
    report.add("compute", &compute);
    root.file(&recipe.programs.compute, compute, true).map_err(bad_path)?;
    from.insert(plain(&recipe.programs.init), "node-init".into());
    from.insert(plain(&recipe.programs.compute), "compute".into());
    for (path, file, bytes) in programs.others {
        let name = path.rsplit('/').next().unwrap_or(&path).to_string();
        libraries::put(&parts.libraries, &file, &bytes, &mut root, &mut report, &mut from)?;
        report.add(&name, &bytes);
        root.file(&path, bytes, true).map_err(bad_path)?;
        from.insert(plain(&path), name);
    }

    let mut microcode = Vec::new();
    for (maker, package) in &parts.microcode {
        let archive = microcode::archive(*maker, package)?;
        report.add("microcode", &archive);
        report.stands_beside(maker.file(), &package.origin.name);
        microcode.push((*maker, archive));
    }
    let loaded = &parts.loaded;
    libraries::put_loaded(&parts.libraries, loaded, &mut root, &mut report, &mut from)?;
    if let Some(nvidia) = &parts.nvidia {
        root.file(DRIVER, json(&nvidia.driver), false).map_err(bad_path)?;
    }

    let others = parts.packages().map(|package| &package.origin);
    report.packages = [&parts.kernel.origin].into_iter().chain(others).cloned().collect();
    let unix_time = report.packages.iter().map(|origin| origin.unix_time).max();
    let unix_time = unix_time.unwrap_or_default();
    let build = serde_json::json!({
        "version": version,
        "kernel_release": kernel_release,
        "unix_time": unix_time,
    });
    ours.file(BUILD_JSON, json(&build), false).map_err(bad_path)?;
    root.file(BUILD_JSON, json(&build), false).map_err(bad_path)?;
    root.file(SANDBOXES, json(&recipe.sandboxes), false).map_err(bad_path)?;
    // PID 1 writes what the network's servers say; the root cannot be written.
    root.put("/etc/resolv.conf", Node::Link("/run/resolv.conf".into())).map_err(bad_path)?;
    // As the kernel's own build has them: its modules, and which of them are built in.
    let of_kernel = |path: &str| path.ends_with(".ko") || path.ends_with("/modules.builtin");
    for (place, tree) in
        [(Place::Initramfs, &base), (Place::Initramfs, &ours), (Place::Root, &root)]
    {
        for (path, node) in tree.files() {
            let Node::File { bytes, .. } = node else { continue };
            let from = match from.get(path) {
                Some(from) => from.as_str(),
                None if of_kernel(path) => parts.kernel.origin.name.as_str(),
                None => MADE,
            };
            report.files.push(listed(place, path, bytes, from));
        }
    }
    Ok(Content { kernel, kernel_release, unix_time, base, ours, root, microcode, report })
}

/// Writes the archives of microcode.
fn put_microcode(output: &Path, archives: &[(Maker, Vec<u8>)]) -> Result<Microcode, Error> {
    let mut microcode = Microcode::default();
    for (maker, archive) in archives {
        let file = Some(put(output, maker.file(), archive)?);
        match maker {
            Maker::Amd => microcode.amd = file,
            Maker::Intel => microcode.intel = file,
        }
    }
    Ok(microcode)
}

/// A file as the report has it.
fn listed(place: Place, path: &str, bytes: &[u8], from: &str) -> report::File {
    let (path, from, sha256) = (path.to_string(), from.to_string(), sha256(bytes));
    report::File { place, path, bytes: bytes.len() as u64, sha256, from }
}

/// A path as a tree has it.
fn plain(path: &str) -> String {
    path.trim_start_matches('/').into()
}

/// SHA-256 in hex.
fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// `bytes` under zstd; kept in the cache by digest.
pub fn compressed(bytes: &[u8], level: i32, cache: &Path) -> Result<Vec<u8>, Error> {
    let name =
        format!("{}-{level}-{}.zst", Digest::of_bytes(bytes), zstd::zstd_safe::version_number());
    let folder = cache.join("compressed");
    fs::create_dir_all(&folder).at(&folder)?;
    let path = folder.join(&name);
    if let Ok(kept) = fs::read(&path) {
        return Ok(kept);
    }
    // One thread: with more, how the input is cut would be part of the result.
    let packed = zstd::bulk::compress(bytes, level).at(&path)?;
    put(&folder, &name, &packed)?;
    Ok(packed)
}

/// Writes a file that appears whole or not at all.
fn put(folder: &Path, name: &str, bytes: &[u8]) -> Result<ImageFile, Error> {
    let partial = folder.join(format!("{name}.partial.{}", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut file = fs::File::create(&partial)?;
        file.write_all(bytes)?;
        fs::rename(&partial, folder.join(name))
    };
    write().at(&partial).inspect_err(|_| drop(fs::remove_file(&partial)))?;
    Ok(ImageFile { file: name.into(), digest: Digest::of_bytes(bytes), bytes: bytes.len() as u64 })
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    match serde_json::to_vec_pretty(value) {
        Ok(mut bytes) => {
            bytes.push(b'\n');
            bytes
        }
        Err(error) => unreachable!("plain structures with text keys become JSON: {error}"),
    }
}

#[cfg(test)]
mod tests;
