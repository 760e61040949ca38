//! Tells the chain what happened here, until it stands in a block.
//!
//! Messages are on disk in the order in which they happened. Each is handed in, looked for in a
//! block, and only then forgotten; one that the chain cannot take yet waits without holding up
//! the others. Workers hand their own receipts in; a receipt that is still missing when its
//! confirmation has waited for [`RELAY_AFTER`] is handed in from here, for a machine that died
//! before it could.

use crate::{
    clock::now_ms,
    record::Outgoing,
    server::{Server, ServerError},
};
use ledger_client::{Client, Standing as TxStanding, SubmitError, TxHash};
use protocol::{
    PublicKey, ReceiptId, SignedReceipt, Transaction, refusal::RefusalCode, state::JobRecord,
    state::StateKey,
};
use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// After so long a receipt that its worker did not hand in is handed in from here.
pub const RELAY_AFTER: Duration = Duration::from_secs(10);
/// Messages looked after at once.
const WINDOW: usize = 512;
/// How often the queue is looked through.
const PERIOD: Duration = Duration::from_millis(250);
/// How long a message may wait for its block before it is handed in again.
const BLOCK_PATIENCE: Duration = Duration::from_secs(20);
/// How long a message that the chain cannot take yet waits.
const NOT_YET: Duration = Duration::from_millis(500);
/// How often a job that a failing disk stopped is tried again.
const STOPPED_AGAIN: Duration = Duration::from_secs(5);
/// The longest wait between attempts at a chain that is away.
const MAX_AWAY: Duration = Duration::from_secs(10);
/// Nodes known to be registered; when full it is emptied and learnt again.
const MAX_KNOWN: usize = 100_000;

/// How one message stands.
#[derive(Clone, Debug)]
enum Sent {
    /// It is to be handed in from then on.
    From(Instant),
    /// It passed CheckTx.
    Waiting { hash: TxHash, since: Instant, look: Instant },
}

/// Which nodes the chain knows.
#[derive(Debug)]
pub struct Registry {
    client: Client,
    known: Mutex<HashSet<PublicKey>>,
}

impl Registry {
    /// An empty one.
    pub fn new(client: Client) -> Self {
        Self { client, known: Mutex::default() }
    }

    /// Whether a node is registered; a refusal says what to do.
    ///
    /// # Errors
    /// Where it is not, or the chain cannot be asked.
    pub async fn check(&self, node: &PublicKey) -> Result<(), ServerError> {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known().contains(node) {
            return Ok(());
        }
        match self.client.query(&StateKey::Node(*node)).await {
            Ok(Some(_)) => {
                let mut known = known();
                if known.len() >= MAX_KNOWN {
                    known.clear();
                }
                known.insert(*node);
                Ok(())
            }
            Ok(None) => Err(ServerError::Refused(format!(
                "node {node} is not on the chain: register it, then ask for work"
            ))),
            Err(error) => Err(ServerError::Unavailable(format!(
                "whether node {node} is registered cannot be asked: {error}"
            ))),
        }
    }
}

/// Runs until the process ends.
pub async fn run(server: Arc<Server>, client: Client) {
    let mut teller =
        Teller { server, client, sent: BTreeMap::new(), away: Duration::ZERO, stopped: None };
    let mut last_poll = Instant::now();
    loop {
        if let Err(error) = teller.turn().await {
            tracing::error!("telling the chain: {error}");
        }
        if last_poll.elapsed() >= Duration::from_secs(1) {
            last_poll = Instant::now();
            if let Err(error) = teller.poll_jobs().await {
                tracing::error!("asking the chain about jobs: {error}");
            }
        }
        sleep(PERIOD.max(teller.away)).await;
    }
}

struct Teller {
    server: Arc<Server>,
    client: Client,
    sent: BTreeMap<u64, Sent>,
    /// Grows while no ledger answers.
    away: Duration,
    /// When jobs that a failing disk stopped were last tried.
    stopped: Option<Instant>,
}

