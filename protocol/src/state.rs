//! The ledger's state: every key and every record, in one place, as provers and checkers see it.
//!
//! A key is a path of text; the tree hashes it with SHA-256. A value is a record's canonical
//! bytes, which are never none.

use crate::{
    batch::{BatchId, BatchShape},
    digest::Digest,
    job::{JobId, JobSpec},
    key::PublicKey,
    node::NodeRegistration,
    operation::WorkUnits,
    receipt::{Receipt, ReceiptId, Salt, SignedReceipt},
    signed::Signed,
    transaction::Run,
};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// A key of the state tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateKey {
    /// [`ChainRecord`].
    Chain,
    /// [`NodeRecord`] of an identity key.
    Node(PublicKey),
    /// [`JobRecord`].
    Job(JobId),
    /// [`ShapesRecord`]: the shapes of a job's micro-batches.
    Shapes(JobId),
    /// [`AssignmentRecord`] by assignment id.
    Assignment(Digest),
    /// [`ReceiptRecord`].
    Receipt(ReceiptId),
    /// [`BatchRecord`]: which attempts and receipts of a batch there are.
    Batch(BatchId),
}

impl StateKey {
    /// The key's path, as queries name it: `node/…`, `job/…`.
    pub fn path(&self) -> String {
        match self {
            Self::Chain => "chain".into(),
            Self::Node(key) => format!("node/{key}"),
            Self::Job(job) => format!("job/{job}"),
            Self::Shapes(job) => format!("shapes/{job}"),
            Self::Assignment(id) => format!("assignment/{id}"),
            Self::Receipt(id) => format!("receipt/{id}"),
            Self::Batch(batch) => format!("batch/{}", batch.digest()),
        }
    }
}

/// Counts over the whole chain.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct ChainRecord {
    /// Nodes registered.
    pub nodes: u64,
    /// Jobs created.
    pub jobs: u64,
    /// Assignments made.
    pub assignments: u64,
    /// Receipts submitted.
    pub receipts: u64,
    /// Receipts confirmed.
    pub confirmed: u64,
    /// Work units of confirmed receipts that were the first of their batch.
    pub units: WorkUnits,
}

/// A registered node.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its owner's account.
    pub owner: PublicKey,
    /// What it said of itself.
    pub registration: NodeRegistration,
    /// The block that it entered in.
    pub height: u64,
    /// Its receipts.
    pub receipts: u64,
    /// Those confirmed.
    pub confirmed: u64,
}

/// A job.
#[derive(Clone, Debug, PartialEq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct JobRecord {
    /// Its specification.
    pub spec: JobSpec,
    /// Its parameter server's node.
    pub parameter_server: PublicKey,
    /// The block that it entered in.
    pub height: u64,
    /// Its receipts.
    pub receipts: u64,
    /// Those confirmed.
    pub confirmed: u64,
}

/// The shapes of a job's micro-batches.
pub type ShapesRecord = Vec<BatchShape>;

/// An assignment.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct AssignmentRecord {
    /// The job.
    pub job: JobId,
    /// The epoch.
    pub epoch: u32,
    /// The step.
    pub step: u32,
    /// What was given to whom.
    pub run: Run,
    /// The block that it entered in: its rate card's, later.
    pub height: u64,
}

/// A receipt on the ledger.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct ReceiptRecord {
    /// The receipt as submitted.
    pub receipt: SignedReceipt,
    /// The block that it entered in.
    pub height: u64,
    /// Once confirmed.
    pub confirmed: Option<ConfirmedRecord>,
}

impl ReceiptRecord {
    /// The receipt's body.
    pub fn body(&self) -> &Receipt {
        &self.receipt.body
    }
}

/// A confirmation on the ledger.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct ConfirmedRecord {
    /// The block of the confirmation.
    pub height: u64,
    /// What opens the work root.
    pub salt: Salt,
    /// The work root.
    pub work_root: Digest,
    /// Whether it was the first confirmed attempt of its batch: the one to be paid.
    pub first: bool,
}

/// Which attempts and receipts a batch has.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct BatchRecord {
    /// The attempts assigned so far, by rising number, which is used once.
    pub attempts: Vec<AttemptRecord>,
    /// The first receipt confirmed.
    pub confirmed: Option<ReceiptId>,
}

/// One attempt at a batch.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// Its number, from 1.
    pub attempt: u32,
    /// The assignment that gave it out.
    pub assignment: Digest,
    /// The one receipt that answered it.
    pub receipt: Option<ReceiptId>,
}

/// What `init_chain` takes as CometBFT's `app_state`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisState {}

/// The registration that a record holds, for whoever checks an owner.
pub type SignedRegistration = Signed<NodeRegistration>;
