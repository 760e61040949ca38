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
    transaction::Run,
};
use serde_json::{Value, json};
use std::{
    fs::File,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
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

/// A port below those that the kernel gives to clients: a client that tries again and again while
/// nothing listens could otherwise be given the very port and hold it against the server. Each
/// test looks from a place of its own.
fn free_port() -> SocketAddr {
    static ASKED: AtomicU16 = AtomicU16::new(0);
    let asked = ASKED.fetch_add(1, Ordering::Relaxed);
    let first = 10_000 + (std::process::id() % 20_000) as u16 + 100 * asked;
    let free = (first..32_000).find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok());
    free.unwrap().local_addr().unwrap()
}

impl Processes {
    fn prepare(program: PathBuf, folder: &Path, world: &World) -> Self {
        let comet = Comet {
            program,
            home: folder.join("comet"),
            chain: world.chain.clone(),
            rpc: free_port(),
            // Nobody connects to it.
            p2p: "127.0.0.1:0".parse().unwrap(),
            application: format!("unix://{}", folder.join("abci.sock").display()),
            commit_ms: 20,
            idle_seconds: 1,
        };
        comet.init().unwrap();
        Self { home: folder.join("ledger"), comet, app: None, node: None }
    }

    fn log(&self, name: &str) -> File {
        File::options().create(true).append(true).open(self.home.with_file_name(name)).unwrap()
    }

    fn start(&mut self) {
        let mut app = Command::new(env!("CARGO_BIN_EXE_abci-app"));
        app.args(["--listen", &self.comet.application, "--home"]).arg(&self.home);
        self.app = Some(app.stderr(self.log("app.log")).spawn().unwrap());
        self.start_comet();
    }

    /// As [`Processes::start`], with the state on a disk of its own of a few MB. Once the
    /// application has ended and a file `room` is there, the disk is larger and it starts again.
    fn start_on_a_small_disk(&mut self) {
        const SCRIPT: &str = r#"
            mount -t tmpfs -o size=3m tmpfs "$1" || exit 1
            "$2" --listen "$3" --home "$1"
            echo "it ended with $?" >&2
            while [ ! -e "$4" ]; do sleep 0.1; done
            mount -o remount,size=256m "$1" || exit 1
            "$2" --listen "$3" --home "$1"
        "#;
        std::fs::create_dir_all(&self.home).unwrap();
        let mut app = Command::new("unshare");
        app.args(["--map-root-user", "--mount", "--pid", "--fork", "--kill-child"])
            .args(["sh", "-c", SCRIPT, "sh"])
            .arg(&self.home)
            .arg(env!("CARGO_BIN_EXE_abci-app"))
            .arg(&self.comet.application)
            .arg(self.home.with_file_name("room"));
        self.app = Some(app.stderr(self.log("app.log")).spawn().unwrap());
        self.start_comet();
    }

    fn start_comet(&mut self) {
        let node = Command::new(&self.comet.program)
            .args(["start", "--home"])
            .arg(&self.comet.home)
            .stdin(Stdio::null())
            .stdout(self.log("comet.log"))
            .stderr(self.log("comet.log"))
            .spawn();
        self.node = Some(node.unwrap());
    }

    fn app_log(&self) -> String {
        std::fs::read_to_string(self.home.with_file_name("app.log")).unwrap()
    }

    /// SIGKILL for the application; CometBFT, without it, is ended too.
    fn kill(&mut self) {
        kill(&mut self.app);
        kill(&mut self.node);
    }

    fn client(&self) -> Client {
        Client::new(&[format!("http://{}", self.comet.rpc)]).unwrap()
    }
}

