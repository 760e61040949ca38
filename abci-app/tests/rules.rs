//! What the ledger accepts and refuses, asked as CometBFT asks: CheckTx, FinalizeBlock, Commit.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail by panicking")]

mod harness;

use abci_app::testing::{World, key, shapes, spec};
use harness::TestChain;
use protocol::{
    BatchId, BatchPart, Digest, Signed, Transaction,
    node::{Delegation, NodeRole},
    refusal::{RefusalCode, RefusalCode::*},
    state::{BatchRecord, ChainRecord, JobRecord, NodeRecord, ReceiptRecord, StateKey},
    transaction::{Assign, Confirm, CreateJob, Run},
};

fn world() -> World {
    World::new("rules-test")
}

/// A chain with both nodes and the job.
fn opened() -> (TestChain, World) {
    let world = world();
    let chain = TestChain::new(&world.chain);
    chain.accept(&world.opening());
    (chain, world)
}

/// A chain on which step 0 of epoch 0 is assigned, too; and its one run.
fn assigned() -> (TestChain, World, Run) {
    let (chain, world) = opened();
    let run = world.run(0, 4, 1);
    chain.accept(&[world.assign(0, 0, vec![run])]);
    (chain, world, run)
}

fn micro(index: u32) -> BatchPart {
    BatchPart::Micro(index)
}

#[test]
fn a_jobs_whole_life_is_accepted_and_counted() {
    let (chain, world) = opened();
    let runs = vec![world.run(0, 4, 1), world.update_run()];
    chain.accept(&[world.assign(0, 0, runs.clone())]);
    let mut receipts: Vec<_> = (0..4).map(|i| world.receipt(0, 0, &runs[0], micro(i))).collect();
    receipts.push(world.receipt(0, 0, &runs[1], BatchPart::Update));
    chain.accept(&[Transaction::SubmitReceipts(receipts.clone())]);
    let confirmations = receipts.iter().map(|receipt| world.confirmation(receipt)).collect();
    let height = chain.accept(&[world.confirm(confirmations)]);

    let counts: ChainRecord = chain.record(&StateKey::Chain).unwrap();
    assert_eq!((counts.nodes, counts.jobs, counts.assignments), (2, 1, 2));
    assert_eq!((counts.receipts, counts.confirmed), (5, 5));
    assert_eq!(counts.units, receipts.iter().map(|receipt| receipt.body.units).sum());
    let job: JobRecord = chain.record(&StateKey::Job(world.job())).unwrap();
    assert_eq!((job.receipts, job.confirmed), (5, 5));
    let node: NodeRecord = chain.record(&StateKey::Node(world.worker.public())).unwrap();
    assert_eq!((node.owner, node.receipts, node.confirmed), (world.owner.public(), 4, 4));
    let record: ReceiptRecord = chain.record(&StateKey::Receipt(receipts[2].body.id())).unwrap();
    let confirmed = record.confirmed.unwrap();
    assert!(record.receipt == receipts[2] && confirmed.first && confirmed.height == height);
}

#[test]
fn a_node_enters_once_and_keeps_its_owner() {
    let (chain, world) = opened();
    let again = world.register(&world.worker, NodeRole::Worker);
    chain.refuse(&again, AlreadyRegistered, None);
    chain.refuse(
        &world.register(&world.worker, NodeRole::ParameterServer),
        RegisteredOtherwise,
        None,
    );
    let thief = World { owner: key(40), ..world.clone() };
    chain.refuse(&thief.register(&world.worker, NodeRole::Worker), RegisteredOtherwise, None);
}

