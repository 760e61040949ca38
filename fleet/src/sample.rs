//! An image and boot files of chosen sizes, for runs that need no real ones.

use crate::error::Error;
use protocol::{
    Digest,
    boot::{ImageFile, ImageManifest, Microcode, RootImage, Verity},
};
use std::{fs, path::Path};

/// Sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// The kernel.
    pub kernel: u64,
    /// Microcode.
    pub microcode: u64,
    /// The initramfs.
    pub initramfs: u64,
    /// The root.
    pub root: u64,
}

impl Sizes {
    /// About those of an image of the distribution's kernel.
    pub const REAL: Self =
        Self { kernel: 12 << 20, microcode: 8 << 20, initramfs: 14 << 20, root: 6 << 20 };
    /// So small that everything else is what takes time.
    pub const SMALL: Self =
        Self { kernel: 64 << 10, microcode: 64 << 10, initramfs: 64 << 10, root: 64 << 10 };

    /// All that a machine fetches by HTTP.
    pub fn total(&self) -> u64 {
        self.kernel + self.microcode + self.initramfs + self.root
    }
}

/// About the size of `snponly.efi`.
pub const BOOT_FILE: u64 = 256 << 10;

/// Writes an image; what is in it starts nothing.
///
/// # Errors
/// Where it cannot be written.
pub fn image(folder: &Path, sizes: &Sizes) -> Result<ImageManifest, Error> {
    fs::create_dir_all(folder).map_err(|source| Error::File { path: folder.into(), source })?;
    let write = |name: &str, bytes: u64| file(folder, name, bytes);
    let manifest = ImageManifest {
        version: "0.0.0".into(),
        kernel_release: "6.12.0-simulated".into(),
        kernel: write("vmlinuz", sizes.kernel)?,
        initramfs: write("initramfs.zst", sizes.initramfs)?,
        root: RootImage { file: write("root.erofs", sizes.root)?, verity: Verity::default() },
        microcode: Microcode {
            amd: None,
            intel: Some(write("microcode-intel.cpio", sizes.microcode)?),
        },
        unix_time: 1_700_000_000,
    };
    let path = folder.join("manifest.json");
    let json = serde_json::to_vec_pretty(&manifest).map_err(std::io::Error::other);
    json.and_then(|json| fs::write(&path, json)).map_err(|source| Error::File { path, source })?;
    Ok(manifest)
}

/// Writes iPXE's files as the provisioner names them; what is in them starts nothing.
///
/// # Errors
/// Where they cannot be written.
pub fn boot_files(folder: &Path) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(|source| Error::File { path: folder.into(), source })?;
    for name in ["undionly.kpxe", "snponly.efi"] {
        file(folder, name, BOOT_FILE)?;
    }
    Ok(())
}

/// Writes a file of so many bytes that no compression helps with.
///
/// # Errors
/// Where it cannot be written.
pub fn file(folder: &Path, name: &str, bytes: u64) -> Result<ImageFile, Error> {
    let mut content = vec![0; bytes as usize];
    let mut hasher = blake3::Hasher::new();
    hasher.update(name.as_bytes()).finalize_xof().fill(&mut content);
    let path = folder.join(name);
    fs::write(&path, &content).map_err(|source| Error::File { path, source })?;
    Ok(ImageFile { file: name.into(), digest: Digest::of_bytes(&content), bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_provisioner_takes_the_image_for_a_whole_one() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = image(folder.path(), &Sizes::SMALL).unwrap();
        let opened = provisioner::image::Image::open(folder.path()).unwrap();
        assert_eq!(opened.manifest, manifest);
        assert_eq!(manifest.files().map(|file| file.bytes).sum::<u64>(), Sizes::SMALL.total());
    }
}
