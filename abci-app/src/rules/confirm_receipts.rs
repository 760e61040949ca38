//! The parameter server took results: signed by the identity key of the job's parameter server,
//! who reveals what opens each work root.

use super::{Context, Event, Stop, chain_record, list, refuse};
use crate::{refusal::Refusal, state::Fork};
use protocol::{
    WorkUnits,
    key::PublicKey,
    refusal::RefusalCode,
    signed::{ChainId, Signed},
    state::{BatchRecord, ConfirmedRecord, JobRecord, NodeRecord, ReceiptRecord, StateKey},
    transaction::{Confirm, Confirmation, MAX_CONFIRMATIONS},
};

/// Signature and length.
pub(super) fn check(signed: &Signed<Confirm>, chain: &ChainId) -> Result<(), Refusal> {
    let confirm = signed.verify(chain)?;
    list::check_len("confirmations", confirm.receipts.len(), MAX_CONFIRMATIONS)
}

/// A receipt is confirmed once; of a batch's receipts the first one confirmed is marked.
pub(super) fn execute(
    confirm: &Confirm,
    signer: PublicKey,
    context: Context<'_>,
    fork: &mut Fork<'_>,
) -> Result<Vec<Event>, Stop> {
    let key = StateKey::Job(confirm.job);
    let Some(mut job) = fork.get::<JobRecord>(&key)? else {
        return refuse(RefusalCode::UnknownJob, format!("job {}", confirm.job));
    };
    if signer != job.parameter_server {
        return refuse(
            RefusalCode::NotTheSigner,
            format!("the job's parameter server is {}, the signer {signer}", job.parameter_server),
        );
    }
    let mut events = Vec::with_capacity(confirm.receipts.len());
    let mut units = WorkUnits::default();
    list::each(&confirm.receipts, |confirmation| {
        let (event, counted) = confirm_one(confirm, confirmation, context, fork)?;
        events.push(event);
        units = units.plus(counted);
        Ok(())
    })?;
    job.confirmed += confirm.receipts.len() as u64;
    fork.put(key, &job)?;
    let mut counts = chain_record(fork)?;
    counts.confirmed += confirm.receipts.len() as u64;
    counts.units = counts.units.plus(units);
    fork.put(StateKey::Chain, &counts)?;
    Ok(events)
}

/// Confirms one receipt; gives the units that count for the chain.
fn confirm_one(
    confirm: &Confirm,
    confirmation: &Confirmation,
    context: Context<'_>,
    fork: &mut Fork<'_>,
) -> Result<(Event, WorkUnits), Stop> {
    let Confirmation { receipt: id, salt, work_root } = *confirmation;
    let key = StateKey::Receipt(id);
    let Some(mut record) = fork.get::<ReceiptRecord>(&key)? else {
        return refuse(RefusalCode::UnknownReceipt, format!("receipt {id}"));
    };
    let receipt = record.body();
    let (job, batch, node, units) =
        (receipt.batch.job, receipt.batch, receipt.node(), receipt.units);
    if job != confirm.job {
        return refuse(RefusalCode::ReceiptOfAnotherJob, format!("receipt {id} is of job {job}"));
    }
    if let Some(before) = &record.confirmed {
        let detail = format!("receipt {id}, block {}", before.height);
        return refuse(RefusalCode::AlreadyConfirmed, detail);
    }
    if salt.blind(&work_root) != receipt.work_root {
        return refuse(RefusalCode::WrongSalt, format!("receipt {id}"));
    }
    let batch_key = StateKey::Batch(batch);
    let mut batch_record = fork.get::<BatchRecord>(&batch_key)?.unwrap_or_default();
    let first = batch_record.confirmed.is_none();
    if first {
        batch_record.confirmed = Some(id);
        fork.put(batch_key, &batch_record)?;
    }
    record.confirmed = Some(ConfirmedRecord { height: context.height, salt, work_root, first });
    fork.put(key, &record)?;
    let node_key = StateKey::Node(node);
    if let Some(mut node_record) = fork.get::<NodeRecord>(&node_key)? {
        node_record.confirmed += 1;
        fork.put(node_key, &node_record)?;
    }
    let counted = if first { units } else { WorkUnits::default() };
    Ok((Event::ReceiptConfirmed { receipt: id, job, first }, counted))
}
