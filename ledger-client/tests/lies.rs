//! An RPC server that lies about a real chain: each lie is refused, with what does not hold.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail by panicking")]

mod harness;

use abci_app::testing::World;
use harness::{
    Chain, PATIENCE, cometbft,
    proxy::{Proxy, edit_base64},
    runtime,
};
use ledger_client::{
    Client,
    verify::{Lie, Prover, TrustRoot, VerifyError},
};
use protocol::{BatchPart, ReceiptId, Transaction, state::StateKey};
use serde_json::{Value, json};
use std::time::Duration;

/// A chain with one receipt, seen through a server that may lie.
struct Stage {
    chain: Chain,
    proxy: Proxy,
    root: TrustRoot,
    receipt: ReceiptId,
    height: u64,
}

impl Stage {
    async fn set(chain: Chain, world: &World) -> Self {
        chain.wait_for_height(1).await;
        let client = chain.client();
        let root = TrustRoot::pin(&client).await.unwrap();
        let run = world.run(0, 4, 1);
        let receipt = world.receipt(0, 0, &run, BatchPart::Micro(0));
        let assign = world.assign(0, 0, vec![run]);
        let submit = Transaction::SubmitReceipts(vec![receipt.clone()]);
        let transactions = world.opening().into_iter().chain([assign, submit]);
        let mut height = 0;
        for transaction in transactions {
            let hash = client.submit_and_wait(&transaction, PATIENCE).await.unwrap().hash;
            height = client.outcome(hash).await.unwrap().unwrap().height;
        }
        chain.wait_for_height(height + 1).await;
        let proxy = Proxy::start(chain.comet.rpc);
        Self { chain, proxy, root, receipt: receipt.body.id(), height }
    }

    fn client(&self) -> Client {
        Client::new(std::slice::from_ref(&self.proxy.address)).unwrap()
    }

    /// A prover to whom nothing was lied yet.
    async fn prover(&self) -> Prover {
        self.proxy.lie(|_, _, _| {});
        Prover::new(self.client(), self.root.clone()).await.unwrap()
    }

    /// Proves the receipt through a server that lies; gives what was found not to hold.
    async fn catch(&self, lie: impl FnMut(&str, &Value, &mut Value) + Send + 'static) -> Lie {
        let mut prover = self.prover().await;
        self.proxy.lie(lie);
        let caught = prover.receipt_in_block(self.receipt).await;
        match caught {
            Err(VerifyError::Lie { server, lie }) => {
                assert_eq!(server, self.proxy.address);
                lie
            }
            other => panic!("the lie was not caught: {other:?}"),
        }
    }
}

/// Alters the answers to one method.
fn to(
    method: &'static str,
    mut edit: impl FnMut(&mut Value) + Send + 'static,
) -> impl FnMut(&str, &Value, &mut Value) + Send + 'static {
    move |asked, _, result| {
        if asked == method {
            edit(result);
        }
    }
}

#[test]
fn each_lie_of_a_server_is_refused_with_what_does_not_hold() {
    let Some(program) = cometbft() else { return };
    let world = World::new("lies-test");
    let other_world = World::new("lies-test");
    let chain = Chain::start(program.clone(), &world);
    let other_chain = Chain::start(program, &other_world);
    runtime().block_on(async {
        let stage = Stage::set(chain, &world).await;
        // The truth passes.
        let proven = stage.prover().await.receipt_in_block(stage.receipt).await.unwrap();
        assert_eq!(proven.carrier.unwrap().block.height, stage.height);

        records(&stage).await;
        headers(&stage).await;
        ages(&stage).await;
        carriers(&stage).await;
        pins(&stage).await;

        // Another chain of the same name, honestly shown: signed by validators unknown here.
        other_chain.wait_for_height(stage.height + 3).await;
        let mut prover = stage.prover().await;
        stage.proxy.pass_on_to(other_chain.comet.rpc);
        let caught = prover.prove(&StateKey::Chain).await.unwrap_err();
        assert!(matches!(caught, VerifyError::Lie { lie: Lie::Header { .. }, .. }), "{caught}");
        let caught = Prover::new(stage.client(), stage.root.clone()).await.unwrap_err();
        assert!(
            matches!(caught, VerifyError::Lie { lie: Lie::NotThePinned { .. }, .. }),
            "{caught}"
        );
    });
}

