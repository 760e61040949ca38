//! What is linked into an image's programs: crates as cargo resolves them, what compilers add, and
//! the modules of programs in Go.

use crate::{build, workspace};
use anyhow::{Context, bail};
use image::{
    golang,
    sbom::{Crate, Origins, Runtime},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    process::Command,
};

/// The package of the C library that is linked into static programs.
pub(crate) const LIBC: &str = "libc6-dev";

/// What an image's programs are compiled with: of compilers their own words, `NAME VERSION …`.
pub(crate) struct Compilers {
    pub(crate) rustc: String,
    /// Of what is C in crates, and what links.
    pub(crate) cc: String,
    /// Of a kernel that was built here, where that is another.
    pub(crate) kernel: Option<String>,
    /// The version of [`LIBC`].
    pub(crate) libc: String,
}

impl Compilers {
    /// The host's; `kernel` where it compiled a kernel, too.
    pub(crate) fn of_host(kernel: bool) -> anyhow::Result<Self> {
        let version = |program| said(program, &["--version"]);
        Ok(Self {
            rustc: version("rustc")?,
            cc: version("cc")?,
            kernel: kernel.then(|| version("gcc")).transpose()?,
            // A host of another distribution cannot say it.
            libc: said("dpkg-query", &["--show", "--showformat=${Version}\n", LIBC])
                .unwrap_or_default(),
        })
    }
}

/// What the programs of an image with these others, and a kernel built here, are made with.
pub(crate) fn origins(
    others: &BTreeMap<String, PathBuf>,
    with: Compilers,
) -> anyhow::Result<Origins> {
    let lock = fs::read_to_string(workspace::root().join("Cargo.lock")).context("Cargo.lock")?;
    let programs = build::ours(others);
    let mut trees = BTreeMap::new();
    for program in &programs {
        trees.insert(*program, tree(program)?);
    }
    let mut go = BTreeMap::new();
    for (name, path) in others.iter().filter(|(name, _)| !programs.contains(&name.as_str())) {
        let said = || path.display().to_string();
        let bytes = fs::read(path).with_context(said)?;
        go.insert(name.clone(), golang::build(&bytes).with_context(said)?);
    }
    let crates = linked(&trees, &checksums(&lock));
    let licences = licences(&crates)?;
    let runtimes = runtimes(&programs, &with);
    let compilers = [with.rustc, with.cc].into_iter().chain(with.kernel).collect();
    Ok(Origins { crates, licences, compilers, runtimes, go })
}

/// What compilers add to programs. Pure.
fn runtimes(programs: &[&str], with: &Compilers) -> Vec<Runtime> {
    let runtime = |name: &str, version: &str, programs: &[&str]| Runtime {
        name: name.into(),
        version: version.into(),
        programs: programs.iter().map(|program| program.to_string()).collect(),
    };
    let version = |said: &str| {
        let version = said.split_once(' ').map(|(_, version)| version.to_string());
        version.unwrap_or_default()
    };
    vec![
        runtime("rust-std", &version(&with.rustc), programs),
        runtime("libgcc", &version(&with.cc), programs),
        // The others are loaded with the image's own.
        runtime(LIBC, &with.libc, &["node-init"]),
    ]
}

/// A crate as `cargo metadata` has it.
#[derive(serde::Deserialize)]
struct Package {
    name: String,
    version: String,
    manifest_path: PathBuf,
}

/// What `cargo metadata` says.
#[derive(serde::Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

/// What the files are called that crates have their licences in, as they begin.
const LICENCE_FILES: [&str; 6] =
    ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];

/// The texts of licences, with the crates that have them.
fn licences(crates: &[Crate]) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
    let output = Command::new(build::cargo())
        .args(["metadata", "--locked", "--format-version", "1"])
        .args(["--filter-platform", build::TARGET])
        .current_dir(workspace::root())
        .output()
        .context("running cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for Crate { name, version, .. } in crates {
        let is_it = |package: &&Package| (&package.name, &package.version) == (name, version);
        let Some(package) = metadata.packages.iter().find(is_it) else { continue };
        let folder = package.manifest_path.parent().context("a manifest without a folder")?;
        for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            let file = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
            if path.is_file() && LICENCE_FILES.iter().any(|begins| file.starts_with(begins)) {
                let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let whose = format!("{name} {version}");
                let all = texts.entry(text).or_default();
                if all.last() != Some(&whose) {
                    all.push(whose);
                }
            }
        }
    }
    Ok(texts)
}

