//! The kernel: the distribution's own, or built from its source with options of ours.

pub mod external;
mod kept;
pub mod options;
pub mod source;

use crate::{
    error::{At, Error},
    packages::{Origin, Package},
};
use serde::Serialize;
use std::{fs, path::PathBuf};

/// Where a kernel comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Taken from the distribution as it is.
    #[default]
    Prebuilt,
    /// Built from the distribution's source, with the recipe's options.
    Source,
}

/// A kernel and its modules.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Where from.
    pub kind: Kind,
    /// Has `boot/vmlinuz-RELEASE` and `usr/lib/modules/RELEASE` or `lib/modules/RELEASE`.
    pub root: PathBuf,
    /// The package that it is of.
    pub origin: Origin,
    /// Where that package was unpacked: it has the kernel's copyright.
    pub package: PathBuf,
    /// What modules of others are built for it with, where it was built here.
    pub built: Option<Built>,
}

/// A kernel from source that modules can be built for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// Its unpacked source.
    pub source: PathBuf,
    /// What it signs modules with: a private key and its certificate, PEM.
    pub key: PathBuf,
}

impl Kernel {
    /// The distribution's kernel, in its own package and not in the metapackage.
    pub fn prebuilt(package: Package) -> Self {
        let root = package.root;
        Self {
            kind: Kind::Prebuilt,
            package: root.clone(),
            root,
            origin: package.origin,
            built: None,
        }
    }

    /// The kernel's file, and its release as `uname -r` prints it.
    ///
    /// # Errors
    /// Where there is none.
    pub fn image(&self) -> Result<(PathBuf, String), Error> {
        let boot = self.root.join("boot");
        for entry in fs::read_dir(&boot).at(&boot)? {
            let path = entry.at(&boot)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if let Some(release) = name.strip_prefix("vmlinuz-") {
                return Ok((path.clone(), release.into()));
            }
        }
        Err(self.lacks("boot/vmlinuz-RELEASE", "name a kernel package in image.toml"))
    }

    /// The file of its configuration.
    ///
    /// # Errors
    /// Where there is no kernel.
    pub fn configuration(&self) -> Result<PathBuf, Error> {
        let (_, release) = self.image()?;
        Ok(self.root.join("boot").join(format!("config-{release}")))
    }

    /// The folder of its modules.
    ///
    /// # Errors
    /// Where there is none.
    pub fn modules(&self, release: &str) -> Result<PathBuf, Error> {
        let mut folders = ["usr/lib/modules", "lib/modules"]
            .map(|folder| self.root.join(folder).join(release))
            .into_iter();
        folders.find(|folder| folder.is_dir()).ok_or_else(|| {
            let mend = "name a kernel package that carries its modules";
            self.lacks(&format!("usr/lib/modules/{release}"), mend)
        })
    }

    /// An error for what its package should have.
    pub fn lacks(&self, what: &str, mend: &'static str) -> Error {
        Error::Missing { what: what.into(), packages: self.origin.name.clone(), mend }
    }
}
