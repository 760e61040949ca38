//! What Buildroot built with `image/buildroot`, as the image builder takes it: kernel, modules and
//! libraries out of its output folder, each with the package that it came from.

use crate::{
    error::{At, Error},
    kernel::{Kernel, Kind, options::Options, source},
    packages::Package,
};
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

/// What the kernel's build puts at the end of a module that it signed.
const SIGNED: &[u8] = b"~Module signature appended~\n";
/// Where Debian's packages have their libraries.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// Buildroot's output folder (`O=`), after its build.
#[derive(Clone, Debug)]
pub struct Built {
    folder: PathBuf,
    stage: PathBuf,
}

impl Built {
    /// That of `folder`. What was staged there before is removed.
    ///
    /// # Errors
    /// The disk.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let folder = folder.canonicalize().at(folder)?;
        let stage = folder.join("images/parts");
        if stage.exists() {
            fs::remove_dir_all(&stage).at(&stage)?;
        }
        fs::create_dir_all(&stage).at(&stage)?;
        Ok(Self { folder, stage })
    }

    /// A file of the root that it built: `/init`.
    pub fn target(&self, path: &str) -> PathBuf {
        self.folder.join("target").join(path.trim_start_matches('/'))
    }

    /// A program that it built with: `rustc`.
    pub fn host(&self, program: &str) -> PathBuf {
        self.folder.join("host/bin").join(program)
    }

    /// The kernel, held against the options that it was to have. Every module of it must be
    /// signed: a build that strips modules takes the signature with the rest, and the kernel would
    /// load none of them.
    ///
    /// # Errors
    /// Options that it lacks, a module that is not signed, and what the build did not leave.
    pub fn kernel(&self, options: &Options, package: &Package) -> Result<Kernel, Error> {
        let images = self.folder.join("images");
        let path = images.join("linux.release");
        let release = fs::read_to_string(&path).at(&path)?.trim().to_string();
        if release.is_empty() || release.contains('/') {
            return Err(Error::bad_file(path, "no kernel's release"));
        }
        let configuration = images.join("linux.config");
        source::check(options, &configuration)?;
        let modules = self.target("lib/modules").join(&release);
        signed(&modules)?;
        let root = self.stage.join("kernel");
        let boot = root.join("boot");
        fs::create_dir_all(&boot).at(&boot)?;
        let below = root.join("lib/modules");
        fs::create_dir_all(&below).at(&below)?;
        for (from, to) in [
            (images.join("bzImage"), boot.join(format!("vmlinuz-{release}"))),
            (configuration, boot.join(format!("config-{release}"))),
        ] {
            fs::copy(&from, &to).at(&from)?;
        }
        symlink(&modules, below.join(&release)).at(&below)?;
        // What modules of others are built with is not taken from it.
        let (origin, package) = (package.origin.clone(), package.root.clone());
        Ok(Kernel { kind: Kind::Source, root, origin, package, built: None })
    }

    /// The libraries of these packages as the build has them: out of its toolchain, stripped. A
    /// library that the build has not is left out, so that whatever needs it says so.
    ///
    /// # Errors
    /// The disk.
    pub fn libraries(&self, packages: &[Package]) -> Result<Vec<Package>, Error> {
        packages.iter().map(|package| self.library(package)).collect()
    }

    fn library(&self, package: &Package) -> Result<Package, Error> {
        let root = self.stage.join(&package.origin.name);
        let folder = root.join(LIBRARIES);
        fs::create_dir_all(&folder).at(&folder)?;
        let given = package.root.join(LIBRARIES);
        for entry in fs::read_dir(&given).at(&given)? {
            let name = entry.at(&given)?.file_name();
            let from = self.target("lib").join(&name);
            if from.is_file() {
                fs::copy(&from, folder.join(&name)).at(&from)?;
            }
        }
        // What licences are collected from.
        let documents = Path::new("usr/share/doc");
        let (from, to) = (package.root.join(documents), root.join(documents));
        if from.exists() {
            fs::create_dir_all(root.join("usr/share")).at(&root)?;
            symlink(&from, &to).at(&to)?;
        }
        Ok(Package { root, ..package.clone() })
    }
}