#[test]
fn a_registration_that_is_not_the_nodes_and_the_owners_word_is_refused() {
    let (chain, world) = opened();
    let node = key(50);
    let Transaction::RegisterNode(good) = world.register(&node, NodeRole::Worker) else { panic!() };

    let mut forged = good.clone();
    forged.signer = key(51).public();
    chain.refuse(&Transaction::RegisterNode(forged), Signature, None);
    let mut altered = good.clone();
    altered.body.role = NodeRole::ParameterServer;
    chain.refuse(&Transaction::RegisterNode(altered), Signature, None);

    let other_chain = World::new("another");
    chain.refuse(&other_chain.register(&node, NodeRole::Worker), Chain, None);

    // Signed well, but the endorsement is for another node, or by a stranger.
    let mut body = good.body.clone();
    body.ownership = world.ownership(&key(52));
    chain.refuse(
        &Transaction::RegisterNode(Signed::sign(&world.chain, body, &node)),
        Ownership,
        None,
    );
    let mut body = good.body.clone();
    body.ownership.endorsement =
        World { delegate: key(53), ..world.clone() }.ownership(&node).endorsement;
    chain.refuse(
        &Transaction::RegisterNode(Signed::sign(&world.chain, body, &node)),
        Ownership,
        None,
    );

    // The owner may name the node itself.
    let mut body = good.body.clone();
    let delegation = Delegation { delegate: node.public() };
    body.ownership = protocol::node::Ownership {
        delegation: Signed::sign(&world.chain, delegation, &world.owner),
        endorsement: None,
    };
    chain.accept(&[Transaction::RegisterNode(Signed::sign(&world.chain, body, &node))]);
}

#[test]
fn a_job_enters_once_from_its_requester_with_a_server_that_is_one() {
    let (chain, world) = opened();
    chain.refuse(&world.create_job(), JobExists, None);

    let create = |create: CreateJob, signer: &protocol::SecretKey| {
        Transaction::CreateJob(Signed::sign(&world.chain, create, signer))
    };
    let good =
        CreateJob { spec: spec(1), shapes: shapes(), parameter_server: world.server.public() };
    chain.refuse(&create(good.clone(), &key(60)), NotTheSigner, None);
    let worker = CreateJob { parameter_server: world.worker.public(), ..good.clone() };
    chain.refuse(&create(worker, &world.requester), NotAParameterServer, None);
    let nobody = CreateJob { parameter_server: key(61).public(), ..good.clone() };
    chain.refuse(&create(nobody, &world.requester), UnknownNode, None);

    let mut long = good.clone();
    long.spec.label = "x".repeat(121);
    chain.refuse(&create(long, &world.requester), BadSpec, None);
    let mut endless = good.clone();
    let protocol::job::Work::Train(train) = &mut endless.spec.work else { panic!() };
    train.epochs = u32::MAX;
    chain.refuse(&create(endless, &world.requester), BadSpec, None);

    let empty = CreateJob { shapes: vec![], ..good.clone() };
    chain.refuse(&create(empty, &world.requester), ListLength, None);
    let mut fat = good.clone();
    fat.shapes[3].source_squares += 1_000_000;
    chain.refuse(&create(fat, &world.requester), BadShapes, Some(3));

    chain.accept(&[create(good, &world.requester)]);
}

#[test]
fn assignments_are_the_parameter_servers_alone() {
    let (chain, world) = opened();
    let assign = Assign { job: world.job(), epoch: 0, step: 0, runs: vec![world.run(0, 1, 1)] };
    for stranger in [&world.worker, &world.work_key, &world.requester] {
        let forged = Signed::sign(&world.chain, assign.clone(), stranger);
        chain.refuse(&Transaction::Assign(forged), NotTheSigner, None);
    }
    let mut claimed = Signed::sign(&world.chain, assign, &world.worker);
    claimed.signer = world.server.public();
    chain.refuse(&Transaction::Assign(claimed), Signature, None);
}

