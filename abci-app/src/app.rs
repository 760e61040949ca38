//! The application: CometBFT's requests against the state.
//!
//! Four connections share it. Consensus (`InitChain`, `FinalizeBlock`, `Commit`) and mempool
//! (`CheckTx`) each have a fork of their own; queries read committed snapshots and wait for
//! nobody.
//!
//! What cannot be answered stops the process: an application that goes on after its state failed
//! would sign a lie. `halt` panics, and the transport lets no panic pass.

use crate::{
    query,
    refusal::Refusal,
    rules::{self, Context, Event, Stop},
    state::{Committed, Fork, Head, Store, StoreError, TreeChange, Writes},
};
use bytes::Bytes;
use protocol::{
    refusal::{RefusalCode, Sense},
    signed::ChainId,
    state::GenesisState,
};
use std::{
    fmt::Display,
    sync::{Arc, Mutex, MutexGuard},
};
use tendermint_abci::Application;
use tendermint_proto::v0_38::abci as pb;

/// The version of the rules, which headers carry: another one is another chain's.
const APP_VERSION: u64 = 1;
/// What CometBFT counts for a transaction in a proposal beside its bytes: field tag and length.
const TX_TAG_LEN: usize = 1;

/// The ledger; clones share one state.
#[derive(Clone)]
pub struct Ledger(Arc<Shared>);

struct Shared {
    store: Store,
    consensus: Mutex<Consensus>,
    mempool: Mutex<Mempool>,
}

#[derive(Default)]
struct Consensus {
    /// Until the first commit, what InitChain was told; it may be told again.
    genesis: Option<Genesis>,
    /// The finalized block that waits for Commit.
    pending: Option<Pending>,
}

#[derive(Clone)]
struct Genesis {
    chain: ChainId,
    first_height: u64,
    writes: Writes,
}

struct Pending {
    head: Head,
    writes: Writes,
    change: TreeChange,
}

/// What CheckTx runs against: the committed state and, over it, the transactions that wait, so
/// that receipts are let in behind their assignment. Bounded by CometBFT's own mempool; emptied by
/// each Commit, after which CometBFT has what still waits checked again.
struct Mempool {
    chain: Option<ChainId>,
    height: u64,
    committed: Committed,
    writes: Writes,
}

impl Ledger {
    /// A ledger on an open database.
    pub fn new(store: Store) -> Result<Self, StoreError> {
        let mempool = Mempool::on(store.committed()?);
        Ok(Self(Arc::new(Shared {
            store,
            consensus: Mutex::default(),
            mempool: Mutex::new(mempool),
        })))
    }

    /// The newest committed height; 0 before the first.
    pub fn height(&self) -> u64 {
        self.committed().head().map_or(0, |head| head.height)
    }

    /// How many rows the database's tables hold: nodes, values, heights.
    pub fn rows(&self) -> Result<(u64, u64, u64), StoreError> {
        self.0.store.rows()
    }

    /// Closes the database once a commit at hand is done. Requests after that wait for ever: the
    /// process is about to end.
    pub fn close(&self) {
        self.0.store.close();
    }

    fn committed(&self) -> Committed {
        self.0.store.committed().unwrap_or_else(|error| halt(error))
    }
}

impl Mempool {
    fn on(committed: Committed) -> Self {
        let (chain, height) = match committed.head() {
            Some(head) => (Some(head.chain.clone()), head.height),
            None => (None, 0),
        };
        Self { chain, height, committed, writes: Writes::default() }
    }
}

/// Stops the process: there is no answer that would be true.
fn halt(why: impl Display) -> ! {
    panic!("the ledger stops: {why}")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|_| halt("an earlier request failed half-way"))
}

fn unsigned(what: &str, number: i64) -> u64 {
    number.try_into().unwrap_or_else(|_| halt(format!("CometBFT sent the {what} {number}")))
}

