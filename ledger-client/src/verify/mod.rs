//! Proof, from a pinned header to a record's last byte.
//!
//! ```text
//! TrustRoot (pinned) --skipping verification--> header h + 1 --app hash--> ICS-23 proof --> record
//!                                               header H ----data hash--> Merkle proof --> transaction
//! ```
//!
//! The pinned header is believed because somebody believed it at first use. A later header is
//! believed when validators with more than a third of the power of a believed set, and more than
//! two thirds of its own, signed it ([light client
//! specification](https://github.com/cometbft/cometbft/blob/v0.38.x/spec/light-client/README.md));
//! an earlier one because believed headers hash to it. So what is proven here is as true as the
//! assumption that more than two thirds of the validators' power was honest within the trusting
//! period. A server can still withhold news: [`Proven`] says of when its word is.

mod error;
mod fetch;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod inclusion;
mod light;
mod proof;
mod prover;
mod trust;

pub use error::{Lie, VerifyError};
pub use inclusion::{InclusionProof, MAX_AUNTS};
pub use light::{BlockRef, CLOCK_DRIFT};
pub use proof::check_record;
pub use prover::{Carrier, DEFAULT_MAX_AGE, Proven, ProvenReceipt, Prover};
pub use trust::{DEFAULT_TRUSTING_PERIOD, TrustRoot};
