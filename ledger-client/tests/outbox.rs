//! The outbox against a ledger that fails in every way: none lost, none twice.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use abci_app::testing::World;
use ledger_client::{
    RpcError, Standing, SubmitError, Submitted, TxHash,
    outbox::{Answer, Full, Queue, Report, Settings, Step},
};
use proptest::prelude::*;
use protocol::{BatchPart, ReceiptId, SignedReceipt, refusal::RefusalCode};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Receipts that differ in their attempt alone.
fn receipts(count: u32) -> Vec<SignedReceipt> {
    let world = World::new("outbox-test");
    let run = world.run(0, 1, 1);
    let body = world.receipt_body(0, 0, &run, BatchPart::Micro(0));
    let attempt = |attempt| world.sign(protocol::Receipt { attempt, ..body.clone() });
    (1..=count).map(attempt).collect()
}

fn ids(receipts: &[SignedReceipt]) -> Vec<ReceiptId> {
    receipts.iter().map(|receipt| receipt.body.id()).collect()
}

fn waiting() -> Result<Submitted, SubmitError> {
    Ok(Submitted { hash: TxHash([0; 32]), standing: Standing::Waiting })
}

fn refused(code: RefusalCode, item: Option<u32>) -> Result<Submitted, SubmitError> {
    Err(SubmitError::Refused { code, item, log: "why".into() })
}

fn not_yet(item: u32) -> Result<Submitted, SubmitError> {
    let code = RefusalCode::UnknownAssignment;
    Err(SubmitError::NotYet { code, item: Some(item), log: "why".into() })
}

fn away() -> Result<Submitted, SubmitError> {
    Err(SubmitError::Rpc(RpcError::Away(vec![])))
}

fn filled(receipts: &[SignedReceipt]) -> Queue {
    let mut queue = Queue::new(Settings::default());
    receipts.iter().for_each(|receipt| queue.add(seconds(0), receipt).unwrap());
    queue
}

#[test]
fn receipts_gather_for_a_moment_and_go_together() {
    let receipts = receipts(3);
    let queue = filled(&receipts);
    assert_eq!(queue.step(seconds(0)), Step::Wait(Some(Settings::default().gather)));
    assert_eq!(queue.step(seconds(1)), Step::Submit(receipts));
}

#[test]
fn a_receipt_is_done_when_the_chain_has_it_and_not_when_it_was_taken() {
    let receipts = receipts(1);
    let id = receipts[0].body.id();
    let mut queue = filled(&receipts);
    queue.submitted(seconds(1), &receipts, &waiting());
    assert!(queue.take_reports().is_empty());
    assert_eq!(queue.step(seconds(2)), Step::Ask(id));
    queue.asked(seconds(2), id, Answer::Absent);
    assert_eq!(queue.step(seconds(4)), Step::Ask(id));
    queue.asked(seconds(4), id, Answer::Stands);
    assert_eq!(queue.take_reports(), [Report::Stands(id)]);
    assert_eq!(queue.step(seconds(4)), Step::Wait(None));
}

#[test]
fn a_receipt_that_a_proposer_left_out_is_handed_in_again() {
    let receipts = receipts(1);
    let mut queue = filled(&receipts);
    queue.submitted(seconds(1), &receipts, &waiting());
    queue.asked(seconds(70), receipts[0].body.id(), Answer::Absent);
    assert_eq!(queue.step(seconds(70)), Step::Submit(receipts));
}

#[test]
fn a_receipt_refused_for_good_is_named_and_the_others_go_on() {
    let receipts = receipts(3);
    let mut queue = filled(&receipts);
    queue.submitted(seconds(1), &receipts, &refused(RefusalCode::WrongUnits, Some(1)));
    assert_eq!(queue.take_reports(), [Report::Refused(receipts[1].body.id(), "why".into())]);
    let rest = vec![receipts[0].clone(), receipts[2].clone()];
    assert_eq!(queue.step(seconds(1)), Step::Submit(rest));
}