async fn records(stage: &Stage) {
    let wrong_value = to("abci_query", |result| {
        edit_base64(&mut result["response"]["value"], |bytes| bytes[40] ^= 1);
    });
    assert!(matches!(stage.catch(wrong_value).await, Lie::Record { .. }));
    let wrong_proof = to("abci_query", |result| {
        edit_base64(&mut result["response"]["proofOps"]["ops"][0]["data"], |bytes| {
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
        });
    });
    assert!(matches!(stage.catch(wrong_proof).await, Lie::Record { .. }));
    let denied = to("abci_query", |result| result["response"]["value"] = Value::Null);
    assert!(matches!(stage.catch(denied).await, Lie::Record { .. }));
    let unproven = to("abci_query", |result| result["response"]["proofOps"] = Value::Null);
    assert!(matches!(stage.catch(unproven).await, Lie::Record { .. }));
    // The record of something else, with its own good proof.
    let truth = stage.client();
    let other: Value = ask(&truth, "chain").await;
    let exchanged = to("abci_query", move |result| {
        let height = result["response"]["height"].clone();
        *result = other.clone();
        result["response"]["height"] = height;
    });
    assert!(matches!(stage.catch(exchanged).await, Lie::Record { .. }));
    // An old answer to the same question.
    let mut old = None;
    let mut prover = stage.prover().await;
    let (sender, kept) = std::sync::mpsc::channel();
    stage.proxy.lie(to("abci_query", move |result| sender.send(result.clone()).unwrap()));
    prover.prove(&StateKey::Receipt(stage.receipt)).await.unwrap();
    old.replace(kept.recv().unwrap());
    let height = stage.client().height().await.unwrap();
    stage.chain.wait_for_height(height + 2).await;
    let replayed = to("abci_query", move |result| *result = old.clone().unwrap());
    assert!(matches!(stage.catch(replayed).await, Lie::Height { .. }));
}

/// An unproven answer, as the server gives it.
async fn ask(client: &Client, path: &str) -> Value {
    let height = client.height().await.unwrap() - 1;
    let params = json!({"path": path, "data": "", "height": height.to_string(), "prove": true});
    client.ask("abci_query", &params).await.unwrap()
}

async fn headers(stage: &Stage) {
    let header =
        |edit: fn(&mut Value)| to("commit", move |result| edit(&mut result["signed_header"]));
    let app_hash = header(|signed| signed["header"]["app_hash"] = "00".repeat(32).into());
    assert!(matches!(stage.catch(app_hash).await, Lie::Header { .. }));
    let time = header(|signed| signed["header"]["time"] = "2031-01-01T00:00:00Z".into());
    assert!(matches!(stage.catch(time).await, Lie::Header { .. }));
    let chain = header(|signed| signed["header"]["chain_id"] = "another".into());
    assert!(matches!(stage.catch(chain).await, Lie::Header { .. }));
    let signature = header(|signed| {
        edit_base64(&mut signed["commit"]["signatures"][0]["signature"], |bytes| bytes[0] ^= 1);
    });
    assert!(matches!(stage.catch(signature).await, Lie::Header { .. }));
    let absent = header(|signed| {
        signed["commit"]["signatures"] = json!([{
            "block_id_flag": 1, "validator_address": "",
            "timestamp": "0001-01-01T00:00:00Z", "signature": null,
        }]);
    });
    assert!(matches!(stage.catch(absent).await, Lie::Header { .. }));
    // Another header whole, with the commit made to name it: its signature is for the true one.
    let renamed = header(|signed| {
        signed["header"]["app_hash"] = "00".repeat(32).into();
        let header: tendermint::block::Header =
            serde_json::from_value(signed["header"].clone()).unwrap();
        signed["commit"]["block_id"]["hash"] = header.hash().to_string().into();
    });
    match stage.catch(renamed).await {
        Lie::Header { why, .. } => assert_eq!(why, "a validator's signature is wrong"),
        other => panic!("{other:?}"),
    }
    let height = header(|signed| {
        signed["header"]["height"] = "2".into();
        signed["commit"]["height"] = "2".into();
    });
    assert!(matches!(stage.catch(height).await, Lie::Height { .. }));
    let validators = to("validators", |result| {
        let key = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
        result["validators"][0]["pub_key"]["value"] = key.into();
    });
    assert!(matches!(stage.catch(validators).await, Lie::Header { .. }));
    let power = to("validators", |result| {
        result["validators"][0]["voting_power"] = "1000000".into();
    });
    assert!(matches!(stage.catch(power).await, Lie::Header { .. }));
}

