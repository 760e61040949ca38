//! The image that machines boot: a folder with `manifest.json`, kernel, initramfs and root, and the
//! release that vouches for them.

use protocol::{
    Digest,
    boot::{ImageFile, ImageManifest},
    release::{BUNDLE_FILE, MAX_BUNDLE_LEN, Manifest},
};
use std::{
    io,
    path::{Path, PathBuf},
};

/// The manifest's name in its folder.
pub const MANIFEST: &str = "manifest.json";

/// An image whose files are what its manifest says.
#[derive(Clone, Debug)]
pub struct Image {
    /// The manifest.
    pub manifest: ImageManifest,
    /// Its digest: what machines report as their release.
    pub digest: Digest,
    folder: PathBuf,
}

/// The image cannot be served. Whoever built or copied it has to mend it.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file cannot be read.
    #[error("image file {path}: {source}; build the image again, or name its folder by --image")]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The manifest is no manifest.
    #[error("{path} is not an image manifest: {source}")]
    Manifest {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: serde_json::Error,
    },
    /// A name in the manifest leads out of its folder.
    #[error(
        "the manifest names the file {0:?}: a plain name in the manifest's own folder is wanted"
    )]
    Name(String),
    /// A file is not what the manifest says.
    #[error("{path} is not the file that the manifest names: digest {found}, {wanted} is wanted")]
    Altered {
        /// The file.
        path: PathBuf,
        /// Its digest.
        found: Digest,
        /// The manifest's.
        wanted: Digest,
    },
    /// The release beside it is no release of it.
    #[error("{path} is no release of this image: {why}; make it anew by `cargo xtask release`")]
    Release {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
}

/// What the provisioner reads of a release's bundle. Whether it holds is for machines to say.
#[derive(serde::Deserialize)]
struct Bundle {
    release: Manifest,
}

impl Image {
    /// Reads an image's folder and checks every byte of it.
    pub fn open(folder: &Path) -> Result<Self, ImageError> {
        let path = folder.join(MANIFEST);
        let json = read(&path)?;
        let manifest: ImageManifest = serde_json::from_slice(&json)
            .map_err(|source| ImageError::Manifest { path, source })?;
        for file in manifest.files() {
            check(folder, file)?;
        }
        let image = Self { digest: manifest.digest(), manifest, folder: folder.into() };
        image.release()?;
        Ok(image)
    }

    /// The release that vouches for the image; none where it was never signed.
    pub fn release(&self) -> Result<Option<Manifest>, ImageError> {
        let path = self.folder.join(BUNDLE_FILE);
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|source| ImageError::Read { path: path.clone(), source })?,
        };
        let wrong = |why: String| ImageError::Release { path: path.clone(), why };
        if bytes.len() > MAX_BUNDLE_LEN {
            return Err(wrong(format!("{} bytes are more than any has", bytes.len())));
        }
        let bundle: Bundle =
            serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        let of = bundle.release.image.digest();
        if of != self.digest {
            return Err(wrong(format!("it is of image {of}, and this is {}", self.digest)));
        }
        Ok(Some(bundle.release))
    }

    /// The path of one of its files, the manifest itself among them; none for any other name.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        if name == MANIFEST {
            return Some(self.folder.join(MANIFEST));
        }
        if name == BUNDLE_FILE {
            return Some(self.folder.join(name)).filter(|path| path.exists());
        }
        let named = |file: &&ImageFile| file.file == name;
        let file = self.manifest.files().find(named)?;
        Some(self.folder.join(&file.file))
    }
}

