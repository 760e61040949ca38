//! The nouns that aliaOS's members meet through, and their canonical bytes.
//!
//! Every arrow between two members is a type here: what firmware's successor asks of the
//! provisioner, what a worker takes from and returns to a parameter server, what stands on the
//! ledger, and what proves it. `ARCHITECTURE.md` follows one machine along those arrows.
//!
//! **Never** does I/O, reads a clock, or depends on another member. (Making a key asks the
//! operating system for randomness; nothing else here leaves the process.)
//!
//! Conventions, fixed from the start because they are expensive to change:
//! - canonical bytes are [borsh](https://borsh.io); integers are little-endian;
//! - content is named by BLAKE3 ([`Digest`]); structured values are hashed under a domain string
//!   with BLAKE3's key-derivation mode, so that no two kinds of value share a preimage;
//! - what is signed is `domain, version, chain id, body` in that order ([`Signed`]).

pub mod api;
pub mod batch;
pub mod boot;
pub mod certificate;
pub mod configuration;
pub mod console;
pub mod digest;
pub mod earnings;
pub mod encoded;
pub mod evidence;
pub mod fleet;
pub mod inventory;
pub mod job;
pub mod key;
pub mod listing;
pub mod medium;
pub mod merkle;
pub mod network;
pub mod node;
pub mod node_api;
pub mod nvidia;
#[cfg(feature = "openapi")]
mod openapi;
pub mod operation;
pub mod operator;
pub mod pieces;
pub mod problem;
pub mod readiness;
pub mod receipt;
pub mod refusal;
pub mod release;
pub mod sandbox;
pub mod signed;
pub mod state;
pub mod tensor;
mod told;
pub mod transaction;
pub mod version;
pub mod work;

pub use batch::{BatchId, BatchPart, BatchShape};
pub use digest::Digest;
pub use job::{JobId, JobSpec};
pub use key::{Address, PublicKey, SecretKey, Signature};
pub use operation::{OperationId, OperatorId, WorkUnits};
pub use receipt::{Receipt, ReceiptId, SignedReceipt};
pub use signed::{ChainId, Signed, SignedBody};
pub use told::{is_plain, plain, plain_lines, told};
pub use transaction::Transaction;
