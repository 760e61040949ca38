//! Talks to CometBFT nodes. What it returns is their word: [`crate`] says what proves it.

use crate::{
    address::{Address, AddressError},
    http::Endpoint,
    rpc::{self, AbciQuery, RpcError, Status, TxAnswer, TxHash, TxOutcome},
    submit::{self, SubmitError, Submitted},
};
use borsh::BorshDeserialize;
use protocol::{Transaction, state::StateKey};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// How often [`Client::wait_for_tx`] asks.
const POLL: Duration = Duration::from_millis(250);
/// [`Client::settle`]'s first and longest pause after a failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A transaction that is in no block by then is handed in again: twenty blocks, usually.
const BLOCK_PATIENCE: Duration = Duration::from_secs(20);

/// A client of one chain's CometBFT nodes; cheap to clone, clones share connections.
#[derive(Clone, Debug)]
pub struct Client {
    endpoints: Arc<[Endpoint]>,
    /// Which endpoint answered last: it is asked first.
    preferred: Arc<AtomicUsize>,
}

/// A question about the state got no record.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The server gave no good answer.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// The application refused the question.
    #[error("the ledger refuses the query {path:?}: {log}")]
    Refused {
        /// The query's path.
        path: String,
        /// Its words.
        log: String,
    },
    /// The bytes are no such record.
    #[error(
        "the ledger's record {path:?} cannot be read ({wrong}): one side is of another version"
    )]
    Record {
        /// The query's path.
        path: String,
        /// What is wrong.
        wrong: String,
    },
}

impl Client {
    /// A client of the nodes at `addresses`; the first that answers is used.
    ///
    /// # Errors
    /// Where there is no address, or one is malformed.
    pub fn new<S: AsRef<str>>(addresses: &[S]) -> Result<Self, AddressError> {
        let endpoints: Arc<[Endpoint]> = addresses
            .iter()
            .map(|text| text.as_ref().parse::<Address>().map(Endpoint::new))
            .collect::<Result<_, _>>()?;
        if endpoints.is_empty() {
            return Err(AddressError::None);
        }
        Ok(Self { endpoints, preferred: Arc::default() })
    }

    /// Hands a transaction in and says what CheckTx made of it. Handing the same transaction in
    /// again does no harm.
    ///
    /// # Errors
    /// [`SubmitError::is_temporary`] tells those that may pass.
    pub async fn submit(&self, transaction: &Transaction) -> Result<Submitted, SubmitError> {
        let bytes = borsh::to_vec(transaction)
            .map_err(|error| SubmitError::Unencodable(error.to_string()))?;
        self.submit_bytes(&bytes).await
    }

    /// As [`Client::submit`], for a transaction's canonical bytes.
    pub async fn submit_bytes(&self, bytes: &[u8]) -> Result<Submitted, SubmitError> {
        let params = json!({"tx": rpc::base64_text(bytes)});
        submit::judge(TxHash::of(bytes), self.call("broadcast_tx_sync", &params).await)
    }

    /// The server's word on a record of the state; `None` where there is none.
    pub async fn query(&self, key: &StateKey) -> Result<Option<Vec<u8>>, QueryError> {
        self.query_path(&key.path()).await
    }

    /// As [`Client::query`], decoded: `client.record::<NodeRecord>(&StateKey::Node(key))`.
    pub async fn record<T: BorshDeserialize>(
        &self,
        key: &StateKey,
    ) -> Result<Option<T>, QueryError> {
        let Some(bytes) = self.query(key).await? else { return Ok(None) };
        let read = T::try_from_slice(&bytes);
        let record = read
            .map_err(|error| QueryError::Record { path: key.path(), wrong: error.to_string() })?;
        Ok(Some(record))
    }

    /// The server's word on a listing, as the ledger documents them: `list/jobs?limit=10`.
    pub async fn list<T: DeserializeOwned>(&self, path: &str) -> Result<T, QueryError> {
        let bytes = self.query_path(path).await?.unwrap_or_default();
        serde_json::from_slice(&bytes)
            .map_err(|error| QueryError::Record { path: path.into(), wrong: error.to_string() })
    }

