//! The ledger: the state machine behind CometBFT 0.38.
//!
//! ```text
//! CometBFT --ABCI--> transport -> app -> rules (on a fork) -> state (tree, one write a block)
//!                                  `---> query (record, proof, listing)
//! ```
//!
//! - [`transport`]: frames, sockets, one thread a connection;
//! - [`app`]: CometBFT's requests; which fork they see;
//! - [`rules`]: one file a transaction;
//! - [`state`]: forks over a Jellyfish Merkle tree in one database file;
//! - [`query`]: records with ICS-23 proofs, and listings.
//!
//! Every key and record is in `protocol::state`, every code in `protocol::refusal`.
//!
//! **Never** uses a float, clock, thread or unordered map in a rule; never answers from a state
//! that is not whole: it stops.

pub mod app;
pub mod bench;
pub mod query;
pub mod refusal;
pub mod rules;
pub mod state;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod transport;

pub use app::Ledger;
