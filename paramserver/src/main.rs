//! The parameter server's program.

use anyhow::{Context, bail};
use clap::Parser;
use identity::{NodeIdentity, keyfile, node::own_release, register};
use ledger_client::Client;
use listener::Limits;
use paramserver::{
    chain::{self, Registry},
    http,
    server::Server,
    store::Store,
    training::{CHECKPOINT_STEPS, Keep},
};
use protocol::{
    ChainId, Digest,
    node::{NodeRole, Ownership},
};
use std::{io::IsTerminal, net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};
use tokio::{net::TcpListener, signal::unix::SignalKind};

/// Runs parameter servers: takes jobs, gives their batches to workers, sums what comes back, takes
/// the optimiser's steps, and keeps every receipt until it stands on the chain.
///
/// Killed at any moment it goes on where it stopped: what was acknowledged is in --data.
#[derive(Parser)]
#[command(version)]
struct Flags {
    /// Folder for jobs, parameters and receipts.
    #[arg(long, value_name = "DIR", env = "ALIA_DATA")]
    data: PathBuf,
    /// This node's identity key; made where there is none (DIR/node.key by default).
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
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
    /// Where workers and requesters come in.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8070")]
    listen: SocketAddr,
    /// How much is kept of each job's past steps, in GiB.
    ///
    /// That is its gradient sums and checkpoints, dropped oldest first, 64 steps and their
    /// checkpoint at a time, when a checkpoint is written and when the job is done. Parameters of
    /// dropped steps can no longer be rebuilt (410 Gone), and receipts of those steps no longer be
    /// replayed. Steps since the newest checkpoint are kept in any case, so a job may take 64 sums
    /// and a checkpoint more than this: each sum 4 bytes a parameter, a checkpoint 12. Receipts,
    /// the job's files and its result are never dropped.
    #[arg(long, value_name = "GIB", default_value_t = 8)]
    keep: u64,
    /// Memory that jobs may take together, in MiB: half of this machine's by default.
    ///
    /// A training job takes about 48 bytes a parameter; one that does not fit is refused.
    #[arg(long, value_name = "MIB")]
    memory: Option<u64>,
    /// Steps between checkpoints; for tests.
    #[arg(long, value_name = "STEPS", hide = true, default_value_t = CHECKPOINT_STEPS)]
    checkpoint_steps: u32,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|_| "info".into()))
        .with_target(false)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match run(flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", protocol::told(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run(flags: Flags) -> anyhow::Result<()> {
    if let Ok(name) = std::env::var("ALIA_ISA") {
        kernels::isa::force(name.parse()?)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(serve(flags));
    // A job that is being rebuilt need not be waited for: the disk has all of it.
    runtime.shutdown_background();
    ended
}

async fn serve(flags: Flags) -> anyhow::Result<()> {
    let key_file = flags.key.unwrap_or_else(|| flags.data.join("node.key"));
    let key = keyfile::read_or_create(&key_file)?;
    if flags.show_key {
        println!("{}", key.public());
        return Ok(());
    }
    let release = own_release().context("reading this program's own file")?;
    let identity = NodeIdentity::new(flags.chain, key, release)?;
    let node = identity.node();
    let Some(delegation) = flags.delegation else {
        bail!(
            "whose node is this? Give --delegation FILE, the owner's delegation to {node} \
             (`alia delegate {node} > FILE`)"
        );
    };
    let ownership = register::read_ownership(&delegation, &identity)?;
    let client = Client::new(&flags.ledgers)?;
    let listener = TcpListener::bind(flags.listen).await.with_context(|| {
        let port = flags.listen.port();
        format!(
            "cannot listen on {}; `ss -ltnp sport = :{port}` shows who does, or choose another \
             with --listen",
            flags.listen
        )
    })?;
    // Before anything is taken up: the store's lock shows a second server on the same data.
    let store = Store::open(&flags.data)?;
    let keep = Keep { bytes: flags.keep << 30, checkpoint_steps: flags.checkpoint_steps };
    let memory = flags.memory.map_or_else(half_of_memory, |mib| mib << 20);
    let server = Arc::new(Server::open(store, identity, keep)?.with_memory(memory));
    let mut terminate = tokio::signal::unix::signal(SignalKind::terminate())?;
    // Served at once: while the chain is away, what is here can be asked for and worked on.
    let router = http::router(server.clone(), Registry::new(client.clone()));
    tracing::info!(address = %flags.listen, "serving");
    tokio::select! {
        never = listener::serve(listener, Limits::USUAL, router) => match never {},
        refused = work(server, client, ownership) => refused?,
        _ = terminate.recv() => tracing::info!("stopped: all that was taken is on disk"),
        _ = tokio::signal::ctrl_c() => tracing::info!("stopped: all that was taken is on disk"),
    }
    Ok(())
}

/// Half of this machine's memory, bytes; where that cannot be read (proc(5)), no bound.
fn half_of_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.map_or(u64::MAX, |kib| kib * 512)
}

/// Takes the jobs up again and enters the chain, then tells it what happens here.
async fn work(server: Arc<Server>, client: Client, ownership: Ownership) -> anyhow::Result<()> {
    let resuming = server.clone();
    tokio::task::spawn_blocking(move || resuming.resume());
    let identity = &server.identity;
    // A server is described by its program; what machine it runs on is nobody's business.
    let inventory = Digest::of("aliaOS parameter server inventory v1", &identity.release);
    let role = NodeRole::ParameterServer;
    let node = register(&client, identity, ownership, role, inventory).await?;
    tracing::info!(%node, "registered on the ledger");
    server.registered.send_replace(true);
    chain::run(server, client).await;
    Ok(())
}
