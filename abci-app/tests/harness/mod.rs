//! The application without CometBFT: blocks made by hand, in a folder of their own.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test uses a part of it")]

use abci_app::{Ledger, state::Store};
use borsh::BorshDeserialize;
use bytes::Bytes;
use protocol::{
    ChainId, Transaction,
    refusal::{RefusalCode, RefusedItem},
    state::StateKey,
};
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;
use tendermint_abci::Application;
use tendermint_proto::v0_38::abci as pb;

pub struct TestChain {
    pub folder: TempDir,
    pub ledger: Ledger,
    height: AtomicU64,
}

pub fn bytes(transaction: &Transaction) -> Bytes {
    borsh::to_vec(transaction).unwrap().into()
}

/// Code and item.
pub type Answer = (u32, Option<u32>);

fn item(data: &[u8]) -> Option<u32> {
    RefusedItem::try_from_slice(data).ok().map(|item| item.index)
}

impl TestChain {
    pub fn new(chain: &ChainId) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(Store::open(folder.path()).unwrap()).unwrap();
        let this = Self { folder, ledger, height: AtomicU64::new(0) };
        this.init(chain);
        this
    }

    /// InitChain; gives the app hash.
    pub fn init(&self, chain: &ChainId) -> Vec<u8> {
        let answer = self.ledger.init_chain(pb::RequestInitChain {
            chain_id: chain.to_string(),
            initial_height: 1,
            app_state_bytes: Bytes::from_static(b"{}"),
            ..Default::default()
        });
        answer.app_hash.to_vec()
    }

    pub fn check(&self, transaction: &Transaction) -> Answer {
        self.check_bytes(bytes(transaction), pb::CheckTxType::New)
    }

    pub fn recheck(&self, transaction: &Transaction) -> Answer {
        self.check_bytes(bytes(transaction), pb::CheckTxType::Recheck)
    }

    fn check_bytes(&self, tx: Bytes, kind: pb::CheckTxType) -> Answer {
        let answer = self.ledger.check_tx(pb::RequestCheckTx { tx, r#type: kind as i32 });
        (answer.code, item(&answer.data))
    }

    /// FinalizeBlock of an empty block of any height.
    pub fn finalize_at(&self, height: u64) {
        let height = height.try_into().unwrap();
        self.ledger.finalize_block(pb::RequestFinalizeBlock { height, ..Default::default() });
    }

    /// Nodes, values and heights in the tables.
    pub fn rows(&self) -> (u64, u64, u64) {
        self.ledger.rows().unwrap()
    }

    /// FinalizeBlock of the next height, without Commit: app hash and results.
    pub fn finalize(&self, txs: &[Bytes]) -> (Vec<u8>, Vec<pb::ExecTxResult>) {
        let block = self.ledger.finalize_block(pb::RequestFinalizeBlock {
            txs: txs.to_vec(),
            height: (self.height() + 1).try_into().unwrap(),
            ..Default::default()
        });
        (block.app_hash.to_vec(), block.tx_results)
    }

    /// Makes a block and commits it.
    pub fn block(&self, txs: &[Bytes]) -> (Vec<u8>, Vec<pb::ExecTxResult>) {
        let made = self.finalize(txs);
        self.ledger.commit();
        self.height.fetch_add(1, Ordering::Relaxed);
        made
    }

    pub fn height(&self) -> u64 {
        self.height.load(Ordering::Relaxed)
    }

    /// Each transaction passes CheckTx and its block; gives the block's height.
    pub fn accept(&self, transactions: &[Transaction]) -> u64 {
        let txs: Vec<Bytes> = transactions.iter().map(bytes).collect();
        for tx in &txs {
            let request = pb::RequestCheckTx { tx: tx.clone(), ..Default::default() };
            let answer = self.ledger.check_tx(request);
            assert_eq!(answer.code, 0, "{}", answer.log);
        }
        self.accept_block(transactions)
    }

    /// Each transaction passes its block, of which CheckTx hears nothing.
    pub fn accept_block(&self, transactions: &[Transaction]) -> u64 {
        let txs: Vec<Bytes> = transactions.iter().map(bytes).collect();
        for result in self.block(&txs).1 {
            assert_eq!(result.code, 0, "{}", result.log);
        }
        self.height()
    }

    /// CheckTx and a block refuse it alike, and the block changes nothing.
    #[track_caller]
    pub fn refuse(&self, transaction: &Transaction, code: RefusalCode, at: Option<u32>) {
        self.refuse_bytes(&bytes(transaction), code, at);
    }

    #[track_caller]
    pub fn refuse_bytes(&self, tx: &[u8], code: RefusalCode, at: Option<u32>) {
        let before = self.app_hash();
        let wanted = (code.number(), at);
        let tx = Bytes::copy_from_slice(tx);
        let request = pb::RequestCheckTx { tx: tx.clone(), ..Default::default() };
        let check = self.ledger.check_tx(request);
        assert_eq!((check.code, item(&check.data)), wanted, "CheckTx: {}", check.log);
        let (after, results) = self.block(&[tx]);
        let result = &results[0];
        assert_eq!((result.code, item(&result.data)), wanted, "block: {}", result.log);
        assert!(result.log.contains(code.mend()), "{}", result.log);
        assert_eq!(after, before, "a refused transaction changed the state");
    }

    pub fn app_hash(&self) -> Vec<u8> {
        self.ledger.info(pb::RequestInfo::default()).last_block_app_hash.to_vec()
    }

    pub fn query(&self, path: &str, height: u64, prove: bool) -> pb::ResponseQuery {
        self.ledger.query(pb::RequestQuery {
            path: path.into(),
            height: height.try_into().unwrap(),
            prove,
            ..Default::default()
        })
    }

    pub fn record<T: BorshDeserialize>(&self, key: &StateKey) -> Option<T> {
        let answer = self.query(&key.path(), 0, false);
        assert_eq!(answer.code, 0, "{}", answer.log);
        (!answer.value.is_empty()).then(|| T::try_from_slice(&answer.value).unwrap())
    }

    /// Stops the application in order and starts it anew on the same folder.
    pub fn restart(self) -> Self {
        self.ledger.close();
        let ledger = Ledger::new(Store::open(self.folder.path()).unwrap()).unwrap();
        let height = self.height.into_inner();
        assert_eq!(ledger.height(), height);
        Self { folder: self.folder, ledger, height: height.into() }
    }
}
