//! A release, checked anywhere: by nothing but the root that one trusts.

use crate::verity::{self, VerityError};
use protocol::{
    Digest,
    boot::ImageFile,
    release::{BUNDLE_FILE, MAX_BUNDLE_LEN},
    told,
};
use release::{Bundle, ReleaseError, Verified};
use serde::Serialize;
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

/// How long a server may be silent.
const SILENCE: Duration = Duration::from_secs(30);

/// A release could not be found to hold.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// A file.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A server.
    #[error("{url}: {why}")]
    Server {
        /// What was asked for.
        url: String,
        /// What came of it.
        why: String,
    },
    /// The release.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// A file beside the release is not the one it names.
    #[error("{path} is not what the release names: it has {found}, {wanted} is wanted")]
    Altered {
        /// Which.
        path: PathBuf,
        /// What it has.
        found: String,
        /// What the release says.
        wanted: String,
    },
    /// The root is the one that was signed, and no machine could mount it.
    #[error("{path}: {source}; build the image again")]
    Verity {
        /// Which.
        path: PathBuf,
        /// What does not agree.
        source: VerityError,
    },
}

impl CheckError {
    /// Whether something was found that somebody altered.
    pub fn is_lie(&self) -> bool {
        match self {
            Self::Altered { .. } => true,
            Self::Release(error) => matches!(
                error,
                ReleaseError::NotChained { .. }
                    | ReleaseError::Signatures { .. }
                    | ReleaseError::Altered { .. }
            ),
            Self::File { .. } | Self::Server { .. } | Self::Verity { .. } => false,
        }
    }
}

/// A release that holds.
#[derive(Debug)]
pub struct Checked {
    /// What its signatures vouch for.
    pub verified: Verified,
    /// The files beside it that are what it names; none where it was no folder.
    pub files: Vec<CheckedFile>,
    /// The root's verity root hash, where the root was there and every block of it, of data and of
    /// hashes, was hashed anew.
    pub root: Option<Digest>,
}

/// A file that is what the release names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckedFile {
    /// Its name.
    pub file: String,
    /// Its size.
    pub bytes: u64,
    /// Its BLAKE3 digest.
    pub digest: Digest,
}

/// Checks the release at `place`: a bundle's file, an image's folder, or the address of either.
/// `now` and `floor` as [`release::verify`] takes them.
///
/// # Errors
/// [`CheckError`]: what does not hold.
pub async fn check(
    place: &str,
    root: &Path,
    now: Option<u64>,
    floor: u64,
) -> Result<Checked, CheckError> {
    let root = fs::read(root).map_err(file(root))?;
    let mut folder = None;
    let bytes = if place.contains("://") {
        download(place).await?
    } else {
        let mut path = PathBuf::from(place);
        if path.is_dir() {
            folder = Some(path.clone());
            path.push(BUNDLE_FILE);
        }
        fs::read(&path).map_err(file(&path))?
    };
    let bundle = Bundle::from_bytes(&bytes).map_err(ReleaseError::from)?;
    let scratch = std::env::temp_dir();
    let verified = release::verify(&root, &bundle, now, floor, &scratch).await?;
    let mut checked = Checked { verified, files: Vec::new(), root: None };
    if let Some(folder) = &folder {
        check_files(folder, &mut checked)?;
    }
    Ok(checked)
}

/// Every file of the image, microcode too: a machine runs what any of them holds.
fn check_files(folder: &Path, checked: &mut Checked) -> Result<(), CheckError> {
    let image = &checked.verified.manifest.image;
    for wanted in image.files() {
        let (file, bytes) = check_file(folder, wanted)?;
        if *wanted == image.root.file {
            verity::check(&bytes, &image.root.verity)
                .map_err(|source| CheckError::Verity { path: folder.join(&file.file), source })?;
        }
        checked.files.push(file);
    }
    checked.root = Some(image.root.verity.root_hash);
    Ok(())
}

fn check_file(folder: &Path, wanted: &ImageFile) -> Result<(CheckedFile, Vec<u8>), CheckError> {
    // The name is signed, and still: nothing outside of the folder is looked at.
    let name = Path::new(&wanted.file).file_name().unwrap_or_default();
    let path = folder.join(name);
    let bytes = fs::read(&path).map_err(file(&path))?;
    let digest = Digest::of_bytes(&bytes);
    if digest != wanted.digest {
        let (found, wanted) = (digest.to_string(), wanted.digest.to_string());
        return Err(CheckError::Altered { path, found, wanted });
    }
    let file = CheckedFile { file: wanted.file.clone(), bytes: bytes.len() as u64, digest };
    Ok((file, bytes))
}

async fn download(place: &str) -> Result<Vec<u8>, CheckError> {
    let url = match place.ends_with(BUNDLE_FILE) {
        true => place.to_string(),
        false => format!("{}/{BUNDLE_FILE}", place.trim_end_matches('/')),
    };
    let wrong = |why: String| CheckError::Server { url: protocol::plain(&url), why };
    let client = reqwest::Client::builder()
        .connect_timeout(SILENCE)
        .read_timeout(SILENCE)
        .no_proxy()
        .build()
        .map_err(|error| wrong(told(&error)))?;
    let mut response = client.get(&url).send().await.map_err(|error| wrong(told(&error)))?;
    if !response.status().is_success() {
        return Err(wrong(format!("the server says {}", response.status())));
    }
    let mut bytes = Vec::new();
    while let Some(part) = response.chunk().await.map_err(|error| wrong(told(&error)))? {
        bytes.extend_from_slice(&part);
        if bytes.len() > MAX_BUNDLE_LEN {
            break;
        }
    }
    Ok(bytes)
}

