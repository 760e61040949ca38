//! A cross toolchain of distribution packages, laid out as Buildroot takes one: `usr/bin/TRIPLET-gcc`
//! beside a `sysroot`. The same on every host: neither its compiler nor its C library takes part.
//!
//! Each program is two lines of shell that start the real one by the loader of its own tree
//! ([`Tools`]), under the name that it was called by, because gcc finds its parts beside that name.

use crate::{
    error::{At, Error},
    packages::{Package, Packages},
    tools::Tools,
};
use protocol::Digest;
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

/// What its programs are named by.
pub const TRIPLET: &str = "x86_64-linux-gnu";
/// The compiler's version, as packages and folders have it in their names; Buildroot is told the
/// same by `BR2_TOOLCHAIN_EXTERNAL_GCC_14`.
const GCC: &str = "14";
/// What runs: the compiler, the binutils with what of theirs is no package of section `libs`, and
/// the tar that Buildroot would build where the host's is older than 1.35.
const PROGRAMS: [&str; 8] = [
    "gcc-14-x86-64-linux-gnu",
    "cpp-14-x86-64-linux-gnu",
    "binutils-x86-64-linux-gnu",
    "libbinutils",
    "libctf0",
    "libctf-nobfd0",
    "libsframe1",
    "tar",
];
/// What programs are compiled and linked with. Its kernel headers are of the kernel's own source:
/// `BR2_TOOLCHAIN_EXTERNAL_HEADERS_6_12`.
const SYSROOT: [&str; 4] = ["libc6", "libc6-dev", "libgcc-s1", "linux-libc-dev"];
/// The compiler's own objects and headers.
const COMPILER: &str = "libgcc-14-dev";
/// Programs that gcc runs, of its own and of the binutils.
const PARTS: [&str; 4] = ["cc1", "collect2", "lto-wrapper", "lto1"];
const BINUTILS: [&str; 4] = ["as", "ld", "nm", "strip"];
/// Changes when the same packages are laid out otherwise than before.
const MADE_BY: &str = "aliaOS toolchain v1";

/// A toolchain.
#[derive(Clone, Debug)]
pub struct Toolchain {
    root: PathBuf,
}

impl Toolchain {
    /// Fetches its packages and lays it out in the cache, where it is not there yet.
    ///
    /// # Errors
    /// As [`Tools::fetch`], the disk, and a package without what it should hold.
    pub fn fetch(packages: &Packages) -> Result<Self, Error> {
        let tools = Tools::fetch(packages, &PROGRAMS)?;
        let mut parts = packages.fetch(&[SYSROOT.as_slice(), &[COMPILER]].concat())?;
        let digests: Vec<&str> = parts.iter().map(|part| part.origin.sha256.as_str()).collect();
        let key = (tools.tree().display().to_string(), digests);
        let folder = packages.cache().join("toolchains");
        let root = folder.join(Digest::of(MADE_BY, &key).to_string());
        if !root.exists() {
            let work = root.with_extension(format!("partial.{}", std::process::id()));
            let _ = fs::remove_dir_all(&work);
            fs::create_dir_all(&work).at(&work)?;
            let compiler = parts.pop().ok_or_else(|| Error::bad_file(&work, "no compiler"))?;
            programs(&tools, &root.join("sysroot"), &work)?;
            own_files(&compiler, &work)?;
            sysroot(&parts, &work.join("sysroot"))?;
            fs::rename(&work, &root).at(&root)?;
        }
        Ok(Self { root })
    }

    /// The folder that has `bin/`: `BR2_TOOLCHAIN_EXTERNAL_PATH`.
    pub fn path(&self) -> PathBuf {
        self.root.join("usr")
    }

    /// tar, new enough for Buildroot.
    pub fn tar(&self) -> PathBuf {
        self.path().join("bin/tar")
    }
}

/// The folder of gcc's own programs or files.
fn of_gcc(kind: &str) -> String {
    format!("usr/{kind}/gcc/{TRIPLET}/{GCC}")
}

/// Scripts for all programs, below `work`; `sysroot` is where it will lie.
fn programs(tools: &Tools, sysroot: &Path, work: &Path) -> Result<(), Error> {
    let bin = work.join("usr/bin");
    fs::create_dir_all(&bin).at(&bin)?;
    let given = tools.has("usr/bin")?;
    for entry in fs::read_dir(&given).at(&given)? {
        let name = entry.at(&given)?.file_name().to_string_lossy().into_owned();
        if !name.starts_with(TRIPLET) {
            continue;
        }
        let short = name.strip_suffix(&format!("-{GCC}")).unwrap_or(&name);
        let compiles = ["gcc", "cpp"].iter().any(|last| short == format!("{TRIPLET}-{last}"));
        let more = compiles.then(|| format!("--sysroot={}", sysroot.display()));
        script(tools, &format!("usr/bin/{name}"), more.as_deref(), &bin.join(short))?;
    }
    tools.has("usr/bin/tar")?;
    script(tools, "usr/bin/tar", None, &bin.join("tar"))?;
    let own = of_gcc("libexec");
    let folder = work.join(&own);
    fs::create_dir_all(&folder).at(&folder)?;
    for part in PARTS {
        tools.has(&format!("{own}/{part}"))?;
        script(tools, &format!("{own}/{part}"), None, &folder.join(part))?;
    }
    // The linker reads it; it is not run.
    let plugin = "liblto_plugin.so";
    symlink(tools.has(&format!("{own}/{plugin}"))?, folder.join(plugin)).at(&folder)?;
    for name in BINUTILS {
        symlink(format!("../../../../bin/{TRIPLET}-{name}"), folder.join(name)).at(&folder)?;
    }
    Ok(())
}

