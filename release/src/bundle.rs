//! A TUF repository in one document.

use protocol::release::MAX_BUNDLE_LEN;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The most versions of the root metadata: a machine whose trusted root is older than the oldest
/// of them wants a newer initramfs.
pub const MAX_ROOTS: usize = 32;
/// What a bundle begins with.
const FORMAT: &str = "aliaOS release bundle";
const VERSION: u16 = 1;

/// Every file of a TUF repository with one target. Each file is kept byte for byte as it was
/// signed, but for white space around it.
#[derive(Clone, Debug)]
pub struct Bundle {
    pub(crate) files: Files,
}

/// The bundle's JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Files {
    format: String,
    version: u16,
    /// `N.root.json`, oldest first.
    pub(crate) roots: Vec<Box<RawValue>>,
    pub(crate) timestamp: Box<RawValue>,
    pub(crate) snapshot: Box<RawValue>,
    pub(crate) targets: Box<RawValue>,
    /// The target.
    pub(crate) release: Box<RawValue>,
}

/// Bytes that are no bundle. Whoever serves them has to mend it.
#[derive(Debug, thiserror::Error)]
pub enum NotABundle {
    /// Longer than any of ours.
    #[error("it has {bytes} bytes, and at most {MAX_BUNDLE_LEN} are read")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Not JSON, or not with these fields.
    #[error("it is cut off, or it is something else: {0}")]
    Json(serde_json::Error),
    /// Of another kind.
    #[error("it calls itself {format:?} version {version}; {FORMAT:?} version {VERSION} is read")]
    Format {
        /// What it calls itself.
        format: String,
        /// Which of them.
        version: u16,
    },
    /// Without a root, or with more than are followed.
    #[error("it holds {0} versions of the root metadata; 1 to {MAX_ROOTS} are read")]
    Roots(usize),
}

impl Bundle {
    /// Puts a bundle together from its files, `roots` oldest first.
    ///
    /// # Errors
    /// Where a file is not JSON, or the bundle would be one that nobody reads.
    pub fn new(
        roots: &[Vec<u8>],
        timestamp: &[u8],
        snapshot: &[u8],
        targets: &[u8],
        release: &[u8],
    ) -> Result<Self, NotABundle> {
        let raw = |bytes: &[u8]| serde_json::from_slice(bytes).map_err(NotABundle::Json);
        let files = Files {
            format: FORMAT.into(),
            version: VERSION,
            roots: roots.iter().map(|root| raw(root)).collect::<Result<_, _>>()?,
            timestamp: raw(timestamp)?,
            snapshot: raw(snapshot)?,
            targets: raw(targets)?,
            release: raw(release)?,
        };
        let bundle = Self { files }.checked()?;
        match bundle.to_bytes().len() {
            bytes if bytes > MAX_BUNDLE_LEN => Err(NotABundle::TooLong { bytes }),
            _ => Ok(bundle),
        }
    }

    /// Reads a bundle; whether anything in it holds is [`verify`](crate::verify)'s to say.
    ///
    /// # Errors
    /// [`NotABundle`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotABundle> {
        if bytes.len() > MAX_BUNDLE_LEN {
            return Err(NotABundle::TooLong { bytes: bytes.len() });
        }
        let files = serde_json::from_slice(bytes).map_err(NotABundle::Json)?;
        Self { files }.checked()
    }

    fn checked(self) -> Result<Self, NotABundle> {
        let Files { format, version, roots, .. } = &self.files;
        if format != FORMAT || *version != VERSION {
            let format = format.chars().take(40).collect();
            return Err(NotABundle::Format { format, version: *version });
        }
        if !(1..=MAX_ROOTS).contains(&roots.len()) {
            return Err(NotABundle::Roots(roots.len()));
        }
        Ok(self)
    }

    /// The document, the same bytes each time.
    pub fn to_bytes(&self) -> Vec<u8> {
        match serde_json::to_vec(&self.files) {
            Ok(bytes) => bytes,
            Err(error) => unreachable!("what was JSON is JSON still: {error}"),
        }
    }
}
