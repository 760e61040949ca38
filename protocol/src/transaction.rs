//! What the ledger is told.
//!
//! A transaction carries its own authority: each part is signed by the key that may say it, so
//! anyone can relay it. Replays are refused by the state itself (a node, job, assignment, receipt
//! or confirmation enters once).

use crate::{
    batch::BatchShape,
    digest::Digest,
    job::{JobId, JobSpec},
    key::PublicKey,
    node::NodeRegistration,
    receipt::{ReceiptId, Salt, SignedReceipt},
    signed::{Signed, SignedBody},
};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// Largest transaction in bytes: half of CometBFT's default `max_tx_bytes`.
pub const MAX_TRANSACTION_LEN: usize = 512 * 1024;
/// Most distinct micro-batches of a job: their shapes travel with its creation.
pub const MAX_JOB_BATCHES: usize = 10_000;
/// Most runs of one assignment transaction.
pub const MAX_RUNS: usize = 4_096;
/// Highest number of an attempt: bounds what the ledger keeps of one batch.
pub const MAX_ATTEMPTS: u32 = 256;
/// Most receipts of one transaction.
pub const MAX_RECEIPTS: usize = 256;
/// Most confirmations of one transaction.
pub const MAX_CONFIRMATIONS: usize = 4_096;

/// One transaction. New kinds are added at the end: a kind's number never changes.
#[derive(Clone, Debug, PartialEq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "body")]
pub enum Transaction {
    /// A node enters, signed by its identity key.
    RegisterNode(Signed<NodeRegistration>),
    /// A job enters, signed by its requester.
    CreateJob(Signed<CreateJob>),
    /// A step's batches are given out, signed by the job's parameter server.
    Assign(Signed<Assign>),
    /// Work was done; each receipt is signed by its work key.
    SubmitReceipts(Vec<SignedReceipt>),
    /// The parameter server took the results, signed by it.
    ConfirmReceipts(Signed<Confirm>),
}

/// A requester asks for work.
#[derive(Clone, Debug, PartialEq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct CreateJob {
    /// The specification; its digest is the job's id.
    pub spec: JobSpec,
    /// The shape of each distinct micro-batch, by index: work units are recomputed from it.
    pub shapes: Vec<BatchShape>,
    /// The node that runs the job's parameter server.
    pub parameter_server: PublicKey,
}

impl SignedBody for CreateJob {
    const DOMAIN: &'static str = "aliaOS create job";
    const VERSION: u16 = 1;
}

/// The parameter server gives out batches of one step, all in one transaction.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Assign {
    /// The job.
    pub job: JobId,
    /// The epoch.
    pub epoch: u32,
    /// The step within the epoch.
    pub step: u32,
    /// Who does what.
    pub runs: Vec<Run>,
}

impl SignedBody for Assign {
    const DOMAIN: &'static str = "aliaOS assign";
    const VERSION: u16 = 1;
}

/// An aligned run of `2^n` micro-batches (or the rest of the step), or the update, for one node.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Run {
    /// The first part; a run of micro-batches goes on from it.
    pub first: crate::batch::BatchPart,
    /// How many micro-batches; 1 for the update.
    pub count: u32,
    /// The node's identity key.
    pub node: PublicKey,
    /// Which attempt, from 1; one for the whole run.
    pub attempt: u32,
}

impl Assign {
    /// The id of the assignment of `run`: what its receipts answer.
    pub fn assignment(&self, run: &Run) -> Digest {
        assignment_id(&self.job, self.epoch, self.step, run)
    }
}

/// The id of an assignment.
pub fn assignment_id(job: &JobId, epoch: u32, step: u32, run: &Run) -> Digest {
    Digest::of("aliaOS assignment v1", &(job, epoch, step, run))
}

/// The parameter server took results and reveals the salts of their work roots.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Confirm {
    /// The job.
    pub job: JobId,
    /// Which receipts.
    pub receipts: Vec<Confirmation>,
}

impl SignedBody for Confirm {
    const DOMAIN: &'static str = "aliaOS confirm";
    const VERSION: u16 = 1;
}

/// One confirmed receipt.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Confirmation {
    /// The receipt.
    pub receipt: ReceiptId,
    /// Opens its work root.
    pub salt: Salt,
    /// The work root itself, which the salt and the receipt must agree with.
    pub work_root: Digest,
}