fn check(folder: &Path, file: &ImageFile) -> Result<(), ImageError> {
    let plain = !file.file.is_empty()
        && !file.file.starts_with('.')
        && file.file.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if !plain {
        return Err(ImageError::Name(file.file.chars().take(80).collect()));
    }
    let path = folder.join(&file.file);
    let found = Digest::of_bytes(&read(&path)?);
    if found != file.digest {
        return Err(ImageError::Altered { path, found, wanted: file.digest });
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, ImageError> {
    std::fs::read(path).map_err(|source| ImageError::Read { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(kernel_name: &str, kernel: &[u8]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| ImageFile {
            file: name.into(),
            digest: Digest::of_bytes(content),
            bytes: content.len() as u64,
        };
        let manifest = ImageManifest {
            version: "0.1.0".into(),
            kernel_release: "6.12.0".into(),
            kernel: file(kernel_name, b"kernel"),
            initramfs: file("initramfs.zst", b"initramfs"),
            root: protocol::boot::RootImage {
                file: file("root.erofs", b"root"),
                verity: protocol::boot::Verity::default(),
            },
            microcode: Default::default(),
            unix_time: 1_700_000_000,
        };
        let json = serde_json::to_vec(&manifest).unwrap();
        std::fs::write(folder.path().join(MANIFEST), json).unwrap();
        std::fs::write(folder.path().join("vmlinuz"), kernel).unwrap();
        std::fs::write(folder.path().join("initramfs.zst"), b"initramfs").unwrap();
        std::fs::write(folder.path().join("root.erofs"), b"root").unwrap();
        folder
    }

    #[test]
    fn only_the_files_of_the_manifest_are_served() {
        let folder = written("vmlinuz", b"kernel");
        let image = Image::open(folder.path()).unwrap();
        assert!(image.path("vmlinuz").is_some());
        assert!(image.path("root.erofs").is_some());
        assert!(image.path(MANIFEST).is_some());
        assert!(image.path("provisioner.key").is_none());
        assert!(image.path("../vmlinuz").is_none());
    }

    #[test]
    fn a_release_of_another_image_is_not_given_out() {
        let folder = written("vmlinuz", b"kernel");
        let path = folder.path().join(BUNDLE_FILE);
        let image = Image::open(folder.path()).unwrap();
        assert!(image.path(BUNDLE_FILE).is_none() && image.release().unwrap().is_none());
        let release = |image: &ImageManifest| {
            serde_json::json!({ "format": "…", "release": {
                "version": 3, "image": image, "floor": 0, "chain": null,
            }})
        };
        std::fs::write(&path, release(&image.manifest).to_string()).unwrap();
        assert_eq!(image.release().unwrap().unwrap().version, 3);
        assert_eq!(image.path(BUNDLE_FILE), Some(path.clone()));
        let other = ImageManifest { unix_time: 5, ..image.manifest };
        std::fs::write(&path, release(&other).to_string()).unwrap();
        let error = Image::open(folder.path()).unwrap_err();
        assert!(matches!(error, ImageError::Release { .. }), "{error}");
        std::fs::write(&path, vec![b' '; MAX_BUNDLE_LEN + 1]).unwrap();
        assert!(matches!(Image::open(folder.path()), Err(ImageError::Release { .. })));
    }

    #[test]
    fn an_altered_kernel_is_never_served() {
        let folder = written("vmlinuz", b"kerneL");
        let error = Image::open(folder.path()).unwrap_err();
        assert!(matches!(error, ImageError::Altered { .. }), "{error}");
    }

    #[test]
    fn an_altered_root_is_never_served() {
        let folder = written("vmlinuz", b"kernel");
        std::fs::write(folder.path().join("root.erofs"), b"Root").unwrap();
        let error = Image::open(folder.path()).unwrap_err();
        assert!(matches!(error, ImageError::Altered { .. }), "{error}");
    }

    #[test]
    fn a_manifest_that_names_a_file_elsewhere_is_refused() {
        for name in ["../vmlinuz", "/etc/passwd", ".hidden", "", "a b", "${uuid}"] {
            let folder = written(name, b"kernel");
            let error = Image::open(folder.path()).unwrap_err();
            assert!(matches!(error, ImageError::Name(_)), "{name}: {error}");
        }
    }
}