#[test]
fn assignments_stay_within_the_job_and_its_gradient_tree() {
    let (chain, world) = opened();
    let cases: &[(u32, u32, Run, RefusalCode, Option<u32>)] = &[
        (2, 0, world.run(0, 1, 1), OutOfBounds, None),
        (0, 3, world.run(0, 1, 1), OutOfBounds, None),
        (u32::MAX, u32::MAX, world.run(0, 1, 1), OutOfBounds, None),
        (0, 0, world.run(4, 1, 1), OutOfBounds, Some(0)),
        (0, 2, world.run(2, 1, 1), OutOfBounds, Some(0)),
        (0, 0, world.run(u32::MAX, 1, 1), OutOfBounds, Some(0)),
        (0, 0, world.run(1, 2, 1), NotAligned, Some(0)),
        (0, 0, world.run(0, 3, 1), NotAligned, Some(0)),
        (0, 0, world.run(1, 3, 1), NotAligned, Some(0)),
        (0, 0, world.run(0, 0, 1), NotAligned, Some(0)),
        (0, 0, world.run(0, 1, 0), Attempt, Some(0)),
        (0, 0, world.run(0, 1, u32::MAX), Attempt, Some(0)),
        (0, 0, Run { node: key(70).public(), ..world.run(0, 1, 1) }, UnknownNode, Some(0)),
        (
            0,
            0,
            Run { node: world.worker.public(), ..world.update_run() },
            NotTheServersNode,
            Some(0),
        ),
        (0, 0, Run { count: 2, ..world.update_run() }, NotAligned, Some(0)),
    ];
    for (epoch, step, run, code, item) in cases {
        chain.refuse(&world.assign(*epoch, *step, vec![*run]), *code, *item);
    }
    chain.refuse(&world.assign(0, 0, vec![]), ListLength, None);
    chain.refuse(&world.assign(0, 0, vec![world.run(0, 5_000, 1)]), ListLength, None);
    let stranger = World { spec: spec(9), ..world.clone() };
    chain.refuse(&stranger.assign(0, 0, vec![world.run(0, 1, 1)]), UnknownJob, None);
    // The last step has two micro-batches: its rest, and a run of one.
    chain.accept(&[
        world.assign(0, 2, vec![world.run(0, 2, 1)]),
        world.assign(1, 2, vec![world.run(1, 1, 1)]),
    ]);
}

#[test]
fn an_attempt_at_a_batch_is_given_out_once() {
    let (chain, world, run) = assigned();
    chain.refuse(&world.assign(0, 0, vec![run]), AlreadyAssigned, None);
    let overlapping = world.run(2, 2, 1);
    chain.refuse(&world.assign(0, 0, vec![overlapping]), AttemptTaken, Some(0));
    let mixed = vec![world.run(2, 1, 2), run];
    chain.refuse(&world.assign(0, 0, mixed), AlreadyAssigned, Some(1));
    let twice = vec![world.run(2, 1, 2), Run { node: world.server.public(), ..world.run(2, 1, 2) }];
    chain.refuse(&world.assign(0, 0, twice), AttemptTaken, Some(1));
    // Attempts need not come in order.
    chain.accept(&[world.assign(0, 0, vec![world.run(2, 1, 5)])]);
    chain.accept(&[world.assign(0, 0, vec![world.run(2, 1, 2)])]);
    let batch = BatchId { job: world.job(), epoch: 0, step: 0, part: micro(2) };
    let record: BatchRecord = chain.record(&StateKey::Batch(batch)).unwrap();
    let attempts: Vec<u32> = record.attempts.iter().map(|attempt| attempt.attempt).collect();
    assert_eq!(attempts, [1, 2, 5]);
}

#[test]
fn a_receipt_must_be_signed_by_the_certified_work_key_of_the_assigned_node() {
    let (chain, world, run) = assigned();
    let good = world.receipt(0, 0, &run, micro(0));
    let refuse = |receipt, code| {
        chain.refuse(&Transaction::SubmitReceipts(vec![receipt]), code, Some(0));
    };

    let mut unsigned = good.clone();
    unsigned.signature = protocol::Signature([0; 64]);
    refuse(unsigned, Signature);
    let mut altered = good.clone();
    altered.body.result = Digest::of_bytes(b"another");
    refuse(altered, Signature);
    let mut version = good.clone();
    version.version = 2;
    refuse(version, Version);
    refuse(Signed::sign(&world.chain, good.body.clone(), &key(80)), WorkKey);
    let mut forged = good.body.clone();
    forged.certificate.signature = protocol::Signature([1; 64]);
    refuse(world.sign(forged), Signature);

    // A stranger's node, and a registered one that the batch was not given to.
    let stranger = World { worker: key(81), ..world.clone() };
    let mut theirs = good.body.clone();
    theirs.certificate = stranger.receipt_body(0, 0, &run, micro(0)).certificate;
    refuse(world.sign(theirs), UnknownNode);
    let mut servers = good.body.clone();
    servers.certificate =
        world.receipt_body(0, 0, &world.update_run(), BatchPart::Update).certificate;
    refuse(world.sign(servers), NotTheAssignedNode);

    chain.accept(&[Transaction::SubmitReceipts(vec![good])]);
}

