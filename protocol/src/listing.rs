//! Listings of the ledger, as JSON, for people and their programs: a server's word, never proven.
//!
//! `abci_query` with the path `list/nodes`, `list/jobs` or `list/receipts?job=<id>`; `after=<n>`
//! goes on where a page ended and `limit=<n>` (to [`MAX_PAGE`]) sets its length.

use crate::{
    batch::BatchPart,
    job::JobId,
    key::{Address, PublicKey},
    node::NodeRole,
    operation::WorkUnits,
    receipt::ReceiptId,
};
use serde::{Deserialize, Serialize};

/// Lines of a page where no `limit` is given.
pub const DEFAULT_PAGE: usize = 50;
/// The most lines of a page: some 100 KB.
pub const MAX_PAGE: usize = 200;

/// A page of a listing, oldest lines first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// The lines.
    pub lines: Vec<T>,
    /// What `after` must be to go on; none at the end.
    pub next: Option<u64>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeLine {
    /// Its identity key.
    pub node: PublicKey,
    /// Its owner's account.
    pub owner: Address,
    /// What it is for.
    pub role: NodeRole,
    /// The block that it entered in.
    pub height: u64,
    /// Its receipts.
    pub receipts: u64,
    /// Those confirmed.
    pub confirmed: u64,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobLine {
    /// The job.
    pub job: JobId,
    /// Its label.
    pub label: String,
    /// `train` or `translate`.
    pub kind: String,
    /// Whose it is.
    pub requester: Address,
    /// Its parameter server's node.
    pub parameter_server: PublicKey,
    /// The block that it entered in.
    pub height: u64,
    /// Its receipts.
    pub receipts: u64,
    /// Those confirmed.
    pub confirmed: u64,
}

/// A receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptLine {
    /// The receipt.
    pub receipt: ReceiptId,
    /// Whose work.
    pub node: PublicKey,
    /// The epoch.
    pub epoch: u32,
    /// The step.
    pub step: u32,
    /// The part of the step.
    pub part: BatchPart,
    /// Which attempt at it.
    pub attempt: u32,
    /// What it counts for.
    pub units: WorkUnits,
    /// The block that it entered in.
    pub height: u64,
    /// The block of its confirmation.
    pub confirmed: Option<u64>,
    /// Whether it is its batch's first confirmed one.
    pub first: bool,
}
