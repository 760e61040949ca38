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
    /// Bytes of its files, each under zstd alone: what it costs a download, about.
    pub compressed: u64,
}

/// A file of the initramfs's or the root's, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct File {
    /// Its path, without the leading slash.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, hex.
    pub sha256: String,
    /// The package or program that it is of; "image" for what is made here.
    pub from: String,
}

/// What an image is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The image.
    pub image: Option<ImageManifest>,
    /// Its flavour.
    pub flavour: String,
    /// What a machine may download at most, in bytes.
    pub budget: u64,
    /// SHA-256 of the kernel's configuration, hex.
    pub kernel_configuration: String,
    /// PID 1, and every file of the root.
    pub files: Vec<File>,
    /// Sizes by kind.
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

/// zstd's level for sizes: quick, and within some percent of what an image's own makes of it.
const SIZE_LEVEL: i32 = 9;

impl Report {
    /// Counts a file.
    pub(crate) fn add(&mut self, name: &str, bytes: &[u8]) {
        let component = self.components.entry(name.into()).or_default();
        component.files += 1;
        component.bytes += bytes.len() as u64;
        let packed = zstd::bulk::compress(bytes, SIZE_LEVEL).map_or(bytes.len(), |p| p.len());
        component.compressed += packed as u64;
    }
}

/// For people.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mb = |bytes: u64| bytes as f64 / 1e6;
        if let Some(image) = &self.image {
            writeln!(f, "image {} of version {}", image.digest().short(), image.version)?;
            let (all, most) = (mb(image.bytes()), mb(self.budget));
            writeln!(f, "flavour {}: {all:.1} MB to download, of {most:.1} MB", self.flavour)?;
            writeln!(f, "kernel {}, {:.1} MB", image.kernel_release, mb(image.kernel.bytes))?;
            writeln!(f, "initramfs {:.1} MB", mb(image.initramfs.bytes))?;
            writeln!(f, "root {:.1} MB", mb(image.root.file.bytes))?;
            for (name, bytes) in &self.compressed {
                writeln!(f, "  {name:<20} {:>7.2} MB", mb(*bytes))?;
            }
        }
        writeln!(f, "\nbefore compression, and each file under zstd alone")?;
        for (name, Component { files, bytes, compressed }) in &self.components {
            let (bytes, compressed) = (mb(*bytes), mb(*compressed));
            writeln!(f, "  {name:<10} {bytes:>7.2} MB {compressed:>7.2} MB in {files} files")?;
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
