//! Signed releases, in the manner of The Update Framework (TUF).
//!
//! - [`Bundle`] is a whole TUF repository in one document, which a machine gets by one request:
//!   the chain of root metadata, timestamp, snapshot, targets, and the one target, `release.json`
//!   ([`protocol::release::Manifest`]).
//! - [`verify`] checks it against a root that is trusted already, and says what holds: threshold
//!   signatures and the chain of roots by [`tough`], expiry against a time that the caller vouches
//!   for, and the floor.
//! - Feature `sign`: `sign`, the roles' keys in their files, and the repository that they
//!   sign.
//!
//! **Never** asks the machine's clock whether something has expired, fetches anything, or keeps
//! what it read.

mod bundle;
mod error;
mod memory;
#[cfg(feature = "sign")]
pub mod sign;
mod verify;

pub use bundle::{Bundle, MAX_ROOTS, NotABundle};
pub use error::{Blame, ReleaseError};
pub use verify::{Verified, verify};
