//! Nodes: whose they are, and how a node's key comes to belong to an owner's account.
//!
//! owner --[`Delegation`]--> delegate --[`Endorsement`]--> node key. The delegate is an enrolment
//! key that a provisioner or an install medium holds; where the owner names the node's key
//! itself, no endorsement is needed. Either way the owner's signature decides who is paid, and no
//! front-end can redirect it.

use crate::{
    digest::Digest,
    key::PublicKey,
    signed::{ChainId, Signed, SignedBody, SignedError},
};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// The owner lets `delegate` enrol nodes (or be one) in the owner's name. Signed by the owner.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Delegation {
    /// The key that may speak for the owner's account, for this alone.
    pub delegate: PublicKey,
}

impl SignedBody for Delegation {
    const DOMAIN: &'static str = "aliaOS delegation";
    const VERSION: u16 = 1;
}

/// The delegate takes a node's key in. Signed by the delegate.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Endorsement {
    /// The node's identity key.
    pub node: PublicKey,
}

impl SignedBody for Endorsement {
    const DOMAIN: &'static str = "aliaOS endorsement";
    const VERSION: u16 = 1;
}

/// How a node's key hangs on its owner's account.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Ownership {
    /// By the owner.
    pub delegation: Signed<Delegation>,
    /// By the delegate; none where the delegate is the node's key.
    pub endorsement: Option<Signed<Endorsement>>,
}

/// A node's claim to an owner was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OwnershipError {
    /// A signature, version or chain is wrong.
    #[error(transparent)]
    Signed(#[from] SignedError),
    /// The endorsement is by somebody else.
    #[error("the endorsement is by {signer}, but the owner's delegation is to {delegate}")]
    NotTheDelegate {
        /// Who endorsed.
        signer: PublicKey,
        /// Who may.
        delegate: PublicKey,
    },
    /// Neither delegation nor endorsement names this node.
    #[error("delegation and endorsement name {named}, not node {node}")]
    NotThisNode {
        /// Whom they name.
        named: PublicKey,
        /// Who came.
        node: PublicKey,
    },
}

impl Ownership {
    /// Checks the whole chain for `node` and gives the owner.
    pub fn verify(&self, chain: &ChainId, node: &PublicKey) -> Result<PublicKey, OwnershipError> {
        let delegate = self.delegation.verify(chain)?.delegate;
        let named = match &self.endorsement {
            None => delegate,
            Some(endorsement) => {
                let named = endorsement.verify(chain)?.node;
                if endorsement.signer != delegate {
                    return Err(OwnershipError::NotTheDelegate {
                        signer: endorsement.signer,
                        delegate,
                    });
                }
                named
            }
        };
        if named != *node {
            return Err(OwnershipError::NotThisNode { named, node: *node });
        }
        Ok(self.delegation.signer)
    }
}

/// A node enters the ledger. Signed by the node's identity key.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct NodeRegistration {
    /// Whose node it is.
    pub ownership: Ownership,
    /// What the node is for.
    pub role: NodeRole,
    /// The digest of its inventory ([`crate::inventory::Inventory::digest`]).
    pub inventory: Digest,
    /// The image it booted, or of the program where no image did.
    pub release: Digest,
    /// The digest of its measured-boot evidence, once there is any.
    pub boot_evidence: Option<Digest>,
}

impl SignedBody for NodeRegistration {
    const DOMAIN: &'static str = "aliaOS node registration";
    const VERSION: u16 = 1;
}

/// What a node is for.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum NodeRole {
    /// Does batches.
    Worker,
    /// Runs jobs' parameter servers, and does their updates.
    ParameterServer,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SecretKey;

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed([seed; 32])
    }

    fn ownership(node: &SecretKey) -> (ChainId, Ownership) {
        let chain: ChainId = "alia-test".parse().unwrap();
        let delegation = Signed::sign(&chain, Delegation { delegate: key(2).public() }, &key(1));
        let endorsement = Signed::sign(&chain, Endorsement { node: node.public() }, &key(2));
        (chain, Ownership { delegation, endorsement: Some(endorsement) })
    }

    #[test]
    fn an_endorsed_node_belongs_to_the_owner() {
        let (chain, ownership) = ownership(&key(3));
        assert_eq!(ownership.verify(&chain, &key(3).public()), Ok(key(1).public()));
    }

    #[test]
    fn a_stolen_endorsement_does_not_fit_another_node() {
        let (chain, ownership) = ownership(&key(3));
        let error = ownership.verify(&chain, &key(4).public()).unwrap_err();
        assert!(matches!(error, OwnershipError::NotThisNode { .. }));
    }

    #[test]
    fn a_front_end_cannot_endorse_for_an_owner_who_never_delegated_to_it() {
        let (chain, mut ownership) = ownership(&key(3));
        let stranger = Signed::sign(&chain, Endorsement { node: key(3).public() }, &key(9));
        ownership.endorsement = Some(stranger);
        let error = ownership.verify(&chain, &key(3).public()).unwrap_err();
        assert!(matches!(error, OwnershipError::NotTheDelegate { .. }));
    }
}
