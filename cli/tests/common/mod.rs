//! A whole network as processes on loopback: the real CometBFT, the ledger, a parameter server,
//! workers, and `alia`.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail by panicking")]

pub mod liar;

use cli::{
    JobSettings, Prepared,
    job_file::{AdamSettings, ModelSettings},
    prepare,
};
use kernels::{Workspace, optimiser, sum::Tree};
use lab::services::Comet;
use protocol::{
    BatchPart, Digest, SecretKey,
    api::{JobPhase, JobStatus},
    job::LogLevel,
};
use serde_json::Value;
use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread::sleep,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use text::{Pair, grammar};

/// Within so long everything here happens, on a busy machine too.
pub const PATIENCE: Duration = Duration::from_secs(240);
pub const CHAIN: &str = "alia-path-test";
const POLL: Duration = Duration::from_millis(50);

/// One network at a time: each has processes that compute.
static ONE: Mutex<()> = Mutex::new(());

/// The CometBFT program, or a printed line and nothing.
pub fn cometbft() -> Option<PathBuf> {
    let program = std::env::var_os("ALIA_COMETBFT");
    if program.is_none() {
        println!("skipped: ALIA_COMETBFT does not name a cometbft 0.38 program");
    }
    program.map(PathBuf::from)
}

/// A program that was built beside `alia`.
fn program(name: &str) -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_alia")).with_file_name(name);
    assert!(
        beside.is_file(),
        "{} is not built: cargo build --release -p abci-app -p paramserver -p compute",
        beside.display()
    );
    beside
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not after {PATIENCE:?}");
        sleep(POLL);
    }
}

/// A child process with a log; killed when dropped.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    fn start(name: &str, folder: &Path, command: &mut Command) -> Self {
        let log = folder.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        Self { name: name.into(), child, log }
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(40)..];
            println!("--- {}, the last lines of its log:\n{}", self.name, last.join("\n"));
        }
    }
}

/// What a command of `alia` gave.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// That it went well.
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}\n{}", self.out, self.err);
        self
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(self.out.trim())
            .unwrap_or_else(|error| panic!("{error}: {}\n{}", self.out, self.err))
    }
}

/// A network. Its processes end with it, in this order.
pub struct Network {
    pub workers: Vec<Process>,
    pub server: Option<Process>,
    comet: Option<Process>,
    ledger: Option<Process>,
    settings: Comet,
    server_address: SocketAddr,
    pub folder: TempDir,
    _one: MutexGuard<'static, ()>,
}

impl Network {
    /// A chain with a home set up for it and a parameter server; no worker yet.
    pub fn start(comet: PathBuf) -> Self {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        let application = free_port();
        let settings = Comet {
            program: comet,
            home: folder.path().join("comet"),
            chain: CHAIN.parse().unwrap(),
            rpc: free_port(),
            p2p: free_port(),
            application: format!("tcp://{application}"),
            commit_ms: 200,
            idle_seconds: 1,
        };
        let ledger = Process::start(
            "abci-app",
            folder.path(),
            Command::new(program("abci-app"))
                .args(["--listen", &settings.application, "--home"])
                .arg(folder.path().join("ledger")),
        );
        settings.init().unwrap();
        let mut network = Self {
            workers: Vec::new(),
            server: None,
            comet: None,
            ledger: Some(ledger),
            settings,
            server_address: free_port(),
            folder,
            _one: one,
        };
        network.start_chain();
        network
            .alia(&["init", "--ledger", &network.rpc(), "--parameter-server", &network.url()])
            .ok();
        network.delegate("server.key", "paramserver", &["--data", "data", "--key"]);
        network.start_server();
        network
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn rpc(&self) -> String {
        format!("http://{}", self.settings.rpc)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.server_address)
    }

    pub fn home(&self) -> cli::Home {
        cli::Home::open(&self.path("home")).unwrap()
    }

