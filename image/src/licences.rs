//! The licences of what an image is made of: one text beside it.

use crate::{
    error::{At, Error},
    packages::Package,
    sbom::Crate,
};
use std::{fmt::Write, fs, path::Path};

/// The longest text taken of one package; Linux's, the longest here, has 100 kB.
const MAX_LEN: usize = 1 << 20;

/// What each package says of its copyright (`/usr/share/doc/NAME/copyright`), then each crate's
/// licence expression. A package whose documents are another's, by a link, is said to be so.
///
/// # Errors
/// The disk.
pub fn collect(packages: &[&Package], crates: &[Crate]) -> Result<String, Error> {
    let mut text = String::from("What this image is made of, and its licences.\n");
    for package in packages {
        let (name, version) = (&package.origin.name, &package.origin.version);
        let _ = write!(text, "\n==== Debian package {name} {version}\n\n");
        text.push_str(&of_package(package)?);
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    text.push_str("\n==== Rust crates\n\n");
    for Crate { name, version, licence, programs, .. } in crates {
        let licence = if licence.is_empty() { "none named" } else { licence };
        let _ = writeln!(text, "{name} {version}: {licence} (in {})", programs.join(", "));
    }
    Ok(text)
}

fn of_package(package: &Package) -> Result<String, Error> {
    let folder = package.root.join("usr/share/doc").join(&package.origin.name);
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
        let text = collect(&[&a, &b, &c], &crates).unwrap();
        assert!(text.contains("==== Debian package a 1\n\nGPL-2\n"), "{text}");
        assert!(text.contains("package b 1\n\nas for a\n"), "{text}");
        assert!(text.contains("package c 1\n\nthe package has no"), "{text}");
        assert!(text.ends_with("blake3 1: CC0-1.0 (in node-init)\n"), "{text}");
    }
}
