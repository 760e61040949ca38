//! The state: forks over a committed tree, and the one file that is written.
//!
//! `Base <- block fork <- transaction fork`: a refused transaction's fork is dropped, a block's is
//! committed whole or not at all.

mod committed;
mod fork;
mod store;
mod tree;

pub use committed::Committed;
pub use fork::{Base, Fork, Listing, Writes};
pub(crate) use store::listing_prefix;
pub use store::{Head, RETAINED_HEIGHTS, Store};
pub use tree::TreeChange;

use protocol::state::StateKey;

/// The state cannot be read or written: nothing to be done inside a block but to stop.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database file cannot be opened.
    #[error("the state database {path} cannot be opened: {source}; {mend}")]
    Open {
        /// The file.
        path: String,
        /// The reason.
        source: Box<redb::DatabaseError>,
        /// What to do.
        mend: &'static str,
    },
    /// A directory or file cannot be made.
    #[error("the state directory {path} cannot be used: {source}")]
    Directory {
        /// The directory.
        path: String,
        /// The reason.
        source: std::io::Error,
    },
    /// The database failed under us.
    #[error(
        "the state database failed: {0}; nothing of the block at hand was committed: see that the \
         disk has room and is whole, then start again"
    )]
    Database(Box<redb::Error>),
    /// What we wrote ourselves cannot be read back.
    #[error(
        "the state's record {at} is broken ({wrong}): the database is damaged or of another \
         version; restore it, or remove it and replay the chain"
    )]
    Broken {
        /// Where.
        at: String,
        /// What is wrong with it.
        wrong: String,
    },
    /// The tree contradicts itself.
    #[error(
        "the state tree is broken: {0}; restore the database, or remove it and replay the chain"
    )]
    Tree(String),
    /// A height whose state is not kept.
    #[error(
        "the state of height {asked} is not kept: {first} to {last} are, the newest {RETAINED_HEIGHTS} at most"
    )]
    NotKept {
        /// What was asked for.
        asked: u64,
        /// The oldest kept.
        first: u64,
        /// The newest.
        last: u64,
    },
}

pub(crate) fn broken(key: &StateKey, error: &std::io::Error) -> StoreError {
    StoreError::Broken { at: key.path(), wrong: error.to_string() }
}

macro_rules! from_redb {
    ($($error:ident)*) => {
        $(impl From<redb::$error> for StoreError {
            fn from(error: redb::$error) -> Self {
                Self::Database(Box::new(error.into()))
            }
        })*
    };
}

from_redb!(StorageError TableError TransactionError CommitError SetDurabilityError);