fn kill(process: &mut Option<Child>) {
    if let Some(mut process) = process.take() {
        // It may have ended by itself.
        let _ = process.kill();
        process.wait().unwrap();
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Hands in what is not on the chain yet, over and over, until `until` or until none is missing;
/// whether none is.
async fn feed(client: &Client, missing: &mut Vec<SignedReceipt>, until: Instant) -> bool {
    while Instant::now() < until {
        for receipt in missing.iter() {
            if Instant::now() >= until {
                return false;
            }
            let transaction = Transaction::SubmitReceipts(vec![receipt.clone()]);
            if client.submit(&transaction).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        let mut still = Vec::new();
        for receipt in missing.drain(..) {
            let key = StateKey::Receipt(receipt.body.id());
            if !matches!(client.query(&key).await, Ok(Some(_))) {
                still.push(receipt);
            }
        }
        *missing = still;
        if missing.is_empty() {
            return true;
        }
    }
    false
}

/// What is assigned, and the receipts of it, one an attempt and micro-batch.
fn work(world: &World) -> (Vec<Run>, Vec<SignedReceipt>) {
    let runs: Vec<_> = (1..=250).map(|attempt| world.run(0, 4, attempt)).collect();
    let receipts = runs
        .iter()
        .flat_map(|run| (0..4).map(|index| world.receipt(0, 0, run, BatchPart::Micro(index))))
        .collect();
    (runs, receipts)
}

/// Hands in what is missing; each must then stand on the chain once, and the app hashes be those
/// of a run that nobody disturbed.
async fn settle(processes: &Processes, world: &World, receipts: &[SignedReceipt]) {
    wait_for_answer(processes).await;
    let client = processes.client();
    let mut all = receipts.to_vec();
    let fed = feed(&client, &mut all, Instant::now() + PATIENCE).await;
    assert!(fed, "{} receipts are missing", all.len());
    let counts: ChainRecord = client.record(&StateKey::Chain).await.unwrap().unwrap();
    assert_eq!(counts.receipts, receipts.len() as u64, "lost, or there twice");
    // One more block holds the app hash of the last.
    let last = client.height().await.unwrap();
    while client.height().await.unwrap() <= last {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    compare(&client, last, world).await;
}

#[test]
fn a_full_disk_stops_the_ledger_with_a_word_and_with_room_it_goes_on() {
    let Some(program) = std::env::var_os("ALIA_COMETBFT") else {
        println!("skipped: ALIA_COMETBFT does not name a cometbft 0.38 program");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let world = World::new("disk-test");
    let mut processes = Processes::prepare(program.into(), folder.path(), &world);
    let (runs, receipts) = work(&world);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = processes.client();
        processes.start_on_a_small_disk();
        for transaction in world.opening().iter().chain([&world.assign(0, 0, runs)]) {
            client.settle(transaction, |_| {}).await.unwrap();
        }
        let mut missing = receipts.clone();
        let end = Instant::now() + PATIENCE;
        while !processes.app_log().contains("it ended with") {
            assert!(Instant::now() < end && !missing.is_empty(), "the disk did not fill");
            feed(&client, &mut missing, Instant::now() + Duration::from_millis(200)).await;
        }
        let log = processes.app_log();
        assert!(!log.contains("it ended with 0"), "{log}");
        assert!(log.contains("No space left on device"), "{log}");
        assert!(log.contains("see that the disk has room"), "{log}");
        kill(&mut processes.node);
        File::create(processes.home.with_file_name("room")).unwrap();
        processes.start_comet();
        settle(&processes, &world, &receipts).await;
    });
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
    let (runs, receipts) = work(&world);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = processes.client();
        processes.start();
        for transaction in world.opening().iter().chain([&world.assign(0, 0, runs)]) {
            client.settle(transaction, |_| {}).await.unwrap();
        }
        let mut missing = receipts.clone();
        let mut interrupted = 0;
        for kill in 0..KILLS {
            wait_for_answer(&processes).await;
            // Each a little longer, so that the kills fall on other moments of a block.
            let pause = Duration::from_millis(150 + 37 * u64::from(kill));
            interrupted += u32::from(!feed(&client, &mut missing, Instant::now() + pause).await);
            processes.kill();
            processes.start();
        }
        assert!(interrupted > KILLS / 2, "only {interrupted} kills fell into work");
        settle(&processes, &world, &receipts).await;
    });
}

async fn wait_for_answer(processes: &Processes) {
    let client = processes.client();
    let answers = async {
        while client.height().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, answers).await.is_err() {
        let end = |name| {
            let log = std::fs::read_to_string(processes.home.with_file_name(name)).unwrap();
            log.lines().rev().take(20).map(|line| format!("{line}\n")).collect::<String>()
        };
        panic!("CometBFT does not answer\n{}\n{}", end("comet.log"), end("app.log"));
    }
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
