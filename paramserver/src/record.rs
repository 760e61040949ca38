//! What a parameter server keeps on disk of its jobs, as canonical bytes.

use borsh::{BorshDeserialize, BorshSerialize};
use job::tree::Span;
use protocol::{
    Digest, JobId, PublicKey, ReceiptId, Signed, SignedReceipt,
    operation::OperationRecord,
    receipt::Salt,
    transaction::{Assign, Confirm, Confirmation, CreateJob, Run},
    work::Telemetry,
};

/// A job that was taken.
#[derive(Clone, Debug, PartialEq, BorshSerialize, BorshDeserialize)]
pub struct JobEntry {
    /// As the requester signed it.
    pub create: Signed<CreateJob>,
    /// Order of arrival: jobs are worked on first come, first served.
    pub arrived: u64,
    /// Where it stands.
    pub standing: Standing,
    /// How often this process's predecessors ended while they opened it, one after the other.
    pub crashes: u32,
}

/// Where a job stands, as far as a restart must know.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Standing {
    /// Files are missing, or it is not on the chain yet.
    Waiting,
    /// It is being worked on.
    Running,
    /// Its result's content address; receipts may still be on their way.
    Computed(Digest),
    /// It cannot go on, for this reason.
    Failed(String),
}

/// A step that is done.
#[derive(Clone, Debug, PartialEq, BorshSerialize, BorshDeserialize)]
pub struct StepEntry {
    /// The epoch.
    pub epoch: u32,
    /// The step within it.
    pub step: u32,
    /// Parameters that it began from.
    pub before: Digest,
    /// Parameters that it ended with; for translation the same.
    pub after: Digest,
    /// Summed loss over its target tokens.
    pub loss: f32,
    /// Target tokens.
    pub target_tokens: u64,
    /// Source and target tokens.
    pub tokens: u64,
    /// How long it took.
    pub milliseconds: u64,
}

/// A receipt with what opens it.
#[derive(Clone, Debug, PartialEq, BorshSerialize, BorshDeserialize)]
pub struct ReceiptEntry {
    /// The receipt.
    pub receipt: SignedReceipt,
    /// Opens its work root.
    pub salt: Salt,
    /// The records under its work root.
    pub records: Vec<OperationRecord>,
    /// The records under its telemetry root.
    pub telemetry: Vec<Telemetry>,
    /// Whether its result was used.
    pub used: bool,
    /// When it was taken, milliseconds since 1970.
    pub at: u64,
    /// How far it has come.
    pub progress: Progress,
}

/// How far a receipt has come on the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum Progress {
    /// Not known to be in a block.
    Taken,
    /// Known to be in a block.
    OnChain,
    /// Its confirmation is in a block.
    Confirmed,
    /// The chain refused it for good: whoever made it is not paid for it.
    Refused,
}

/// An assignment of the step that is being worked on, or of the one before it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct AssignedEntry {
    /// The epoch.
    pub epoch: u32,
    /// The step.
    pub step: u32,
    /// What was given to whom.
    pub run: Run,
    /// Whether its result was taken: kept so that its attempt's number is not used again.
    pub answered: bool,
}

/// A partial sum of the step that is being worked on.
#[derive(Clone, Debug, PartialEq, BorshSerialize, BorshDeserialize)]
pub struct PartEntry {
    /// The epoch.
    pub epoch: u32,
    /// The step.
    pub step: u32,
    /// The first micro-batch.
    pub first: u32,
    /// How many.
    pub count: u32,
    /// Summed loss over its target tokens.
    pub loss: f32,
    /// What its file must give: the digest that came with the result.
    pub payload: Digest,
    /// Its receipts, to be confirmed when the step is done.
    pub receipts: Vec<Confirmation>,
    /// Who did it.
    pub node: PublicKey,
}

impl PartEntry {
    /// The micro-batches.
    pub fn span(&self) -> Span {
        Span { first: self.first, count: self.count }
    }
}

/// Something that the chain is to be told, in the order in which it happened.
#[derive(Clone, Debug, PartialEq, BorshSerialize, BorshDeserialize)]
pub enum Outgoing {
    /// Batches were given out.
    Assign(Signed<Assign>),
    /// Results were taken.
    Confirm(Signed<Confirm>),
}

impl Outgoing {
    /// The job it is about.
    pub fn job(&self) -> JobId {
        match self {
            Self::Assign(assign) => assign.body.job,
            Self::Confirm(confirm) => confirm.body.job,
        }
    }

    /// The receipts that it leans on.
    pub fn receipts(&self) -> Vec<ReceiptId> {
        match self {
            Self::Assign(_) => Vec::new(),
            Self::Confirm(confirm) => {
                confirm.body.receipts.iter().map(|confirmation| confirmation.receipt).collect()
            }
        }
    }
}
