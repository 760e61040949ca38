//! The licences of what an image is made of: one text beside it.

use crate::{
    error::{At, Error},
    kernel::{Kernel, Kind},
    packages::Package,
    sbom::{Crate, Origins},
};
use std::{fmt::Write, fs, path::Path};

/// The longest text taken of one package; Linux's, the longest here, has 100 kB.
const MAX_LEN: usize = 1 << 20;

/// What the kernel's and each package say of their copyright (`/usr/share/doc/NAME/copyright`), each
/// crate's licence expression, and the texts that the crates have, each once. A package whose
/// documents are another's, by a link, is said to be so.
///
/// # Errors
/// The disk.
pub fn collect(kernel: &Kernel, packages: &[&Package], origins: &Origins) -> Result<String, Error> {
    let mut text = String::from("What this image is made of, and its licences.\n");
    let (name, version) = (&kernel.origin.name, &kernel.origin.version);
    let _ = write!(text, "\n==== Linux: Debian package {name} {version}\n\n");
    if kernel.kind == Kind::Source {
        text.push_str(
            "GPL-2.0-only WITH Linux-syscall-note; the package is its whole source, and \
             image.toml has the options that it was built with. The package says:\n\n",
        );
    }
    text.push_str(&of_package(&kernel.package, name)?);
    for package in packages {
        let (name, version) = (&package.origin.name, &package.origin.version);
        let _ = write!(text, "\n==== Debian package {name} {version}\n\n");
        text.push_str(&of_package(&package.root, name)?);
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    text.push_str("\n==== Rust crates\n\n");
    for Crate { name, version, licence, programs, .. } in &origins.crates {
        let licence = if licence.is_empty() { "none named" } else { licence };
        let _ = writeln!(text, "{name} {version}: {licence} (in {})", programs.join(", "));
    }
    for (licence, crates) in &origins.licences {
        let _ = write!(text, "\n==== of the crates {}\n\n{}\n", crates.join(", "), licence.trim());
    }
    Ok(text)
}

fn of_package(root: &Path, name: &str) -> Result<String, Error> {
    let folder = root.join("usr/share/doc").join(name);
    if let Ok(target) = fs::read_link(&folder) {
        return Ok(format!("as for {}\n", target.display()));
    }
    match read(&folder.join("copyright"))? {
        Some(text) => Ok(text),
        None => Ok("the package has no usr/share/doc/NAME/copyright\n".into()),
    }
}

fn read(path: &Path) -> Result<Option<String>, Error> {
    match fs::read(path) {
        Ok(bytes) if bytes.len() > MAX_LEN => {
            Err(Error::bad_file(path, format!("longer than {MAX_LEN} bytes")))
        }
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).at(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::Origin;
    use std::collections::BTreeMap;

    #[test]
    fn every_package_is_told_of_and_so_is_one_whose_documents_are_anothers() {
        let folder = tempfile::tempdir().unwrap();
        let package = |name: &str| Package {
            origin: Origin {
                name: name.into(),
                version: "1".into(),
                sha256: String::new(),
                source: name.into(),
                filename: String::new(),
                bytes: 0,
                unix_time: 0,
            },
            depends: String::new(),
            deb: folder.path().join("deb"),
            root: folder.path().join(name),
        };
        let (a, b, c) = (package("a"), package("b"), package("c"));
        fs::create_dir_all(a.root.join("usr/share/doc/a")).unwrap();
        fs::write(a.root.join("usr/share/doc/a/copyright"), "GPL-2").unwrap();
        fs::create_dir_all(b.root.join("usr/share/doc")).unwrap();
        std::os::unix::fs::symlink("a", b.root.join("usr/share/doc/b")).unwrap();
        let crates = [Crate {
            name: "blake3".into(),
            version: "1".into(),
            licence: "CC0-1.0".into(),
            sha256: None,
            programs: vec!["node-init".into()],
        }];
        let licences = BTreeMap::from([("Do as you like.\n".into(), vec!["blake3 1".into()])]);
        let origins = Origins { crates: crates.into(), licences, ..Origins::default() };
        let linux = package("linux-image");
        fs::create_dir_all(linux.root.join("usr/share/doc/linux-image")).unwrap();
        fs::write(linux.root.join("usr/share/doc/linux-image/copyright"), "GPL-2.0").unwrap();
        let text = collect(&Kernel::prebuilt(linux), &[&a, &b, &c], &origins).unwrap();
        assert!(text.contains("==== Linux: Debian package linux-image 1\n\nGPL-2.0"), "{text}");
        assert!(text.contains("==== Debian package a 1\n\nGPL-2\n"), "{text}");
        assert!(text.contains("package b 1\n\nas for a\n"), "{text}");
        assert!(text.contains("package c 1\n\nthe package has no"), "{text}");
        assert!(text.contains("\nblake3 1: CC0-1.0 (in node-init)\n"), "{text}");
        assert!(text.ends_with("==== of the crates blake3 1\n\nDo as you like.\n"), "{text}");
    }
}
