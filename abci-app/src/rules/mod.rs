//! What each transaction must be and does: one file a transaction.
//!
//! A rule is a stateless check (bytes, bounds, signatures; no look-up) and an execution (stateful
//! checks, then writes) on a fork that is dropped where anything is refused. CheckTx and
//! FinalizeBlock call the same functions, so both give the same codes.
//!
//! Rules hold no float, clock, thread, randomness or unordered map: every validator must come to
//! the same bytes. A test reads this folder and holds it to that.

mod assign;
mod confirm_receipts;
mod create_job;
mod decode;
mod event;
mod list;
mod plan;
mod register_node;
mod shapes;
mod submit_receipts;

pub use decode::decode;
pub use event::Event;

use crate::{
    refusal::Refusal,
    state::{Fork, StoreError},
};
use protocol::{
    Transaction,
    refusal::RefusalCode,
    signed::ChainId,
    state::{ChainRecord, StateKey},
};

/// Where a transaction is executed.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The chain.
    pub chain: &'a ChainId,
    /// The block's height.
    pub height: u64,
}

/// Why an execution stopped.
#[derive(Debug)]
pub enum Stop {
    /// The transaction is refused.
    Refused(Refusal),
    /// The state cannot be read: no answer is possible.
    Broken(StoreError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Broken(error)
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

fn refuse<T>(code: RefusalCode, detail: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Refused(Refusal::new(code, detail)))
}

/// All that can be said of a transaction without looking anything up.
pub fn check_stateless(transaction: &Transaction, chain: &ChainId) -> Result<(), Refusal> {
    match transaction {
        Transaction::RegisterNode(signed) => register_node::check(signed, chain),
        Transaction::CreateJob(signed) => create_job::check(signed, chain),
        Transaction::Assign(signed) => assign::check(signed, chain),
        Transaction::SubmitReceipts(receipts) => submit_receipts::check(receipts, chain),
        Transaction::ConfirmReceipts(signed) => confirm_receipts::check(signed, chain),
    }
}

/// Checks a transaction against the state and writes what it does. On refusal the fork is left
/// with half of it: the caller drops it.
pub fn execute(
    transaction: &Transaction,
    context: Context<'_>,
    fork: &mut Fork<'_>,
) -> Result<Vec<Event>, Stop> {
    match transaction {
        Transaction::RegisterNode(signed) => register_node::execute(signed, context, fork),
        Transaction::CreateJob(signed) => create_job::execute(signed, context, fork),
        Transaction::Assign(signed) => assign::execute(&signed.body, signed.signer, context, fork),
        Transaction::SubmitReceipts(receipts) => submit_receipts::execute(receipts, context, fork),
        Transaction::ConfirmReceipts(signed) => {
            confirm_receipts::execute(&signed.body, signed.signer, context, fork)
        }
    }
}

/// What the state holds at the beginning of a chain.
pub fn genesis(fork: &mut Fork<'_>) -> Result<(), StoreError> {
    fork.put(StateKey::Chain, &ChainRecord::default())
}

/// The chain's counts; genesis wrote them.
fn chain_record(fork: &Fork<'_>) -> Result<ChainRecord, StoreError> {
    fork.get(&StateKey::Chain)?
        .ok_or_else(|| StoreError::Tree("the chain's own record is missing".into()))
}