/// Whether all modules below a folder are signed.
fn signed(folder: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(folder).at(folder)? {
        let path = entry.at(folder)?.path();
        if path.is_dir() {
            signed(&path)?;
        } else if path.extension().is_some_and(|extension| extension == "ko")
            && !fs::read(&path).at(&path)?.ends_with(SIGNED)
        {
            let detail = "the module is not signed, and the kernel loads none that is not: see \
                that its build signs modules, and that nothing strips them afterwards";
            return Err(Error::bad_file(path, detail));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::Origin;
    use std::collections::BTreeMap;

    fn package(root: PathBuf, name: &str) -> Package {
        let origin = Origin {
            name: name.into(),
            version: "1".into(),
            sha256: "00".repeat(32),
            source: name.into(),
            filename: String::new(),
            bytes: 1,
            unix_time: 1,
        };
        Package { origin, depends: String::new(), deb: root.join("deb"), root }
    }

    fn write(path: PathBuf, bytes: impl AsRef<[u8]>) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn options() -> Options {
        Options::new(BTreeMap::from([("a reason".into(), vec!["SMP".into()])])).unwrap()
    }

    /// An output folder with a kernel of one module.
    fn built(root: &Path, module: &[u8], configuration: &str) -> Built {
        let images = root.join("images");
        write(images.join("bzImage"), "kernel");
        write(images.join("linux.release"), "6.12-alia\n");
        write(images.join("linux.config"), configuration);
        write(root.join("target/lib/modules/6.12-alia/kernel/a.ko"), module);
        Built::open(root).unwrap()
    }

    #[test]
    fn a_kernel_is_taken_with_its_modules() {
        let folder = tempfile::tempdir().unwrap();
        let module = [b"module".as_slice(), SIGNED].concat();
        let built = built(folder.path(), &module, "CONFIG_SMP=y\n");
        let package = package(folder.path().join("package"), "linux-source");
        let kernel = built.kernel(&options(), &package).unwrap();
        let (image, release) = kernel.image().unwrap();
        assert_eq!((fs::read(image).unwrap(), release.as_str()), (b"kernel".into(), "6.12-alia"));
        assert!(kernel.modules(&release).unwrap().join("kernel/a.ko").exists());
        assert_eq!(kernel.kind, Kind::Source);
    }

    #[test]
    fn a_stripped_module_and_an_option_that_is_not_there_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let of = package(folder.path().join("package"), "linux-source");
        let stripped = built(&folder.path().join("a"), b"module", "CONFIG_SMP=y\n");
        let error = stripped.kernel(&options(), &of).unwrap_err().to_string();
        assert!(error.contains("a.ko") && error.contains("not signed"), "{error}");
        let without = built(&folder.path().join("b"), SIGNED, "CONFIG_PCI=y\n");
        let error = without.kernel(&options(), &of).unwrap_err().to_string();
        assert!(error.contains("SMP is n, not y (a reason)"), "{error}");
    }

    #[test]
    fn libraries_are_the_builds_and_their_packages_are_known() {
        let folder = tempfile::tempdir().unwrap();
        let built = built(folder.path(), SIGNED, "");
        let of = package(folder.path().join("package"), "libc6");
        write(of.root.join(LIBRARIES).join("libc.so.6"), "the distribution's");
        write(of.root.join(LIBRARIES).join("libnot.so.1"), "not built");
        write(of.root.join("usr/share/doc/libc6/copyright"), "LGPL");
        write(folder.path().join("target/lib/libc.so.6"), "stripped");
        let libraries = built.libraries(&[of]).unwrap();
        let root = &libraries[0].root;
        assert_eq!(libraries[0].origin.name, "libc6");
        assert_eq!(fs::read(root.join(LIBRARIES).join("libc.so.6")).unwrap(), b"stripped");
        assert!(!root.join(LIBRARIES).join("libnot.so.1").exists());
        assert!(root.join("usr/share/doc/libc6/copyright").exists());
    }
}
