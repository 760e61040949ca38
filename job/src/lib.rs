//! From a job's specification to its batches, graph, operation ids, work units and gradient tree:
//! one truth for worker, parameter server, auditor, replay and ledger.
//!
//! [`Terms`] is what a job obliges to, known without its corpus; [`Job`] adds the corpus and does
//! a batch ([`work`]), logging what the receipt commits to. A batch depends on the job alone: who
//! works, how many, and how big a card never change a bit.
//!
//! **Never** does I/O: no file, socket, clock or thread.

pub mod order;
pub mod plan;
pub mod spec;
pub mod terms;
pub mod tree;
pub mod work;

mod log;

pub use log::first_difference;
pub use terms::Terms;
pub use work::{Job, JobError};
