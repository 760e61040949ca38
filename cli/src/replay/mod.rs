//! Replay: a receipt's batch is done again on this CPU, and what comes out is held against what
//! the receipt says.
//!
//! ```text
//! ledger --proven receipt--> parameters, input, work root (salted), result
//! parameter server --by digest--> specification, corpus, parameters; salt and records
//! here --every operation again--> parameters, input, work root, result: the same, or a lie
//! ```
//!
//! The server cannot make an honest receipt look false: what it gives is checked by digest
//! (`inputs`), the optimiser's state against the update before (`state`), and records against
//! the receipt's root. It can only withhold, and then nothing is decided.

mod compare;
mod inputs;
mod state;
mod update;

pub use compare::{Disagreement, Named};

use crate::{ledger::Ledger, parameter_server::ParameterServer};
use compute::client::ClientError;
use inputs::{Claim, Origin};
use job::{
    Job, JobError,
    work::{Done, WorkError},
};
use kernels::{Workspace, graph::Graph};
use ledger_client::verify::{BlockRef, VerifyError};
use protocol::{
    BatchId, BatchPart, ChainId, Digest, PublicKey, ReceiptId,
    api::ReceiptView,
    job::{LogLevel, Work},
    operation::{OperationRecord, work_root},
    receipt::{ReceiptError, Salt},
};
use serde::Serialize;

