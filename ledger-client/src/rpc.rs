//! CometBFT's JSON-RPC 2.0 as we use it: requests made and answers read, without I/O.

use base64::{Engine, engine::general_purpose::STANDARD};
use protocol::plain;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::{fmt, str::FromStr};

pub use crate::http::HttpError;

/// The longest part of a foreign text that is kept for an error message.
const MAX_QUOTED: usize = 500;

/// A SHA-256 hash that CometBFT names things by: a transaction's (of its bytes), a header's. Text
/// is upper-case hex, as CometBFT shows it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxHash(pub [u8; 32]);

impl TxHash {
    /// The hash of a transaction's bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl Serialize for TxHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TxHash {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for TxHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode_upper(self.0))
    }
}

impl fmt::Debug for TxHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is no transaction hash.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a transaction's hash: 64 hex digits are wanted")]
pub struct NotAHash(String);

impl FromStr for TxHash {
    type Err = NotAHash;
    fn from_str(text: &str) -> Result<Self, NotAHash> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| NotAHash(quote(text)))?;
        Ok(Self(bytes))
    }
}

/// Why a question to a CometBFT node got no good answer.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// No server answered; each address with its reason.
    #[error("no ledger server answers ({}): check the network, or name other servers", list(.0))]
    Away(Vec<(String, HttpError)>),
    /// The server answered with an error of its own.
    #[error("the ledger server {server} answered an error: {message} {data}")]
    Refused {
        /// Which server.
        server: String,
        /// JSON-RPC's message.
        message: String,
        /// What it said further.
        data: String,
    },
    /// The answer cannot be understood.
    #[error(
        "the ledger server {server} answered what a CometBFT 0.38 node never would ({wrong}): \
         check the address"
    )]
    Nonsense {
        /// Which server.
        server: String,
        /// What is wrong with it.
        wrong: String,
    },
}

fn list(reasons: &[(String, HttpError)]) -> String {
    let each: Vec<String> = reasons.iter().map(|(at, why)| format!("{at}: {why}")).collect();
    each.join("; ")
}

fn quote(text: &str) -> String {
    plain(text).chars().take(MAX_QUOTED).collect()
}

/// A request's bytes.
pub(crate) fn request(method: &str, params: &Value) -> Vec<u8> {
    json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string().into_bytes()
}

#[derive(Deserialize)]
struct Envelope {
    result: Option<Value>,
    error: Option<ErrorBody>,
}

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default)]
    message: String,
    #[serde(default)]
    data: Value,
}

/// Reads an answer.
pub(crate) fn answer<T: DeserializeOwned>(server: &str, body: &[u8]) -> Result<T, RpcError> {
    let nonsense =
        |wrong: String| RpcError::Nonsense { server: server.into(), wrong: quote(&wrong) };
    let envelope: Envelope =
        serde_json::from_slice(body).map_err(|error| nonsense(error.to_string()))?;
    match (envelope.result, envelope.error) {
        (_, Some(error)) => {
            let data = match error.data {
                Value::String(text) => text,
                Value::Null => String::new(),
                other => other.to_string(),
            };
            Err(RpcError::Refused {
                server: server.into(),
                message: quote(&error.message),
                data: quote(&data),
            })
        }
        (Some(result), None) => {
            serde_json::from_value(result).map_err(|error| nonsense(error.to_string()))
        }
        (None, None) => Err(nonsense("neither result nor error".into())),
    }
}

/// Bytes in base64, `null` for none.
pub(crate) fn base64_bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    let text = Option::<String>::deserialize(from)?.unwrap_or_default();
    STANDARD.decode(text).map_err(serde::de::Error::custom)
}

/// An integer that Go's JSON writes as a string; some fields are left out when 0.
pub(crate) fn number<'de, D, N>(from: D) -> Result<N, D::Error>
where
    D: Deserializer<'de>,
    N: FromStr,
    N::Err: fmt::Display,
{
    String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
}

pub(crate) fn base64_text(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// `broadcast_tx_sync`'s answer.
#[derive(Debug, Deserialize)]
pub(crate) struct Broadcast {
    pub(crate) code: u32,
    /// In hex, unlike every other field of bytes.
    #[serde(default, with = "hex::serde")]
    pub(crate) data: Vec<u8>,
    #[serde(default)]
    pub(crate) log: String,
}

/// `status`' answer, as far as we read it.
#[derive(Debug, Deserialize)]
pub(crate) struct Status {
    pub(crate) sync_info: SyncInfo,
}

#[derive(Debug, Deserialize)]
pub(crate) struct SyncInfo {
    #[serde(deserialize_with = "number")]
    pub(crate) latest_block_height: u64,
}

/// `abci_query`'s answer.
#[derive(Debug, Deserialize)]
pub(crate) struct AbciQuery {
    pub(crate) response: QueryResponse,
}

#[derive(Debug, Deserialize)]
pub(crate) struct QueryResponse {
    #[serde(default)]
    pub(crate) code: u32,
    #[serde(default)]
    pub(crate) log: String,
    #[serde(default, deserialize_with = "base64_bytes")]
    pub(crate) value: Vec<u8>,
}

/// `tx`' answer, as far as we read it.
#[derive(Debug, Deserialize)]
pub(crate) struct TxAnswer {
    #[serde(deserialize_with = "number")]
    pub(crate) height: u64,
    pub(crate) index: u32,
    pub(crate) tx_result: TxResult,
}

#[derive(Debug, Deserialize)]
pub(crate) struct TxResult {
    #[serde(default)]
    pub(crate) code: u32,
    #[serde(default, deserialize_with = "base64_bytes")]
    pub(crate) data: Vec<u8>,
    #[serde(default)]
    pub(crate) log: String,
}

/// What became of a transaction in its block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxOutcome {
    /// The block.
    pub height: u64,
    /// Its place in the block.
    pub index: u32,
    /// 0, or why it was refused there ([`protocol::refusal::RefusalCode`]).
    pub code: u32,
    /// A refused item's place, in borsh ([`protocol::refusal::RefusedItem`]).
    pub data: Vec<u8>,
    /// For people.
    pub log: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_error_answer_keeps_what_the_server_said() {
        let body = br#"{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"Internal error","data":"tx already exists in cache"}}"#;
        match answer::<Broadcast>("a", body) {
            Err(RpcError::Refused { data, .. }) => assert_eq!(data, "tx already exists in cache"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_broadcast_answer_of_cometbft_0_38_is_read() {
        let body = br#"{"jsonrpc":"2.0","id":1,"result":{"code":53,"data":"01000000","log":"why","codespace":"","hash":"AB"}}"#;
        let read: Broadcast = answer("a", body).unwrap();
        assert_eq!((read.code, read.data, read.log.as_str()), (53, vec![1, 0, 0, 0], "why"));
    }

    #[test]
    fn a_hash_round_trips_in_cometbfts_capitals() {
        let hash = TxHash::of(b"abc");
        assert!(hash.to_string().starts_with("BA7816BF"), "{hash}");
        assert_eq!(hash.to_string().parse::<TxHash>().unwrap(), hash);
    }

    proptest! {
        #[test]
        fn no_answer_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = answer::<Broadcast>("a", &body);
            let _ = answer::<AbciQuery>("a", &body);
            let _ = answer::<TxAnswer>("a", &body);
        }
    }
}
