//! A node enters: signed by its identity key, which hangs on an owner's account.

use super::{Context, Event, Stop, chain_record, refuse};
use crate::{
    refusal::Refusal,
    state::{Fork, Listing},
};
use protocol::{
    node::NodeRegistration,
    refusal::RefusalCode,
    signed::{ChainId, Signed},
    state::{NodeRecord, StateKey},
};

/// Signatures of the node and of everyone between it and its owner.
pub(super) fn check(signed: &Signed<NodeRegistration>, chain: &ChainId) -> Result<(), Refusal> {
    let registration = signed.verify(chain)?;
    registration.ownership.verify(chain, &signed.signer)?;
    Ok(())
}

/// A key enters once. Registered again with the same owner and role, it stands as it was.
pub(super) fn execute(
    signed: &Signed<NodeRegistration>,
    context: Context<'_>,
    fork: &mut Fork<'_>,
) -> Result<Vec<Event>, Stop> {
    let node = signed.signer;
    let registration = &signed.body;
    // `check` found the chain of signatures whole; its first signer is the owner.
    let owner = registration.ownership.delegation.signer;
    let key = StateKey::Node(node);
    if let Some(record) = fork.get::<NodeRecord>(&key)? {
        let same = record.owner == owner && record.registration.role == registration.role;
        return if same {
            refuse(RefusalCode::AlreadyRegistered, format!("node {node}, block {}", record.height))
        } else {
            refuse(
                RefusalCode::RegisteredOtherwise,
                format!(
                    "node {node} is {}'s, as {:?}",
                    record.owner.address(),
                    record.registration.role
                ),
            )
        };
    }
    let mut counts = chain_record(fork)?;
    fork.list(Listing::Node(counts.nodes, node));
    counts.nodes += 1;
    fork.put(StateKey::Chain, &counts)?;
    let record = NodeRecord {
        owner,
        registration: registration.clone(),
        height: context.height,
        receipts: 0,
        confirmed: 0,
    };
    fork.put(key, &record)?;
    Ok(vec![Event::NodeRegistered { node, owner }])
}
