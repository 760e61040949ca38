//! The state: proofs, pruning, restarts, and what CometBFT may ask twice.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail by panicking")]

mod harness;

use abci_app::{
    query::{BAD_QUERY, NO_SUCH_HEIGHT},
    state::RETAINED_HEIGHTS,
    testing::{World, key},
};
use harness::{TestChain, bytes};
use prost_of_ics23::Message;
use protocol::{
    BatchPart, Digest, ReceiptId, Transaction,
    listing::{JobLine, NodeLine, Page, ReceiptLine},
    node::NodeRole,
    state::StateKey,
};
use std::panic::{AssertUnwindSafe, catch_unwind};

fn world() -> World {
    World::new("state-test")
}

/// Every kind of record, after a job's life.
fn lived() -> (TestChain, World, Vec<StateKey>) {
    let world = world();
    let chain = TestChain::new(&world.chain);
    chain.accept(&world.opening());
    let run = world.run(0, 4, 1);
    chain.accept(&[world.assign(0, 0, vec![run])]);
    let receipts: Vec<_> =
        (0..4).map(|index| world.receipt(0, 0, &run, BatchPart::Micro(index))).collect();
    chain.accept(&[Transaction::SubmitReceipts(receipts.clone())]);
    let confirmations = receipts.iter().map(|receipt| world.confirmation(receipt)).collect();
    chain.accept(&[world.confirm(confirmations)]);
    let mut keys = vec![
        StateKey::Chain,
        StateKey::Node(world.server.public()),
        StateKey::Node(world.worker.public()),
        StateKey::Job(world.job()),
        StateKey::Shapes(world.job()),
        StateKey::Assignment(receipts[0].body.assignment),
    ];
    for receipt in &receipts {
        keys.push(StateKey::Receipt(receipt.body.id()));
        keys.push(StateKey::Batch(receipt.body.batch));
    }
    (chain, world, keys)
}

/// Asks for a record with its proof, and checks the proof against `root` with the ics23 library.
fn proven(chain: &TestChain, key: &StateKey, height: u64, root: &[u8]) -> Option<Vec<u8>> {
    let answer = chain.query(&key.path(), height, true);
    assert_eq!((answer.code, answer.height), (0, height as i64), "{}", answer.log);
    let op = &answer.proof_ops.unwrap().ops[0];
    let proof = ics23::CommitmentProof::decode(op.data.as_slice()).unwrap();
    let (spec, root, path) = (jmt::ics23_spec(), root.to_vec(), key.path().into_bytes());
    let value = answer.value.to_vec();
    if value.is_empty() {
        assert!(ics23::verify_non_membership::<ics23::HostFunctionsManager>(
            &proof, &spec, &root, &path
        ));
        None
    } else {
        assert!(ics23::verify_membership::<ics23::HostFunctionsManager>(
            &proof, &spec, &root, &path, &value
        ));
        Some(value)
    }
}

#[test]
fn every_record_is_provable_against_the_app_hash() {
    let (chain, _, keys) = lived();
    let (height, root) = (chain.height(), chain.app_hash());
    for key in keys {
        assert!(proven(&chain, &key, height, &root).is_some(), "{}", key.path());
    }
}

#[test]
fn absence_is_provable_wherever_in_the_tree_a_key_would_stand() {
    let (chain, _, _) = lived();
    let (height, root) = (chain.height(), chain.app_hash());
    for index in 0..500u32 {
        let key = StateKey::Receipt(ReceiptId(Digest::of("aliaOS test absent", &index)));
        assert_eq!(proven(&chain, &key, height, &root), None);
    }
}

#[test]
fn a_proof_holds_at_its_own_height_alone() {
    let (chain, world, _) = lived();
    let counts = StateKey::Chain;
    let before = chain.height();
    let old_root = chain.app_hash();
    let old = proven(&chain, &counts, before, &old_root);
    chain.accept(&[world.register(&key(90), NodeRole::Worker)]);
    let new_root = chain.app_hash();
    assert_ne!(old_root, new_root);
    assert_eq!(proven(&chain, &counts, before, &old_root), old, "the old height is still proven");
    assert_ne!(proven(&chain, &counts, chain.height(), &new_root), old);
    let mixed = catch_unwind(AssertUnwindSafe(|| proven(&chain, &counts, before, &new_root)));
    assert!(mixed.is_err(), "an old proof fits the new root");
}

