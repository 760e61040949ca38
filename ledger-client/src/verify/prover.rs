//! Follows headers and proves answers against them.

use super::{
    error::{Lie, VerifyError},
    fetch,
    inclusion::InclusionProof,
    light::{self, BlockRef, Follows},
    proof::{self, PROOF_TYPE},
    trust::TrustRoot,
};
use crate::{
    client::{Client, QueryError},
    rpc::{self, TxHash},
};
use borsh::BorshDeserialize;
use protocol::{
    ReceiptId, Transaction,
    state::{ReceiptRecord, StateKey},
};
use serde::Deserialize;
use serde_json::json;
use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tendermint::block::Header;
use tendermint_light_client_verifier::types::{LightBlock, Time};

/// How old the newest block may be: an idle chain makes one every minute or so.
pub const DEFAULT_MAX_AGE: Duration = Duration::from_secs(3_600);
/// Believed blocks that are kept: the first and the newest.
const MAX_BELIEVED: usize = 64;
/// Headers looked at on the way to one: the way over halves takes some 40, and as many again for
/// each time that two thirds of the validators changed.
const MAX_HOPS: usize = 1_000;
/// How far is walked back from the earliest believed header.
const MAX_BACK: u64 = 20_000;
/// Headers of one `blockchain` answer.
const BACK_PAGE: u64 = 20;

/// A proven answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven<T> {
    /// The record; `None` where there is provably none.
    pub value: Option<T>,
    /// The height whose state it is.
    pub height: u64,
    /// The block after it, whose header holds that state's app hash.
    pub block: BlockRef,
}

impl<T> Proven<T> {
    fn map<U>(self, value: Option<U>) -> Proven<U> {
        Proven { value, height: self.height, block: self.block }
    }
}

/// The transaction that carried a receipt, proven to be in its block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carrier {
    /// The block.
    pub block: BlockRef,
    /// The transaction.
    pub transaction: TxHash,
    /// Its place in the block and how many there are, with the path to the data hash.
    pub proof: InclusionProof,
}

/// A receipt's record, and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenReceipt {
    /// The record, or that there is none.
    pub record: Proven<ReceiptRecord>,
    /// What carried it; none where there is no record.
    pub carrier: Option<Carrier>,
}

/// Proves what servers say, from a trust root on.
#[derive(Debug)]
pub struct Prover {
    client: Client,
    root: TrustRoot,
    believed: BTreeMap<u64, LightBlock>,
    max_age: Duration,
}

#[derive(Deserialize)]
struct QueryAnswer {
    response: ProvenResponse,
}

#[derive(Deserialize)]
struct ProvenResponse {
    #[serde(default)]
    code: u32,
    #[serde(default)]
    log: String,
    #[serde(default, deserialize_with = "rpc::base64_bytes")]
    key: Vec<u8>,
    #[serde(default, deserialize_with = "rpc::base64_bytes")]
    value: Vec<u8>,
    #[serde(default, rename = "proofOps")]
    proof_ops: Option<ProofOps>,
    #[serde(deserialize_with = "rpc::number")]
    height: u64,
}

#[derive(Deserialize)]
struct ProofOps {
    ops: Vec<ProofOp>,
}

#[derive(Deserialize)]
struct ProofOp {
    r#type: String,
    #[serde(deserialize_with = "rpc::base64_bytes")]
    data: Vec<u8>,
}

#[derive(Deserialize)]
struct TxSearch {
    txs: Vec<FoundTx>,
}

#[derive(Deserialize)]
struct FoundTx {
    #[serde(deserialize_with = "rpc::base64_bytes")]
    tx: Vec<u8>,
    proof: FoundProof,
}

#[derive(Deserialize)]
struct FoundProof {
    proof: InclusionProof,
}

impl Prover {
    /// A prover that believes `root`, once a server has shown a header with its hash.
    ///
    /// # Errors
    /// Where none does.
    pub async fn new(client: Client, root: TrustRoot) -> Result<Self, VerifyError> {
        let block = fetch::light_block(&client, root.height).await?;
        root.check(&block).map_err(|lie| fetch::lie(&client, lie))?;
        let believed = BTreeMap::from([(root.height, block)]);
        Ok(Self { client, root, believed, max_age: DEFAULT_MAX_AGE })
    }

    /// How old the newest block may be for an answer to be taken.
    pub fn with_max_age(self, max_age: Duration) -> Self {
        Self { max_age, ..self }
    }