/// What became of one look at one message.
enum Look {
    Keep(Sent),
    Forget,
    /// No ledger answers: no use trying the others now.
    Away(String),
}

impl Teller {
    async fn turn(&mut self) -> Result<(), ServerError> {
        let queue = self.server.store.outgoing(WINDOW)?;
        let present: HashSet<u64> = queue.iter().map(|(sequence, _)| *sequence).collect();
        self.sent.retain(|sequence, _| present.contains(sequence));
        for (sequence, message) in queue {
            let now = Instant::now();
            let sent = self.sent.get(&sequence).cloned().unwrap_or(Sent::From(now));
            let look = match &sent {
                Sent::From(at) if *at <= now => self.hand_in(sequence, &message).await?,
                Sent::Waiting { look, .. } if *look <= now => self.look(&sent, &message).await,
                _ => {
                    self.sent.insert(sequence, sent);
                    continue;
                }
            };
            match look {
                Look::Keep(sent) => {
                    self.sent.insert(sequence, sent);
                }
                Look::Forget => {
                    self.server.store.write(|changes| changes.drop_outgoing(sequence))?;
                    self.sent.remove(&sequence);
                }
                Look::Away(why) => {
                    if self.away.is_zero() {
                        tracing::warn!("the chain is away, what it is to be told waits: {why}");
                    }
                    self.away = (self.away * 2).clamp(Duration::from_millis(500), MAX_AWAY);
                    return Ok(());
                }
            }
            if !self.away.is_zero() {
                tracing::info!("the chain answers again");
                self.away = Duration::ZERO;
            }
        }
        Ok(())
    }

    async fn hand_in(&self, sequence: u64, message: &Outgoing) -> Result<Look, ServerError> {
        let transaction = match message {
            Outgoing::Assign(assign) => Transaction::Assign(assign.clone()),
            Outgoing::Confirm(confirm) => Transaction::ConfirmReceipts(confirm.clone()),
        };
        let now = Instant::now();
        Ok(match self.client.submit(&transaction).await {
            Ok(submitted) => match submitted.standing {
                TxStanding::Already(_) => Look::Forget,
                TxStanding::Waiting | TxStanding::Known => {
                    let (hash, look) = (submitted.hash, now + Duration::from_secs(1));
                    Look::Keep(Sent::Waiting { hash, since: now, look })
                }
            },
            Err(SubmitError::NotYet { code: RefusalCode::UnknownReceipt, .. }) => {
                self.relay(sequence, message).await?
            }
            Err(SubmitError::NotYet { .. } | SubmitError::Busy { .. }) => {
                Look::Keep(Sent::From(now + NOT_YET))
            }
            Err(SubmitError::Rpc(error)) => Look::Away(error.to_string()),
            Err(SubmitError::Refused { code: RefusalCode::AlreadyConfirmed, .. }) => {
                // Some of its receipts stand confirmed, others perhaps not.
                self.split(sequence, message).await?
            }
            Err(error) => {
                tracing::error!(job = %message.job(), "the chain refused for good: {error}");
                Look::Forget
            }
        })
    }

    /// Whether a message stands in a block.
    async fn look(&self, sent: &Sent, message: &Outgoing) -> Look {
        let Sent::Waiting { hash, since, .. } = sent else { return Look::Keep(sent.clone()) };
        let now = Instant::now();
        match self.client.outcome(*hash).await {
            Ok(Some(outcome)) if outcome.code == 0 => Look::Forget,
            Ok(Some(outcome)) => {
                // A block may see another order than CheckTx did: hand it in again, which says.
                tracing::warn!(job = %message.job(), "in the block: {}", outcome.log);
                Look::Keep(Sent::From(now + NOT_YET))
            }
            Ok(None) if since.elapsed() > BLOCK_PATIENCE => Look::Keep(Sent::From(now)),
            Ok(None) => {
                let look = now + Duration::from_secs(1);
                Look::Keep(Sent::Waiting { hash: *hash, since: *since, look })
            }
            Err(error) => Look::Away(error.to_string()),
        }
    }

