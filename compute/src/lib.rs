//! A node's worker: asks a parameter server for micro-batches, does them, returns the result with
//! a signed receipt for each, and hands the receipts to the ledger until they stand there.
//!
//! [`run`] computes, [`client`] and [`cache`] fetch, [`worker`] ties them together for ever, and
//! [`heart`] shows that it gets on.
//!
//! **Never** decides what is paid, what is right, or what to work on next; and never keeps
//! anything that the parameter server does not have too: a machine may die at any moment.

pub mod cache;
pub mod cards;
pub mod client;
pub mod heart;
pub mod receipts;
pub mod run;
pub mod speed;
pub mod worker;

pub use worker::{Worker, WorkerSettings};
