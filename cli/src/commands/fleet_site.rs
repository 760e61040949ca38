//! The provisioner that `alia fleet` speaks to, and whether its operator means it.

use super::now;
use cli::{
    Error,
    fleet::{Fleet, Site},
};
use std::path::Path;

/// The provisioner that `alia fleet login` named.
pub(super) fn open(home: &Path) -> Result<Fleet, Error> {
    Ok(Fleet::new(&Site::open(home)?)?)
}

/// Now, in milliseconds since 1970.
pub(super) fn unix_ms() -> u64 {
    u64::try_from(now().as_millis()).unwrap_or(u64::MAX)
}

/// Whether whoever is at the terminal says yes.
pub(super) fn meant(question: &str) -> Result<bool, Error> {
    super::meant(question, "--yes (of login: --fingerprint)")
}
