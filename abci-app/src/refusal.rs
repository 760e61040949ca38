//! A refusal: the stable code, the item at fault, and words for people.

use bytes::Bytes;
use protocol::{
    node::OwnershipError,
    receipt::ReceiptError,
    refusal::{RefusalCode, RefusedItem},
    signed::SignedError,
};

/// A transaction is refused; nothing of it was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The stable reason.
    pub code: RefusalCode,
    /// Which item of the transaction's list is at fault, from 0; none where it is the whole.
    pub item: Option<u32>,
    /// What exactly was found, for people; no part of consensus.
    pub detail: String,
}

impl Refusal {
    /// A refusal of the whole transaction.
    pub fn new(code: RefusalCode, detail: impl Into<String>) -> Self {
        Self { code, item: None, detail: detail.into() }
    }

    /// The same, of one item of its list.
    pub fn at(self, index: usize) -> Self {
        // A list's length is far below 2^32: a transaction is at most 512 KiB.
        Self { item: u32::try_from(index).ok(), ..self }
    }

    /// ABCI's `log`.
    pub fn log(&self) -> String {
        let item = self.item.map(|index| format!("item {index}: ")).unwrap_or_default();
        format!("{item}{} ({}); {}", self.code.what(), self.detail, self.code.mend())
    }

    /// ABCI's `data`: the item's index, where there is one.
    pub fn data(&self) -> Bytes {
        let item = self.item.map(|index| borsh::to_vec(&RefusedItem { index }));
        item.and_then(Result::ok).map(Bytes::from).unwrap_or_default()
    }
}

impl From<SignedError> for Refusal {
    fn from(error: SignedError) -> Self {
        let code = match error {
            SignedError::Version { .. } => RefusalCode::Version,
            SignedError::Chain { .. } => RefusalCode::Chain,
            SignedError::Signature { .. } => RefusalCode::Signature,
        };
        Self::new(code, error.to_string())
    }
}

impl From<OwnershipError> for Refusal {
    fn from(error: OwnershipError) -> Self {
        match error {
            OwnershipError::Signed(error) => error.into(),
            other => Self::new(RefusalCode::Ownership, other.to_string()),
        }
    }
}

impl From<ReceiptError> for Refusal {
    fn from(error: ReceiptError) -> Self {
        match error {
            ReceiptError::Receipt(error) | ReceiptError::Certificate(error) => error.into(),
            other => Self::new(RefusalCode::WorkKey, other.to_string()),
        }
    }
}
