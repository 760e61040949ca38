//! A step's batches are given out: signed by the identity key of the job's parameter server.

use super::{Context, Event, Stop, chain_record, list, plan::Plan, refuse};
use crate::{
    refusal::Refusal,
    state::{Base, Fork},
};
use protocol::{
    batch::{BatchId, BatchPart},
    key::PublicKey,
    refusal::RefusalCode,
    signed::{ChainId, Signed},
    state::{AssignmentRecord, AttemptRecord, BatchRecord, StateKey},
    transaction::{Assign, MAX_ATTEMPTS, MAX_RUNS, Run},
};

/// Signature, and runs that may be runs of some step.
pub(super) fn check(signed: &Signed<Assign>, chain: &ChainId) -> Result<(), Refusal> {
    let assign = signed.verify(chain)?;
    list::check_len("runs", assign.runs.len(), MAX_RUNS)?;
    // A batch has a record of its own, so it is batches that bound a transaction's work.
    let batches = assign.runs.iter().fold(0u32, |sum, run| sum.saturating_add(run.count));
    if batches as usize > MAX_RUNS {
        let detail = format!("{batches} batches; {MAX_RUNS} are the most");
        return Err(Refusal::new(RefusalCode::ListLength, detail));
    }
    for (index, run) in assign.runs.iter().enumerate() {
        check_run(run).map_err(|refusal| refusal.at(index))?;
    }
    Ok(())
}

fn check_run(run: &Run) -> Result<(), Refusal> {
    if !(1..=MAX_ATTEMPTS).contains(&run.attempt) {
        let detail = format!("attempt {}; 1 to {MAX_ATTEMPTS} are allowed", run.attempt);
        return Err(Refusal::new(RefusalCode::Attempt, detail));
    }
    let most = if run.first == BatchPart::Update { 1 } else { u32::MAX };
    if !(1..=most).contains(&run.count) {
        let detail = format!("{} batches from {} on", run.count, run.first);
        return Err(Refusal::new(RefusalCode::NotAligned, detail));
    }
    Ok(())
}

/// Each run becomes an assignment; an attempt at a batch is given out once.
pub(super) fn execute(
    assign: &Assign,
    signer: PublicKey,
    context: Context<'_>,
    fork: &mut Fork<'_>,
) -> Result<Vec<Event>, Stop> {
    let plan = Plan::of(&assign.job, fork)?;
    let server = plan.record.parameter_server;
    if signer != server {
        let detail = format!("the job's parameter server is {server}, the signer {signer}");
        return refuse(RefusalCode::NotTheSigner, detail);
    }
    let micro_batches = plan.micro_batches(assign.epoch, assign.step)?;
    list::each(&assign.runs, |run| {
        check_place(&plan, micro_batches, run)?;
        assign_run(assign, run, context, fork)
    })?;
    let mut counts = chain_record(fork)?;
    counts.assignments += assign.runs.len() as u64;
    fork.put(StateKey::Chain, &counts)?;
    Ok(vec![Event::assigned(assign)])
}

/// The run lies in the step and is a node of its gradient tree.
fn check_place(plan: &Plan, micro_batches: u32, run: &Run) -> Result<(), Stop> {
    let Run { first, count, node, .. } = run;
    match *first {
        BatchPart::Update if !plan.has_update() => {
            refuse(RefusalCode::OutOfBounds, "a translation has no update")
        }
        BatchPart::Update if *node != plan.record.parameter_server => refuse(
            RefusalCode::NotTheServersNode,
            format!("given to {node}, not to {}", plan.record.parameter_server),
        ),
        BatchPart::Update => Ok(()),
        BatchPart::Micro(first) => {
            let end = u64::from(first) + u64::from(*count);
            if end > u64::from(micro_batches) {
                let detail = format!("micro-batches {first} to {}, of {micro_batches}", end - 1);
                return refuse(RefusalCode::OutOfBounds, detail);
            }
            // The rest of a step is a node of the tree too where it begins at its own width.
            let whole = count.is_power_of_two() || end == u64::from(micro_batches);
            let width = u64::from(*count).next_power_of_two();
            if !whole || !u64::from(first).is_multiple_of(width) {
                return refuse(RefusalCode::NotAligned, format!("{count} from #{first} on"));
            }
            Ok(())
        }
    }
}

fn assign_run(
    assign: &Assign,
    run: &Run,
    context: Context<'_>,
    fork: &mut Fork<'_>,
) -> Result<(), Stop> {
    if fork.read(&StateKey::Node(run.node))?.is_none() {
        return refuse(RefusalCode::UnknownNode, format!("node {}", run.node));
    }
    let id = assign.assignment(run);
    let key = StateKey::Assignment(id);
    if fork.read(&key)?.is_some() {
        return refuse(RefusalCode::AlreadyAssigned, format!("assignment {id}"));
    }
    for offset in 0..run.count {
        let part = match run.first {
            BatchPart::Micro(first) => BatchPart::Micro(first + offset),
            BatchPart::Update => BatchPart::Update,
        };
        let Assign { job, epoch, step, .. } = *assign;
        let batch = BatchId { job, epoch, step, part };
        take_attempt(
            batch,
            AttemptRecord { attempt: run.attempt, assignment: id, receipt: None },
            fork,
        )?;
    }
    let record = AssignmentRecord {
        job: assign.job,
        epoch: assign.epoch,
        step: assign.step,
        run: *run,
        height: context.height,
    };
    Ok(fork.put(key, &record)?)
}

fn take_attempt(batch: BatchId, attempt: AttemptRecord, fork: &mut Fork<'_>) -> Result<(), Stop> {
    let key = StateKey::Batch(batch);
    let mut record = fork.get::<BatchRecord>(&key)?.unwrap_or_default();
    match record.attempts.binary_search_by_key(&attempt.attempt, |other| other.attempt) {
        Ok(_) => {
            refuse(RefusalCode::AttemptTaken, format!("attempt {} at {batch}", attempt.attempt))
        }
        Err(place) => {
            record.attempts.insert(place, attempt);
            Ok(fork.put(key, &record)?)
        }
    }
}