/// A replay could not be done: nothing is decided.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The parameter server.
    #[error("{0}; without it the batch cannot be done again")]
    Server(#[from] ClientError),
    /// Something is not proven.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The receipt is not on the chain.
    #[error("receipt {receipt} is not on the chain: proven for height {height}")]
    NotOnChain {
        /// The receipt.
        receipt: ReceiptId,
        /// The height.
        height: u64,
    },
    /// A receipt that is not signed as it says.
    #[error("the receipt: {0}")]
    Receipt(#[from] ReceiptError),
    /// The job's files do not make a job.
    #[error("the job: {0}")]
    Job(#[from] JobError),
    /// A file of the job cannot be read, or does not go with it.
    #[error("the job's {what}: {why}: its parameter server gives something else than it should")]
    File {
        /// Which.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The batch cannot be done.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// The kernels.
    #[error(transparent)]
    Kernel(#[from] kernels::Error),
    /// The micro-batches of a step cannot be done.
    #[error(transparent)]
    Run(#[from] compute::run::RunError),
    /// The computing thread ended.
    #[error("the computing thread ended: {0}")]
    Thread(String),
}

/// What is to be replayed.
#[derive(Clone, Debug)]
pub enum Subject {
    /// A receipt on the chain.
    OnChain(ReceiptId),
    /// A receipt as its parameter server shows it; nothing is proven of it but its signatures.
    View(Box<ReceiptView>),
}

/// How.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Threads for a step's micro-batches.
    pub threads: usize,
    /// Of an update: do the step's micro-batches again too, so that not even the sum is taken as
    /// it was committed.
    pub recompute_sum: bool,
}

/// What a replay found.
#[derive(Clone, Debug, Serialize)]
pub struct Replay {
    /// The receipt.
    pub receipt: ReceiptId,
    /// Its batch.
    pub batch: BatchId,
    /// Whose work it was.
    pub node: PublicKey,
    /// Where it was proven; none where it came from a file.
    pub proven: Option<BlockRef>,
    /// Whether everything that was compared is the same to the last bit.
    pub agrees: bool,
    /// Operations that were done again.
    pub operations: usize,
    /// The work root here.
    pub work_root: Digest,
    /// The result's digest here.
    pub result: Digest,
    /// What the receipt says otherwise.
    pub disagreements: Vec<Disagreement>,
    /// The first operation that differs, as exactly as it can be told.
    pub operation: Option<Named>,
    /// What else there is to say: what was checked, and what could not be.
    pub notes: Vec<String>,
}

/// What was done here, and how it is logged.
pub(crate) struct Ours {
    /// The batch, with every operation.
    done: Done,
    /// The records that a receipt of this job commits to.
    committed: Vec<OperationRecord>,
}

/// Replays a receipt.
///
/// # Errors
/// [`ReplayError`]: nothing is decided then. A lie is no error, it is what was looked for.
pub async fn replay(
    mut ledger: Option<&mut Ledger>,
    server: &ParameterServer,
    chain: &ChainId,
    subject: Subject,
    options: Options,
) -> Result<Replay, ReplayError> {
    let mut notes = Vec::new();
    let claim = Claim::get(ledger.as_deref_mut(), server, chain, subject, &mut notes).await?;
    let body = &claim.receipt.body;
    let job = inputs::job(server, body.batch.job).await?;
    let origin = Origin::find(ledger.as_deref_mut(), &job, &body.batch).await?;
    let mut disagreements = Vec::new();
    match &origin {
        Origin::Known { digest, .. } if *digest != body.parameters => {
            let (ours, theirs) = (*digest, body.parameters);
            disagreements.push(Disagreement { what: "parameters it began from", ours, theirs });
        }
        Origin::Known { why, .. } => notes.push(format!("the parameters are {why}")),
        Origin::Unknown => notes.push(
            "the parameters are as the receipt names them: the update before is not confirmed on \
             the chain, or was not asked for"
                .into(),
        ),
    }
    let mut sum_differs = false;
    let done = match (body.batch.part, &job.spec().work) {
        (BatchPart::Update, Work::Train(_)) => {
            let update = update::Update { server, job: &job, claim: &claim, options };
            let (done, differs) = update.again(ledger, &origin, &mut notes).await?;
            sum_differs = differs;
            done
        }
        _ => micro_batch(server, &job, &claim).await?,
    };
    let ours = Ours::new(&job, done);
    compare::claims(&ours, &claim, &mut disagreements, &mut notes);
    let agrees = disagreements.is_empty();
    let operation = match (agrees, sum_differs) {
        (true, _) => None,
        // Found before any operation of the update was done.
        (false, true) => compare::first_of_update(&job),
        (false, false) => name(server, &job, &claim, &ours, &mut notes).await,
    };
    Ok(Replay {
        receipt: body.id(),
        batch: body.batch,
        node: body.node(),
        proven: claim.proven,
        agrees,
        operations: ours.done.records.len(),
        work_root: work_root(&ours.committed),
        result: ours.done.result,
        disagreements,
        operation,
        notes,
    })
}

impl Ours {
    fn new(job: &Job, done: Done) -> Self {
        let graph = graph_of(job, done.batch.part);
        let commits = |record: &&OperationRecord| {
            job.spec().log == LogLevel::Full
                || graph.operation_at(record.position).is_some_and(|operation| operation.boundary)
        };
        let committed = done.records.iter().filter(commits).cloned().collect();
        Self { done, committed }
    }
}

/// The graph that a part of a step walks.
fn graph_of(job: &Job, part: BatchPart) -> &Graph {
    match (part, job.terms().update_graph()) {
        (BatchPart::Update, Some(update)) => update,
        _ => job.terms().graph(),
    }
}

/// Does a micro-batch again, with a record of every operation.
async fn micro_batch(
    server: &ParameterServer,
    job: &std::sync::Arc<Job>,
    claim: &Claim,
) -> Result<Done, ReplayError> {
    let parameters = inputs::parameters(server, job, &claim.receipt.body).await?;
    let (job, batch) = (job.clone(), claim.receipt.body.batch);
    let again = move || -> Result<Done, ReplayError> {
        let mut workspace = Workspace::new(job.shape())?;
        let full = LogLevel::Full;
        Ok(match &job.spec().work {
            Work::Train(_) => job.train(&batch, full, &parameters, &mut workspace, ())?,
            Work::Translate(_) => job.translate(&batch, full, &parameters, &mut workspace, ())?.0,
        })
    };
    on_a_thread(again).await
}

async fn on_a_thread<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, ReplayError> + Send + 'static,
) -> Result<T, ReplayError> {
    match tokio::task::spawn_blocking(run).await {
        Ok(done) => done,
        Err(error) => Err(ReplayError::Thread(error.to_string())),
    }
}

/// Names the first operation that differs: exactly, where the worker lists them all; between two
/// boundaries where it does not.
async fn name(
    server: &ParameterServer,
    job: &Job,
    claim: &Claim,
    ours: &Ours,
    notes: &mut Vec<String>,
) -> Option<Named> {
    let graph = graph_of(job, ours.done.batch.part);
    let committed = claim.records.as_deref()?;
    let parting = compare::parting(&ours.committed, committed)?;
    let between = parting.named(graph, &ours.done.records, committed);
    if between.is_exact() || ours.done.batch.part == BatchPart::Update {
        return Some(between);
    }
    let log = match server.full_log(&claim.receipt.body.id()).await {
        Ok(log) => log.records,
        Err(error) => {
            notes.push(format!("the worker's full log cannot be had: {error}"));
            return Some(between);
        }
    };
    if let Some(position) = compare::contradiction(committed, &log) {
        notes.push(format!(
            "the full log that the worker gives now is not the one it committed to: they differ at \
             position {position}; it lied then or lies now"
        ));
        return Some(between);
    }
    notes.push("the worker's full log agrees with what its receipt commits to".into());
    compare::first_of_logs(graph, &ours.done.records, &log).or(Some(between))
}

/// Opens a receipt's work root: whether `records` under `salt` are what it commits to.
fn opens(salt: &Salt, records: &[OperationRecord], blinded: &Digest) -> bool {
    salt.blind(&work_root(records)) == *blinded
}
