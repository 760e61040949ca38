//! Between a worker and a job's parameter server.
//!
//! HTTP. `POST /v1/work/pull` takes a borsh [`Signed`]`<Pull>` and answers a borsh [`PullReply`]
//! within [`LONG_POLL_SECONDS`]; `POST /v1/work/result` takes a [`ResultMessage`]'s bytes and
//! answers a borsh [`ResultReply`]; `GET /v1/blobs/{digest}` and `GET /v1/parameters/{digest}`
//! give bytes, the latter as a safetensors file.
//! The header [`crate::version::HEADER`] carries the versions spoken.

use crate::{
    digest::Digest,
    job::JobId,
    operation::OperationRecord,
    receipt::{ReceiptId, Salt, SignedReceipt, WorkKeyCertificate},
    signed::{Signed, SignedBody},
};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use std::io::{self, Read};

/// How long a pull waits for work before the answer is [`PullReply::Nothing`].
pub const LONG_POLL_SECONDS: u64 = 20;
/// The most operation records of one micro-batch's log.
pub const MAX_RECORDS: usize = 100_000;
/// The largest body of a result: 1 GiB.
pub const MAX_RESULT_LEN: usize = 1 << 30;

/// A worker asks for work. Signed by its work key.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Pull {
    /// Which node it works for.
    pub certificate: Signed<WorkKeyCertificate>,
    /// Rises from pull to pull within a boot, so that an old pull cannot be replayed.
    pub sequence: u64,
    /// The longest aligned run of micro-batches that it takes at once.
    pub most_micro_batches: u32,
    /// Millions of multiply-adds a second that it measured of itself at start: a hint for the
    /// first assignment, never what anything is paid by.
    pub speed: u32,
    /// A word for people on what it computes with: `avx2 x2`.
    pub device: String,
}

impl SignedBody for Pull {
    const DOMAIN: &'static str = "aliaOS pull";
    const VERSION: u16 = 1;
}

/// What a worker gets for a pull.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum PullReply {
    /// Nothing to do now; pull again.
    Nothing,
    /// A run of micro-batches.
    Work(Assignment),
    /// The full operation log of a batch that this node did is wanted.
    Log(LogRequest),
}

/// A run of micro-batches given to a worker.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Assignment {
    /// The job, as its requester signed it: `GET /v1/jobs/{job}/create`.
    pub job: JobId,
    /// The epoch.
    pub epoch: u32,
    /// The step.
    pub step: u32,
    /// The first micro-batch.
    pub first: u32,
    /// How many.
    pub count: u32,
    /// Which attempt.
    pub attempt: u32,
    /// The assignment's id on the ledger.
    pub id: Digest,
    /// The parameters to begin from.
    pub parameters: Digest,
    /// After so many milliseconds the batch goes to somebody else too.
    pub patience_ms: u64,
}

/// Asks a worker to do a batch again and list every operation.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct LogRequest {
    /// The receipt whose batch it is.
    pub receipt: ReceiptId,
    /// As it was assigned, for this micro-batch alone.
    pub assignment: Assignment,
}

/// What a worker returns for a run.
#[derive(Clone, Debug, PartialEq, BorshSerialize, BorshDeserialize)]
pub struct WorkResult {
    /// The assignment.
    pub assignment: Digest,
    /// One a micro-batch, in order.
    pub leaves: Vec<LeafResult>,
    /// The digest of what follows: of the gradient sum as named tensors, or of translations.
    pub payload: Digest,
}

/// What belongs to one micro-batch.
#[derive(Clone, Debug, PartialEq, BorshSerialize, BorshDeserialize)]
pub struct LeafResult {
    /// The receipt.
    pub receipt: SignedReceipt,
    /// Opens its work root.
    pub salt: Salt,
    /// The records under its work root.
    pub records: Vec<OperationRecord>,
    /// The records under its telemetry root.
    pub telemetry: Vec<Telemetry>,
    /// Summed loss over the target tokens; 0 for translation.
    pub loss: f32,
}

/// Time, energy and device of a piece of work: evidence, never compared.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Telemetry {
    /// What was measured: `batch`, or an operation's position.
    pub what: String,
    /// Nanoseconds it took.
    pub nanoseconds: u64,
    /// Energy in millijoules where the machine can tell.
    pub millijoules: Option<u64>,
    /// The device.
    pub device: String,
}

/// The telemetry root over records.
pub fn telemetry_root(records: &[Telemetry]) -> Digest {
    let leaves: Vec<Digest> =
        records.iter().map(|record| Digest::of("aliaOS telemetry v1", record)).collect();
    Digest::of("aliaOS telemetry root v1", &(leaves.len() as u64, crate::merkle::root(&leaves)))
}

/// A [`WorkResult`] with its payload: borsh of the result, then the payload's bytes to the end.
///
/// The payload of a training run is its gradient sum: the parameters' tensors in the model's
/// order, float32 little-endian, nothing between. Of a translation it is
/// `Vec<Vec<u32>>` in borsh: the tokens of each sentence.
#[derive(Clone, Debug, PartialEq)]
pub struct ResultMessage {
    /// The head.
    pub result: WorkResult,
    /// The payload.
    pub payload: Vec<u8>,
}

impl ResultMessage {
    /// The message's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.payload.len() + 4096 * self.result.leaves.len());
        match self.result.serialize(&mut bytes) {
            Ok(()) => {}
            Err(error) => unreachable!("a vector never refuses bytes: {error}"),
        }
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// The first receipt of a message of which `bytes` are the beginning; none where more of it
    /// must be read.
    ///
    /// # Errors
    /// Where it has none, or what stands there is no receipt.
    pub fn head(bytes: &[u8]) -> io::Result<Option<SignedReceipt>> {
        const BEFORE: usize = size_of::<Digest>() + size_of::<u32>();
        let Some((before, mut rest)) = bytes.split_at_checked(BEFORE) else { return Ok(None) };
        let (_assignment, leaves): (Digest, u32) = borsh::from_slice(before)?;
        if leaves == 0 {
            return Err(io::Error::other("it has no receipt"));
        }
        match BorshDeserialize::deserialize(&mut rest) {
            Ok(receipt) => Ok(Some(receipt)),
            // Borsh has no kind of its own for what is cut short.
            Err(_) if rest.is_empty() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads a message.
    pub fn from_bytes(mut bytes: &[u8]) -> io::Result<Self> {
        let result = WorkResult::deserialize(&mut bytes)?;
        let mut payload = Vec::with_capacity(bytes.len());
        bytes.read_to_end(&mut payload)?;
        Ok(Self { result, payload })
    }
}

/// What became of a result.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum ResultReply {
    /// It is part of the model (or of the translation).
    Used,
    /// Somebody else was faster with the same bits; the receipt is kept.
    Late,
    /// It was refused, for this reason.
    Refused(String),
}

/// A full operation log that a [`LogRequest`] asked for. `POST /v1/work/log`.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct FullLog {
    /// The receipt.
    pub receipt: ReceiptId,
    /// Every operation of the batch, by position.
    pub records: Vec<OperationRecord>,
}

impl SignedBody for FullLog {
    const DOMAIN: &'static str = "aliaOS full operation log";
    const VERSION: u16 = 1;
}