#[test]
fn a_receipt_that_stands_already_is_looked_for_and_the_others_go_on() {
    let receipts = receipts(2);
    let mut queue = filled(&receipts);
    queue.submitted(seconds(1), &receipts, &refused(RefusalCode::AlreadySubmitted, Some(0)));
    assert_eq!(queue.step(seconds(1)), Step::Ask(receipts[0].body.id()));
    queue.asked(seconds(1), receipts[0].body.id(), Answer::Stands);
    assert_eq!(queue.step(seconds(1)), Step::Submit(receipts[1..].to_vec()));
}

#[test]
fn a_receipt_ahead_of_its_assignment_waits_while_the_others_go_on() {
    let receipts = receipts(2);
    let mut queue = filled(&receipts);
    queue.submitted(seconds(1), &receipts, &not_yet(0));
    assert_eq!(queue.step(seconds(1)), Step::Submit(receipts[1..].to_vec()));
    queue.submitted(seconds(1), &receipts[1..], &waiting());
    queue.asked(seconds(2), receipts[1].body.id(), Answer::Stands);
    assert_eq!(queue.step(seconds(2)), Step::Submit(receipts[..1].to_vec()));
    // An assignment that never comes is given up, with the reason.
    queue.submitted(seconds(2), &receipts[..1], &not_yet(0));
    queue.submitted(seconds(4_000), &receipts[..1], &not_yet(0));
    assert!(matches!(queue.take_reports()[..], [Report::Stands(_), Report::Refused(..)]));
}

#[test]
fn while_no_server_answers_pauses_double_to_their_limit_and_nothing_is_given_up() {
    let receipts = receipts(1);
    let mut queue = filled(&receipts);
    let mut now = seconds(1);
    let mut pauses = Vec::new();
    for _ in 0..10 {
        queue.submitted(now, &receipts, &away());
        let Step::Wait(Some(until)) = queue.step(now) else { panic!("it does not wait") };
        pauses.push((until - now).as_secs());
        now = until;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30, 30, 30]);
    now += seconds(1_000_000);
    assert_eq!(queue.step(now), Step::Submit(receipts));
}

#[test]
fn a_full_outbox_takes_nothing_more_and_says_so() {
    let receipts = receipts(3);
    let mut queue = Queue::new(Settings { capacity: 2, ..Settings::default() });
    queue.add(seconds(0), &receipts[0]).unwrap();
    queue.add(seconds(0), &receipts[1]).unwrap();
    assert_eq!(queue.add(seconds(0), &receipts[2]), Err(Full { capacity: 2 }));
    assert_eq!(queue.add(seconds(0), &receipts[0]), Ok(()), "it is in there");
    assert_eq!(queue.status().waiting, 2);
}

#[test]
fn a_group_refused_without_a_name_is_halved_until_the_one_at_fault_is_found() {
    let receipts = receipts(8);
    let bad = receipts[5].body.id();
    let mut queue = filled(&receipts);
    let mut sent = BTreeSet::new();
    let now = seconds(1);
    while let Step::Submit(group) = queue.step(now) {
        let group_ids = ids(&group);
        if group_ids.contains(&bad) {
            queue.submitted(now, &group, &refused(RefusalCode::ListLength, None));
        } else {
            sent.extend(group_ids);
            queue.submitted(now, &group, &waiting());
        }
    }
    assert_eq!(sent.len(), 7);
    assert!(matches!(queue.take_reports()[..], [Report::Refused(id, _)] if id == bad));
}

/// A ledger in the large: what was taken stands at the next block, unless it is left out.
#[derive(Default)]
struct Ledger {
    chain: BTreeMap<ReceiptId, u32>,
    mempool: Vec<Vec<ReceiptId>>,
}

/// What goes wrong with one call.
#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    Away,
    AnswerLost,
    Busy,
    BlockAfter,
    LeftOut,
    NotYet,
    Refuse,
}

