//! Parameter servers: what routes, records and returns a job's work.
//!
//! A job's batches go out to workers ([`share`], [`step`]), what comes back is checked, kept
//! ([`store`]) and summed ([`training`]), and the chain is told ([`chain`]): one transaction of
//! assignments a step, one of confirmations, and the receipts of machines that could no longer
//! hand theirs in. [`engine`] holds one job; [`server`] all of them; [`http`] is the door.
//!
//! # What is kept, and how long
//!
//! Of each job, on disk: its files and its result ([`store`], `blobs`); every receipt with what
//! opens it, and each step's digests, in the database; and of its steps as much as `--keep` has
//! room for. Nothing of the first two is ever dropped.
//!
//! A step's gradient sum is as large as the parameters (4 bytes each). Before every 64th step a
//! checkpoint is written, parameters and two moments, three times that. A checkpoint with the
//! sums up to the next is a *stretch*, and rebuilds the parameters before each of its steps to
//! the bit. When a checkpoint is written, and when the job is done, the oldest stretches are
//! dropped, each as a whole, until sums and checkpoints take at most `--keep`; the newest stretch
//! stays in any case, for a restart needs it. Parameters of a dropped stretch are answered with
//! 410 Gone, and receipts of its steps can no longer be replayed from here. A `--keep` smaller than
//! a stretch leaves nothing before the newest checkpoint.
//!
//! So a job's steps take at most `--keep` (or one checkpoint, if that is more), 64 sums until the
//! next trim, one checkpoint, and the partial sums of the step in progress (at most one a
//! micro-batch, removed when the step is done).
//!
//! **Never** holds truth that its own restart would lose, and never decides what is paid.

pub mod chain;
pub mod clock;
pub mod engine;
mod gathered;
pub mod http;
pub mod record;
pub mod server;
pub mod share;
pub mod step;
pub mod store;
mod tally;
pub mod training;
pub mod workers;

#[cfg(test)]
mod tests;
