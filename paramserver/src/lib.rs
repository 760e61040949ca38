//! Parameter servers: what routes, records and returns a job's work.
//!
//! A job's batches go out to workers ([`share`], [`step`]), what comes back is checked, kept
//! ([`store`]) and summed ([`training`]), and the chain is told ([`chain`]): one transaction of
//! assignments a step, one of confirmations, and the receipts of machines that could no longer
//! hand theirs in. [`engine`] holds one job; [`server`] all of them; [`http`] is the door.
//!
//! **Never** holds truth that its own restart would lose, and never decides what is paid.

pub mod chain;
pub mod clock;
pub mod engine;
pub mod http;
pub mod record;
pub mod server;
pub mod share;
pub mod step;
pub mod store;
pub mod training;
pub mod workers;

#[cfg(test)]
mod tests;
