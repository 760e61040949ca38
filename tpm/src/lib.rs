//! TPM 2.0, as a node and its provisioner need it.
//!
//! - [`transport`] carries bytes to `/dev/tpmrm0` or to a socket; [`chip`] marshals commands (by
//!   `tpm2-protocol`) and tells refusals apart;
//! - [`pcr`] extends and reads PCRs, [`nv`] keeps a secret under a policy on them and small values
//!   beside it, [`quote`] makes keys of the endorsement hierarchy and has them attest;
//! - [`log`] reads firmware's event log, [`measured`] node-init's own, and both say what PCRs must
//!   hold after them.
#![cfg_attr(feature = "verify", doc = "- [`verify`], without any chip: checks a node's evidence.")]
//!
//! Everything is done in the bank of SHA-256 and on P-256, which each TPM 2.0 has.
//!
//! Sessions are neither salted nor encrypted: who listens on the wires between processor and chip
//! reads the node's key when PID 1 does. A chip within the processor has no such wires.
//!
//! **Never** sets a hierarchy's password, clears a chip, or touches indices that are not ours.

pub mod chip;
pub mod log;
pub mod measured;
pub mod nv;
pub mod pcr;
pub mod quote;
pub mod transport;
#[cfg(feature = "verify")]
pub mod verify;

pub use chip::{Tpm, TpmError, code};
pub use quote::{Key, Quote};
pub use transport::{Stream, Transport};
