//! Databases of every schema that there was, opened by the program of today.

use super::{
    Asked, Place, Store, places,
    schema::{KNOWN, at_version, upgrade_text},
    sql::values,
};
use crate::{access::Token, groups::change, machine::Mac};
use protocol::{
    Digest, PublicKey,
    fleet::{MachineDetail, MachineState},
};
use std::{collections::BTreeMap, net::Ipv4Addr, path::PathBuf};

const FIRST: Mac = Mac([0x52, 0x54, 0, 0xaa, 0, 1]);
const SECOND: Mac = Mac([0x52, 0x54, 0, 0xaa, 0, 2]);
/// The upgrades that were released, by their digests.
const RELEASED: [&str; 11] = [
    "513861ae", "9bde7331", "500ac3ba", "f1d5f671", "b76e3a9a", "378164ed", "eb44ce8f", "746a87ed",
    "d4644367", "03342939", "6e1a56bb",
];
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
    if version >= 8 {
        let ask = |key: &str, n| store.ask("anna", key, &Digest([n; 32]), NOW).unwrap();
        let done = "{\"state\":\"ready\",\"since\":1700000500000}";
        assert_eq!(ask("done", 5), Asked::Answered(200, done.into()));
        assert_eq!((ask("done", 6), ask("begun", 6)), (Asked::Another, Asked::AtWork));
        let whose = store.session(&Digest([7; 32]), NOW).unwrap();
        assert_eq!(whose.as_deref(), Some("anna"));
    }
    if version >= 9 {
        configured(store);
    }
    if version >= 10 {
        let came = store.came_by(&node(1)).unwrap().unwrap();
        assert_eq!((came.token, came.machine), (node(3), Digest([9; 32])));
        assert_eq!(came.ownership.delegation.signer, node(5));
        assert!(came.ownership.verify(&"alia-test".parse().unwrap(), &node(1)).is_ok());
        let status = store.medium(&node(3), NOW).unwrap().unwrap();
        assert_eq!((status.state.as_str(), status.expires), ("bound", 1_702_000_000));
    }
    if version >= 11 {
        let asked = super::Lines { search: Some("TIMEOUT".into()), most: 10, ..Default::default() };
        let page = store.console(FIRST, &asked).unwrap();
        assert_eq!((page.gone, page.boots[0].lines, page.lines.len()), (17, 3, 1));
        assert_eq!((page.lines[0].missing, page.lines[0].level), (4, Some(3)));
        let read = machine.readings.as_ref().unwrap();
        assert_eq!((read.at, read.said.cards[0].millidegrees), (1_700_000_600_000, Some(50_000)));
        assert_eq!(store.power(1_700_000_600_000).unwrap(), (90_000, 1));
    }
}

/// What is configured is read, and compared, as it was written.
fn configured(store: &Store) {
    let (revision, document) = store.configuration().unwrap();
    assert_eq!((revision, document.rule["new"].limit), (2, Some(20)));
    assert_eq!(document.machine[&FIRST.to_string()].groups, ["rack-7"]);
    let old = store.configuration_at(1).unwrap().unwrap();
    let changed = change::between(&change::json(&old), &change::json(&document));
    assert!(changed.iter().any(|one| one.to_string() == "~ group.rack-7.window: 2 -> 4"));
    let history = store.configuration_history(None, 10).unwrap();
    assert_eq!((history.dropped, history.revisions[1].why.as_str()), (0, "the new rack"));
    let (mark, placed) = store.configuration_of(SECOND).unwrap();
    assert_eq!((mark.placed, placed.unwrap().group.as_deref()), (3, Some("rack-7")));
    let site = store.site().unwrap();
    assert_eq!((site.key, site.flavours), (Some(node(8)), vec!["gpu".to_owned()]));
    assert_eq!(detail(store, SECOND).changes, ["processor: Acme 1 -> Acme 2"]);
    // What was taken in is a recording where it comes once more.
    let boots = "SELECT count(*) FROM boots WHERE mac = ?1";
    let row = store.read(|sql| sql.first(boots, values![FIRST.to_string()])).unwrap();
    assert_eq!(row.unwrap().get::<u64>(0).unwrap(), 2);
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