#[test]
fn a_receipt_answers_its_assignment_exactly() {
    let (chain, world, run) = assigned();
    let good = world.receipt_body(0, 0, &run, micro(0));
    let refuse = |edit: &dyn Fn(&mut protocol::Receipt), code| {
        let mut body = good.clone();
        edit(&mut body);
        chain.refuse(&Transaction::SubmitReceipts(vec![world.sign(body)]), code, Some(0));
    };
    refuse(&|body| body.assignment = Digest::of_bytes(b"none"), UnknownAssignment);
    refuse(&|body| body.batch.job.0 = Digest::of_bytes(b"none"), UnknownJob);
    refuse(&|body| body.batch.part = micro(4), NotTheAssignedBatch);
    refuse(&|body| body.batch.part = BatchPart::Update, NotTheAssignedBatch);
    refuse(&|body| body.batch.step = 1, NotTheAssignedBatch);
    refuse(&|body| body.batch.epoch = 1, NotTheAssignedBatch);
    refuse(&|body| body.attempt = 2, NotTheAssignedBatch);
    refuse(&|body| body.units.product += 1, WrongUnits);
    refuse(&|body| body.units.pointwise = 0, WrongUnits);
    chain.refuse(&Transaction::SubmitReceipts(vec![]), ListLength, None);
}

#[test]
fn a_receipt_stands_once_and_one_an_attempt() {
    let (chain, world, run) = assigned();
    let good = world.receipt(0, 0, &run, micro(0));
    let submit = Transaction::SubmitReceipts;
    chain.refuse(&submit(vec![good.clone(), good.clone()]), AlreadySubmitted, Some(1));
    chain.accept(&[submit(vec![good.clone()])]);
    chain.refuse(&submit(vec![good.clone()]), AlreadySubmitted, None);

    // Signed anew with another key of the same node, it is still the same receipt.
    let mut other = good.body.clone();
    other.result = Digest::of_bytes(b"changed my mind");
    chain.refuse(&submit(vec![world.sign(other)]), AttemptHasReceipt, Some(0));

    // One bad receipt refuses the whole and is named; the rest passes without it.
    let rest: Vec<_> = (1..4).map(|index| world.receipt(0, 0, &run, micro(index))).collect();
    let mixed = [rest[0].clone(), rest[1].clone(), good, rest[2].clone()];
    chain.refuse(&submit(mixed.to_vec()), AlreadySubmitted, Some(2));
    chain.accept(&[submit(rest)]);
}

#[test]
fn confirmation_is_the_servers_opens_the_root_and_happens_once() {
    let (chain, world, run) = assigned();
    let receipt = world.receipt(0, 0, &run, micro(0));
    let confirmation = world.confirmation(&receipt);
    let confirm = |confirmations| world.confirm(confirmations);
    chain.refuse(&confirm(vec![confirmation.clone()]), UnknownReceipt, Some(0));
    chain.accept(&[Transaction::SubmitReceipts(vec![receipt])]);

    let body = Confirm { job: world.job(), receipts: vec![confirmation.clone()] };
    let forged = Signed::sign(&world.chain, body.clone(), &world.worker);
    chain.refuse(&Transaction::ConfirmReceipts(forged), NotTheSigner, None);
    let mut wrong_salt = confirmation.clone();
    wrong_salt.salt.0 = Digest::of_bytes(b"guess");
    chain.refuse(&confirm(vec![wrong_salt]), WrongSalt, Some(0));
    let mut wrong_root = confirmation.clone();
    wrong_root.work_root = Digest::of_bytes(b"guess");
    chain.refuse(&confirm(vec![wrong_root]), WrongSalt, Some(0));
    let nowhere = Confirm { job: spec(9).id(), ..body };
    let nowhere = Signed::sign(&world.chain, nowhere, &world.server);
    chain.refuse(&Transaction::ConfirmReceipts(nowhere), UnknownJob, None);

    // Another job of the same server cannot take it.
    let other = World { spec: spec(5), ..world.clone() };
    chain.accept(&[other.create_job()]);
    chain.refuse(&other.confirm(vec![confirmation.clone()]), ReceiptOfAnotherJob, Some(0));

    chain.accept(&[confirm(vec![confirmation.clone()])]);
    chain.refuse(&confirm(vec![confirmation]), AlreadyConfirmed, None);
    chain.refuse(&confirm(vec![]), ListLength, None);
}

