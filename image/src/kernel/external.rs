//! Modules that are not of the kernel's own tree: built for exactly one kernel from source, and
//! signed with its key.
//!
//! In the cache, below `modules/`: a folder for each build, named by all that its bytes follow from.
//! Paths, times and users are not among that: what a compiler would tell of them is replaced.

use super::{Built, Kernel, kept, source};
use crate::{
    elf,
    error::{At, Error},
    packages::Progress,
};
use protocol::Digest;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What the kernel looks for at the end of a signed module (kernel/module/signing.c).
const SIGNED: &[u8] = b"~Module signature appended~\n";
/// As `MODULE_SIG_SHA512` of the kernel's options has it.
const HASH: &str = "sha512";
/// Changes when the same inputs become other bytes than before.
const MADE_BY: &str = "aliaOS external modules v1";

/// The source of modules.
pub struct Inputs<'a> {
    /// The kernel.
    pub kernel: &'a Kernel,
    /// For people: `NVIDIA's modules 550.163.01`.
    pub what: &'a str,
    /// A name for exactly this source, changes and all.
    pub source: Digest,
    /// Puts the source into an empty folder.
    pub prepare: &'a dyn Fn(&Path) -> Result<(), Error>,
    /// What its makefile is told; `@SOURCE` and `@OBJECTS` are the kernel's.
    pub arguments: &'a [&'a str],
    /// The modules that come of it: `nvidia-uvm`.
    pub modules: &'a [String],
    /// The cache's folder.
    pub cache: &'a Path,
    /// Compilers that run at a time.
    pub jobs: usize,
    /// Tells people how far it is.
    pub say: Progress,
}

/// Builds them, or takes them from the cache; by name, signed.
///
/// # Errors
/// [`Error`]: a kernel that is not from source, the compiler, the disk.
pub fn build(inputs: &Inputs<'_>) -> Result<BTreeMap<String, Vec<u8>>, Error> {
    let kernel = inputs.kernel;
    let Some(built) = &kernel.built else {
        return Err(Error::NoModulesFor { what: inputs.what.into() });
    };
    let objects = kernel.root.join(kept::FOLDER);
    if !objects.join("Module.symvers").exists() {
        let detail = "this kernel was built before what modules are built with was kept of it: \
                      delete the folder, and it is built again";
        return Err(Error::bad_file(&kernel.root, detail));
    }
    let (_, release) = kernel.image()?;
    let folder = inputs.cache.join("modules");
    fs::create_dir_all(&folder).at(&folder)?;
    let lock = folder.join("lock");
    let _lock = fs::File::create(&lock).and_then(|file| file.lock().map(|()| file)).at(&lock)?;
    // Its folder's name is the digest of all that the kernel is made of, key and compiler included.
    let name = kernel.root.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = Digest::of(MADE_BY, &(name, inputs.source, inputs.arguments, inputs.modules));
    let done = folder.join(name.to_string());
    if !done.exists() {
        let work = folder.join(format!("{name}.partial"));
        if work.exists() {
            fs::remove_dir_all(&work).at(&work)?;
        }
        let made = make(inputs, built, &objects, &work)?;
        fs::rename(&made, &done).at(&done)?;
        fs::remove_dir_all(&work).at(&work)?;
    }
    let read = |module: &String| {
        let path = done.join(format!("{module}.ko"));
        let bytes = fs::read(&path).at(&path)?;
        check(&bytes, &release).map_err(|detail| Error::bad_file(&path, detail))?;
        Ok((module.clone(), bytes))
    };
    inputs.modules.iter().map(read).collect()
}

/// Builds below `work`; gives the folder of the modules.
fn make(inputs: &Inputs<'_>, built: &Built, objects: &Path, work: &Path) -> Result<PathBuf, Error> {
    let (source, made) = (work.join("source"), work.join("made"));
    for folder in [&source, &made] {
        fs::create_dir_all(folder).at(folder)?;
    }
    (inputs.prepare)(&source)?;
    (inputs.say)(&format!("building {} for the kernel", inputs.what));
    // A kernel's build writes into its object tree, and this one is to stay as it is.
    let copy = work.join("objects");
    kept::keep(objects, &copy)?;
    let kernel = built.source.display().to_string();
    let objects = copy.display().to_string();
    let told = |argument: &&str| argument.replace("@SOURCE", &kernel).replace("@OBJECTS", &objects);
    // Where it is built is no part of what is built.
    let flags = [
        format!("-ffile-prefix-map={}=/modules", source.display()),
        format!("-ffile-prefix-map={objects}=/kernel"),
        format!("-ffile-prefix-map={kernel}=/kernel"),
    ];
    let mut make = Command::new("make");
    make.arg("-C")
        .arg(&source)
        .arg(format!("-j{}", inputs.jobs))
        .args(inputs.arguments.iter().map(told))
        .arg(format!("KCFLAGS={}", flags.join(" ")))
        .env("LC_ALL", "C");
    source::stamps(&mut make, inputs.kernel.origin.unix_time);
    source::run(&mut make, &inputs.say)?;
    for module in inputs.modules {
        let (from, to) = (source.join(format!("{module}.ko")), made.join(format!("{module}.ko")));
        fs::copy(&from, &to).at(&from)?;
        // As the kernel's own modules are.
        source::said(Command::new("strip").arg("--strip-debug").arg(&to), "strip")?;
        let mut sign = Command::new(copy.join("scripts/sign-file"));
        sign.arg(HASH).args([&built.key, &built.key]).arg(&to);
        source::said(&mut sign, "sign-file")?;
    }
    Ok(made)
}

/// Holds a module against the kernel that it is to be loaded into.
fn check(module: &[u8], release: &str) -> Result<(), String> {
    if !module.ends_with(SIGNED) {
        return Err("it has no signature".into());
    }
    let info = elf::modinfo(module).map_err(|error| error.to_string())?;
    let magic = info.iter().find(|(key, _)| key == "vermagic").map(|(_, value)| value.as_str());
    match magic {
        Some(magic) if magic.split(' ').next() == Some(release) => Ok(()),
        other => Err(format!("it is for Linux {}, not {release}", other.unwrap_or("unknown"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_is_not_signed_is_not_taken() {
        assert!(check(b"\x7fELF", "6.12").unwrap_err().contains("no signature"));
        assert!(check(SIGNED, "6.12").unwrap_err().contains("ELF"));
    }
}
