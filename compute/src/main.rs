//! The compute service's program.

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use compute::{
    Worker, WorkerSettings,
    heart::{self, Beats},
    receipts::Signer,
};
use identity::{NodeIdentity, keyfile, node::own_release, register};
use ledger_client::Client;
use protocol::{
    ChainId, Digest, SecretKey, boot::ComputeConfig, inventory::Inventory, node::NodeRole,
};
use std::{fs, path::PathBuf, process::ExitCode, thread};
use tokio::signal::unix::{SignalKind, signal};

/// Takes micro-batches from parameter servers, does them, and hands a receipt for each to the
/// ledger.
#[derive(Parser)]
#[command(version)]
struct Flags {
    #[command(subcommand)]
    command: Command,
    /// How many threads compute; all of the machine's by default.
    #[arg(long, global = true, value_name = "N")]
    threads: Option<usize>,
}

#[derive(Subcommand)]
enum Command {
    /// As PID 1 starts it on a booted machine.
    Serve {
        /// The settings and this boot's work key, as PID 1 wrote them.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Prints what NVIDIA's driver says of each card, a line of JSON each, and ends.
    Cards,
    /// As a worker on an ordinary Linux machine: keeps its own identity and registers itself.
    Standalone(Standalone),
}

#[derive(Args)]
struct Standalone {
    /// This node's identity key; made where there is none.
    #[arg(long, value_name = "FILE", default_value = "node.key")]
    key: PathBuf,
    /// The owner's delegation to that key, as `alia delegate` writes it.
    #[arg(long, value_name = "FILE")]
    delegation: Option<PathBuf>,
    /// Only print this node's public key, making the key where there is none.
    #[arg(long)]
    show_key: bool,
    /// The chain's id.
    #[arg(long, value_name = "ID", default_value = "alia-lab")]
    chain: ChainId,
    /// CometBFT RPC addresses, in the order in which to try them.
    #[arg(long = "ledger", value_name = "URL", default_value = "http://127.0.0.1:26657")]
    ledgers: Vec<String>,
    /// Parameter servers to take work from.
    #[arg(long = "parameter-server", value_name = "URL", default_value = "http://127.0.0.1:8070")]
    servers: Vec<String>,
}

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|_| "info".into()))
        .with_target(false)
        .with_ansi(false)
        .init();
    match run(Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", protocol::told(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run(flags: Flags) -> anyhow::Result<()> {
    if matches!(flags.command, Command::Cards) {
        for reading in compute::cards::readings()? {
            println!("{}", serde_json::to_string(&reading)?);
        }
        return Ok(());
    }
    if let Ok(name) = std::env::var("ALIA_ISA") {
        kernels::isa::force(name.parse()?)?;
    }
    let available = thread::available_parallelism().map_or(1, usize::from);
    let threads = flags.threads.unwrap_or(available).max(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let settings = match flags.command {
            Command::Cards => return Ok(()),
            Command::Serve { config } => {
                heart::begin();
                from_pid_1(&config, threads)?
            }
            Command::Standalone(standalone) => match on_our_own(standalone, threads).await? {
                Some(settings) => settings,
                None => return Ok(()),
            },
        };
        let mut asked = signal(SignalKind::terminate()).context("listening to SIGTERM")?;
        let stop = async move {
            asked.recv().await;
        };
        Worker::observed(settings, Beats)?.run_until(stop).await;
        Ok(())
    })
}

fn device(threads: usize) -> String {
    format!("{} x{threads}", kernels::isa::current())
}

fn from_pid_1(path: &PathBuf, threads: usize) -> anyhow::Result<WorkerSettings> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let config: ComputeConfig =
        serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))?;
    let signer = Signer {
        chain: config.chain,
        work_key: SecretKey::from_hex(&config.work_key)?,
        certificate: config.certificate,
        release: config.release,
        device: device(threads),
    };
    let (servers, ledgers) = (config.parameter_servers, config.ledgers);
    Ok(WorkerSettings { signer, servers, ledgers, threads })
}

async fn on_our_own(flags: Standalone, threads: usize) -> anyhow::Result<Option<WorkerSettings>> {
    let key = keyfile::read_or_create(&flags.key)?;
    let node = key.public();
    if flags.show_key {
        println!("{node}");
        return Ok(None);
    }
    let release = own_release().context("reading this program's own file")?;
    let identity = NodeIdentity::new(flags.chain, key, release)?;
    let Some(delegation) = flags.delegation else {
        bail!(
            "whose node is this? Give --delegation FILE, the owner's delegation to {node} \
             (`alia delegate {node} > FILE`)"
        );
    };
    let ownership = register::read_ownership(&delegation, &identity)?;
    let client = Client::new(&flags.ledgers)?;
    register(&client, &identity, ownership, NodeRole::Worker, inventory()).await?;
    tracing::info!(%node, "registered on the ledger");
    let signer = Signer {
        chain: identity.chain,
        work_key: identity.work_key,
        certificate: identity.certificate,
        release,
        device: device(threads),
    };
    let (servers, ledgers) = (flags.servers, flags.ledgers);
    Ok(Some(WorkerSettings { signer, servers, ledgers, threads }))
}

/// What an ordinary machine says of itself: its processor alone. PID 1 of a booted one says all.
fn inventory() -> Digest {
    let mut inventory = Inventory::default();
    inventory.cpu.threads = thread::available_parallelism().map_or(1, usize::from) as u32;
    inventory.cpu.features = kernels::isa::ALL
        .iter()
        .filter(|isa| isa.is_available())
        .map(ToString::to_string)
        .collect();
    inventory.digest()
}
