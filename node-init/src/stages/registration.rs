//! Stage `registration`: the ledger knows the node, so that what it does counts.

use crate::stages::identity::Identity;
use ledger_client::{Client, Standing, SubmitError};
use protocol::{
    Digest, Signed, Transaction,
    boot::NodeConfig,
    node::{NodeRegistration, NodeRole},
};
use std::time::Duration;

/// How long a submitted registration may wait for its block before it is submitted again.
const PATIENCE: Duration = Duration::from_secs(25);

/// The node is not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// The settings name no usable ledger.
    #[error("{0}: mend the provisioner's configuration")]
    Address(#[from] ledger_client::AddressError),
    /// The ledger did not take it.
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

/// The registration that the node signs.
pub fn transaction(
    config: &NodeConfig,
    identity: &Identity,
    inventory: Digest,
    release: Digest,
    evidence: Option<Digest>,
) -> Transaction {
    let registration = NodeRegistration {
        ownership: config.ownership.clone(),
        role: NodeRole::Worker,
        inventory,
        release,
        boot_evidence: evidence,
    };
    Transaction::RegisterNode(Signed::sign(&config.chain, registration, &identity.node))
}

/// Submits it and waits until it stands in a block; that it stands there already is as good.
pub async fn run(
    config: &NodeConfig,
    registration: &Transaction,
) -> Result<String, RegistrationError> {
    let client = Client::new(&config.ledgers)?;
    let submitted = client.submit_and_wait(registration, PATIENCE).await?;
    Ok(match submitted.standing {
        Standing::Already(_) => "stood on the ledger already".to_owned(),
        Standing::Waiting | Standing::Known => {
            format!("in a block, transaction {}", submitted.hash)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kernel::fake::Fake,
        stages::{enrolment::tests::config, identity},
    };

    fn parts() -> (NodeConfig, Identity) {
        let identity = identity::run(&Fake::new(&[]), Digest::default(), true).unwrap();
        (config(identity.node.public()), identity)
    }

    #[test]
    fn the_registration_is_the_nodes_own_and_shows_its_owner() {
        let (config, identity) = parts();
        let made = transaction(&config, &identity, Digest([4; 32]), Digest([3; 32]), None);
        let Transaction::RegisterNode(signed) = made else { panic!("{made:?}") };
        assert_eq!(signed.signer, identity.node.public());
        let body = signed.verify(&config.chain).unwrap();
        assert_eq!(body.role, NodeRole::Worker);
        assert_eq!((body.inventory, body.release), (Digest([4; 32]), Digest([3; 32])));
        assert!(body.ownership.verify(&config.chain, &signed.signer).is_ok());
        assert_eq!(body.boot_evidence, None);
    }

    #[test]
    fn what_a_tpm_vouched_for_is_on_the_ledger_by_its_digest() {
        let (config, identity) = parts();
        let evidence = Some(Digest([5; 32]));
        let made = transaction(&config, &identity, Digest::default(), Digest::default(), evidence);
        let Transaction::RegisterNode(signed) = made else { panic!("{made:?}") };
        assert_eq!(signed.verify(&config.chain).unwrap().boot_evidence, evidence);
    }

    #[tokio::test]
    async fn a_ledger_that_is_away_is_an_error_with_its_address() {
        let (config, identity) = parts();
        let made = transaction(&config, &identity, Digest::default(), Digest::default(), None);
        let error = run(&config, &made).await.unwrap_err().to_string();
        assert!(error.contains("127.0.0.1:1"), "{error}");
    }

    #[tokio::test]
    async fn settings_without_a_ledger_are_said_so() {
        let (mut config, identity) = parts();
        config.ledgers.clear();
        let made = transaction(&config, &identity, Digest::default(), Digest::default(), None);
        let error = run(&config, &made).await.unwrap_err().to_string();
        assert!(error.contains("mend the provisioner's configuration"), "{error}");
    }
}