    async fn query_path(&self, path: &str) -> Result<Option<Vec<u8>>, QueryError> {
        let params = json!({"path": path, "data": "", "height": "0", "prove": false});
        let AbciQuery { response } = self.call("abci_query", &params).await?;
        if response.code != 0 {
            return Err(QueryError::Refused { path: path.into(), log: response.log });
        }
        // No record's bytes are empty, so none is none.
        Ok((!response.value.is_empty()).then_some(response.value))
    }

    /// The server's word on the chain's height.
    pub async fn height(&self) -> Result<u64, RpcError> {
        let status: Status = self.call("status", &json!({})).await?;
        Ok(status.sync_info.latest_block_height)
    }

    /// What became of a transaction; `None` while it is in no block that the server indexed.
    pub async fn outcome(&self, hash: TxHash) -> Result<Option<TxOutcome>, RpcError> {
        let params = json!({"hash": rpc::base64_text(&hash.0), "prove": false});
        match self.call::<TxAnswer>("tx", &params).await {
            Ok(TxAnswer { height, index, tx_result }) => Ok(Some(TxOutcome {
                height,
                index,
                code: tx_result.code,
                data: tx_result.data,
                log: tx_result.log,
            })),
            Err(RpcError::Refused { data, .. }) if data.contains("not found") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits until a transaction is in a block; `None` where it is not within `patience`.
    /// Servers that are away meanwhile are asked again; the last such error is returned at the
    /// end.
    pub async fn wait_for_tx(
        &self,
        hash: TxHash,
        patience: Duration,
    ) -> Result<Option<TxOutcome>, RpcError> {
        let end = Instant::now() + patience;
        loop {
            let found = self.outcome(hash).await;
            if matches!(found, Ok(Some(_))) || Instant::now() + POLL > end {
                return found;
            }
            sleep(POLL).await;
        }
    }

    /// Hands a transaction in and waits until it stands in a block: submission, and what the
    /// block made of it.
    ///
    /// # Errors
    /// As [`Client::submit`]; also where it is in no block within `patience`
    /// ([`SubmitError::Busy`]).
    pub async fn submit_and_wait(
        &self,
        transaction: &Transaction,
        patience: Duration,
    ) -> Result<Submitted, SubmitError> {
        let submitted = self.submit(transaction).await?;
        if let submit::Standing::Already(_) = submitted.standing {
            return Ok(submitted);
        }
        match self.wait_for_tx(submitted.hash, patience).await? {
            Some(outcome) => {
                submit::judge_code(submitted.hash, outcome.code, &outcome.data, outcome.log)
            }
            None => Err(SubmitError::Busy {
                server: self.server(),
                reason: format!(
                    "transaction {} is in no block after {} s",
                    submitted.hash,
                    patience.as_secs()
                ),
            }),
        }
    }

    /// Hands a transaction in until it stands, however long servers are away or what it leans on
    /// is missing: the pause after a failure doubles from 1 to 30 seconds. `failed` hears of each.
    ///
    /// # Errors
    /// Where the ledger refuses it for good.
    pub async fn settle(
        &self,
        transaction: &Transaction,
        mut failed: impl FnMut(&SubmitError),
    ) -> Result<Submitted, SubmitError> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.submit_and_wait(transaction, BLOCK_PATIENCE).await {
                Err(error) if error.is_temporary() => failed(&error),
                ended => return ended,
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The server that answered last.
    pub fn server(&self) -> String {
        self.preferred().address().to_string()
    }

    fn preferred(&self) -> &Endpoint {
        // Only indices of endpoints are ever stored.
        &self.endpoints[self.preferred.load(Ordering::Relaxed)]
    }

    /// Asks any question of CometBFT's RPC; the server's word, as it came.
    pub async fn ask(&self, method: &str, params: &Value) -> Result<Value, RpcError> {
        self.call(method, params).await
    }

    /// Asks one server after another, beginning with the one that answered last.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        params: &Value,
    ) -> Result<T, RpcError> {
        let request = rpc::request(method, params);
        let begin = self.preferred.load(Ordering::Relaxed);
        let mut away = Vec::new();
        for turn in 0..self.endpoints.len() {
            let index = (begin + turn) % self.endpoints.len();
            let endpoint = &self.endpoints[index];
            match endpoint.post(request.clone()).await {
                Ok(body) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return rpc::answer(&endpoint.address().to_string(), &body);
                }
                Err(error) => away.push((endpoint.address().to_string(), error)),
            }
        }
        Err(RpcError::Away(away))
    }
}
