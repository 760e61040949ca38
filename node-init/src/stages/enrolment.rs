//! Stage `enrolment`: the provisioner takes the node in and gives it its settings.
//!
//! The network and whoever answers on it are hostile until the answer is found to be signed by
//! the key that the command line pins, for this chain and this node.

use crate::{
    http::{self, HttpError},
    mac::Mac,
    stages::{command_line::Arguments, identity::Identity},
};
use protocol::{
    Digest, PublicKey, Signed,
    boot::{Enrol, NodeConfig},
    evidence::Evidence,
    inventory::Inventory,
    node::OwnershipError,
    signed::SignedError,
};

/// The node is not taken in.
#[derive(Debug, thiserror::Error)]
pub enum EnrolmentError {
    /// No answer, or a refusal with the provisioner's own reason.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The answer is not what it should be.
    #[error(
        "the provisioner's answer cannot be understood ({0}): image and provisioner are of different versions"
    )]
    Unreadable(String),
    /// Somebody else signed.
    #[error(
        "the answer is signed by {signer}, but the boot script names {pinned}: another provisioner answers at this address, or its key was changed; restart the machine if it was"
    )]
    WrongKey {
        /// Who signed.
        signer: PublicKey,
        /// Who should have.
        pinned: PublicKey,
    },
    /// A signature, version or chain is wrong.
    #[error("the provisioner's answer is not valid: {0}")]
    Signed(#[from] SignedError),
    /// Meant for another machine.
    #[error(
        "the provisioner's answer is for node {named}, we are {node}: look at what stands between"
    )]
    NotUs {
        /// For whom it is.
        named: PublicKey,
        /// Who we are.
        node: PublicKey,
    },
    /// Meant for another boot of this machine.
    #[error(
        "the provisioner's answer is for another boot of this node: somebody plays back what was recorded, or two provisioners share a key; look at what stands between"
    )]
    Replayed,
    /// It names another chain within.
    #[error(
        "the settings are for chain {0:?}, not for the boot script's: mend the provisioner's configuration"
    )]
    Chain(String),
    /// Nobody owns the node by it.
    #[error("the settings do not show whose node this is: {0}; mend the provisioner's delegation")]
    Ownership(#[from] OwnershipError),
}

/// Asks to be taken in. `mac` names the machine to the provisioner; `evidence` is what the TPM says.
pub async fn run(
    arguments: &Arguments,
    identity: &Identity,
    mac: Mac,
    inventory: &Inventory,
    evidence: Option<Evidence>,
) -> Result<NodeConfig, EnrolmentError> {
    let enrol = Enrol {
        mac: mac.to_string(),
        boot_id: identity.boot_id,
        release: arguments.release,
        inventory: inventory.clone(),
        held: identity.held,
        evidence,
    };
    let enrol = Signed::sign(&arguments.chain, enrol, &identity.node);
    let body = serde_json::to_vec(&enrol)
        .map_err(|error| EnrolmentError::Unreadable(error.to_string()))?;
    let path = format!("/v1/machines/{mac}/enrol");
    let answer = http::post(&arguments.provisioner, &path, body).await?;
    check(&answer, arguments, &identity.node.public(), identity.boot_id)
}

/// Reads an answer and believes it only if it is the pinned provisioner's, for us in this boot.
pub fn check(
    answer: &[u8],
    arguments: &Arguments,
    node: &PublicKey,
    boot_id: Digest,
) -> Result<NodeConfig, EnrolmentError> {
    let answer: Signed<NodeConfig> = serde_json::from_slice(answer)
        .map_err(|error| EnrolmentError::Unreadable(error.to_string()))?;
    if answer.signer != arguments.key {
        return Err(EnrolmentError::WrongKey { signer: answer.signer, pinned: arguments.key });
    }
    let config = answer.verify(&arguments.chain)?;
    if config.node != *node {
        return Err(EnrolmentError::NotUs { named: config.node, node: *node });
    }
    if config.boot_id != boot_id {
        return Err(EnrolmentError::Replayed);
    }
    if config.chain != arguments.chain {
        return Err(EnrolmentError::Chain(config.chain.to_string()));
    }
    config.ownership.verify(&arguments.chain, node)?;
    Ok(answer.body)
}