fn file(path: &Path) -> impl FnOnce(io::Error) -> CheckError + '_ {
    |source| CheckError::File { path: path.into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{
        boot::{ImageManifest, Microcode, RootImage, VERITY_BLOCK, Verity},
        release::Manifest,
    };
    use release::sign::{Keys, Repository, Shape};

    const NOW: u64 = 1_800_000_000;

    /// An image's folder with a release, and the root that it is to be trusted by.
    fn written() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let one = Shape { threshold: 1, keys: 1 };
        let keys = Keys::make(&folder.path().join("keys"), &[one; 4], NOW + 1_000).unwrap().keys;
        let file = |name: &str| {
            let bytes = match name {
                "root.erofs" => vec![0; VERITY_BLOCK as usize],
                _ => name.as_bytes().to_vec(),
            };
            fs::write(folder.path().join(name), &bytes).unwrap();
            ImageFile {
                file: name.into(),
                digest: Digest::of_bytes(&bytes),
                bytes: bytes.len() as u64,
            }
        };
        let image = ImageManifest {
            version: "0.1.0".into(),
            kernel_release: "6.12.0".into(),
            kernel: file("vmlinuz"),
            initramfs: file("initramfs.zst"),
            root: RootImage {
                file: file("root.erofs"),
                // One block: its hash is the root hash (as in `verity`'s tests).
                verity: Verity {
                    root_hash: "5e9e74fae71a4a37b019f5489e75d5a0117dad01eae5f4d97e5b1f705ae2281a"
                        .parse()
                        .unwrap(),
                    salt: Digest([5; 32]),
                    data_blocks: 1,
                },
            },
            microcode: Microcode {
                amd: Some(file("microcode-amd.cpio")),
                intel: Some(file("microcode-intel.cpio")),
            },
            unix_time: 1_700_000_000,
        };
        let manifest = Manifest { version: 4, image, floor: 2, chain: None };
        let mut repository = Repository::new(keys.roots(), manifest, NOW + 500).unwrap();
        keys.here().unwrap().iter().for_each(|key| drop(repository.sign(key)));
        let bundle = repository.bundle().unwrap().to_bytes();
        fs::write(folder.path().join(BUNDLE_FILE), bundle).unwrap();
        let root = folder.path().join("keys/1.root.json");
        (folder, root)
    }

    fn of(place: &Path, root: &Path, now: u64, floor: u64) -> Result<Checked, CheckError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(check(&place.display().to_string(), root, Some(now), floor))
    }

    #[test]
    fn a_folder_is_checked_file_by_file_and_a_bundle_alone_by_its_signatures() {
        let (folder, root) = written();
        let checked = of(folder.path(), &root, NOW, 0).unwrap();
        let names: Vec<_> = checked.files.iter().map(|file| file.file.as_str()).collect();
        let microcode = ["microcode-amd.cpio", "microcode-intel.cpio"];
        assert_eq!(names[..3], ["vmlinuz", "initramfs.zst", "root.erofs"]);
        assert_eq!(names[3..], microcode);
        assert_eq!(checked.root, Some(checked.verified.manifest.image.root.verity.root_hash));
        assert_eq!(checked.verified.manifest.version, 4);
        let alone = of(&folder.path().join(BUNDLE_FILE), &root, NOW, 0).unwrap();
        assert!(alone.files.is_empty() && alone.root.is_none());
    }

    #[test]
    fn microcode_that_is_not_what_was_signed_is_a_lie_and_microcode_that_is_gone_an_error() {
        let (folder, root) = written();
        let path = folder.path().join("microcode-intel.cpio");
        fs::write(&path, "microcode of somebody else").unwrap();
        let error = of(folder.path(), &root, NOW, 0).unwrap_err();
        assert!(error.is_lie() && error.to_string().contains("microcode-intel.cpio"), "{error}");
        fs::remove_file(&path).unwrap();
        let error = of(folder.path(), &root, NOW, 0).unwrap_err();
        assert!(matches!(error, CheckError::File { .. }), "{error}");
    }

    #[test]
    fn a_tampered_kernel_is_a_lie_and_an_expired_release_is_none() {
        let (folder, root) = written();
        let error = of(folder.path(), &root, NOW + 500, 0).unwrap_err();
        assert!(!error.is_lie() && error.to_string().contains("expired"), "{error}");
        let error = of(folder.path(), &root, NOW, 5).unwrap_err();
        assert!(error.to_string().contains("below the floor 5"), "{error}");
        fs::write(folder.path().join("vmlinuz"), "vmlinux").unwrap();
        let error = of(folder.path(), &root, NOW, 0).unwrap_err();
        assert!(error.is_lie() && error.to_string().contains("vmlinuz"), "{error}");
    }
}
