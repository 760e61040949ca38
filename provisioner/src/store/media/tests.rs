use super::*;
use crate::store::temporary;
use protocol::{
    ChainId, SecretKey, Signed,
    medium::{Claim, Record, check_claim},
};

const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
/// Milliseconds since 1970.
const NOW: u64 = 1_000_000;

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

fn chain() -> ChainId {
    "alia-test".parse().unwrap()
}

/// A medium of an owner, to be used within 100 s.
fn record(owner: u8, token: u8) -> Record {
    let grant = Grant {
        token: key(token).public(),
        provisioner: key(9).public(),
        issued: NOW / 1_000,
        expires: NOW / 1_000 + 100,
    };
    Record { token: key(token), granted: Granted::sign(&chain(), grant, &key(owner)) }
}

fn claimed(record: &Record, node: u8, machine: u8) -> Claimed {
    let boot = (MAC.to_string(), Digest([1; 32]));
    let claim: Signed<Claim> =
        Claim::sign(&chain(), record, &key(node), Digest([machine; 32]), boot);
    check_claim(&claim, &chain(), &key(9).public()).unwrap()
}

fn state(store: &Store, token: u8, now: u64) -> Option<TokenState> {
    store.medium(&key(token).public(), now).unwrap().map(|status| status.state)
}

#[test]
fn a_token_binds_to_the_first_node_and_machine_that_show_it() {
    let (_folder, store) = temporary();
    let record = record(1, 20);
    let bind = |node, machine| store.bind_medium(&claimed(&record, node, machine), MAC, NOW);
    assert_eq!(bind(30, 1).unwrap(), Bound::Unknown, "a stranger's own signatures alone do not do");
    assert_eq!(store.register_medium(&record.granted, NOW).unwrap(), Registered::Made);
    assert_eq!(store.register_medium(&record.granted, NOW).unwrap(), Registered::Before);
    assert_eq!(state(&store, 20, NOW), Some(TokenState::Issued));
    assert_eq!(bind(30, 1).unwrap(), Bound::First);
    assert_eq!(bind(30, 1).unwrap(), Bound::Again);
    assert_eq!(bind(30, 2).unwrap(), Bound::OtherMachine);
    let other = Bound::OtherNode { node: key(30).public(), mac: MAC.to_string() };
    assert_eq!(bind(31, 1).unwrap(), other);
    let later = NOW + 1_000_000_000;
    assert_eq!(state(&store, 20, later), Some(TokenState::Bound), "what is used never ends");
    let came = store.came_by(&key(30).public()).unwrap().unwrap();
    assert_eq!((came.owner, came.machine), (key(1).public().address(), Digest([1; 32])));
    assert_eq!(came.siblings, [key(30).public()]);
    let owner = came.ownership.verify(&chain(), &key(30).public());
    assert_eq!(owner, Ok(key(1).public()));
    assert!(store.came_by(&key(31).public()).unwrap().is_none());
}

#[test]
fn a_token_that_is_not_used_in_time_is_worth_nothing_and_makes_room() {
    let (_folder, store) = temporary();
    let record = record(1, 20);
    store.register_medium(&record.granted, NOW).unwrap();
    let over = NOW + 100_000;
    assert_eq!(state(&store, 20, over), Some(TokenState::Expired));
    assert_eq!(store.bind_medium(&claimed(&record, 30, 1), MAC, over).unwrap(), Bound::Expired);
    // A new one of any owner sweeps what is long over.
    let later = over + limits::REMEMBERED_SECONDS * 1_000;
    store.register_medium(&self::record(2, 21).granted, later).unwrap();
    assert_eq!(state(&store, 20, later), None);
}

#[test]
fn a_token_that_was_taken_back_is_worth_nothing_nor_is_its_node() {
    let (_folder, store) = temporary();
    let (used, unused) = (record(1, 20), record(1, 21));
    for record in [&used, &unused] {
        store.register_medium(&record.granted, NOW).unwrap();
    }
    store.bind_medium(&claimed(&used, 30, 1), MAC, NOW).unwrap();
    let withdraw = |token: u8| store.withdraw_medium(&key(token).public(), NOW).unwrap();
    assert_eq!(withdraw(20), Withdrawn::Done(Some(key(30).public())));
    assert_eq!(withdraw(20), Withdrawn::Done(Some(key(30).public())), "twice is once");
    assert_eq!(withdraw(21), Withdrawn::Done(None));
    assert_eq!(withdraw(22), Withdrawn::Unknown);
    assert!(store.is_revoked(&key(30).public()).unwrap());
    assert!(store.came_by(&key(30).public()).unwrap().is_none());
    for record in [&used, &unused] {
        assert_eq!(store.bind_medium(&claimed(record, 30, 1), MAC, NOW).unwrap(), Bound::Revoked);
        assert_eq!(store.register_medium(&record.granted, NOW).unwrap(), Registered::Taken);
    }
    let count = Count { issued: 0, bound: 0, revoked: 2 };
    assert_eq!(store.count_media().unwrap(), count);
}

#[test]
fn an_owner_may_give_his_node_another_medium_and_nobody_elses() {
    let (_folder, store) = temporary();
    let media = [record(1, 20), record(1, 21), record(2, 22)];
    for record in &media {
        store.register_medium(&record.granted, NOW).unwrap();
    }
    let bind = |at: usize| store.bind_medium(&claimed(&media[at], 30, 1), MAC, NOW).unwrap();
    assert_eq!(bind(0), Bound::First);
    assert_eq!(bind(2), Bound::OtherOwner(key(1).public().address()));
    assert_eq!(bind(1), Bound::First);
    assert_eq!(bind(0), Bound::Revoked);
    assert!(!store.is_revoked(&key(30).public()).unwrap(), "the node goes on");
    assert_eq!(store.came_by(&key(30).public()).unwrap().unwrap().token, key(21).public());
}

#[test]
fn other_signatures_for_the_same_token_are_not_taken() {
    let (_folder, store) = temporary();
    let (owner, thief) = (record(1, 20), record(2, 20));
    store.register_medium(&owner.granted, NOW).unwrap();
    assert_eq!(store.register_medium(&thief.granted, NOW).unwrap(), Registered::Taken);
    assert_eq!(store.bind_medium(&claimed(&thief, 30, 1), MAC, NOW).unwrap(), Bound::Otherwise);
}

#[test]
fn what_an_owner_can_fill_is_bounded() {
    let (_folder, store) = temporary();
    let many = |from: u8| (from..).map(|token| record(1, token).granted);
    let most = limits::MOST_WAITING as usize;
    for granted in many(20).take(most) {
        assert_eq!(store.register_medium(&granted, NOW).unwrap(), Registered::Made);
    }
    let one_more = record(1, 200).granted;
    assert_eq!(store.register_medium(&one_more, NOW).unwrap(), Registered::Waiting);
    let other = record(2, 201).granted;
    assert_eq!(store.register_medium(&other, NOW).unwrap(), Registered::Made);
    // What waits no more counts among all of the owner's.
    for token in 20..20 + limits::MOST_OF_OWNER as u8 {
        store.register_medium(&record(1, token).granted, NOW).unwrap();
        store.withdraw_medium(&key(token).public(), NOW).unwrap();
    }
    assert_eq!(store.register_medium(&one_more, NOW).unwrap(), Registered::Owner);
    let listed = store.media_of(&key(1).public().address(), NOW).unwrap();
    assert_eq!(listed.len() as u64, limits::MOST_OF_OWNER);
}