/// Runs a transaction on a fork of `block`, and takes it over where it is accepted.
fn run(
    bytes: &[u8],
    signatures: Signatures,
    context: Context<'_>,
    block: &mut Fork<'_>,
) -> Result<Vec<Event>, Refusal> {
    let transaction = rules::decode(bytes)?;
    if signatures == Signatures::Check {
        rules::check_stateless(&transaction, context.chain)?;
    }
    let mut fork = Fork::on(&*block);
    match rules::execute(&transaction, context, &mut fork) {
        Ok(events) => {
            let writes = fork.into_writes();
            block.merge(writes);
            Ok(events)
        }
        Err(Stop::Refused(refusal)) => Err(refusal),
        Err(Stop::Broken(error)) => halt(error),
    }
}

/// Of what stands already for CheckTx: whether it stands on the chain, or waits like the one that
/// came. Who takes waiting for standing would lose it with the mempool.
fn standing(
    bytes: &[u8],
    refusal: Refusal,
    context: Context<'_>,
    committed: &Committed,
) -> Refusal {
    let on_chain = committed.head().and_then(|_| {
        let mut fork = Fork::on(committed);
        run(bytes, Signatures::Checked, context, &mut fork).err()
    });
    match on_chain {
        Some(on_chain) if on_chain.code.sense() == Sense::Already => on_chain,
        _ => Refusal { code: RefusalCode::AlreadyWaiting, ..refusal },
    }
}

/// Whether a transaction's stateless check is done: CometBFT rechecks only what passed CheckTx.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Signatures {
    Check,
    Checked,
}

