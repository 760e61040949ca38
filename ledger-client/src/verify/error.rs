//! Why something is not proven.

use crate::{client::QueryError, rpc::RpcError};

/// What was asked for is not proven.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// No server answered.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// The ledger refused the question.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// A server's answer does not hold.
    #[error("nothing is proven: {lie}; the ledger server {server} lies or is broken: ask another")]
    Lie {
        /// Which server.
        server: String,
        /// What does not hold.
        lie: Lie,
    },
    /// The pinned header is too old to go on from.
    #[error(
        "the pinned header (height {height}) is older than the trusting period, so its validators \
         may lie unpunished: pin a newer one that you have reason to believe"
    )]
    Expired {
        /// The newest believed header's height.
        height: u64,
    },
    /// The newest block is old.
    #[error(
        "the newest block that the ledger server {server} shows is {age} s old, {most} s are \
         allowed: it withholds newer ones, the chain stands still, or this clock is wrong"
    )]
    Stale {
        /// Which server.
        server: String,
        /// Its age in seconds.
        age: u64,
        /// The most that is allowed.
        most: u64,
    },
    /// No block proves a state yet.
    #[error(
        "the chain has {0} blocks: a state is proven by the block after it, so wait for the next"
    )]
    TooYoung(u64),
    /// Too far back.
    #[error(
        "block {asked} is {back} blocks before the pinned one; {most} are the most that is walked back: pin an older header"
    )]
    TooFarBack {
        /// What was asked for.
        asked: u64,
        /// How far it is.
        back: u64,
        /// How far is gone.
        most: u64,
    },
}

/// What does not hold of a server's answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lie {
    /// Another height than was asked for.
    #[error("height {asked} was asked for, height {answered} is answered")]
    Height {
        /// What was asked for.
        asked: u64,
        /// What came.
        answered: u64,
    },
    /// A height below one that is proven already.
    #[error("the chain is said to end at height {said}, but height {proven} is proven")]
    Backwards {
        /// What the server says.
        said: u64,
        /// What is known.
        proven: u64,
    },
    /// Another chain.
    #[error("the header is of chain {found:?}, not of {wanted:?}")]
    Chain {
        /// Whose header it is.
        found: String,
        /// Ours.
        wanted: String,
    },
    /// The pinned height's header is another one.
    #[error("the header of height {height} hashes to {found}, but {pinned} is pinned")]
    NotThePinned {
        /// The pinned height.
        height: u64,
        /// What the header hashes to.
        found: String,
        /// What was pinned.
        pinned: String,
    },
    /// A header that its validators did not sign, or not for us.
    #[error("the header of height {height} is not to be believed: {why}")]
    Header {
        /// Its height.
        height: u64,
        /// The light client's reason.
        why: String,
    },
    /// A header that the next one does not hash to.
    #[error("the header of height {height} is not the one that the next block follows on")]
    BrokenChain {
        /// Its height.
        height: u64,
    },
    /// The proof of a record.
    #[error("the proof of {path:?} does not hold against the app hash of block {height}: {why}")]
    Record {
        /// The record.
        path: String,
        /// The block whose app hash it is held against.
        height: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// A record's bytes are proven and yet no record.
    #[error("the record {path:?} is proven but cannot be read ({why}): this program is too old")]
    Unreadable {
        /// The record.
        path: String,
        /// The reason.
        why: String,
    },
    /// The transaction that carried a receipt is not shown.
    #[error("no transaction of block {height} is shown that carries the receipt")]
    NoCarrier {
        /// The block that it entered in.
        height: u64,
    },
    /// A transaction is not in its block.
    #[error("the transaction is not in block {height}: {why}")]
    NotInBlock {
        /// The block.
        height: u64,
        /// What is wrong.
        why: &'static str,
    },
}
