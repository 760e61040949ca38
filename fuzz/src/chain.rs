//! A ledger in memory, with `abci_app::testing`'s small world on it.

use abci_app::{
    Ledger,
    rules::{self, Context},
    state::{Base, Fork, Store, StoreError, Writes},
    testing::{World, key},
};
use borsh::BorshDeserialize;
use job::Terms;
use protocol::{
    Digest, JobId, SecretKey, Transaction,
    boot::NodeConfig,
    state::{JobRecord, ShapesRecord, StateKey},
};
use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, LazyLock, Mutex},
};
use tendermint_abci::Application;
use tendermint_proto::v0_38::abci::{RequestFinalizeBlock, RequestInitChain};

/// The chain that everything here is for.
pub const CHAIN: &str = "alia-fuzz";

/// Keys and a job.
pub static WORLD: LazyLock<World> = LazyLock::new(|| World::new(CHAIN));

/// Of the world's keys the one that a number stands for.
pub fn signer(number: u8) -> SecretKey {
    key(1 + number % 6)
}

/// The state after the world's opening.
pub static OPENED: LazyLock<Records> = LazyLock::new(|| {
    let empty = Records::default();
    let mut block = Fork::on(&empty);
    rules::genesis(&mut block).expect("nothing is stored");
    for transaction in WORLD.opening() {
        let writes = run(&transaction, &block).expect("the opening is accepted");
        block.merge(writes);
    }
    Records { records: block.into_writes().records, terms: Mutex::default() }
});

/// The real ledger with the world's opening in its one block.
pub static LEDGER: LazyLock<Ledger> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder").keep();
    let ledger = Ledger::new(Store::open(&folder).expect("a store")).expect("a ledger");
    // Nothing is read by its path once the file is open.
    fs::remove_dir_all(folder).expect("the folder goes");
    ledger.init_chain(RequestInitChain { chain_id: CHAIN.into(), ..Default::default() });
    let txs = WORLD.opening();
    let txs = txs.iter().map(|tx| borsh::to_vec(tx).expect("borsh").into()).collect();
    ledger.finalize_block(RequestFinalizeBlock { height: 1, txs, ..Default::default() });
    ledger.commit();
    ledger
});

/// A transaction's writes over a state; none where it is refused.
pub fn run(transaction: &Transaction, base: &dyn Base) -> Option<Writes> {
    let mut fork = Fork::on(base);
    let context = Context { chain: &WORLD.chain, height: 7 };
    rules::check_stateless(transaction, &WORLD.chain).ok()?;
    match rules::execute(transaction, context, &mut fork) {
        Ok(_) => Some(fork.into_writes()),
        Err(rules::Stop::Refused(_)) => None,
        Err(rules::Stop::Broken(error)) => panic!("{error}"),
    }
}

/// Records in memory, as a base of forks.
#[derive(Default)]
pub struct Records {
    records: BTreeMap<StateKey, Vec<u8>>,
    terms: Mutex<BTreeMap<JobId, Arc<Terms>>>,
}

impl Records {
    fn derived(&self, job: &JobId) -> Option<Terms> {
        let record = JobRecord::try_from_slice(self.records.get(&StateKey::Job(*job))?).ok()?;
        let shapes = self.records.get(&StateKey::Shapes(*job))?;
        Terms::new(&record.spec, ShapesRecord::try_from_slice(shapes).ok()?).ok()
    }
}

impl Base for Records {
    fn read(&self, key: &StateKey) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.records.get(key).cloned())
    }

    fn terms(&self, job: &JobId) -> Result<Option<Arc<Terms>>, StoreError> {
        let mut known = self.terms.lock().expect("a panic ends the target");
        if let Some(terms) = known.get(job) {
            return Ok(Some(terms.clone()));
        }
        let terms = self.derived(job).map(Arc::new);
        known.extend(terms.clone().map(|terms| (*job, terms)));
        Ok(terms)
    }
}

/// The boot of the world's worker.
pub const BOOT: Digest = Digest([5; 32]);

/// What the world's provisioner gives its worker.
pub fn node_config() -> NodeConfig {
    NodeConfig {
        node: WORLD.worker.public(),
        boot_id: BOOT,
        name: "bear".into(),
        chain: WORLD.chain.clone(),
        ledgers: vec!["http://127.0.0.1:1".into()],
        parameter_servers: vec!["http://127.0.0.1:2".into()],
        ownership: WORLD.ownership(&WORLD.worker),
        unix_time: 2_000_000_000,
        operators: vec![],
        network: None,
        time_servers: Vec::new(),
        scratch: Default::default(),
    }
}