    /// Hands in those receipts of a confirmation that have waited long enough.
    async fn relay(&self, sequence: u64, message: &Outgoing) -> Result<Look, ServerError> {
        let later = Look::Keep(Sent::From(Instant::now() + NOT_YET));
        let mut refused = Vec::new();
        for id in message.receipts() {
            let entry = self.server.receipt(&id)?;
            let age = Duration::from_millis(now_ms().saturating_sub(entry.at));
            let is_ours = entry.receipt.body.node() == self.server.identity.node();
            if age < RELAY_AFTER && !is_ours {
                continue;
            }
            match self.client.query(&StateKey::Receipt(id)).await {
                Ok(Some(_)) => continue,
                Ok(None) => {}
                Err(error) => return Ok(Look::Away(error.to_string())),
            }
            match self.submit_receipt(entry.receipt, is_ours).await {
                Ok(()) => {}
                Err(error) if error.is_temporary() => return Ok(later),
                Err(error) => {
                    tracing::error!(receipt = %id, "the chain refuses the receipt: {error}");
                    refused.push(id);
                }
            }
        }
        if refused.is_empty() {
            return Ok(later);
        }
        self.server.drop_refused(sequence, message, &refused)?;
        Ok(Look::Keep(Sent::From(Instant::now())))
    }

    async fn submit_receipt(&self, receipt: SignedReceipt, ours: bool) -> Result<(), SubmitError> {
        if !ours {
            tracing::info!(receipt = %receipt.body.id(), "handing in for its worker");
        }
        match self.client.submit(&Transaction::SubmitReceipts(vec![receipt])).await {
            Err(SubmitError::Refused { code: RefusalCode::AlreadySubmitted, .. }) => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Takes those receipts out of a confirmation that stand confirmed already.
    async fn split(&self, sequence: u64, message: &Outgoing) -> Result<Look, ServerError> {
        let mut standing: Vec<ReceiptId> = Vec::new();
        for id in message.receipts() {
            let key = StateKey::Receipt(id);
            match self.client.record::<protocol::state::ReceiptRecord>(&key).await {
                Ok(Some(record)) if record.confirmed.is_some() => standing.push(id),
                Ok(_) => {}
                Err(error) => return Ok(Look::Away(error.to_string())),
            }
        }
        self.server.drop_refused(sequence, message, &standing)?;
        Ok(Look::Keep(Sent::From(Instant::now())))
    }

    /// Starts jobs that have come onto the chain, and keeps the chain's counts of all open ones.
    async fn poll_jobs(&mut self) -> Result<(), ServerError> {
        for id in self.server.ready_jobs() {
            if let Ok(Some(record)) = self.client.record::<JobRecord>(&StateKey::Job(id)).await {
                self.server.note_chain(&id, record);
                let server = self.server.clone();
                let started = tokio::task::spawn_blocking(move || server.start(&id)).await;
                match started {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::error!(job = %id, "the job does not begin: {error}"),
                    Err(error) => self.server.fail(&id, error.to_string())?,
                }
            }
        }
        let again = self.stopped.is_none_or(|last| last.elapsed() >= STOPPED_AGAIN);
        for id in self.server.stopped_jobs().into_iter().filter(|_| again) {
            self.stopped = Some(Instant::now());
            let server = self.server.clone();
            let started = tokio::task::spawn_blocking(move || server.start(&id)).await;
            match started {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(job = %id, "the job stands still: {error}"),
                Err(error) => self.server.fail(&id, error.to_string())?,
            }
        }
        for id in self.server.unsettled() {
            if let Ok(Some(record)) = self.client.record::<JobRecord>(&StateKey::Job(id)).await {
                self.server.note_chain(&id, record);
            }
        }
        Ok(())
    }
}
