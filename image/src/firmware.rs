//! Firmware: the files that the image's modules may ask for, found in firmware packages.

use crate::{
    error::{At, Error},
    packages::Package,
};
use std::{
    fs,
    path::{Component, Path, PathBuf},
};

/// Where the kernel looks, below a package's root; older packages use the second.
pub(crate) const FOLDERS: [&str; 2] = ["usr/lib/firmware", "lib/firmware"];
/// Links followed to a file before it counts as a loop.
const MAX_LINKS: usize = 8;

/// A firmware file that was found.
#[derive(Debug)]
pub struct Found {
    /// The name that a module asks for: `rtl_nic/rtl8168h-2.fw`.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
    /// The package's name.
    pub package: String,
}

/// Looks `name` up in the packages, in their order.
pub fn find(name: &str, packages: &[Package]) -> Result<Option<Found>, Error> {
    if !Path::new(name).components().all(|part| matches!(part, Component::Normal(_))) {
        return Ok(None);
    }
    for package in packages {
        for folder in FOLDERS {
            if let Some(path) = resolve(&package.root, &Path::new(folder).join(name)) {
                let bytes = fs::read(&path).at(&path)?;
                let package = package.origin.name.clone();
                return Ok(Some(Found { name: name.into(), bytes, package }));
            }
        }
    }
    Ok(None)
}

/// The file that `inside` leads to when `root` is taken for `/`; `None` where it is none.
///
/// Only the last part may be a link: packages of firmware and libraries link files, not folders.
pub fn resolve(root: &Path, inside: &Path) -> Option<PathBuf> {
    let mut inside = inside.to_path_buf();
    for _ in 0..MAX_LINKS {
        let path = root.join(&inside);
        let kind = fs::symlink_metadata(&path).ok()?.file_type();
        if kind.is_file() {
            return Some(path);
        }
        if !kind.is_symlink() {
            return None;
        }
        let target = fs::read_link(&path).ok()?;
        let mut parts: Vec<_> = match target.has_root() {
            true => Vec::new(),
            false => inside.parent()?.components().collect(),
        };
        for part in target.components() {
            match part {
                Component::ParentDir => drop(parts.pop()?),
                Component::Normal(_) => parts.push(part),
                _ => {}
            }
        }
        inside = parts.iter().collect();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_followed_within_the_package_and_no_further() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("usr/lib/firmware/nic")).unwrap();
        let at = |name: &str| root.join("usr/lib/firmware").join(name);
        fs::write(at("nic/a-1.fw"), "x").unwrap();
        symlink("a-1.fw", at("nic/a.fw")).unwrap();
        symlink("nic/../nic/a.fw", at("b.fw")).unwrap();
        symlink("/usr/lib/firmware/nic/a-1.fw", at("c.fw")).unwrap();
        symlink("../../../../etc/passwd", at("out.fw")).unwrap();
        symlink("loop.fw", at("loop.fw")).unwrap();
        let find = |name: &str| resolve(root, &Path::new("usr/lib/firmware").join(name));
        for name in ["nic/a-1.fw", "nic/a.fw", "b.fw", "c.fw"] {
            assert_eq!(find(name), Some(at("nic/a-1.fw")), "{name}");
        }
        for name in ["out.fw", "loop.fw", "nic", "none.fw"] {
            assert_eq!(find(name), None, "{name}");
        }
    }
}
