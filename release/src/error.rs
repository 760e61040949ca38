//! Why a release is refused.

use crate::bundle::{MAX_ROOTS, NotABundle};
use std::{io, path::PathBuf};
use tough::schema::RoleType;

/// A release was refused, or could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// What came is no bundle.
    #[error("this is no release bundle: {0}; make it by `cargo xtask release` and serve it whole")]
    NotABundle(#[from] NotABundle),
    /// The root that is trusted already is unusable.
    #[error("the trusted root.json is no TUF root that signs itself: {0}; build the image again")]
    TrustedRoot(String),
    /// The release's roots do not grow out of ours.
    #[error(
        "the release's root of trust is not ours: {why}; it is another network's release, or one \
         that nobody here has the keys of: boot an image of that network, or ask for a release \
         of this one"
    )]
    NotChained {
        /// What is wrong between the two.
        why: String,
    },
    /// Fewer keys have signed than must.
    #[error(
        "too few signatures: {valid} of the {threshold} that role {role} wants are there and \
         right; it was altered, signed by keys that were taken out of use, or not signed by all \
         who must (`cargo xtask release sign`)"
    )]
    Signatures {
        /// Whose.
        role: RoleType,
        /// How many keys of the role have signed what is there.
        valid: u64,
        /// How many must.
        threshold: u64,
    },
    /// A part is not the one that the signed metadata names.
    #[error(
        "{what} is not what was signed: {why}; it was altered on its way, or parts of two releases \
         were mixed: get the bundle again, whole"
    )]
    Altered {
        /// Which part.
        what: &'static str,
        /// The difference.
        why: String,
    },
    /// Signed as it should be, and not to be understood.
    #[error(
        "{what} is signed and not understood here: {why}; it was made for newer machines: boot \
         their image"
    )]
    NotUnderstood {
        /// Which part.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// Too old by the time that the caller vouches for.
    #[error(
        "the release's {role} metadata expired at {}, and it is {} now; sign a release anew by \
         `cargo xtask release`, or mend the clock of whoever tells the time",
        utc(*expired),
        utc(*now)
    )]
    Expired {
        /// Which metadata.
        role: RoleType,
        /// Since when, seconds since 1970.
        expired: u64,
        /// The caller's time, seconds since 1970.
        now: u64,
    },
    /// Below what this machine has seen already.
    #[error(
        "release {version} is below the floor {floor}: this machine has seen a release that \
         forbids it; serve a newer one"
    )]
    BelowFloor {
        /// The release's version.
        version: u64,
        /// The floor.
        floor: u64,
    },
    /// Nothing is wrong with the release.
    #[error("{path} cannot be written, and it is needed to check a release: {source}")]
    Scratch {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Who has to do something about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// Whoever made or serves the release, or stands between.
    Release,
    /// This machine or its image.
    Machine,
}

impl ReleaseError {
    /// Who has to do something about it.
    pub fn blame(&self) -> Blame {
        match self {
            Self::TrustedRoot(_) | Self::Scratch { .. } => Blame::Machine,
            _ => Blame::Release,
        }
    }

    pub(crate) fn altered(what: &'static str, why: impl ToString) -> Self {
        Self::Altered { what, why: why.to_string() }
    }

    /// What [`tough`] found.
    pub(crate) fn of(error: tough::error::Error, ours: u64, scratch: &std::path::Path) -> Self {
        use tough::{error::Error as E, schema::Error as S};
        let scratch = |source: io::Error| Self::Scratch { path: scratch.into(), source };
        match error {
            E::ParseTrustedMetadata { source, .. } => Self::TrustedRoot(source.to_string()),
            E::VerifyTrustedMetadata { source, .. } => Self::TrustedRoot(source.to_string()),
            E::VerifyMetadata { role: RoleType::Root, source, .. } => Self::NotChained {
                why: format!("a version after {ours}, ours, is not signed as it must be: {source}"),
            },
            E::VerifyMetadata { role, source, .. } => match source {
                S::SignatureThreshold { threshold, valid, .. } => {
                    Self::Signatures { role, valid, threshold }
                }
                other => Self::altered(file(role), other),
            },
            E::OlderMetadata { role: RoleType::Root, new_version, .. } => Self::NotChained {
                why: format!("its version {new_version} does not follow on the one before"),
            },
            E::MaxUpdatesExceeded { .. } => {
                Self::NotChained { why: format!("it is more than {MAX_ROOTS} versions on") }
            }
            E::ParseMetadata { role, source, .. } => {
                Self::NotUnderstood { what: file(role), why: source.to_string() }
            }
            E::VersionMismatch { role, fetched, expected, .. } => Self::altered(
                file(role),
                format!("version {fetched}, where version {expected} is named"),
            ),
            E::DatastoreInit { source, .. }
            | E::DatastoreCreate { source, .. }
            | E::DatastoreOpen { source, .. }
            | E::DatastoreRemove { source, .. } => scratch(source),
            // Within a stream: a digest or a length that is wrong.
            E::Transport { url, source, .. } => {
                let what = match url.path().rsplit('/').next().unwrap_or_default() {
                    name if name.ends_with("timestamp.json") => "timestamp.json",
                    name if name.ends_with("snapshot.json") => "snapshot.json",
                    name if name.ends_with("targets.json") => "targets.json",
                    name if name.ends_with("release.json") => "release.json",
                    // A delegated role's: we have none.
                    _ => "targets.json",
                };
                Self::altered(what, protocol::told(&source))
            }
            other => Self::altered("the metadata", protocol::told(&other)),
        }
    }
}

fn file(role: RoleType) -> &'static str {
    match role {
        RoleType::Root => "root.json",
        RoleType::Snapshot => "snapshot.json",
        RoleType::Timestamp => "timestamp.json",
        RoleType::Targets | RoleType::DelegatedTargets => "targets.json",
    }
}

/// A time for people; the bare number where no calendar has it.
pub(crate) fn utc(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
    time.map_or_else(
        || format!("{seconds} s after 1970"),
        |time| time.strftime("%Y-%m-%d %H:%M UTC").to_string(),
    )
}