    /// A trust root at the newest believed header: kept in the place of the old one, it spares
    /// the way, and the trusting period counts anew.
    pub fn trust_root(&self) -> TrustRoot {
        match self.believed.last_key_value() {
            Some((_, newest)) => {
                TrustRoot::of(self.root.chain.clone(), newest, self.root.trusting_period_seconds)
            }
            None => self.root.clone(),
        }
    }

    /// Proves a record of the newest state that a block proves, or that there is none.
    pub async fn prove(&mut self, key: &StateKey) -> Result<Proven<Vec<u8>>, VerifyError> {
        let newest = self.newest().await?;
        let header = newest.signed_header.header;
        let block = BlockRef::of(&header);
        let Some(height) = block.height.checked_sub(1).filter(|height| *height > 0) else {
            return Err(VerifyError::TooYoung(block.height));
        };
        let path = key.path();
        let params = json!({
            "path": path, "data": "", "height": height.to_string(), "prove": true,
        });
        let QueryAnswer { response } = self.client.call("abci_query", &params).await?;
        if response.code != 0 {
            return Err(QueryError::Refused { path, log: response.log }.into());
        }
        if response.height != height {
            return Err(self.lie(Lie::Height { asked: height, answered: response.height }));
        }
        let value = (!response.value.is_empty()).then_some(response.value);
        let wrong = |why| Lie::Record { path: path.clone(), height: block.height, why };
        if response.key != path.as_bytes() {
            return Err(self.lie(wrong("the answer is for another record")));
        }
        let ops = response.proof_ops.map(|proof| proof.ops).unwrap_or_default();
        let proof = match ops.as_slice() {
            [op] if op.r#type == PROOF_TYPE => &op.data,
            _ => return Err(self.lie(wrong("there is no proof of the kind that is wanted"))),
        };
        proof::check_record(header.app_hash.as_bytes(), &path, value.as_deref(), proof)
            .map_err(|why| self.lie(wrong(why)))?;
        Ok(Proven { value, height, block })
    }

    /// As [`Prover::prove`], decoded.
    pub async fn record<T: BorshDeserialize>(
        &mut self,
        key: &StateKey,
    ) -> Result<Proven<T>, VerifyError> {
        let proven = self.prove(key).await?;
        let read = proven.value.as_deref().map(T::try_from_slice).transpose();
        match read {
            Ok(value) => Ok(proven.map(value)),
            Err(error) => {
                Err(self.lie(Lie::Unreadable { path: key.path(), why: error.to_string() }))
            }
        }
    }

    /// Proves a receipt: its record, and the transaction that carried it in its block.
    pub async fn receipt_in_block(&mut self, id: ReceiptId) -> Result<ProvenReceipt, VerifyError> {
        let record: Proven<ReceiptRecord> = self.record(&StateKey::Receipt(id)).await?;
        let carrier = match &record.value {
            None => None,
            Some(found) => Some(self.carrier(id, found.height).await?),
        };
        Ok(ProvenReceipt { record, carrier })
    }

    async fn carrier(&mut self, id: ReceiptId, height: u64) -> Result<Carrier, VerifyError> {
        let header = self.header(height).await?;
        let params = json!({
            "query": format!("receipt.id='{id}' AND tx.height={height}"),
            "prove": true,
            "page": "1",
            "per_page": "10",
        });
        let found: TxSearch = self.client.call("tx_search", &params).await?;
        let carries = |tx: &FoundTx| match Transaction::try_from_slice(&tx.tx) {
            Ok(Transaction::SubmitReceipts(receipts)) => {
                receipts.iter().any(|receipt| receipt.body.id() == id)
            }
            _ => false,
        };
        let Some(found) = found.txs.into_iter().find(carries) else {
            return Err(self.lie(Lie::NoCarrier { height }));
        };
        let transaction = TxHash::of(&found.tx);
        let proof = found.proof.proof;
        let data_hash = header.data_hash.unwrap_or_default();
        proof
            .check(data_hash.as_bytes(), transaction)
            .map_err(|why| self.lie(Lie::NotInBlock { height, why }))?;
        Ok(Carrier { block: BlockRef::of(&header), transaction, proof })
    }

    /// The believed header of a height.
    pub async fn block(&mut self, height: u64) -> Result<BlockRef, VerifyError> {
        Ok(BlockRef::of(&self.header(height).await?))
    }

