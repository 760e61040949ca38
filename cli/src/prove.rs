//! What a proven receipt shows.

use crate::{error::Error, ledger::Ledger};
use ledger_client::{
    TxHash,
    verify::{BlockRef, ProvenReceipt, TrustRoot},
};
use protocol::{ReceiptId, state::ReceiptRecord};
use serde::Serialize;
use std::time::Duration;

/// A receipt, proven to stand on the chain; there is no other way to make one than to prove it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReceiptProof {
    /// The receipt.
    pub receipt: ReceiptId,
    /// Always true.
    pub proof_verified: bool,
    /// The block that its transaction is in.
    pub height: u64,
    /// That block, under a header that the light client verified.
    pub block: BlockRef,
    /// The transaction.
    pub transaction: TxHash,
    /// Its place in the block.
    pub index: u64,
    /// Transactions of the block.
    pub transactions: u64,
    /// The height whose state holds the record.
    pub state_height: u64,
    /// The block whose header has that state's app hash.
    pub state_block: BlockRef,
    /// The header that all of it is proven from.
    pub trust_root: TrustRoot,
    /// What the chain has of it.
    pub record: ReceiptRecord,
}

/// Proves a receipt: its record under a verified app hash, and its transaction in its block. One
/// that is not there yet is waited for.
///
/// # Errors
/// Where it is provably not on the chain, where a server lies, or where nobody answers.
pub async fn prove_receipt(
    ledger: &mut Ledger,
    id: ReceiptId,
    patience: Duration,
) -> Result<ReceiptProof, Error> {
    let ProvenReceipt { record, carrier } = ledger.receipt_within(id, patience).await?;
    let (Some(found), Some(carrier)) = (record.value, carrier) else {
        return Err(absent(id, record.height, &record.block));
    };
    Ok(ReceiptProof {
        receipt: id,
        proof_verified: true,
        height: found.height,
        block: carrier.block,
        transaction: carrier.transaction,
        index: carrier.proof.index,
        transactions: carrier.proof.total,
        state_height: record.height,
        state_block: record.block,
        trust_root: ledger.pinned(),
        record: found,
    })
}

/// That a receipt is provably not there.
pub fn absent(id: ReceiptId, height: u64, block: &BlockRef) -> Error {
    Error::Refused(format!(
        "receipt {id} is not on the chain: proven for the state of height {height} under block {} \
         ({}); a new one is in a block after some seconds, --wait SECONDS waits for it",
        block.height, block.hash
    ))
}
