//! A job enters: signed by its requester, with the shapes that its work units are counted from.

use super::{Context, Event, Stop, chain_record, list, refuse, shapes};
use crate::{
    refusal::Refusal,
    state::{Fork, Listing},
};
use job::terms::Terms;
use protocol::{
    node::NodeRole,
    refusal::RefusalCode,
    signed::{ChainId, Signed},
    state::{JobRecord, NodeRecord, StateKey},
    transaction::{CreateJob, MAX_JOB_BATCHES},
};

/// Signature, bounds of the specification, and shapes that can be.
pub(super) fn check(signed: &Signed<CreateJob>, chain: &ChainId) -> Result<(), Refusal> {
    let create = signed.verify(chain)?;
    if signed.signer != create.spec.requester {
        return Err(Refusal::new(
            RefusalCode::NotTheSigner,
            format!("the requester is {}, the signer {}", create.spec.requester, signed.signer),
        ));
    }
    list::check_len("shapes", create.shapes.len(), MAX_JOB_BATCHES)?;
    Terms::new(&create.spec, create.shapes.clone())
        .map_err(|error| Refusal::new(RefusalCode::BadSpec, error.to_string()))?;
    for (index, shape) in create.shapes.iter().enumerate() {
        shapes::check(&create.spec.work, shape)
            .map_err(|wrong| Refusal::new(RefusalCode::BadShapes, wrong).at(index))?;
    }
    Ok(())
}

/// A job enters once, and only with a parameter server that is one.
pub(super) fn execute(
    signed: &Signed<CreateJob>,
    context: Context<'_>,
    fork: &mut Fork<'_>,
) -> Result<Vec<Event>, Stop> {
    let create = &signed.body;
    let job = create.spec.id();
    let key = StateKey::Job(job);
    if let Some(record) = fork.get::<JobRecord>(&key)? {
        return refuse(RefusalCode::JobExists, format!("job {job}, block {}", record.height));
    }
    let server = create.parameter_server;
    match fork.get::<NodeRecord>(&StateKey::Node(server))? {
        None => return refuse(RefusalCode::UnknownNode, format!("parameter server {server}")),
        Some(node) if node.registration.role != NodeRole::ParameterServer => {
            let found = format!("node {server} is registered as {:?}", node.registration.role);
            return refuse(RefusalCode::NotAParameterServer, found);
        }
        Some(_) => {}
    }
    let mut counts = chain_record(fork)?;
    fork.list(Listing::Job(counts.jobs, job));
    counts.jobs += 1;
    fork.put(StateKey::Chain, &counts)?;
    fork.put(StateKey::Shapes(job), &create.shapes)?;
    let record = JobRecord {
        spec: create.spec.clone(),
        parameter_server: server,
        height: context.height,
        receipts: 0,
        confirmed: 0,
    };
    fork.put(key, &record)?;
    Ok(vec![Event::JobCreated { job, requester: create.spec.requester, server }])
}
