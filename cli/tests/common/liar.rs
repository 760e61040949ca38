//! A worker that lies: it adds to one element of one operation of each batch.

use super::{CHAIN, Network};
use compute::{Worker, WorkerSettings, receipts::Signer, run::Observe};
use identity::{NodeIdentity, register};
use kernels::{OutputData, OutputView, Tap, graph::Operation};
use ledger_client::Client;
use protocol::{
    BatchId, Digest, PublicKey, SecretKey, Signed,
    node::{Delegation, NodeRole, Ownership},
};
use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    thread,
};

/// How it lies.
#[derive(Clone, Debug, Default)]
pub struct Liar {
    /// Which operation.
    pub position: u32,
    /// Whether it does a batch honestly when it is asked for it again, for its log.
    pub forgets: bool,
    pub seen: Arc<Mutex<HashSet<BatchId>>>,
}

impl Liar {
    pub fn at(position: u32) -> Self {
        Self { position, ..Self::default() }
    }
}

impl Observe for Liar {
    fn tap(&self, batch: &BatchId) -> impl Tap {
        let is_first = self.seen.lock().unwrap().insert(*batch);
        Lie(Some(self.position).filter(|_| is_first || !self.forgets))
    }
}

struct Lie(Option<u32>);

impl Tap for Lie {
    fn wants(&self, position: u32, _: &Operation) -> bool {
        self.0 == Some(position)
    }
    fn after(&mut self, _: u32, _: &Operation, outputs: &mut [OutputView<'_>]) {
        if let OutputData::F32(data) = &mut outputs[0].data {
            data[0] += 0.25;
        }
    }
}

impl Network {
    /// Starts a lying worker within this process; it works until the process ends.
    pub fn start_liar(&self, liar: Liar) -> PublicKey {
        let chain: protocol::ChainId = CHAIN.parse().unwrap();
        let owner = self.home().key().unwrap();
        let key = SecretKey::generate().unwrap();
        let identity = NodeIdentity::new(chain.clone(), key, Digest::default()).unwrap();
        let node = identity.node();
        let delegation = Signed::sign(&chain, Delegation { delegate: node }, &owner);
        let ownership = Ownership { delegation, endorsement: None };
        let (rpc, url) = (self.rpc(), self.url());
        thread::spawn(move || {
            Network::runtime().block_on(async {
                let client = Client::new(std::slice::from_ref(&rpc)).unwrap();
                let inventory = Digest::default();
                register(&client, &identity, ownership, NodeRole::Worker, inventory).await.unwrap();
                let signer = Signer {
                    chain: identity.chain,
                    work_key: identity.work_key,
                    certificate: identity.certificate,
                    release: identity.release,
                    device: "a liar".into(),
                };
                let (servers, ledgers) = (vec![url], vec![rpc]);
                let settings = WorkerSettings { signer, servers, ledgers, threads: 1 };
                Worker::observed(settings, liar).unwrap().run().await;
            });
        });
        node
    }
}