#[test]
fn the_app_hash_of_a_fixed_history_never_changes() {
    let world = world();
    let chain = TestChain::new(&world.chain);
    chain.accept(&world.opening());
    chain.accept(&[world.assign(0, 0, vec![world.run(0, 4, 1), world.update_run()])]);
    assert_eq!(
        hex(&chain.app_hash()),
        "c9930d4877cde8e3fc45761cf9a44fa18b09c0a6c0d32c3acbddd36a76c35ca5",
        "validators of two versions would part ways"
    );
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn blocks_without_change_keep_the_app_hash_and_add_no_row_but_their_height() {
    let (chain, _, _) = lived();
    let (root, rows) = (chain.app_hash(), chain.rows());
    for _ in 0..3 {
        chain.block(&[]);
    }
    assert_eq!(chain.app_hash(), root);
    assert_eq!(chain.rows(), (rows.0, rows.1, rows.2 + 3));
    assert!(proven(&chain, &StateKey::Chain, chain.height(), &root).is_some());
}

#[test]
fn initchain_may_come_again_before_the_first_commit_and_not_after() {
    let world = world();
    let chain = TestChain::new(&world.chain);
    let first = chain.init(&world.chain);
    assert_eq!(chain.init(&world.chain), first);
    // A crash after a finalized, uncommitted first block.
    let (app_hash, _) = chain.finalize(&[bytes(&world.opening()[0])]);
    let chain = chain.restart();
    assert!(chain.app_hash().is_empty());
    assert_eq!(chain.init(&world.chain), first);
    assert_eq!(chain.finalize(&[bytes(&world.opening()[0])]).0, app_hash);
    chain.block(&[bytes(&world.opening()[0])]);
    assert_eq!(chain.app_hash(), app_hash);
    let stopped = stops(|| drop(chain.init(&world.chain)));
    assert!(stopped.contains("height 1"), "{stopped}");
}

/// What the application stops with.
fn stops(act: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(act)).expect_err("it went on");
    panic.downcast_ref::<String>().expect("a panic with text").clone()
}

#[test]
fn a_block_finalized_and_not_committed_is_as_if_it_never_was() {
    let (chain, world, keys) = lived();
    let (height, root) = (chain.height(), chain.app_hash());
    let tx = bytes(&world.register(&key(91), NodeRole::Worker));
    let (would_be, _) = chain.finalize(std::slice::from_ref(&tx));
    assert_eq!(chain.finalize(std::slice::from_ref(&tx)).0, would_be, "asked again, the same");
    let chain = chain.restart();
    assert_eq!((chain.height(), chain.app_hash()), (height, root.clone()));
    for key in keys {
        assert!(proven(&chain, &key, height, &root).is_some());
    }
    assert_eq!(chain.block(&[tx]).0, would_be);
}

#[test]
fn a_block_of_another_height_and_a_commit_of_nothing_stop_the_ledger_naming_both() {
    let (chain, _, _) = lived();
    let next = chain.height() + 1;
    let stopped = stops(|| {
        chain.finalize_at(next + 5);
    });
    assert!(stopped.contains(&format!("block {}", next + 5)), "{stopped}");
    assert!(stopped.contains(&format!("block {next}")), "{stopped}");
    let (chain, _, _) = lived();
    let stopped = stops(|| {
        tendermint_abci::Application::commit(&chain.ledger);
    });
    assert!(stopped.contains("Commit"), "{stopped}");
}

