//! A real chain of one validator: CometBFT as a process, the ledger in this one.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail by panicking")]

pub mod proxy;

use abci_app::{
    Ledger,
    state::Store,
    testing::World,
    transport::{Address, Server},
};
use lab::services::Comet;
use ledger_client::Client;
use std::{
    fs::File,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::Duration,
};
use tempfile::TempDir;

pub const PATIENCE: Duration = Duration::from_secs(30);

/// The CometBFT program, or a printed line and nothing.
pub fn cometbft() -> Option<PathBuf> {
    let program = std::env::var_os("ALIA_COMETBFT");
    if program.is_none() {
        println!("skipped: ALIA_COMETBFT does not name a cometbft 0.38 program");
    }
    program.map(PathBuf::from)
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A port below those that the kernel gives to clients: a client that tries again and again while
/// nothing listens could otherwise be given the very port and hold it against the server.
fn free_port() -> SocketAddr {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + (std::process::id() % 20_000) as u16;
    loop {
        let port = first + TAKEN.fetch_add(1, Ordering::Relaxed);
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            return listener.local_addr().unwrap();
        }
    }
}

/// A chain; its CometBFT ends with it.
pub struct Chain {
    pub folder: TempDir,
    pub comet: Comet,
    process: Option<Child>,
}

impl Chain {
    pub fn start(program: PathBuf, world: &World) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("ledger")).unwrap();
        let ledger = Ledger::new(store).unwrap();
        let server = Server::bind(&Address::Tcp("127.0.0.1:0".into())).unwrap();
        let comet = Comet {
            program,
            home: folder.path().join("comet"),
            chain: world.chain.clone(),
            rpc: free_port(),
            // Nobody connects to it.
            p2p: "127.0.0.1:0".parse().unwrap(),
            application: server.address().unwrap().to_string(),
            commit_ms: 100,
            idle_seconds: 1,
        };
        thread::spawn(move || panic!("{}", server.serve(ledger)));
        comet.init().unwrap();
        let mut chain = Self { folder, comet, process: None };
        chain.resume();
        chain
    }

    pub fn rpc(&self) -> String {
        format!("http://{}", self.comet.rpc)
    }

    pub fn client(&self) -> Client {
        Client::new(&[self.rpc()]).unwrap()
    }

    /// Kills CometBFT.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Starts CometBFT.
    pub fn resume(&mut self) {
        let log = self.folder.path().join("comet.log");
        let log = File::options().create(true).append(true).open(log).unwrap();
        let process = Command::new(&self.comet.program)
            .args(["start", "--home"])
            .arg(&self.comet.home)
            .stdin(Stdio::null())
            .stderr(log.try_clone().unwrap())
            .stdout(log)
            .spawn()
            .unwrap();
        self.process = Some(process);
    }

    /// Waits until a block of at least this height is there.
    pub async fn wait_for_height(&self, height: u64) {
        let client = self.client();
        let reached = async {
            while !client.height().await.is_ok_and(|found| found >= height) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, reached).await.is_err() {
            let log = std::fs::read_to_string(self.folder.path().join("comet.log"));
            panic!("no block {height} after {PATIENCE:?}:\n{}", log.unwrap_or_default());
        }
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        self.kill();
    }
}