    async fn header(&mut self, height: u64) -> Result<Header, VerifyError> {
        let earliest = self.believed.first_key_value().map(|(height, _)| *height);
        match earliest {
            Some(earliest) if height < earliest => self.walk_back(height, earliest).await,
            _ => Ok(self.walk_forward(height).await?.signed_header.header),
        }
    }

    /// The newest block that a server shows, believed.
    async fn newest(&mut self) -> Result<LightBlock, VerifyError> {
        let said = self.client.height().await?;
        let proven = self.believed.last_key_value().map_or(0, |(height, _)| *height);
        if said < proven {
            return Err(self.lie(Lie::Backwards { said, proven }));
        }
        let block = self.walk_forward(said).await?;
        let header = &block.signed_header.header;
        light::check_age(header, now(), self.max_age, &self.client.server())?;
        Ok(block)
    }

    /// Skipping verification: straight to the target where enough of the believed validators
    /// signed it, over the middle where they did not.
    async fn walk_forward(&mut self, target: u64) -> Result<LightBlock, VerifyError> {
        let trusting_period = Duration::from_secs(self.root.trusting_period_seconds);
        let mut shown: BTreeMap<u64, LightBlock> = BTreeMap::new();
        let mut wanted = vec![target];
        let mut hops = 0;
        while let Some(&height) = wanted.last() {
            if self.believed.contains_key(&height) {
                wanted.pop();
                continue;
            }
            let Some((_, trusted)) = self.believed.range(..height).next_back() else {
                return Err(self.lie(Lie::BrokenChain { height }));
            };
            hops += 1;
            if hops > MAX_HOPS {
                let why = format!("{MAX_HOPS} headers on the way to it did not lead there");
                return Err(self.lie(Lie::Header { height: target, why }));
            }
            let block = match shown.remove(&height) {
                Some(block) => block,
                None => fetch::light_block(&self.client, height).await?,
            };
            match light::follows(trusted, &block, trusting_period, now()) {
                Follows::Yes => self.believe(block),
                Follows::TooFar => {
                    let from = trusted.height().value();
                    wanted.push(from + (height - from) / 2);
                    shown.insert(height, block);
                }
                Follows::Expired => {
                    return Err(VerifyError::Expired { height: trusted.height().value() });
                }
                Follows::No(lie) => return Err(self.lie(lie)),
            }
        }
        match self.believed.get(&target) {
            Some(block) => Ok(block.clone()),
            None => Err(self.lie(Lie::BrokenChain { height: target })),
        }
    }

    fn believe(&mut self, block: LightBlock) {
        if self.believed.len() >= MAX_BELIEVED {
            let second = self.believed.keys().nth(1).copied();
            second.and_then(|height| self.believed.remove(&height));
        }
        self.believed.insert(block.height().value(), block);
    }

    /// Back from the earliest believed header, each one named by the next one's hash of it.
    async fn walk_back(&mut self, target: u64, earliest: u64) -> Result<Header, VerifyError> {
        let back = earliest - target;
        if back > MAX_BACK {
            return Err(VerifyError::TooFarBack { asked: target, back, most: MAX_BACK });
        }
        let Some(block) = self.believed.get(&earliest) else {
            return Err(self.lie(Lie::BrokenChain { height: earliest }));
        };
        let mut next = block.signed_header.header.clone();
        while next.height.value() > target {
            let last = next.height.value() - 1;
            let first = target.max((last + 1).saturating_sub(BACK_PAGE));
            let headers = fetch::headers(&self.client, first, last).await?;
            if headers.is_empty() {
                return Err(self.lie(Lie::BrokenChain { height: last }));
            }
            for header in headers {
                light::precedes(&header, &next).map_err(|lie| self.lie(lie))?;
                next = header;
                if next.height.value() == target {
                    break;
                }
            }
        }
        Ok(next)
    }

    fn lie(&self, lie: Lie) -> VerifyError {
        fetch::lie(&self.client, lie)
    }
}

fn now() -> Time {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    // A clock beyond the year 9999: at the epoch, every header is from the future and refused.
    Time::from_unix_timestamp(seconds, 0).unwrap_or_else(|_| Time::unix_epoch())
}

/// Reads an answer as the prover's kinds.
#[cfg(feature = "fuzzing")]
pub(super) fn read_answers(server: &str, body: &[u8]) {
    let _ = rpc::answer::<QueryAnswer>(server, body);
    if let Ok(found) = rpc::answer::<TxSearch>(server, body) {
        for found in found.txs {
            let _ = found.proof.proof.check(&[0; 32], TxHash::of(&found.tx));
        }
    }
}
