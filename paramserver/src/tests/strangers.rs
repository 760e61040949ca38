//! What anybody can send costs no honest worker its assignment.

use super::*;

fn refused(bench: &Bench, message: ResultMessage) -> String {
    match bench.server.accept(message).unwrap() {
        ResultReply::Refused(why) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_old_result_with_a_fresh_assignment_put_in_is_refused_and_the_assignment_stays() {
    let mut bench = Bench::new(1, EVERYTHING);
    let (honest, other) = (identity(10), identity(11));
    bench.hear(&other, 2);
    let mine = bench.pull(&honest, 2).unwrap();
    let others = bench.pull_again(&other.node()).unwrap();
    let old = bench.answer(&other, &others);
    assert_eq!(bench.server.accept(old.clone()).unwrap(), ResultReply::Used);
    // Brought once more as it was, it is answered as it was.
    assert_eq!(bench.server.accept(old.clone()).unwrap(), ResultReply::Used);
    let mut replayed = old;
    replayed.result.assignment = mine.id;
    assert!(refused(&bench, replayed).contains("another assignment"));
    let message = bench.answer(&honest, &mine);
    assert_eq!(bench.server.accept(message).unwrap(), ResultReply::Used);
}

#[test]
fn altered_and_foreign_receipts_are_refused_and_the_assignment_stays() {
    let mut bench = Bench::new(1, EVERYTHING);
    let (honest, stranger) = (identity(10), identity(11));
    let mine = bench.pull(&honest, 2).unwrap();
    let good = bench.answer(&honest, &mine);
    let mut altered = good.clone();
    altered.result.leaves[0].receipt.body.result = Digest::default();
    let mut unsigned = good.clone();
    unsigned.result.leaves[0].receipt.signature = protocol::Signature([0; 64]);
    let foreign = bench.answer(&stranger, &mine);
    // The stranger's work key under the honest node's certificate.
    let mut forged = good.clone();
    for leaf in &mut forged.result.leaves {
        leaf.receipt = stranger.sign_receipt(leaf.receipt.body.clone());
    }
    let mut empty = good.clone();
    empty.result.leaves.truncate(0);
    for message in [altered, unsigned, foreign, forged, empty] {
        refused(&bench, message);
    }
    assert_eq!(bench.server.accept(good).unwrap(), ResultReply::Used);
}

#[test]
fn a_worker_s_own_bad_payload_gives_its_assignment_up() {
    let mut bench = Bench::new(1, EVERYTHING);
    let (liar, honest) = (identity(10), identity(11));
    let assignment = bench.pull(&liar, 4).unwrap();
    let good = bench.answer(&liar, &assignment);
    let mut bad = good.clone();
    bad.payload[0] ^= 1;
    assert!(refused(&bench, bad).contains("damaged on the way"));
    assert!(refused(&bench, good).contains("no such assignment"));
    let again = bench.pull(&honest, 4).unwrap();
    // Which of them depends on how fast each worker seemed.
    assert_eq!((assignment.count, again.attempt), (4, 2));
}
