//! What became of a transaction that was handed in.

use crate::rpc::{Broadcast, RpcError, TxHash};
use borsh::BorshDeserialize;
use protocol::refusal::{RefusalCode, RefusedItem, Sense};

/// A transaction that stands, or will with the next blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// Its hash.
    pub hash: TxHash,
    /// How it stands.
    pub standing: Standing,
}

/// How a transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It passed CheckTx and waits for a block. A proposer may still leave it out: what must not
    /// be lost is asked for again ([`crate::Client::wait_for_tx`], or the outbox, which does so).
    Waiting,
    /// The server knows these very bytes: they wait, or are in a recent block.
    Known,
    /// What it asks for is on the chain already, for this reason.
    Already(RefusalCode),
}

/// A transaction was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// It will never be accepted as it is.
    #[error("the ledger refuses the transaction (code {}): {log}", .code.number())]
    Refused {
        /// The reason.
        code: RefusalCode,
        /// Which item of its list was at fault, from 0.
        item: Option<u32>,
        /// The ledger's own words.
        log: String,
    },
    /// What it leans on is not on the chain yet: try again later.
    #[error("the ledger cannot take the transaction yet (code {}): {log}", .code.number())]
    NotYet {
        /// What is missing.
        code: RefusalCode,
        /// Which item of its list was at fault, from 0.
        item: Option<u32>,
        /// The ledger's own words.
        log: String,
    },
    /// It has no canonical bytes.
    #[error("the transaction cannot be encoded ({0}): a number in it is not a number")]
    Unencodable(String),
    /// A reason that a newer ledger gives.
    #[error("the ledger refuses the transaction for a reason unknown here (code {code}): {log}")]
    Unknown {
        /// Its number.
        code: u32,
        /// The ledger's own words.
        log: String,
    },
    /// The server's mempool is full: try again later.
    #[error("the ledger server {server} is busy ({reason}): try again later")]
    Busy {
        /// Which server.
        server: String,
        /// Its words.
        reason: String,
    },
    /// No server answered sensibly: try again later.
    #[error(transparent)]
    Rpc(#[from] RpcError),
}

impl SubmitError {
    /// Whether the same transaction may be accepted later.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::NotYet { .. } | Self::Busy { .. } | Self::Rpc(_) => true,
            Self::Refused { .. } | Self::Unencodable(_) | Self::Unknown { .. } => false,
        }
    }
}

/// Judges `broadcast_tx_sync`'s answer.
pub(crate) fn judge(
    hash: TxHash,
    answer: Result<Broadcast, RpcError>,
) -> Result<Submitted, SubmitError> {
    match answer {
        Ok(broadcast) if broadcast.code == 0 => Ok(Submitted { hash, standing: Standing::Waiting }),
        Ok(Broadcast { code, data, log }) => judge_code(hash, code, &data, log),
        // CometBFT has no codes for these: `mempool/errors.go` of 0.38 has the words.
        Err(RpcError::Refused { data, .. }) if data.contains("already exists in cache") => {
            Ok(Submitted { hash, standing: Standing::Known })
        }
        Err(RpcError::Refused { server, data, .. }) if data.contains("mempool is full") => {
            Err(SubmitError::Busy { server, reason: data })
        }
        Err(error) => Err(error.into()),
    }
}

/// Judges a code that CheckTx or a block gave.
pub(crate) fn judge_code(
    hash: TxHash,
    code: u32,
    data: &[u8],
    log: String,
) -> Result<Submitted, SubmitError> {
    let item = match data {
        [] => None,
        data => match RefusedItem::try_from_slice(data) {
            Ok(item) => Some(item.index),
            // Without it, one item's refusal would look like the whole's.
            Err(_) => return Err(SubmitError::Unknown { code, log }),
        },
    };
    match RefusalCode::from_number(code) {
        None if code == 0 => Ok(Submitted { hash, standing: Standing::Waiting }),
        None => Err(SubmitError::Unknown { code, log }),
        Some(code) => match code.sense() {
            // Of a list, one item that stands says nothing of the others.
            Sense::Already if item.is_none() => {
                Ok(Submitted { hash, standing: Standing::Already(code) })
            }
            Sense::Already | Sense::Never => Err(SubmitError::Refused { code, item, log }),
            Sense::NotYet => Err(SubmitError::NotYet { code, item, log }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(code: RefusalCode, item: Option<u32>) -> Result<Submitted, SubmitError> {
        let data = item.map(|index| borsh::to_vec(&RefusedItem { index }).unwrap());
        let data = data.unwrap_or_default();
        judge(TxHash([0; 32]), Ok(Broadcast { code: code.number(), data, log: "why".into() }))
    }

    fn failed(data: &str) -> Result<Submitted, SubmitError> {
        let (server, message, data) = ("a".into(), "Internal error".into(), data.into());
        judge(TxHash([0; 32]), Err(RpcError::Refused { server, message, data }))
    }

    #[test]
    fn what_stands_already_is_success() {
        let standing = answered(RefusalCode::AlreadyRegistered, None).unwrap().standing;
        assert_eq!(standing, Standing::Already(RefusalCode::AlreadyRegistered));
        let standing = failed("tx already exists in cache").unwrap().standing;
        assert_eq!(standing, Standing::Known);
    }

    #[test]
    fn one_item_of_a_list_that_stands_is_named_for_the_others_were_refused_with_it() {
        match answered(RefusalCode::AlreadySubmitted, Some(3)) {
            Err(SubmitError::Refused { item: Some(3), .. }) => {}
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn later_and_never_are_told_apart() {
        assert!(answered(RefusalCode::UnknownAssignment, Some(0)).unwrap_err().is_temporary());
        assert!(!answered(RefusalCode::WrongUnits, Some(0)).unwrap_err().is_temporary());
        assert!(failed("mempool is full: number of txs 5000").unwrap_err().is_temporary());
        let unreadable = judge_code(TxHash([0; 32]), 53, &[1], "why".into()).unwrap_err();
        assert!(matches!(unreadable, SubmitError::Unknown { code: 53, .. }));
        let unknown = judge_code(TxHash([0; 32]), 9_999, &[], "new".into()).unwrap_err();
        assert!(!unknown.is_temporary());
    }
}