impl Ledger {
    fn block(&mut self) {
        for group in self.mempool.drain(..) {
            // As FinalizeBlock does: the whole transaction or nothing.
            if !group.iter().any(|id| self.chain.contains_key(id)) {
                group.into_iter().for_each(|id| *self.chain.entry(id).or_default() += 1);
            }
        }
    }

    fn check(&mut self, group: Vec<ReceiptId>) -> Result<Submitted, SubmitError> {
        let known = |id: &ReceiptId| {
            self.chain.contains_key(id) || self.mempool.iter().flatten().any(|other| other == id)
        };
        match group.iter().position(known) {
            None => {
                self.mempool.push(group);
                waiting()
            }
            Some(_) if group.iter().all(known) => Ok(Submitted {
                hash: TxHash([0; 32]),
                standing: Standing::Already(RefusalCode::AlreadySubmitted),
            }),
            Some(item) => refused(RefusalCode::AlreadySubmitted, Some(item as u32)),
        }
    }

    fn submit(&mut self, group: &[SignedReceipt], fault: Fault) -> Result<Submitted, SubmitError> {
        match fault {
            Fault::None => self.check(ids(group)),
            Fault::Away => away(),
            Fault::Busy => {
                Err(SubmitError::Busy { server: "a".into(), reason: "it is full".into() })
            }
            Fault::AnswerLost => {
                let _ = self.check(ids(group));
                away()
            }
            Fault::BlockAfter => {
                let outcome = self.check(ids(group));
                self.block();
                outcome
            }
            Fault::LeftOut => waiting(),
            Fault::NotYet => not_yet(group.len() as u32 - 1),
            Fault::Refuse => refused(RefusalCode::WrongUnits, Some(0)),
        }
    }

    fn answer(&self, id: &ReceiptId, fault: Fault) -> Answer {
        match fault {
            Fault::Away | Fault::AnswerLost | Fault::Busy => Answer::Away,
            _ if self.chain.contains_key(id) => Answer::Stands,
            _ => Answer::Absent,
        }
    }
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        4 => Just(Fault::None),
        1 => Just(Fault::Away),
        1 => Just(Fault::AnswerLost),
        1 => Just(Fault::Busy),
        3 => Just(Fault::BlockAfter),
        1 => Just(Fault::LeftOut),
        1 => Just(Fault::NotYet),
        1 => Just(Fault::Refuse),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn whatever_fails_every_receipt_ends_on_the_chain_once_or_is_refused(
        faults in proptest::collection::vec(fault(), 0..120),
        count in 1u32..20,
    ) {
        let receipts = receipts(count);
        let mut queue = filled(&receipts);
        let mut ledger = Ledger::default();
        let mut now = seconds(0);
        let mut reports = Vec::new();
        let mut faults = faults.into_iter();
        for _ in 0..2_000 {
            let mut next = || faults.next().unwrap_or(Fault::None);
            match queue.step(now) {
                Step::Wait(None) => break,
                Step::Wait(Some(until)) => {
                    now = until;
                    ledger.block();
                }
                Step::Submit(group) => {
                    let outcome = ledger.submit(&group, next());
                    queue.submitted(now, &group, &outcome);
                }
                Step::Ask(id) => queue.asked(now, id, ledger.answer(&id, next())),
            }
            reports.extend(queue.take_reports());
        }
        prop_assert_eq!(queue.pending().count(), 0, "something waits for ever");
        prop_assert!(ledger.chain.values().all(|times| *times == 1));
        let mut stood = BTreeSet::new();
        let mut refused = BTreeSet::new();
        for report in reports {
            let new = match report {
                Report::Stands(id) => stood.insert(id),
                Report::Refused(id, _) => refused.insert(id),
            };
            prop_assert!(new, "reported twice");
        }
        prop_assert!(stood.iter().all(|id| ledger.chain.contains_key(id)));
        let ended: BTreeSet<_> = stood.union(&refused).copied().collect();
        prop_assert_eq!(ended, ids(&receipts).into_iter().collect());
    }
}