#[test]
fn old_heights_are_forgotten_new_ones_stay_provable_and_the_tables_stop_growing() {
    let world = world();
    let chain = TestChain::new(&world.chain);
    let mut roots = vec![vec![]];
    let mut sizes = Vec::new();
    for index in 0..RETAINED_HEIGHTS as u32 + 200 {
        let txs: Vec<_> = if index == 0 {
            world.opening().iter().map(bytes).collect()
        } else {
            // One more attempt at one of five batches.
            let (batch, attempt) = (index / 256, index % 256 + 1);
            let run = world.run(batch % 4, 1, attempt);
            vec![bytes(&world.assign(batch / 4, 0, vec![run]))]
        };
        let (root, results) = chain.block(&txs);
        assert!(results.iter().all(|result| result.code == 0), "{results:?}");
        roots.push(root);
        sizes.push(chain.rows());
    }
    let newest = chain.height();
    let oldest = newest + 1 - RETAINED_HEIGHTS;
    for height in [oldest, oldest + 1, oldest + RETAINED_HEIGHTS / 2, newest] {
        assert!(proven(&chain, &StateKey::Chain, height, &roots[height as usize]).is_some());
    }
    for height in [oldest - 1, 1, newest + 1] {
        let answer = chain.query("chain", height, true);
        assert_eq!(answer.code, NO_SUCH_HEIGHT);
        assert!(answer.log.contains(&format!("{oldest} to {newest}")), "{}", answer.log);
    }
    let (nodes, values, heights) = sizes[sizes.len() - 1];
    assert_eq!(heights, RETAINED_HEIGHTS);
    // Each block adds an assignment for good; everything else it wrote takes an older one's place.
    let (nodes_before, values_before, _) = sizes[sizes.len() - 101];
    assert!(nodes - nodes_before < 100 * 6, "{nodes_before} to {nodes} nodes in 100 blocks");
    assert!(values - values_before <= 100 * 2, "{values_before} to {values} values");
}

#[test]
fn listings_page_through_everything_once() {
    let (chain, world, _) = lived();
    let nodes: Page<NodeLine> = list(&chain, "list/nodes?limit=1");
    assert_eq!((nodes.lines[0].node, nodes.next), (world.server.public(), Some(0)));
    let nodes: Page<NodeLine> = list(&chain, "list/nodes?limit=1&after=0");
    assert_eq!((nodes.lines[0].node, nodes.next), (world.worker.public(), None));
    let jobs: Page<JobLine> = list(&chain, "list/jobs");
    assert_eq!((jobs.lines.len(), jobs.lines[0].job, jobs.lines[0].receipts), (1, world.job(), 4));
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let path = format!("list/receipts?job={}&limit=3{after}", world.job());
        let page: Page<ReceiptLine> = list(&chain, &path);
        seen.extend(page.lines.iter().map(|line| (line.part, line.first)));
        let Some(next) = page.next else { break };
        after = format!("&after={next}");
    }
    let wanted: Vec<_> = (0..4).map(|index| (BatchPart::Micro(index), true)).collect();
    assert_eq!(seen, wanted);
}

fn list<T: serde::de::DeserializeOwned>(chain: &TestChain, path: &str) -> T {
    let answer = chain.query(path, 0, false);
    assert_eq!(answer.code, 0, "{}", answer.log);
    serde_json::from_slice(&answer.value).unwrap()
}

#[test]
fn questions_that_make_no_sense_are_refused_with_a_reason() {
    let (chain, _, _) = lived();
    for (path, prove) in [
        ("", false),
        ("nonsense", false),
        ("list/", false),
        ("list/receipts", false),
        ("list/nodes?limit=100000", false),
        ("list/nodes", true),
        (&"x".repeat(5_000), false),
    ] {
        let answer = chain.query(path, 0, prove);
        assert_eq!(answer.code, BAD_QUERY, "{path:?}");
        assert!(!answer.log.is_empty());
    }
}

#[test]
fn before_the_first_block_there_is_nothing_and_nothing_is_proven() {
    let world = world();
    let chain = TestChain::new(&world.chain);
    assert_eq!(chain.query("chain", 0, false).code, 0);
    assert!(chain.query("chain", 0, false).value.is_empty());
    assert_eq!(chain.query("chain", 0, true).code, NO_SUCH_HEIGHT);
    assert_eq!(chain.query("chain", 7, false).code, 0);
}
