//! The ledger as everything else sees it: transactions go in, records come out, proofs hold.
//!
//! Two layers. The light one, always there, submits transactions ([`Client::submit`]), asks for
//! records and keeps receipts until they stand on the chain ([`outbox`]); it is small enough for
//! PID 1, starts no thread, and takes numeric addresses without a resolver.
//!
//! Feature `verify` adds the other: a light client that follows headers from a pinned trust root,
//! and proofs of records and of receipts against them (module `verify`).
//!
//! **Never** believes an answer that it did not prove, where the answer matters: what the light
//! layer returns is a server's word and named so.

pub mod address;
pub mod client;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod http;
pub mod outbox;
pub mod rpc;
pub mod submit;
#[cfg(feature = "verify")]
pub mod verify;

pub use address::{Address, AddressError};
pub use client::{Client, QueryError};
pub use outbox::Outbox;
pub use rpc::{RpcError, TxHash, TxOutcome};
pub use submit::{Standing, SubmitError, Submitted};
