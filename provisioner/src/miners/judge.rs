//! Whether a machine that came by a medium is taken in. Its owner said so once; what is left to see is
//! that it is the machine that the token was bound to, and in nobody else's place.

use crate::{
    config::Approval,
    enrol::{self, Admitted, EnrolError, Entry, Holder},
    store::{Came, Enrolled, Known},
};
use protocol::{PublicKey, medium::machine_facts};
use std::collections::BTreeMap;

/// As [`enrol::admit`], for a node that came by a medium; `now` in milliseconds since 1970.
///
/// # Errors
/// Where it is somebody else, elsewhere, or in another's place.
pub fn judge(
    newcomer: &Enrolled,
    known: &[Known],
    came: &Came,
    now: u64,
) -> Result<Admitted, EnrolError> {
    if machine_facts(&newcomer.inventory.system) != came.machine {
        let (node, token) = (newcomer.node.short(), came.token.short());
        return Err(EnrolError::OtherThanBound { node, token });
    }
    let strange = |key: Option<PublicKey>| {
        key.is_some_and(|key| key != newcomer.node && !came.siblings.contains(&key))
    };
    let before = known.iter().find(|known| known.mac == newcomer.mac);
    if let Some(before) = before.filter(|before| strange(before.node) || strange(before.approved)) {
        let holder = Holder { name: before.name.clone(), mac: before.mac };
        return Err(EnrolError::OthersPlace { holder });
    }
    let (rules, taken) = (BTreeMap::new(), BTreeMap::new());
    let entry = Entry { approval: Approval::Automatic, rules: &rules, taken: &taken };
    enrol::admit(newcomer, known, entry, now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Mac;
    use protocol::{
        ChainId, Digest, SecretKey, Signed,
        evidence::Held,
        fleet::MachineState,
        inventory::{Inventory, System},
        node::{Delegation, Ownership},
    };

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed([seed; 32])
    }

    fn system(serial: &str) -> System {
        System { serial: serial.into(), ..System::default() }
    }

    fn newcomer() -> Enrolled {
        Enrolled {
            mac: Mac([2, 0, 0, 0, 0, 1]),
            node: key(3).public(),
            boot_id: Digest([6; 32]),
            release: Digest([5; 32]),
            inventory: Inventory { system: system("A1"), ..Inventory::default() },
            uuid: None,
            address: None,
            held: Held::Memory,
            chip: None,
            evidence: None,
        }
    }

    fn came() -> Came {
        let chain: ChainId = "alia-test".parse().unwrap();
        let delegation = Signed::sign(&chain, Delegation { delegate: key(2).public() }, &key(1));
        Came {
            token: key(2).public(),
            owner: key(1).public().address(),
            machine: machine_facts(&system("A1")),
            ownership: Ownership { delegation, endorsement: None },
            siblings: vec![key(3).public(), key(4).public()],
        }
    }

    fn known(node: Option<u8>, approved: Option<u8>) -> Vec<Known> {
        let public = |seed: Option<u8>| seed.map(|seed| key(seed).public());
        vec![Known {
            mac: newcomer().mac,
            name: "bear".into(),
            uuid: None,
            node: public(node),
            boot_id: None,
            node_seen: 0,
            chip: None,
            resets: 0,
            approved: public(approved),
            state: MachineState::Ready,
            hardware: None,
            approved_hardware: None,
            replayed: false,
        }]
    }

    #[test]
    fn a_machine_that_came_by_a_medium_waits_for_nobody() {
        assert!(judge(&newcomer(), &[], &came(), 1 << 40).is_ok());
        assert!(judge(&newcomer(), &known(Some(3), None), &came(), 1 << 40).is_ok());
    }

    #[test]
    fn it_takes_the_place_of_its_owners_other_node_and_of_nobody_elses() {
        assert!(judge(&newcomer(), &known(Some(4), None), &came(), 1 << 40).is_ok());
        for known in [known(Some(9), None), known(None, Some(9)), known(Some(3), Some(9))] {
            let error = judge(&newcomer(), &known, &came(), 1 << 40).unwrap_err();
            assert!(matches!(error, EnrolError::OthersPlace { .. }), "{error}");
        }
    }

    #[test]
    fn a_node_that_was_copied_to_another_machine_is_refused_there() {
        let mut elsewhere = newcomer();
        elsewhere.inventory.system = system("A2");
        let error = judge(&elsewhere, &[], &came(), 1 << 40).unwrap_err();
        assert!(matches!(error, EnrolError::OtherThanBound { .. }), "{error}");
    }
}