/// Writes what starts a program of the tree, with one more argument before its own.
fn script(tools: &Tools, program: &str, more: Option<&str>, path: &Path) -> Result<(), Error> {
    let [first @ .., program] =
        tools.arguments(program).map(|word| quoted(&word.to_string_lossy()));
    let more = more.map(|word| format!(" {}", quoted(word))).unwrap_or_default();
    let (loader, first) = (quoted(&tools.loader().to_string_lossy()), first.join(" "));
    let text = format!("#!/bin/sh\nexec {loader} {first} --argv0 \"$0\" {program}{more} \"$@\"\n");
    fs::write(path, text).at(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).at(path)
}

/// A word of a shell's command.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The compiler's objects, its libraries that every program may need, and its headers.
fn own_files(compiler: &Package, work: &Path) -> Result<(), Error> {
    let folder = of_gcc("lib");
    let (from, to) = (compiler.root.join(&folder), work.join(&folder));
    let own = |name: &str| {
        name.starts_with("crt")
            || matches!(name, "libgcc.a" | "libgcc_eh.a" | "libgcc_s.so" | "libssp_nonshared.a")
    };
    copy_files(&from, &to, own)?;
    copy_tree(&from.join("include"), &to.join("include"))
}

/// Headers, and the C library in one folder: Buildroot knows no folder for each architecture.
fn sysroot(parts: &[Package], sysroot: &Path) -> Result<(), Error> {
    for part in parts {
        let headers = part.root.join("usr/include");
        if headers.exists() {
            copy_tree(&headers, &sysroot.join("usr/include"))?;
        }
        let libraries = part.root.join("usr/lib").join(TRIPLET);
        if libraries.exists() {
            copy_files(&libraries, &sysroot.join("lib"), |_| true)?;
        }
    }
    if sysroot.join("lib/libc.a").exists() {
        return Ok(());
    }
    Err(Error::bad_file(sysroot, "the packages of the C library hold no libc.a"))
}

/// Copies a folder's files and links, those of the folder alone; linker scripts lose their paths.
fn copy_files(from: &Path, to: &Path, wanted: impl Fn(&str) -> bool) -> Result<(), Error> {
    fs::create_dir_all(to).at(to)?;
    for entry in fs::read_dir(from).at(from)? {
        let entry = entry.at(from)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let (path, to) = (entry.path(), to.join(&name));
        let kind = entry.file_type().at(&path)?;
        if !wanted(&name) || kind.is_dir() {
            continue;
        }
        if kind.is_symlink() {
            link(&path, &to)?;
            continue;
        }
        let bytes = fs::read(&path).at(&path)?;
        let bytes = without_paths(&bytes).map_or(bytes, String::into_bytes);
        fs::write(&to, bytes).at(&to)?;
        let mode = fs::metadata(&path).at(&path)?.permissions();
        fs::set_permissions(&to, mode).at(&to)?;
    }
    Ok(())
}

/// The text of a linker script with bare names in place of the distribution's paths: the linker
/// looks for them in the sysroot. None where it is no such script. Pure.
fn without_paths(bytes: &[u8]) -> Option<String> {
    let text =
        std::str::from_utf8(bytes.starts_with(b"/* GNU ld script").then_some(bytes)?).ok()?;
    let folders = [format!("/usr/lib/{TRIPLET}/"), format!("/lib/{TRIPLET}/"), "/lib64/".into()];
    Some(folders.iter().fold(text.to_string(), |text, folder| text.replace(folder, "")))
}

/// Copies a folder with what its links lead to: headers of the kernel lie elsewhere.
fn copy_tree(from: &Path, to: &Path) -> Result<(), Error> {
    fs::create_dir_all(to).at(to)?;
    for entry in fs::read_dir(from).at(from)? {
        let entry = entry.at(from)?;
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        match path.is_dir() {
            true => copy_tree(&path, &to)?,
            false => fs::copy(&path, &to).map(drop).at(&path)?,
        }
    }
    Ok(())
}

fn link(path: &Path, to: &Path) -> Result<(), Error> {
    let target = fs::read_link(path).at(path)?;
    if to.symlink_metadata().is_ok() {
        fs::remove_file(to).at(to)?;
    }
    symlink(target, to).at(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linker_script_loses_its_paths_and_a_library_is_none() {
        let script = b"/* GNU ld script */\nGROUP ( /lib/x86_64-linux-gnu/libc.so.6 \
            /usr/lib/x86_64-linux-gnu/libc_nonshared.a AS_NEEDED ( /lib64/ld-linux-x86-64.so.2 ) )";
        let text = without_paths(script).unwrap();
        assert!(
            text.ends_with(
                "GROUP ( libc.so.6 libc_nonshared.a AS_NEEDED ( ld-linux-x86-64.so.2 ) )"
            ),
            "{text}"
        );
        assert_eq!(without_paths(b"\x7fELF /lib64/"), None);
    }

    #[test]
    fn words_reach_a_program_as_they_are() {
        let word = "a b'c$d";
        let text = format!("printf %s {}", quoted(word));
        let output = std::process::Command::new("sh").args(["-c", &text]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
    }
}