/// For people: `node 1a2b3c4d is "bear", owned by alia1...`.
pub fn detail(config: &NodeConfig) -> String {
    let owner = config.ownership.delegation.signer.address();
    let name: String = config.name.chars().filter(|c| !c.is_control()).take(64).collect();
    format!("node {} is {name}, owned by {owner}", config.node.short())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use protocol::{
        ChainId, SecretKey,
        node::{Delegation, Endorsement, Ownership},
    };

    /// The boot that the settings below are for.
    pub(crate) const BOOT: Digest = Digest([5; 32]);

    pub(crate) fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed([seed; 32])
    }

    fn chain() -> ChainId {
        "alia-test".parse().unwrap()
    }

    pub(crate) fn arguments(provisioner: &str) -> Arguments {
        Arguments {
            provisioner: provisioner.parse().unwrap(),
            key: key(1).public(),
            chain: chain(),
            release: Digest([3; 32]),
            boot_nic: None,
            network: None,
        }
    }

    /// Settings for a node, as provisioner 1 of owner 2 makes them.
    pub(crate) fn config(node: PublicKey) -> NodeConfig {
        let delegation = Signed::sign(&chain(), Delegation { delegate: key(1).public() }, &key(2));
        let endorsement = Signed::sign(&chain(), Endorsement { node }, &key(1));
        NodeConfig {
            node,
            boot_id: BOOT,
            name: "bear".into(),
            chain: chain(),
            ledgers: vec!["http://127.0.0.1:1".into()],
            parameter_servers: vec!["http://127.0.0.1:2".into()],
            ownership: Ownership { delegation, endorsement: Some(endorsement) },
            unix_time: 2_000_000_000,
            operators: vec![],
            network: None,
            time_servers: Vec::new(),
            scratch: Default::default(),
        }
    }

    fn answer(config: NodeConfig, by: &SecretKey) -> Vec<u8> {
        serde_json::to_vec(&Signed::sign(&chain(), config, by)).unwrap()
    }

    fn checked(answer: &[u8]) -> Result<NodeConfig, EnrolmentError> {
        check(answer, &arguments("http://127.0.0.1:1"), &key(9).public(), BOOT)
    }

    #[test]
    fn the_pinned_provisioners_answer_for_us_is_taken() {
        let taken = checked(&answer(config(key(9).public()), &key(1))).unwrap();
        assert_eq!(taken, config(key(9).public()));
        assert!(detail(&taken).contains("is bear, owned by alia1"), "{}", detail(&taken));
    }

    #[test]
    fn an_answer_signed_by_another_key_is_refused_and_both_keys_are_named() {
        let error = checked(&answer(config(key(9).public()), &key(8))).unwrap_err();
        assert!(matches!(error, EnrolmentError::WrongKey { .. }));
        let error = error.to_string();
        assert!(error.contains(&key(8).public().to_string()), "{error}");
        assert!(error.contains(&key(1).public().to_string()), "{error}");
    }

    #[test]
    fn an_altered_answer_is_refused() {
        let text = String::from_utf8(answer(config(key(9).public()), &key(1))).unwrap();
        let altered = text.replace("http://127.0.0.1:2", "http://127.0.0.1:3");
        assert_ne!(text, altered);
        assert!(matches!(checked(altered.as_bytes()), Err(EnrolmentError::Signed(_))));
    }

    #[test]
    fn another_machines_answer_is_refused() {
        let other = answer(config(key(7).public()), &key(1));
        assert!(matches!(checked(&other), Err(EnrolmentError::NotUs { .. })));
    }

    #[test]
    fn settings_that_were_recorded_in_another_boot_are_refused() {
        let recorded = NodeConfig { boot_id: Digest([6; 32]), ..config(key(9).public()) };
        let error = checked(&answer(recorded, &key(1))).unwrap_err();
        assert!(matches!(error, EnrolmentError::Replayed), "{error}");
    }

    #[test]
    fn settings_that_belong_to_nobody_are_refused() {
        let mut stolen = config(key(9).public());
        stolen.ownership = config(key(7).public()).ownership;
        assert!(matches!(checked(&answer(stolen, &key(1))), Err(EnrolmentError::Ownership(_))));
    }

    #[test]
    fn settings_for_another_chain_are_refused() {
        let mut other = config(key(9).public());
        other.chain = "alia-other".parse().unwrap();
        assert!(matches!(checked(&answer(other, &key(1))), Err(EnrolmentError::Chain(_))));
        let other = Signed::sign(&"alia-other".parse().unwrap(), config(key(9).public()), &key(1));
        let other = serde_json::to_vec(&other).unwrap();
        assert!(matches!(checked(&other), Err(EnrolmentError::Signed(_))));
    }

    proptest! {
        #[test]
        fn no_answer_panics_and_none_but_the_right_one_is_taken(
            bytes: Vec<u8>, at in 0usize..4000, byte: u8,
        ) {
            prop_assert!(checked(&bytes).is_err());
            let right = answer(config(key(9).public()), &key(1));
            let mut altered = right.clone();
            let at = at % altered.len();
            altered[at] = byte;
            if let Ok(taken) = checked(&altered) {
                prop_assert_eq!(taken, config(key(9).public()));
            }
        }
    }
}