fn indexed(event: &Event) -> pb::Event {
    let (kind, attributes) = event.attributes();
    let attribute =
        |(key, value): (&str, String)| pb::EventAttribute { key: key.into(), value, index: true };
    pb::Event { r#type: kind.into(), attributes: attributes.into_iter().map(attribute).collect() }
}

impl Application for Ledger {
    fn info(&self, _: pb::RequestInfo) -> pb::ResponseInfo {
        let committed = self.committed();
        let head = committed.head();
        pb::ResponseInfo {
            data: "aliaOS ledger".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            app_version: APP_VERSION,
            last_block_height: head.map_or(0, |head| signed(head.height)),
            last_block_app_hash: head
                .map_or_else(Bytes::new, |head| Bytes::copy_from_slice(&head.app_hash)),
        }
    }

    fn init_chain(&self, request: pb::RequestInitChain) -> pb::ResponseInitChain {
        let committed = self.committed();
        if let Some(head) = committed.head() {
            halt(format!(
                "CometBFT begins chain {:?}, but height {} of chain {} is committed here: one \
                 side's data was removed without the other's",
                request.chain_id, head.height, head.chain
            ));
        }
        let chain: ChainId = request
            .chain_id
            .parse()
            .unwrap_or_else(|error| halt(format!("the genesis file's chain id: {error}")));
        if !request.app_state_bytes.is_empty() {
            serde_json::from_slice::<GenesisState>(&request.app_state_bytes)
                .unwrap_or_else(|error| halt(format!("the genesis file's app_state: {error}")));
        }
        let mut fork = Fork::on(&committed);
        rules::genesis(&mut fork).unwrap_or_else(|error| halt(error));
        let writes = fork.into_writes();
        let change = committed.change(&writes.records).unwrap_or_else(|error| halt(error));
        let mut mempool = lock(&self.0.mempool);
        mempool.chain = Some(chain.clone());
        mempool.writes = writes.clone();
        // The first block's height; 0 in old genesis files means 1.
        let first_height = unsigned("initial height", request.initial_height).max(1);
        mempool.height = first_height - 1;
        let genesis = Genesis { chain, first_height, writes };
        *lock(&self.0.consensus) = Consensus { genesis: Some(genesis), pending: None };
        pb::ResponseInitChain {
            app_hash: Bytes::copy_from_slice(&change.root),
            ..Default::default()
        }
    }

    fn check_tx(&self, request: pb::RequestCheckTx) -> pb::ResponseCheckTx {
        let mut mempool = lock(&self.0.mempool);
        let Mempool { chain, height, committed, writes } = &mut *mempool;
        let Some(chain) = chain else { halt("CheckTx came before InitChain") };
        let signatures = if request.r#type == pb::CheckTxType::Recheck as i32 {
            Signatures::Checked
        } else {
            Signatures::Check
        };
        let context = Context { chain, height: *height + 1 };
        let mut fork = Fork::with(committed, std::mem::take(writes));
        let outcome = run(&request.tx, signatures, context, &mut fork);
        *writes = fork.into_writes();
        let outcome = outcome.map_err(|refusal| match refusal.code.sense() {
            Sense::Already => standing(&request.tx, refusal, context, committed),
            Sense::NotYet | Sense::Never => refusal,
        });
        match outcome {
            Ok(_) => pb::ResponseCheckTx::default(),
            Err(refusal) => pb::ResponseCheckTx {
                code: refusal.code.number(),
                data: refusal.data(),
                log: refusal.log(),
                ..Default::default()
            },
        }
    }

    fn prepare_proposal(&self, request: pb::RequestPrepareProposal) -> pb::ResponsePrepareProposal {
        let limit = usize::try_from(request.max_tx_bytes).unwrap_or(0);
        let mut total = 0;
        // In the order they came; CometBFT counts their protobuf framing too.
        let fits = |tx: &Bytes| {
            total += TX_TAG_LEN + prost::length_delimiter_len(tx.len()) + tx.len();
            total <= limit
        };
        pb::ResponsePrepareProposal { txs: request.txs.into_iter().take_while(fits).collect() }
    }

    fn finalize_block(&self, request: pb::RequestFinalizeBlock) -> pb::ResponseFinalizeBlock {
        let height = unsigned("height", request.height);
        let mut consensus = lock(&self.0.consensus);
        let committed = self.committed();
        let (chain, expected, writes) = match (committed.head(), &consensus.genesis) {
            (Some(head), _) => (head.chain.clone(), head.height + 1, Writes::default()),
            (None, Some(genesis)) => {
                (genesis.chain.clone(), genesis.first_height, genesis.writes.clone())
            }
            (None, None) => halt("a block came before InitChain"),
        };
        if height != expected {
            halt(format!("CometBFT sent block {height}, but block {expected} is next here"));
        }
        let context = Context { chain: &chain, height };
        let mut block = Fork::with(&committed, writes);
        let tx_results = request
            .txs
            .iter()
            .map(|tx| match run(tx, Signatures::Check, context, &mut block) {
                Ok(events) => pb::ExecTxResult {
                    events: events.iter().map(indexed).collect(),
                    ..Default::default()
                },
                Err(refusal) => pb::ExecTxResult {
                    code: refusal.code.number(),
                    data: refusal.data(),
                    log: refusal.log(),
                    ..Default::default()
                },
            })
            .collect();
        let writes = block.into_writes();
        let change = committed.change(&writes.records).unwrap_or_else(|error| halt(error));
        let app_hash = change.root;
        let head = Head { chain, height, app_hash, version: change.version };
        consensus.pending = Some(Pending { head, writes, change });
        pb::ResponseFinalizeBlock {
            tx_results,
            app_hash: Bytes::copy_from_slice(&app_hash),
            ..Default::default()
        }
    }

    fn commit(&self) -> pb::ResponseCommit {
        let mut consensus = lock(&self.0.consensus);
        let Some(Pending { head, writes, change }) = consensus.pending.take() else {
            halt("Commit came without a finalized block");
        };
        // The mempool's snapshot is let go first, so that its pages can be used again.
        let mut mempool = lock(&self.0.mempool);
        self.0.store.commit(&head, &writes, &change).unwrap_or_else(|error| halt(error));
        *mempool = Mempool::on(self.committed());
        consensus.genesis = None;
        // CometBFT keeps its blocks: a receipt is proven from the one that carried it.
        pb::ResponseCommit { retain_height: 0 }
    }

    fn query(&self, request: pb::RequestQuery) -> pb::ResponseQuery {
        query::answer(&request, &self.committed()).unwrap_or_else(|error| halt(error))
    }

    fn offer_snapshot(&self, _: pb::RequestOfferSnapshot) -> pb::ResponseOfferSnapshot {
        pb::ResponseOfferSnapshot { result: pb::response_offer_snapshot::Result::Reject as i32 }
    }
}

fn signed(height: u64) -> i64 {
    height.try_into().unwrap_or_else(|_| halt(format!("height {height} is beyond CometBFT's")))
}