/// What a program says, its first line.
pub(crate) fn said(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program).args(arguments).env("LC_ALL", "C").output();
    let output = output.with_context(|| format!("running {program}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().to_string())
}

/// A line for each crate that is linked into a program: `NAME vVERSION[ …]|LICENCE`.
fn tree(program: &str) -> anyhow::Result<String> {
    let output = Command::new(build::cargo())
        .args(["tree", "--locked", "--edges", "normal,no-proc-macro", "--prefix", "none"])
        .args(["--target", build::TARGET, "--format", "{p}|{l}", "--package", program])
        .current_dir(workspace::root())
        .output()
        .context("running cargo tree")?;
    if !output.status.success() {
        bail!("cargo tree: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Name and version of a crate.
type Named = (String, String);

/// The SHA-256 of each crate's archive that a Cargo.lock names. Pure.
fn checksums(lock: &str) -> BTreeMap<Named, String> {
    let of = |stanza: &str, key: &str| {
        let line = stanza.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
        line.map(|value| value.trim_matches('"').to_string())
    };
    let stanzas = lock.split("[[package]]");
    let read = |stanza: &str| {
        Some(((of(stanza, "name")?, of(stanza, "version")?), of(stanza, "checksum")?))
    };
    stanzas.filter_map(read).collect()
}

/// The crates of several programs' trees, each once. Pure.
fn linked(trees: &BTreeMap<&str, String>, checksums: &BTreeMap<Named, String>) -> Vec<Crate> {
    let mut found: BTreeMap<Named, (String, BTreeSet<String>)> = BTreeMap::new();
    for (program, tree) in trees {
        for line in tree.lines() {
            let Some((crate_, licence)) = line.split_once('|') else { continue };
            let mut words = crate_.split_whitespace();
            let (Some(name), Some(version)) = (words.next(), words.next()) else { continue };
            let named = (name.to_string(), version.trim_start_matches('v').to_string());
            // A crate that was there before has a mark behind its licence.
            let licence = licence.trim_end_matches("(*)").trim().replace('/', " OR ");
            found.entry(named).or_insert((licence, BTreeSet::new())).1.insert((*program).into());
        }
    }
    let of = |((name, version), (licence, programs)): (Named, (String, BTreeSet<String>))| Crate {
        sha256: checksums.get(&(name.clone(), version.clone())).cloned(),
        name,
        version,
        licence,
        programs: programs.into_iter().collect(),
    };
    found.into_iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compilers_add_their_libraries_and_the_static_program_has_a_c_library() {
        let with = Compilers {
            rustc: "rustc 1.95.0 (abc)".into(),
            cc: "cc (Debian 12.2.0-14) 12.2.0".into(),
            kernel: None,
            libc: "2.36-9".into(),
        };
        let added = runtimes(&["node-init", "compute"], &with);
        let told: Vec<_> = added.iter().map(|each| (each.name.as_str(), &*each.version)).collect();
        assert_eq!(
            told,
            [
                ("rust-std", "1.95.0 (abc)"),
                ("libgcc", "(Debian 12.2.0-14) 12.2.0"),
                (LIBC, "2.36-9")
            ]
        );
        assert_eq!(added[0].programs, ["node-init", "compute"]);
        assert_eq!(added[2].programs, ["node-init"]);
    }

    #[test]
    fn a_crate_of_two_programs_is_named_once_with_its_digest() {
        let lock = "[[package]]\nname = \"blake3\"\nversion = \"1.8.7\"\nsource = \"x\"\n\
                    checksum = \"abcd\"\n\n[[package]]\nname = \"compute\"\nversion = \"0.1.0\"\n";
        let trees = BTreeMap::from([
            ("compute", "compute v0.1.0 (/a/b)|Apache-2.0\nblake3 v1.8.7|CC0-1.0\n".to_string()),
            ("node-init", "blake3 v1.8.7|CC0-1.0\nblake3 v1.8.7|CC0-1.0 (*)\n".to_string()),
        ]);
        let crates = linked(&trees, &checksums(lock));
        assert_eq!(crates.len(), 2);
        assert_eq!(
            (crates[0].name.as_str(), crates[0].sha256.as_deref()),
            ("blake3", Some("abcd"))
        );
        assert_eq!(crates[0].programs, ["compute", "node-init"]);
        assert_eq!((crates[0].licence.as_str(), &crates[1].sha256), ("CC0-1.0", &None));
    }
}
