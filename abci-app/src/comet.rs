//! A CometBFT node beside the application: its home directory and its process.
//!
//! One validator on one machine; what several need comes with them.

use protocol::signed::ChainId;
use serde_json::Value;
use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::transport::Address;

/// What a node is set up from.
#[derive(Clone, Debug)]
pub struct Node {
    /// The `cometbft` program, 0.38.
    pub program: PathBuf,
    /// Its home directory.
    pub home: PathBuf,
    /// The chain, when it begins.
    pub chain: ChainId,
    /// Where the application listens.
    pub application: Address,
    /// Where RPC is answered.
    pub rpc: SocketAddr,
    /// Where peers connect.
    pub p2p: SocketAddr,
    /// The pause after a block before the next.
    pub pause: Duration,
}

/// A node cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum CometError {
    /// The program cannot be run.
    #[error("{program} cannot be run ({source}): name a cometbft 0.38 program")]
    Program {
        /// What was to be run.
        program: String,
        /// The reason.
        source: io::Error,
    },
    /// It failed.
    #[error("cometbft init failed: {0}")]
    Init(String),
    /// The genesis file cannot be read or written.
    #[error("the genesis file {path} cannot be used: {wrong}")]
    Genesis {
        /// The file.
        path: String,
        /// What is wrong.
        wrong: String,
    },
}

impl Node {
    /// Makes the home directory of a new chain's one validator; leaves one that is there alone.
    pub fn init(&self) -> Result<(), CometError> {
        let path = self.home.join("config").join("genesis.json");
        if path.exists() {
            return Ok(());
        }
        let output = self
            .command("init")
            .output()
            .map_err(|source| CometError::Program { program: self.program_name(), source })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_string();
            return Err(CometError::Init(said));
        }
        set_chain_id(&path, &self.chain)
            .map_err(|wrong| CometError::Genesis { path: path.display().to_string(), wrong })
    }

    /// Starts the node; its log goes to `log`. A block is made when there is something for it.
    pub fn start(&self, log: Stdio) -> Result<Child, CometError> {
        self.start_with(log, &[])
    }

    /// As [`Node::start`], with more environment: `CMT_` and a setting's name override the
    /// configuration file.
    pub fn start_with(
        &self,
        log: Stdio,
        environment: &[(&str, &str)],
    ) -> Result<Child, CometError> {
        self.command("node")
            .arg(format!("--proxy_app={}", self.application))
            .arg(format!("--rpc.laddr=tcp://{}", self.rpc))
            .arg(format!("--p2p.laddr=tcp://{}", self.p2p))
            .arg("--consensus.create_empty_blocks=false")
            .env("CMT_CONSENSUS_TIMEOUT_COMMIT", format!("{}ms", self.pause.as_millis()))
            // The smallest limit that our largest transaction (with room for framing) fits.
            .env("CMT_MEMPOOL_MAX_TX_BYTES", "1048576")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .stdout(log)
            .spawn()
            .map_err(|source| CometError::Program { program: self.program_name(), source })
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(verb).arg("--home").arg(&self.home);
        command
    }

    fn program_name(&self) -> String {
        self.program.display().to_string()
    }
}

fn set_chain_id(path: &Path, chain: &ChainId) -> Result<(), String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let mut genesis: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let field = genesis.get_mut("chain_id").ok_or("it has no chain_id")?;
    *field = Value::String(chain.to_string());
    let text = serde_json::to_string_pretty(&genesis).map_err(|error| error.to_string())?;
    fs::write(path, text).map_err(|error| error.to_string())
}
