//! What `alia` does, as a library: prepare a job from a corpus, submit it, watch it, fetch and
//! prove its result, translate, and hold a receipt against its own re-execution.
//!
//! ```text
//! JOB.toml --job_file--> settings --prepare--> specification, blobs --submit--> ledger, server
//!   watch --status--> fetch --model, translations--> ledger::Ledger proves, translate, score
//!   receipt id --ledger--> proven record --replay--> the same batch here: agrees, or who lied
//! ```
//!
//! **Never** trusts a server: content is checked by its digest, records are proven under a header
//! that the light client verified from the pinned root, work is done again. Where something is a
//! server's word alone, what is printed says so. It holds no key but its owner's.

pub mod error;
pub mod fetch;
pub mod fleet;
pub mod folder;
pub mod home;
pub mod job_file;
pub mod ledger;
pub mod listing;
pub mod medium;
pub mod node;
pub mod parameter_server;
pub mod prepare;
pub mod prove;
pub mod release;
pub mod replay;
pub mod score;
pub mod show;
pub mod submit;
pub mod translate;
pub mod verity;
pub mod watch;

pub use error::{Error, Exit};
pub use home::Home;
pub use job_file::{JobFile, JobSettings};
pub use ledger::Ledger;
pub use parameter_server::ParameterServer;
pub use prepare::{Prepared, prepare};
