//! The application is killed again and again while CometBFT feeds it: nothing is lost, nothing
//! stands twice, and the app hashes are those of a run that nobody disturbed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail by panicking")]

use abci_app::{Ledger, state::Store, testing::World};

use lab::services::Comet;
use ledger_client::Client;
use protocol::{
    BatchPart, Transaction,
    receipt::SignedReceipt,
    state::{ChainRecord, StateKey},
};
use serde_json::{Value, json};
use std::{
    fs::File,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tendermint_abci::Application;
use tendermint_proto::v0_38::abci as pb;

/// Kills of the application; the moments between them differ.
const KILLS: u32 = 8;
const PATIENCE: Duration = Duration::from_secs(60);

/// The application and CometBFT, each a process.
struct Processes {
    home: PathBuf,
    comet: Comet,
    app: Option<Child>,
    node: Option<Child>,
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Processes {
    fn prepare(program: PathBuf, folder: &Path, world: &World) -> Self {
        let comet = Comet {
            program,
            home: folder.join("comet"),
            chain: world.chain.clone(),
            rpc: free_port(),
            p2p: free_port(),
            application: format!("unix://{}", folder.join("abci.sock").display()),
            commit_ms: 20,
            idle_seconds: 1,
        };
        comet.init().unwrap();
        Self { home: folder.join("ledger"), comet, app: None, node: None }
    }

    fn start(&mut self) {
        let log = |name: &str| {
            let path = self.home.with_file_name(name);
            File::options().create(true).append(true).open(path).unwrap()
        };
        let app = Command::new(env!("CARGO_BIN_EXE_abci-app"))
            .args(["--listen", &self.comet.application, "--home"])
            .arg(&self.home)
            .stderr(log("app.log"))
            .spawn();
        self.app = Some(app.unwrap());
        let node = Command::new(&self.comet.program)
            .args(["start", "--home"])
            .arg(&self.comet.home)
            .stdin(Stdio::null())
            .stdout(log("comet.log"))
            .stderr(Stdio::null())
            .spawn();
        self.node = Some(node.unwrap());
    }

    /// SIGKILL for the application; CometBFT, without it, is ended too.
    fn kill(&mut self) {
        for process in [&mut self.app, &mut self.node] {
            if let Some(mut process) = process.take() {
                // It may have ended by itself.
                let _ = process.kill();
                process.wait().unwrap();
            }
        }
    }

    fn client(&self) -> Client {
        Client::new(&[format!("http://{}", self.comet.rpc)]).unwrap()
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Hands in what is not on the chain yet, over and over, until all of it is.
async fn feed(client: &Client, receipts: &[SignedReceipt], until: Instant) -> bool {
    while Instant::now() < until {
        let mut missing = Vec::new();
        for receipt in receipts {
            match client.query(&StateKey::Receipt(receipt.body.id())).await {
                Ok(Some(_)) => {}
                Ok(None) => missing.push(receipt.clone()),
                Err(_) => return false,
            }
        }
        if missing.is_empty() {
            return true;
        }
        for receipt in missing {
            let transaction = Transaction::SubmitReceipts(vec![receipt]);
            if client.submit(&transaction).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    false
}

#[test]
fn killed_again_and_again_the_ledger_loses_nothing_and_comes_to_the_same_hashes() {
    let Some(program) = std::env::var_os("ALIA_COMETBFT") else {
        println!("skipped: ALIA_COMETBFT does not name a cometbft 0.38 program");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let world = World::new("crash-test");
    let mut processes = Processes::prepare(program.into(), folder.path(), &world);
    let runs: Vec<_> = (1..=40).map(|attempt| world.run(0, 4, attempt)).collect();
    let receipts: Vec<_> = runs
        .iter()
        .flat_map(|run| (0..4).map(|index| world.receipt(0, 0, run, BatchPart::Micro(index))))
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = processes.client();
        processes.start();
        for transaction in world.opening().iter().chain([&world.assign(0, 0, runs)]) {
            client.settle(transaction, |_| {}).await.unwrap();
        }
        // Longer and longer, so that the kills fall on other moments of a block.
        for kill in 0..KILLS {
            let share = receipts.len() * (kill as usize + 1) / KILLS as usize;
            let pause = Duration::from_millis(300 + 77 * u64::from(kill));
            wait_for_answer(&client).await;
            feed(&client, &receipts[..share], Instant::now() + pause).await;
            processes.kill();
            processes.start();
        }
        wait_for_answer(&client).await;
        assert!(feed(&client, &receipts, Instant::now() + PATIENCE).await, "receipts are missing");
        let counts: ChainRecord = client.record(&StateKey::Chain).await.unwrap().unwrap();
        assert_eq!(counts.receipts, receipts.len() as u64, "lost, or there twice");
        // One more block holds the app hash of the last.
        let last = client.height().await.unwrap();
        while client.height().await.unwrap() <= last {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        compare(&client, last, &world).await;
    });
}

async fn wait_for_answer(client: &Client) {
    let answers = async {
        while client.height().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, answers).await.expect("CometBFT does not answer");
}

/// Runs the chain's blocks through a fresh application and compares every app hash.
async fn compare(client: &Client, last: u64, world: &World) {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::new(Store::open(folder.path()).unwrap()).unwrap();
    ledger.init_chain(pb::RequestInitChain {
        chain_id: world.chain.to_string(),
        initial_height: 1,
        ..Default::default()
    });
    let mut transactions = 0;
    for height in 1..=last {
        let block = ask(client, "block", height).await;
        let txs: Vec<_> = block["block"]["data"]["txs"]
            .as_array()
            .map(|txs| txs.iter().map(from_base64).collect())
            .unwrap_or_default();
        transactions += txs.len();
        let finalized = ledger.finalize_block(pb::RequestFinalizeBlock {
            txs,
            height: height.try_into().unwrap(),
            ..Default::default()
        });
        ledger.commit();
        let next = ask(client, "block", height + 1).await;
        let recorded = next["block"]["header"]["app_hash"].as_str().unwrap().to_lowercase();
        let ours: String = finalized.app_hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(recorded, ours, "block {height}");
    }
    assert!(transactions > 100, "only {transactions} transactions were compared");
}

async fn ask(client: &Client, method: &str, height: u64) -> Value {
    client.ask(method, &json!({"height": height.to_string()})).await.unwrap()
}

fn from_base64(text: &Value) -> bytes::Bytes {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.decode(text.as_str().unwrap()).unwrap().into()
}