    pub fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    /// Runs `alia` with this network's home.
    pub fn alia(&self, arguments: &[&str]) -> Ran {
        let output = Command::new(env!("CARGO_BIN_EXE_alia"))
            .arg("--home")
            .arg(self.path("home"))
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        Ran {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Kills CometBFT.
    pub fn stop_chain(&mut self) {
        self.comet = None;
    }

    /// Starts CometBFT and waits for its next block.
    pub fn start_chain(&mut self) {
        let comet = Process::start(
            "cometbft",
            self.folder.path(),
            Command::new(&self.settings.program).args(["start", "--home"]).arg(&self.settings.home),
        );
        self.comet = Some(comet);
        let client = ledger_client::Client::new(&[self.rpc()]).unwrap();
        let runtime = Self::runtime();
        let mut first = None;
        // Two blocks later a state is proven.
        wait_for("blocks", || {
            let height = runtime.block_on(client.height()).ok().filter(|height| *height > 0)?;
            (height > *first.get_or_insert(height)).then_some(())
        });
    }

    /// Makes a node's key and has the owner delegate to it.
    fn delegate(&self, key: &str, name: &str, before: &[&str]) {
        let shown = Command::new(program(name))
            .args(before)
            .arg(self.path(key))
            .arg("--show-key")
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        let node = String::from_utf8(shown.stdout).unwrap();
        let delegation = self.alia(&["delegate", node.trim()]).ok().out;
        fs::write(self.path(&format!("{key}.delegation")), delegation).unwrap();
    }

    pub fn start_server(&mut self) {
        let server = Process::start(
            "paramserver",
            self.folder.path(),
            Command::new(program("paramserver"))
                .args(["--chain", CHAIN, "--ledger", &self.rpc(), "--listen"])
                .arg(self.server_address.to_string())
                .arg("--data")
                .arg(self.path("data"))
                .arg("--key")
                .arg(self.path("server.key"))
                .arg("--delegation")
                .arg(self.path("server.key.delegation")),
        );
        self.server = Some(server);
        wait_for("the parameter server", || TcpStream::connect(self.server_address).ok());
    }

    /// SIGKILL to the parameter server.
    pub fn kill_server(&mut self) {
        self.server = None;
    }

    /// Starts a worker; `isa` forces its instruction set.
    pub fn start_worker(&mut self, isa: Option<&str>) {
        let name = format!("worker-{}", self.workers.len());
        let key = format!("{name}.key");
        if !self.path(&key).exists() {
            self.delegate(&key, "compute", &["standalone", "--key"]);
        }
        let mut command = Command::new(program("compute"));
        command
            .args(["standalone", "--threads", "1", "--chain", CHAIN, "--ledger", &self.rpc()])
            .args(["--parameter-server", &self.url(), "--key"])
            .arg(self.path(&key))
            .arg("--delegation")
            .arg(self.path(&format!("{key}.delegation")));
        if let Some(isa) = isa {
            command.env("ALIA_ISA", isa);
        }
        let worker = Process::start(&name, self.folder.path(), &mut command);
        self.workers.push(worker);
    }

    /// Submits a small job and gives its id.
    pub fn submit(&self, job: &SmallJob) -> String {
        let pairs = job.pairs();
        let tsv: String =
            pairs.iter().map(|pair| format!("{}\t{}\n", pair.source, pair.target)).collect();
        fs::write(self.path("corpus.tsv"), tsv).unwrap();
        fs::write(self.path("JOB.toml"), job.toml()).unwrap();
        let ran = self.alia(&["--json", "job", "submit", "JOB.toml", "--out", &job.folder()]).ok();
        let value = ran.json();
        value["submitted"]["job"].as_str().unwrap().to_string()
    }

    /// A job as its server shows it; none while the server is away.
    pub fn status(&self, job: &str) -> Option<JobStatus> {
        let server = cli::ParameterServer::new(&self.url()).unwrap();
        Self::runtime().block_on(server.status(&job.parse().unwrap())).ok()
    }

    /// Waits until a job has a number of receipts.
    pub fn wait_for_receipts(&self, job: &str, count: u64) {
        wait_for(&format!("{count} receipts"), || {
            self.status(job).filter(|status| status.receipts >= count)
        });
    }

    /// Waits until a job is done and all its receipts stand confirmed.
    pub fn wait_until_done(&self, job: &str) -> JobStatus {
        let mut last = String::from("no status");
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.status(job) {
                last = cli::show::job_line(&status);
                match &status.phase {
                    JobPhase::Failed(why) => panic!("the job failed: {why}"),
                    JobPhase::Done => return status,
                    _ => {}
                }
            }
            assert!(Instant::now() < end, "not done after {PATIENCE:?}: {last}");
            sleep(POLL);
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Workers first: what they would log of a network that goes down says nothing.
        self.workers.clear();
        self.server = None;
        self.comet = None;
        self.ledger = None;
    }
}

/// A job that takes a few seconds.
#[derive(Clone, Debug)]
pub struct SmallJob {
    pub nonce: u64,
    pub epochs: u32,
}

impl SmallJob {
    pub fn pairs(&self) -> Vec<Pair> {
        grammar::corpus(5, 700).pairs().to_vec()
    }

    pub fn folder(&self) -> String {
        format!("job-{}", self.nonce)
    }

    pub fn settings(&self) -> JobSettings {
        JobSettings {
            label: "small".into(),
            held_out: 40,
            vocabulary: 330,
            seed: 7,
            nonce: self.nonce,
            epochs: self.epochs,
            micro_batches: 4,
            micro_batch_tokens: Some(420),
            model: ModelSettings {
                width: 16,
                heads: 2,
                feed_forward: 32,
                encoder_layers: 1,
                decoder_layers: 1,
                max_length: 60,
            },
            adam: AdamSettings { warmup_steps: 10, ..AdamSettings::default() },
            ..JobSettings::default()
        }
    }

    fn toml(&self) -> String {
        let JobSettings { held_out, vocabulary, seed, micro_batches, model, adam, .. } =
            self.settings();
        format!(
            "corpus = 'corpus.tsv'\nlabel = 'small'\nheld_out = {held_out}\n\
             vocabulary = {vocabulary}\nseed = {seed}\nnonce = {}\nepochs = {}\n\
             micro_batches = {micro_batches}\nmicro_batch_tokens = {}\n\
             [model]\nwidth = {}\nheads = {}\nfeed_forward = {}\nencoder_layers = {}\n\
             decoder_layers = {}\nmax_length = {}\n[adam]\nwarmup_steps = {}\n",
            self.nonce,
            self.epochs,
            self.settings().micro_batch_tokens.unwrap(),
            model.width,
            model.heads,
            model.feed_forward,
            model.encoder_layers,
            model.decoder_layers,
            model.max_length,
            adam.warmup_steps,
        )
    }

    pub fn prepared(&self) -> Prepared {
        let requester = SecretKey::from_seed([1; 32]).public();
        prepare(&self.settings(), self.pairs(), requester).unwrap()
    }

    /// The parameters that this job ends with where no network is: one thread, one loop.
    pub fn without_a_network(&self) -> Digest {
        let prepared = self.prepared();
        let job = &prepared.job;
        let schedule = job.terms().schedule().clone();
        let mut workspace = Workspace::new(job.shape()).unwrap();
        let seed = self.settings().seed;
        let mut parameters = kernels::model::Parameters::initial(job.shape(), seed).unwrap();
        let mut state = optimiser::State::new(job.shape()).unwrap();
        for epoch in 0..schedule.epochs {
            for step in 0..schedule.steps() {
                let count = schedule.micro_batches(step);
                let mut tree = Tree::new(count, parameters.elements().len());
                for micro in 0..count {
                    let batch = job.batch(epoch, step, BatchPart::Micro(micro));
                    let level = LogLevel::Boundaries;
                    job.train(&batch, level, &parameters, &mut workspace, ()).unwrap();
                    tree.insert(micro, 1, workspace.gradient().to_vec()).unwrap();
                }
                let mut sum = tree.finish().unwrap();
                job.apply(epoch, step, &mut parameters, &mut state, &mut sum).unwrap();
            }
        }
        parameters.digest()
    }
}
