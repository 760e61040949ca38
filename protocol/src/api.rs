//! What a parameter server and a provisioner show to people and programs, as JSON.

use crate::{
    batch::BatchPart,
    digest::Digest,
    job::JobId,
    key::PublicKey,
    operation::OperationRecord,
    receipt::{ReceiptId, Salt, SignedReceipt},
    work::Telemetry,
};
use serde::{Deserialize, Serialize};

/// A job as its parameter server shows it: `GET /v1/jobs`, `GET /v1/jobs/{job}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobStatus {
    /// The job.
    pub job: JobId,
    /// Its label.
    pub label: String,
    /// `train` or `translate`.
    pub kind: String,
    /// Where it stands.
    pub phase: JobPhase,
    /// What keeps it from going on just now, where something does.
    #[serde(default)]
    pub obstacle: Option<String>,
    /// The epoch being worked on, from 0.
    pub epoch: u32,
    /// Of so many.
    pub epochs: u32,
    /// The step within the epoch, from 0.
    pub step: u32,
    /// Of so many.
    pub steps: u32,
    /// The last step's mean loss a target token.
    pub loss: Option<f32>,
    /// Source and target tokens a second over the last minute.
    pub tokens_per_second: f32,
    /// The newest parameters.
    pub parameters: Option<Digest>,
    /// The content address of the finished model file, or of the translations.
    pub result: Option<Digest>,
    /// Receipts taken from workers and made by the server itself.
    pub receipts: u64,
    /// Receipts that are known to stand in a block.
    pub receipts_on_chain: u64,
    /// Receipts confirmed on the chain.
    pub receipts_confirmed: u64,
    /// Who works.
    pub workers: Vec<WorkerStatus>,
    /// The last batches done, newest first, at most 64.
    pub recent: Vec<BatchDone>,
    /// Training seconds so far.
    pub seconds: f64,
}

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum JobPhase {
    /// Its files are not all here, or its transaction is in no block yet.
    Waiting,
    /// It runs.
    Running,
    /// It is done and every receipt stands confirmed on the chain.
    Done,
    /// It is computed; receipts are still on their way to the chain.
    Settling,
    /// It cannot go on, for this reason.
    Failed(String),
}

/// A worker as a parameter server sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WorkerStatus {
    /// The node.
    pub node: PublicKey,
    /// What it computes with.
    pub device: String,
    /// Micro-batches that it did of this job.
    pub batches: u64,
    /// Receipts that it gave.
    pub receipts: u64,
    /// Milliseconds that it takes for a micro-batch, smoothed.
    pub batch_ms: Option<f64>,
    /// What it is doing.
    pub doing: Option<String>,
    /// Seconds since it was last heard of.
    pub silent_seconds: f64,
}

/// A batch that was done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BatchDone {
    /// The epoch.
    pub epoch: u32,
    /// The step.
    pub step: u32,
    /// The part.
    pub part: BatchPart,
    /// Who did it.
    pub node: PublicKey,
    /// The receipt.
    pub receipt: ReceiptId,
    /// Whether the result was used, or came late.
    pub used: bool,
}

/// What a parameter server answers to a new job: `POST /v1/jobs`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobTaken {
    /// The job.
    pub job: JobId,
    /// The files that it still needs: `PUT /v1/blobs/{digest}`.
    pub missing: Vec<Digest>,
}

/// A receipt with what opens it: `GET /v1/receipts/{receipt}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReceiptView {
    /// The receipt.
    pub receipt: SignedReceipt,
    /// Opens its work root.
    pub salt: Salt,
    /// The records under its work root.
    pub records: Vec<OperationRecord>,
    /// The records under its telemetry root.
    pub telemetry: Vec<Telemetry>,
    /// Whether its result was used, or came late.
    pub used: bool,
    /// When it was taken, milliseconds since 1970.
    pub at: u64,
}

/// Every operation of a receipt's batch, as its worker lists them when asked:
/// `GET /v1/receipts/{receipt}/log`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogView {
    /// The records, by position.
    pub records: Vec<OperationRecord>,
}

/// What went wrong, for people: the body of every answer that is an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// What was wrong and what to do.
    pub error: String,
}
