//! Work was done: receipts, each signed by its node's work key.

use super::{Context, Event, Stop, chain_record, list, plan::Plan, refuse};
use crate::{
    refusal::Refusal,
    state::{Fork, Listing, StoreError},
};
use protocol::{
    batch::{BatchId, BatchPart},
    job::JobId,
    receipt::{self, Receipt, SignedReceipt},
    refusal::RefusalCode,
    signed::ChainId,
    state::{AssignmentRecord, BatchRecord, JobRecord, NodeRecord, ReceiptRecord, StateKey},
    transaction::{MAX_RECEIPTS, Run},
};
use std::collections::{BTreeMap, btree_map::Entry};

/// Signatures of every receipt and of its certificate.
pub(super) fn check(receipts: &[SignedReceipt], chain: &ChainId) -> Result<(), Refusal> {
    list::check_len("receipts", receipts.len(), MAX_RECEIPTS)?;
    for (index, receipt) in receipts.iter().enumerate() {
        receipt::verify(receipt, chain).map_err(|error| Refusal::from(error).at(index))?;
    }
    Ok(())
}

/// Each receipt answers an assignment of its node, once, for the units of the job's own shape.
pub(super) fn execute(
    receipts: &[SignedReceipt],
    context: Context<'_>,
    fork: &mut Fork<'_>,
) -> Result<Vec<Event>, Stop> {
    let mut plans: BTreeMap<JobId, Plan> = BTreeMap::new();
    let mut events = Vec::with_capacity(receipts.len());
    list::each(receipts, |receipt| {
        let job = receipt.body.batch.job;
        let plan = match plans.entry(job) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(Plan::of(&job, fork)?),
        };
        events.push(submit(receipt, plan, context, fork)?);
        Ok(())
    })?;
    let mut counts = chain_record(fork)?;
    counts.receipts += receipts.len() as u64;
    fork.put(StateKey::Chain, &counts)?;
    Ok(events)
}

fn submit(
    signed: &SignedReceipt,
    plan: &Plan,
    context: Context<'_>,
    fork: &mut Fork<'_>,
) -> Result<Event, Stop> {
    let receipt = &signed.body;
    let (id, job, node) = (receipt.id(), receipt.batch.job, receipt.node());
    let key = StateKey::Receipt(id);
    if let Some(record) = fork.get::<ReceiptRecord>(&key)? {
        let detail = format!("receipt {id}, block {}", record.height);
        return refuse(RefusalCode::AlreadySubmitted, detail);
    }
    let Some(mut node_record) = fork.get::<NodeRecord>(&StateKey::Node(node))? else {
        return refuse(RefusalCode::UnknownNode, format!("node {node}"));
    };
    check_assignment(receipt, fork)?;
    let units = plan.units(&receipt.batch)?;
    if receipt.units != units {
        let detail = format!("{:?} claimed, {units:?} counted", receipt.units);
        return refuse(RefusalCode::WrongUnits, detail);
    }
    answer_attempt(receipt, fork)?;

    // The record may have been written by an earlier receipt of this transaction.
    let Some(mut job_record) = fork.get::<JobRecord>(&StateKey::Job(job))? else {
        return refuse(RefusalCode::UnknownJob, format!("job {job}"));
    };
    fork.list(Listing::Receipt(job, job_record.receipts, id));
    job_record.receipts += 1;
    node_record.receipts += 1;
    fork.put(StateKey::Job(job), &job_record)?;
    fork.put(StateKey::Node(node), &node_record)?;
    let record = ReceiptRecord { receipt: signed.clone(), height: context.height, confirmed: None };
    fork.put(key, &record)?;
    Ok(Event::ReceiptSubmitted { receipt: id, job, node })
}

/// The assignment exists, is this node's, and holds this batch with this attempt.
fn check_assignment(receipt: &Receipt, fork: &Fork<'_>) -> Result<(), Stop> {
    let id = receipt.assignment;
    let Some(record) = fork.get::<AssignmentRecord>(&StateKey::Assignment(id))? else {
        return refuse(RefusalCode::UnknownAssignment, format!("assignment {id}"));
    };
    if record.run.node != receipt.node() {
        return refuse(
            RefusalCode::NotTheAssignedNode,
            format!("assignment {id} is {}'s, the receipt {}'s", record.run.node, receipt.node()),
        );
    }
    if !holds(&record, &receipt.batch) || record.run.attempt != receipt.attempt {
        return refuse(
            RefusalCode::NotTheAssignedBatch,
            format!(
                "assignment {id} is attempt {} at epoch {} step {}, {} batches from {} on; the \
                 receipt is for attempt {} at {}",
                record.run.attempt,
                record.epoch,
                record.step,
                record.run.count,
                record.run.first,
                receipt.attempt,
                receipt.batch
            ),
        );
    }
    Ok(())
}

fn holds(assignment: &AssignmentRecord, batch: &BatchId) -> bool {
    let Run { first, count, .. } = assignment.run;
    let in_run = match (first, batch.part) {
        (BatchPart::Update, BatchPart::Update) => true,
        (BatchPart::Micro(first), BatchPart::Micro(index)) => {
            index.checked_sub(first).is_some_and(|offset| offset < count)
        }
        _ => false,
    };
    in_run
        && (assignment.job, assignment.epoch, assignment.step)
            == (batch.job, batch.epoch, batch.step)
}

/// Puts the receipt into its batch's record: one an attempt.
fn answer_attempt(receipt: &Receipt, fork: &mut Fork<'_>) -> Result<(), Stop> {
    let key = StateKey::Batch(receipt.batch);
    let mut record = fork.get::<BatchRecord>(&key)?.unwrap_or_default();
    let attempt = record.attempts.iter_mut().find(|other| other.attempt == receipt.attempt);
    let Some(attempt) = attempt else {
        let wrong = format!("no attempt {}, though it is assigned", receipt.attempt);
        return Err(StoreError::Broken { at: key.path(), wrong }.into());
    };
    if let Some(other) = attempt.receipt {
        let detail = format!("attempt {} at {}: {other}", receipt.attempt, receipt.batch);
        return refuse(RefusalCode::AttemptHasReceipt, detail);
    }
    attempt.receipt = Some(receipt.id());
    Ok(fork.put(key, &record)?)
}
