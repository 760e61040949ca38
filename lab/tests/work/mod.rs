//! Work for machines: a ledger, a parameter server, and a job that lasts for longer than a test.
//!
//! Given by the environment: ALIA_PROGRAMS (a folder with `abci-app` and `paramserver`) and
//! ALIA_COMETBFT.

use crate::bed::given;
use cli::{JobSettings, ParameterServer, listing, prepare, submit::submit};
use lab::{Ready, Service, ServiceSpec, net::SERVER, services::Comet};
use ledger_client::Client;
use protocol::{ChainId, JobId, PublicKey, SecretKey, Signed, node::Delegation};
use std::{
    fs,
    io::Write,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};
use text::grammar;

/// Of the ledger's RPC and the parameter server, inside.
pub(crate) const RPC: &str = "http://10.77.0.1:26657";
pub(crate) const PARAMETER_SERVER: &str = "http://10.77.0.1:8070";
const READY: Duration = Duration::from_secs(60);
/// How long a machine may take from its registration to a receipt in a block.
const RECEIPT_LIMIT: Duration = Duration::from_secs(300);
/// Sentences, and how often they are gone through: one machine under software emulation has work for
/// an hour.
const PAIRS: usize = 4_000;
const EPOCHS: u32 = 100;

pub(crate) struct Work {
    _services: Vec<Service>,
    client: Client,
    job: JobId,
}

impl Work {
    /// Starts it all, in `folder`, for an owner who asks for the work too.
    pub(crate) fn start(
        folder: &Path,
        chain: &ChainId,
        owner: &SecretKey,
        runtime: &tokio::runtime::Runtime,
    ) -> Self {
        let programs = given("ALIA_PROGRAMS");
        let start = |spec| Service::start_ready(spec, READY).unwrap_or_else(|e| panic!("{e}"));
        // The socket lies where its path is short enough.
        let application = "unix:///run/abci.sock";
        let home = folder.join("abci-app");
        let application_service = start(
            ServiceSpec::new("abci-app", programs.join("abci-app"), &home)
                .args(["--listen", application, "--home"])
                .arg(&home)
                .ready(Ready::Line("listens on".into())),
        );
        let comet = Comet {
            program: given("ALIA_COMETBFT"),
            home: folder.join("cometbft"),
            chain: chain.clone(),
            rpc: ([0, 0, 0, 0], 26_657).into(),
            p2p: ([127, 0, 0, 1], 26_656).into(),
            application: application.into(),
            commit_ms: 500,
            idle_seconds: 5,
        };
        comet.init().unwrap_or_else(|error| panic!("{error}"));
        let comet = start(comet.service());
        let home = folder.join("paramserver");
        delegated(&home, chain, owner);
        let server = start(
            ServiceSpec::new("paramserver", programs.join("paramserver"), &home)
                .args(["--chain", chain.as_str(), "--ledger", RPC, "--data"])
                .arg(&home)
                .arg("--delegation")
                .arg(home.join("delegation.json"))
                .args(["--listen", "0.0.0.0:8070"])
                .ready(Ready::Http(SocketAddr::from((SERVER, 8_070)), "/healthz".into())),
        );
        let client = Client::new(&[RPC]).unwrap();
        let pairs = grammar::corpus(1, PAIRS).pairs().to_vec();
        // Small pieces of work, so that a machine under emulation returns one every few seconds.
        let mut small = JobSettings {
            vocabulary: 400,
            micro_batches: 8,
            micro_batch_tokens: Some(400),
            epochs: EPOCHS,
            ..JobSettings::default()
        };
        (small.model.width, small.model.feed_forward, small.model.max_length) = (32, 64, 64);
        let settings = small.sized_for(pairs.len());
        let order = prepare(&settings, pairs, owner.public()).unwrap().order();
        let submitted = async {
            let server = ParameterServer::new(PARAMETER_SERVER).unwrap();
            submit(&client, &server, chain, owner, &order, |_| ()).await.unwrap()
        };
        let job = runtime.block_on(submitted).job;
        Self { _services: vec![server, comet, application_service], client, job }
    }

    /// Waits until more than `before` receipts of a node stand in blocks; gives how many do.
    pub(crate) fn receipts(
        &self,
        node: PublicKey,
        before: usize,
        runtime: &tokio::runtime::Runtime,
    ) -> usize {
        let until = Instant::now() + RECEIPT_LIMIT;
        loop {
            let found = listing::receipts(&self.client, Some(self.job), Some(node), usize::MAX);
            let count = runtime.block_on(found).unwrap().len();
            if count > before {
                return count;
            }
            assert!(Instant::now() < until, "no receipt within {} s", RECEIPT_LIMIT.as_secs());
            thread::sleep(Duration::from_secs(1));
        }
    }
}

/// A node's key in a folder, with the owner's delegation to it beside.
fn delegated(folder: &Path, chain: &ChainId, owner: &SecretKey) {
    fs::create_dir_all(folder).unwrap();
    let key = SecretKey::generate().unwrap();
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600);
    let mut file = file.open(folder.join("node.key")).unwrap();
    writeln!(file, "{}", key.to_hex()).unwrap();
    let delegation = Signed::sign(chain, Delegation { delegate: key.public() }, owner);
    fs::write(folder.join("delegation.json"), serde_json::to_vec(&delegation).unwrap()).unwrap();
}
