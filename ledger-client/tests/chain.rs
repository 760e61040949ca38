//! Against a real chain: what goes in comes out, proven; what is wrong is refused with its code;
//! and while the chain is away, receipts wait.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail by panicking")]

mod harness;

use abci_app::testing::{World, key, spec};
use harness::{Chain, PATIENCE, cometbft, runtime};
use ledger_client::{
    Client, Outbox, Standing, SubmitError,
    outbox::{Report, Settings},
    verify::{Prover, TrustRoot},
};
use protocol::{
    BatchPart, Digest, Signed, Transaction,
    listing::{JobLine, Page, ReceiptLine},
    node::NodeRole,
    refusal::RefusalCode::{self, *},
    state::{ChainRecord, NodeRecord, ReceiptRecord, StateKey},
};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

async fn open(client: &Client, world: &World) {
    for transaction in world.opening() {
        client.submit_and_wait(&transaction, PATIENCE).await.unwrap();
    }
}

async fn refused(client: &Client, transaction: &Transaction) -> (RefusalCode, Option<u32>) {
    match client.submit(transaction).await {
        Err(SubmitError::Refused { code, item, .. } | SubmitError::NotYet { code, item, .. }) => {
            (code, item)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_jobs_life_goes_in_and_comes_out_proven() {
    let Some(program) = cometbft() else { return };
    let world = World::new("life-test");
    let chain = Chain::start(program, &world);
    runtime().block_on(async {
        chain.wait_for_height(1).await;
        let client = chain.client();
        let root = TrustRoot::pin(&client).await.unwrap();
        assert_eq!(root.chain, world.chain);
        open(&client, &world).await;
        let again = client.submit(&world.register(&world.worker, NodeRole::Worker)).await.unwrap();
        assert!(
            matches!(again.standing, Standing::Known | Standing::Already(AlreadyRegistered)),
            "{again:?}"
        );

        // The assignment waits in the mempool when its receipts come: nobody waits for a block.
        let runs = vec![world.run(0, 4, 1), world.update_run()];
        client.submit(&world.assign(0, 0, runs.clone())).await.unwrap();
        let mut receipts: Vec<_> =
            (0..4).map(|index| world.receipt(0, 0, &runs[0], BatchPart::Micro(index))).collect();
        receipts.push(world.receipt(0, 0, &runs[1], BatchPart::Update));
        let submitted =
            client.submit(&Transaction::SubmitReceipts(receipts.clone())).await.unwrap();
        let outcome = client.wait_for_tx(submitted.hash, PATIENCE).await.unwrap().unwrap();
        assert_eq!(outcome.code, 0, "{}", outcome.log);
        let confirmations = receipts.iter().map(|receipt| world.confirmation(receipt)).collect();
        client.submit_and_wait(&world.confirm(confirmations), PATIENCE).await.unwrap();

        let node: NodeRecord =
            client.record(&StateKey::Node(world.worker.public())).await.unwrap().unwrap();
        assert_eq!((node.receipts, node.confirmed), (4, 4));
        let jobs: Page<JobLine> = client.list("list/jobs").await.unwrap();
        assert_eq!(jobs.lines[0].receipts, 5);
        let path = format!("list/receipts?job={}", world.job());
        let lines: Page<ReceiptLine> = client.list(&path).await.unwrap();
        assert!(lines.lines.len() == 5 && lines.lines.iter().all(|line| line.first));
        assert!(client.list::<Page<JobLine>>("list/nothing").await.is_err());

        // Everything again, believed of nobody but the pinned header.
        let confirmed = client.height().await.unwrap();
        chain.wait_for_height(confirmed + 1).await;
        let mut prover = Prover::new(client.clone(), root.clone()).await.unwrap();
        let counts = prover.record::<ChainRecord>(&StateKey::Chain).await.unwrap();
        assert_eq!(counts.value.unwrap().confirmed, 5);
        for receipt in &receipts {
            let proven = prover.receipt_in_block(receipt.body.id()).await.unwrap();
            let record: ReceiptRecord = proven.record.value.unwrap();
            assert!(record.receipt == *receipt && record.confirmed.unwrap().first);
            let carrier = proven.carrier.unwrap();
            assert_eq!(carrier.transaction, submitted.hash);
            assert_eq!(carrier.block.height, outcome.height);
        }
        let absent = StateKey::Node(key(99).public());
        assert_eq!(prover.prove(&absent).await.unwrap().value, None);

        // Pinned later than the receipt's block, the way is back; what was proven is kept.
        let later = prover.trust_root();
        assert!(later.height > root.height);
        let text = serde_json::to_string(&later).unwrap();
        let mut prover = Prover::new(client, serde_json::from_str(&text).unwrap()).await.unwrap();
        let proven = prover.receipt_in_block(receipts[0].body.id()).await.unwrap();
        assert_eq!(proven.carrier.unwrap().block.height, outcome.height);
        let early = prover.block(root.height).await.unwrap();
        assert_eq!(early.hash, root.header_hash);
    });
}

#[test]
fn receipts_that_are_replayed_altered_unsigned_or_for_an_unknown_job_are_refused() {
    let Some(program) = cometbft() else { return };
    let world = World::new("refusal-test");
    let chain = Chain::start(program, &world);
    runtime().block_on(async {
        chain.wait_for_height(1).await;
        let client = chain.client();
        open(&client, &world).await;
        let run = world.run(0, 4, 1);
        client.submit_and_wait(&world.assign(0, 0, vec![run]), PATIENCE).await.unwrap();
        let good = world.receipt(0, 0, &run, BatchPart::Micro(0));
        let other = world.receipt(0, 0, &run, BatchPart::Micro(1));
        let submit = |receipts: Vec<_>| Transaction::SubmitReceipts(receipts);
        client.submit_and_wait(&submit(vec![good.clone()]), PATIENCE).await.unwrap();

        // Replayed: alone it stands already, in company it is named.
        let replay = client.submit(&submit(vec![good.clone()])).await.unwrap();
        assert!(matches!(replay.standing, Standing::Known | Standing::Already(AlreadySubmitted)));
        let company = submit(vec![other.clone(), good.clone()]);
        assert_eq!(refused(&client, &company).await, (AlreadySubmitted, Some(1)));

        let mut altered = other.clone();
        altered.body.result = Digest::of_bytes(b"altered");
        assert_eq!(refused(&client, &submit(vec![altered])).await, (Signature, Some(0)));
        let mut unsigned = other.clone();
        unsigned.signature = protocol::Signature([0; 64]);
        assert_eq!(refused(&client, &submit(vec![unsigned])).await, (Signature, Some(0)));
        let mut body = other.body.clone();
        body.batch.job = spec(77).id();
        let nowhere = submit(vec![world.sign(body)]);
        assert_eq!(refused(&client, &nowhere).await, (UnknownJob, Some(0)));
        let foreign =
            Signed::sign(&"another".parse().unwrap(), other.body.clone(), &world.work_key);
        assert_eq!(refused(&client, &submit(vec![foreign])).await, (Chain, Some(0)));

        client.submit_and_wait(&submit(vec![other]), PATIENCE).await.unwrap();
    });
}

#[test]
fn while_the_chain_is_away_receipts_wait_and_then_each_stands_once() {
    let Some(program) = cometbft() else { return };
    let world = World::new("outage-test");
    let mut chain = Chain::start(program, &world);
    runtime().block_on(async {
        chain.wait_for_height(1).await;
        let client = chain.client();
        open(&client, &world).await;
        let runs = vec![world.run(0, 4, 1)];
        client.submit_and_wait(&world.assign(0, 0, runs.clone()), PATIENCE).await.unwrap();
        let ahead = world.run(0, 4, 1);

        let outbox = Outbox::new(Settings {
            longest_pause: Duration::from_secs(1),
            resend_after: Duration::from_secs(5),
            ..Settings::default()
        });
        let reports: Arc<Mutex<Vec<Report>>> = Arc::default();
        let sink = reports.clone();
        // The first address never answers, the second is the chain's.
        let client_of_two = Client::new(&["http://127.0.0.1:9".into(), chain.rpc()]).unwrap();
        let driver = outbox.clone().run(client_of_two, move |report| {
            sink.lock().unwrap().push(report);
        });
        tokio::spawn(driver);

        // One receipt while it runs; the rest while it is away, one of them ahead of its
        // assignment, one that will be refused.
        let mut wanted = BTreeSet::new();
        let mut add = |receipt: &protocol::SignedReceipt| {
            outbox.add(receipt).unwrap();
            wanted.insert(receipt.body.id());
        };
        add(&world.receipt(0, 0, &runs[0], BatchPart::Micro(0)));
        tokio::time::sleep(Duration::from_millis(300)).await;
        chain.kill();
        (1..4).for_each(|index| add(&world.receipt(0, 0, &runs[0], BatchPart::Micro(index))));
        add(&world.receipt(0, 1, &ahead, BatchPart::Micro(2)));
        let mut wrong = world.receipt_body(0, 0, &runs[0], BatchPart::Micro(3));
        wrong.units.product += 1;
        let wrong = world.sign(wrong);
        outbox.add(&wrong).unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(outbox.status().waiting >= 5, "{:?}", outbox.status());

        chain.resume();
        chain.wait_for_height(1).await;
        client.settle(&world.assign(0, 1, vec![ahead]), |_| {}).await.unwrap();
        let settled = async {
            while !outbox.pending().is_empty() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, settled).await.expect("receipts still wait");
        let mut stood = BTreeSet::new();
        let mut refused = Vec::new();
        for report in reports.lock().unwrap().drain(..) {
            match report {
                Report::Stands(id) => assert!(stood.insert(id)),
                Report::Refused(id, why) => refused.push((id, why)),
            }
        }
        assert_eq!(stood, wanted);
        assert!(matches!(&refused[..], [(id, _)] if *id == wrong.body.id()), "{refused:?}");
        let counts: ChainRecord = client.record(&StateKey::Chain).await.unwrap().unwrap();
        assert_eq!(counts.receipts, 5);
    });
}
