//! Databases of every schema that there was, opened by the program of today.

use super::{
    Place, Store, places,
    schema::{KNOWN, at_version, upgrade_text},
};
use crate::{access::Token, machine::Mac};
use protocol::{
    Digest, PublicKey,
    fleet::{MachineDetail, MachineState},
};
use std::{collections::BTreeMap, net::Ipv4Addr, path::PathBuf};

const FIRST: Mac = Mac([0x52, 0x54, 0, 0xaa, 0, 1]);
const SECOND: Mac = Mac([0x52, 0x54, 0, 0xaa, 0, 2]);
/// The upgrades that were released, by their digests.
const RELEASED: [&str; 7] =
    ["513861ae", "9bde7331", "500ac3ba", "f1d5f671", "b76e3a9a", "378164ed", "eb44ce8f"];
const NOW: u64 = 1_700_000_700_000;

/// The rows that came with a version.
fn rows(version: i64) -> Option<String> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/schemas");
    std::fs::read_to_string(folder.join(format!("{version}.sql"))).ok()
}

fn node(n: u8) -> PublicKey {
    protocol::SecretKey::from_seed([n; 32]).public()
}

fn detail(store: &Store, mac: Mac) -> MachineDetail {
    store.machine(mac, NOW).unwrap().unwrap()
}

/// All that the rows up to a version said is still said.
fn says(store: &Store, version: i64) {
    let first = detail(store, FIRST);
    let machine = &first.machine;
    assert_eq!((machine.name.as_str(), machine.address.as_deref()), ("rack-1", Some("10.0.0.5")));
    assert_eq!(machine.serial.as_deref(), Some("SN-1"));
    assert_eq!((machine.node, machine.release), (Some(node(1)), Some(Digest([2; 32]))));
    assert_eq!((machine.first_seen, machine.last_seen), (1_700_000_000_000, 1_700_000_600_000));
    assert_eq!(first.inventory.as_ref().unwrap().cpu.threads, 8);
    assert_eq!(machine.boot.as_ref().unwrap().stages[0].detail, "10.0.0.5");
    let told: Vec<&str> = first.timeline.iter().map(|event| event.text.as_str()).collect();
    assert_eq!(told, ["taken in", "DISCOVER"], "newest first");
    let second = detail(store, SECOND);
    assert_eq!(second.machine.problem.as_deref(), Some("its iPXE is for i386"));
    assert_eq!(second.timeline.len(), 1);

    let facts = |mac, wanted| {
        store.leases(|leases| leases.facts(mac, wanted, None, &|_| false, NOW / 1000)).unwrap()
    };
    assert_eq!(facts(FIRST, None).lease.unwrap().address, Ipv4Addr::new(10, 0, 0, 5));
    for taken in [Ipv4Addr::new(10, 0, 0, 5), Ipv4Addr::new(10, 0, 0, 6)] {
        assert!(facts(SECOND, Some(taken)).wanted_is_taken, "{taken}");
    }
    let standing = store.standing(FIRST, &node(1), &Digest([1; 32])).unwrap();
    assert_eq!(standing, super::Standing::Good);

    // What was taken in before there were states stands.
    assert_eq!(machine.life.state, MachineState::Ready);
    let state = if version >= 4 { MachineState::Pending } else { MachineState::Discovered };
    assert_eq!(second.machine.life.state, state);
    if version >= 2 {
        assert_eq!((machine.held.as_deref(), machine.chip), (Some("tpm"), Some(Digest([3; 32]))));
        assert_eq!(second.machine.pending, Some(node(2)));
    }
    if version >= 3 {
        assert_eq!(first.crashes[0].reason, "Oops");
        // Asked for again, the boot that was counted is the third still.
        let (image, time) = (Digest([2; 32]), super::Sign::Time(Digest([5; 32]), true));
        assert_eq!(store.count_attempt(SECOND, &image, time, None, NOW).unwrap(), 3);
    }
    if version >= 5 {
        assert_eq!(store.operators().unwrap(), [("anna".into(), 1_700_000_000_000)]);
    }
    if version >= 6 {
        assert!(store.is_revoked(&node(2)).unwrap());
    }
    if version >= 7 {
        let figures = store.figures(None, NOW / 1000).unwrap();
        assert_eq!(figures.leases6, [("held", 1), ("expired", 0), ("declined", 1)]);
    }
}

/// It is written to as any other.
fn works(store: &Store) {
    let token = Token::generate().unwrap();
    store.add_operator("new", &token.digest(), NOW).unwrap();
    assert_eq!(store.operator(&token.digest()).unwrap().as_deref(), Some("new"));
    let boots = crate::timeline::Sighting { boots: true, ..Default::default() };
    let record = crate::timeline::Record::new(FIRST, crate::timeline::Kind::Dhcp, "boots again");
    assert_eq!(store.record(&[record.sighting(boots)]).unwrap().len(), 1);
    assert_eq!(detail(store, FIRST).timeline[0].text, "boots again");
}

#[test]
fn a_database_of_every_earlier_schema_is_opened_and_says_what_it_said() {
    let folder = tempfile::tempdir().unwrap();
    for version in 1..=KNOWN {
        let place: Place = places::fresh(folder.path()).parse().unwrap();
        at_version(&place, version, rows).unwrap();
        for again in [false, true] {
            let store = Store::open(&place, BTreeMap::new()).unwrap();
            if !again {
                says(&store, version);
                works(&store);
            }
        }
    }
}

#[test]
fn an_upgrade_that_was_released_never_changes() {
    // Who has to change one makes another one after it.
    let digest = |version| Digest::of_bytes(upgrade_text(version).as_bytes()).short();
    let found: Vec<String> = (1..).take(RELEASED.len()).map(digest).collect();
    assert_eq!(found, RELEASED);
    for version in (1..).take(RELEASED.len()) {
        assert!(rows(version).is_some(), "tests/schemas/{version}.sql");
    }
}