#[test]
fn of_two_attempts_the_first_confirmed_is_marked_and_counted() {
    let (chain, world, run) = assigned();
    let again = world.run(1, 1, 2);
    chain.accept(&[world.assign(0, 0, vec![again])]);
    let slow = world.receipt(0, 0, &run, micro(1));
    let fast = world.receipt(0, 0, &again, micro(1));
    chain.accept(&[Transaction::SubmitReceipts(vec![slow.clone(), fast.clone()])]);
    chain.accept(&[world.confirm(vec![world.confirmation(&fast)])]);
    chain.accept(&[world.confirm(vec![world.confirmation(&slow)])]);
    let first = |receipt: &protocol::SignedReceipt| {
        let record: ReceiptRecord = chain.record(&StateKey::Receipt(receipt.body.id())).unwrap();
        record.confirmed.unwrap().first
    };
    assert!(first(&fast) && !first(&slow));
    let counts: ChainRecord = chain.record(&StateKey::Chain).unwrap();
    assert_eq!((counts.confirmed, counts.units), (2, fast.body.units));
}

#[test]
fn waiting_transactions_let_in_what_leans_on_them_and_a_commit_forgets_them() {
    let (chain, world) = opened();
    let run = world.run(0, 2, 1);
    let receipts = Transaction::SubmitReceipts(vec![world.receipt(0, 0, &run, micro(0))]);
    assert_eq!(chain.check(&receipts).0, UnknownAssignment.number());
    let assign = world.assign(0, 0, vec![run]);
    assert_eq!(chain.check(&assign).0, 0);
    assert_eq!(chain.check(&receipts).0, 0, "the assignment waits in the mempool");
    // A block without the assignment: it waits no longer, as far as the application knows.
    chain.block(&[]);
    assert_eq!(chain.check(&receipts).0, UnknownAssignment.number());
    // Until CometBFT has it checked again.
    assert_eq!(chain.recheck(&assign).0, 0);
    assert_eq!(chain.recheck(&receipts).0, 0);
}

#[test]
fn what_waits_in_the_mempool_is_not_taken_for_what_stands_on_the_chain() {
    let (chain, world) = opened();
    let whole = world.assign(0, 0, vec![world.run(0, 2, 1), world.run(2, 2, 1)]);
    let part = world.assign(0, 0, vec![world.run(0, 2, 1)]);
    assert_eq!(chain.check(&whole), (0, None));
    assert_eq!(chain.check(&part), (AlreadyWaiting.number(), None));
    chain.accept_block(&[whole]);
    assert_eq!(chain.check(&part), (AlreadyAssigned.number(), None));

    let fresh = World::new("waiting-test");
    let chain = TestChain::new(&fresh.chain);
    let register = fresh.register(&fresh.server, NodeRole::ParameterServer);
    assert_eq!(chain.check(&register), (0, None));
    assert_eq!(chain.check(&register), (AlreadyWaiting.number(), None), "before the first block");
}

#[test]
fn bytes_that_are_no_transaction_are_refused_alike_by_checktx_and_by_the_block() {
    let (chain, world) = opened();
    let mut bytes = borsh::to_vec(&world.create_job()).unwrap();
    bytes.push(0);
    for (bytes, code) in [
        (bytes, Undecodable),
        (vec![], Undecodable),
        (vec![255], Undecodable),
        (vec![0; 600 * 1024], TooLong),
    ] {
        chain.refuse_bytes(&bytes, code, None);
    }
}