async fn ages(stage: &Stage) {
    let said = |height: u64| {
        to("status", move |result| {
            result["sync_info"]["latest_block_height"] = height.to_string().into();
        })
    };
    // Back behind what was proven.
    let mut prover = stage.prover().await;
    prover.prove(&StateKey::Chain).await.unwrap();
    let proven = prover.trust_root().height;
    stage.proxy.lie(said(proven - 1));
    let caught = prover.prove(&StateKey::Chain).await.unwrap_err();
    let is_backwards =
        |error: &VerifyError| matches!(error, VerifyError::Lie { lie: Lie::Backwards { .. }, .. });
    assert!(is_backwards(&caught), "{caught}");
    // Held at a height: true, and old.
    let mut prover = stage.prover().await.with_max_age(Duration::from_secs(2));
    stage.proxy.lie(said(proven));
    tokio::time::sleep(Duration::from_secs(4)).await;
    let caught = prover.prove(&StateKey::Chain).await.unwrap_err();
    assert!(matches!(caught, VerifyError::Stale { .. }), "{caught}");
    // A height that is not there yet.
    stage.proxy.lie(said(1_000_000));
    assert!(stage.prover().await.prove(&StateKey::Chain).await.is_ok());
    let mut prover = stage.prover().await;
    stage.proxy.lie(said(1_000_000));
    assert!(matches!(prover.prove(&StateKey::Chain).await, Err(VerifyError::Rpc(_))));
}

async fn carriers(stage: &Stage) {
    let none = to("tx_search", |result| result["txs"] = json!([]));
    assert!(matches!(stage.catch(none).await, Lie::NoCarrier { .. }));
    let other = to("tx_search", |result| {
        edit_base64(&mut result["txs"][0]["tx"], |bytes| bytes.truncate(20));
    });
    assert!(matches!(stage.catch(other).await, Lie::NoCarrier { .. }));
    // The receipt in another transaction than the block's: a second copy of it in the list.
    let copied = to("tx_search", |result| {
        edit_base64(&mut result["txs"][0]["tx"], |bytes| {
            let Transaction::SubmitReceipts(mut receipts) = borsh::from_slice(bytes).unwrap()
            else {
                panic!("another transaction")
            };
            receipts.push(receipts[0].clone());
            *bytes = borsh::to_vec(&Transaction::SubmitReceipts(receipts)).unwrap();
        });
    });
    assert!(matches!(stage.catch(copied).await, Lie::NotInBlock { .. }));
    let shape = to("tx_search", |result| {
        result["txs"][0]["proof"]["proof"]["total"] = "4".into();
    });
    assert!(matches!(stage.catch(shape).await, Lie::NotInBlock { .. }));
}

async fn pins(stage: &Stage) {
    let mut other = stage.root.clone();
    other.header_hash.0[0] ^= 1;
    let caught = Prover::new(stage.client(), other).await.unwrap_err();
    assert!(matches!(caught, VerifyError::Lie { lie: Lie::NotThePinned { .. }, .. }), "{caught}");
    let other = TrustRoot { chain: "another".parse().unwrap(), ..stage.root.clone() };
    let caught = Prover::new(stage.client(), other).await.unwrap_err();
    assert!(matches!(caught, VerifyError::Lie { lie: Lie::Chain { .. }, .. }), "{caught}");
    let old = TrustRoot { trusting_period_seconds: 0, ..stage.root.clone() };
    let mut prover = Prover::new(stage.client(), old).await.unwrap();
    let caught = prover.prove(&StateKey::Chain).await.unwrap_err();
    assert!(matches!(caught, VerifyError::Expired { .. }), "{caught}");

    // On the way back, each header is named by the one after it.
    let mut prover = stage.prover().await;
    prover.prove(&StateKey::Chain).await.unwrap();
    let later = prover.trust_root();
    let mut prover = Prover::new(stage.client(), later).await.unwrap();
    stage.proxy.lie(to("blockchain", |result| {
        let metas = result["block_metas"].as_array_mut().unwrap();
        metas.iter_mut().for_each(|meta| meta["header"]["app_hash"] = "00".repeat(32).into());
    }));
    let caught = prover.receipt_in_block(stage.receipt).await.unwrap_err();
    assert!(matches!(caught, VerifyError::Lie { lie: Lie::BrokenChain { .. }, .. }), "{caught}");
    stage.proxy.lie(to("blockchain", |result| result["block_metas"] = json!([])));
    let caught = prover.receipt_in_block(stage.receipt).await.unwrap_err();
    assert!(matches!(caught, VerifyError::Lie { lie: Lie::BrokenChain { .. }, .. }), "{caught}");
}
