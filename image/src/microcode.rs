//! Microcode: of each maker of processors one archive, which the kernel looks through before it
//! does anything else (<https://docs.kernel.org/arch/x86/microcode.html>). It is not compressed,
//! as nothing could unpack it by then.

use crate::{
    cpio::Tree,
    error::{At, Error},
    firmware,
    packages::Package,
};
use std::{fs, path::Path};

/// Who made a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// AMD.
    Amd,
    /// Intel.
    Intel,
}

impl Maker {
    /// The name of its archive beside the manifest.
    pub fn file(self) -> &'static str {
        match self {
            Self::Amd => "microcode-amd.cpio",
            Self::Intel => "microcode-intel.cpio",
        }
    }

    /// Where the kernel looks.
    fn path(self) -> &'static str {
        match self {
            Self::Amd => "/kernel/x86/microcode/AuthenticAMD.bin",
            Self::Intel => "/kernel/x86/microcode/GenuineIntel.bin",
        }
    }

    /// Where a package has it, below its firmware.
    fn folder(self) -> &'static str {
        match self {
            Self::Amd => "amd-ucode",
            Self::Intel => "intel-ucode",
        }
    }

    /// Whether a file is what processors take: AMD's `microcode_amd_fam19h.bin`, Intel's
    /// `06-9e-0a`, family, model and stepping. Packages have signatures and texts beside them.
    fn takes(self, name: &str) -> bool {
        match self {
            Self::Amd => name.starts_with("microcode_amd") && name.ends_with(".bin"),
            Self::Intel => {
                let parts: Vec<&str> = name.split('-').collect();
                let hex = |part: &&str| part.len() == 2 && u8::from_str_radix(part, 16).is_ok();
                parts.len() == 3 && parts.iter().all(hex)
            }
        }
    }
}

/// The archive of one maker's microcode: all of a package's files, one after the other by name.
///
/// # Errors
/// [`Error`]: the disk, or a package without any.
pub fn archive(maker: Maker, package: &Package) -> Result<Vec<u8>, Error> {
    let mut all = Vec::new();
    for folder in firmware::FOLDERS {
        let folder = package.root.join(folder).join(maker.folder());
        for name in names(&folder)?.iter().filter(|name| maker.takes(name)) {
            let path = folder.join(name);
            all.extend(fs::read(&path).at(&path)?);
        }
        if !all.is_empty() {
            break;
        }
    }
    if all.is_empty() {
        return Err(Error::Missing {
            what: format!("microcode ({})", maker.folder()),
            packages: package.origin.name.clone(),
            mend: "name a package of microcode in image.toml",
        });
    }
    let mut tree = Tree::default();
    let put = tree.file(maker.path(), all, false);
    put.map_err(|error| Error::bad_file(maker.path(), error))?;
    Ok(tree.to_newc())
}

/// The names in a folder, sorted; none where it is not there.
fn names(folder: &Path) -> Result<Vec<String>, Error> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).at(folder)? {
        names.extend(entry.at(folder)?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::Origin;

    #[test]
    fn an_archive_has_its_makers_files_in_order_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let package = Package {
            origin: Origin {
                name: "microcode".into(),
                version: "1".into(),
                sha256: String::new(),
                source: String::new(),
                filename: String::new(),
                bytes: 1,
                unix_time: 1,
            },
            depends: String::new(),
            deb: folder.path().join("none.deb"),
            root: folder.path().into(),
        };
        assert!(archive(Maker::Intel, &package).unwrap_err().to_string().contains("microcode"));
        let intel = folder.path().join("lib/firmware/intel-ucode");
        fs::create_dir_all(&intel).unwrap();
        for name in ["06-9e-0a", "06-3c-03", "06-55-04_DISABLED", "list"] {
            fs::write(intel.join(name), format!("<{name}>")).unwrap();
        }
        let archive = archive(Maker::Intel, &package).unwrap();
        let text = String::from_utf8_lossy(&archive);
        assert!(text.contains("kernel/x86/microcode/GenuineIntel.bin\0"), "{text}");
        assert!(text.contains("<06-3c-03><06-9e-0a>"), "{text}");
        assert!(!text.contains("DISABLED") && !text.contains("<list>"), "{text}");
    }

    #[test]
    fn the_makers_files_are_known_from_others() {
        assert!(
            Maker::Amd.takes("microcode_amd_fam19h.bin") && Maker::Amd.takes("microcode_amd.bin")
        );
        assert!(!Maker::Amd.takes("microcode_amd.bin.asc") && !Maker::Amd.takes("README"));
        assert!(Maker::Intel.takes("06-0f-0b") && !Maker::Intel.takes("06-0f"));
        assert!(!Maker::Intel.takes("06-0f-0x"));
    }
}
