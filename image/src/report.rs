//! What an image is made of and where each byte came from.

use crate::packages::Origin;
use protocol::boot::ImageManifest;
use serde::Serialize;
use std::{collections::BTreeMap, fmt};

/// One kind of content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Component {
    /// Files.
    pub files: u64,
    /// Bytes before compression.
    pub bytes: u64,
}

/// What an image is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The image.
    pub image: Option<ImageManifest>,
    /// Sizes by kind, before compression.
    pub components: BTreeMap<String, Component>,
    /// Sizes of the initramfs's parts and of the root, compressed.
    pub compressed: BTreeMap<String, u64>,
    /// Kernel modules, by name.
    pub modules: Vec<String>,
    /// Firmware that a module may ask for and no package of the recipe holds.
    pub firmware_absent: Vec<String>,
    /// Every package that bytes were taken from.
    pub packages: Vec<Origin>,
}

impl Report {
    pub(crate) fn component(&mut self, name: &str, component: Component) {
        self.components.insert(name.into(), component);
    }

    /// Counts a file.
    pub(crate) fn add(&mut self, name: &str, bytes: usize) {
        let component = self.components.entry(name.into()).or_default();
        component.files += 1;
        component.bytes += bytes as u64;
    }
}

/// For people.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mb = |bytes: u64| bytes as f64 / 1e6;
        if let Some(image) = &self.image {
            writeln!(f, "image {} of version {}", image.digest().short(), image.version)?;
            writeln!(f, "kernel {}, {:.1} MB", image.kernel_release, mb(image.kernel.bytes))?;
            writeln!(f, "initramfs {:.1} MB", mb(image.initramfs.bytes))?;
            writeln!(f, "root {:.1} MB", mb(image.root.file.bytes))?;
            for (name, bytes) in &self.compressed {
                writeln!(f, "  {name:<20} {:>7.2} MB", mb(*bytes))?;
            }
        }
        writeln!(f, "\nbefore compression")?;
        for (name, Component { files, bytes }) in &self.components {
            writeln!(f, "  {name:<10} {:>7.2} MB in {files} files", mb(*bytes))?;
        }
        writeln!(f, "\npackages")?;
        for package in &self.packages {
            writeln!(f, "  {} {}\n    SHA-256 {}", package.name, package.version, package.sha256)?;
        }
        writeln!(f, "\nmodules: {}", self.modules.join(" "))?;
        if !self.firmware_absent.is_empty() {
            let absent = self.firmware_absent.join(" ");
            writeln!(f, "\nasked for by a module, in none of the packages: {absent}")?;
        }
        Ok(())
    }
}
