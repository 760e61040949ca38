//! What is kept of a kernel's build so that modules can be built for it later: its options, its
//! symbols, headers and tools, and no object.

use crate::error::{At, Error};
use std::{fs, path::Path};

/// Where a kernel's folder keeps it.
pub(super) const FOLDER: &str = "build";
/// Files and folders of the object tree that modules are built with.
const KEPT: [&str; 6] = [
    ".config",
    "Module.symvers",
    "include",
    "arch/x86/include",
    "scripts",
    "tools/objtool/objtool",
];
/// Endings of what comes and goes between a source file and a tool.
const LEFT: [&str; 5] = [".o", ".a", ".cmd", ".d", ".ko"];

/// Whether a file of a kept folder is of use once its build is over.
fn of_use(name: &str) -> bool {
    !LEFT.iter().any(|ending| name.ends_with(ending))
}

/// Copies it from the kernel's object tree.
///
/// # Errors
/// The disk, and an object tree whose build did not end.
pub(super) fn keep(objects: &Path, to: &Path) -> Result<(), Error> {
    for name in KEPT {
        let (from, to) = (objects.join(name), to.join(name));
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).at(folder)?;
        }
        copy(&from, &to)?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let kind = fs::symlink_metadata(from).at(from)?.file_type();
    if kind.is_file() {
        return fs::copy(from, to).map(drop).at(from);
    }
    // Links lead to where it was built.
    if !kind.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(to).at(to)?;
    for entry in fs::read_dir(from).at(from)? {
        let name = entry.at(from)?.file_name();
        if of_use(&name.to_string_lossy()) {
            copy(&from.join(&name), &to.join(&name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn of_a_build_options_headers_and_tools_stay_and_objects_go() {
        let folder = tempfile::tempdir().unwrap();
        let (objects, kept) = (folder.path().join("objects"), folder.path().join("kept"));
        let write = |name: &str| {
            let path = objects.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        };
        for name in [
            ".config",
            "Module.symvers",
            "include/generated/autoconf.h",
            "arch/x86/include/generated/asm/x.h",
            "scripts/mod/modpost",
            "scripts/mod/modpost.o",
            "scripts/mod/.modpost.cmd",
            "tools/objtool/objtool",
            "vmlinux",
            "drivers/net/tun.o",
        ] {
            write(name);
        }
        symlink("/nowhere", objects.join("include/link")).unwrap();
        keep(&objects, &kept).unwrap();
        let there = |name: &str| kept.join(name).symlink_metadata().is_ok();
        for name in [".config", "include/generated/autoconf.h", "scripts/mod/modpost"] {
            assert!(there(name), "{name}");
        }
        for name in ["scripts/mod/modpost.o", "scripts/mod/.modpost.cmd", "vmlinux", "include/link"]
        {
            assert!(!there(name), "{name}");
        }
    }

    #[test]
    fn a_build_that_did_not_end_is_no_kernel_to_build_modules_for() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(".config"), "").unwrap();
        let error = keep(folder.path(), &folder.path().join("kept")).unwrap_err().to_string();
        assert!(error.contains("Module.symvers"), "{error}");
    }
}
