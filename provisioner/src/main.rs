//! `provisioner`: boots machines from the network into aliaOS.

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use protocol::{PublicKey, SecretKey};
use provisioner::{
    config::Options,
    machine::Mac,
    net,
    store::Store,
    tftp::server::{Report, Server},
};
use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::{ErrorKind, IsTerminal, Write},
    net::SocketAddrV4,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};
use tracing_subscriber::EnvFilter;

/// Boots machines from the network into aliaOS, takes them in, and shows them.
#[derive(Parser)]
#[command(
    version,
    after_help = "Try:
  provisioner key provisioner.key
  provisioner serve --interface eth0 --dhcp proxy --ipxe /usr/lib/ipxe --image image

RUST_LOG=provisioner=debug shows every packet."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve a network: DHCP or ProxyDHCP, TFTP, HTTP, page and API
    #[command(after_help = "In proxy mode another DHCP server gives the addresses, and nothing \
there has to be changed. In full mode there must be no other one on the network. The ports are \
67, 69 and 4011 by UDP (for them root, or CAP_NET_BIND_SERVICE, is needed) and 8080 by TCP; with \
--dhcp6 full 547 by UDP too, and a raw socket for router advertisements (CAP_NET_RAW).")]
    Serve(Box<Options>),
    /// Make a secret key where there is none yet, and show its public half
    Key {
        /// Where it is kept, readable by its owner alone
        file: PathBuf,
    },
    /// Let a node key in that waits on its machine, or came with another TPM or board
    Approve {
        /// The database that `serve` uses; it may run meanwhile
        #[arg(long, value_name = "FILE", default_value = "provisioner.sqlite")]
        database: PathBuf,
        /// The machine's MAC address
        mac: Mac,
        /// The node's key, as the machine's page shows it
        node: PublicKey,
    },
    /// Serve the files of one folder by TFTP, and nothing else
    Tftp {
        /// The folder
        #[arg(long, value_name = "FOLDER")]
        root: PathBuf,
        /// Where to listen
        #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:69")]
        listen: SocketAddrV4,
        /// The MTU of the way to the clients; blocks stay 32 bytes below it
        #[arg(long, value_name = "BYTES", default_value_t = 1500)]
        mtu: u16,
    },
}

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", protocol::told(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Key { file } => key(&file),
        Command::Approve { database, mac, node } => approve(&database, mac, &node),
        Command::Serve(options) => {
            Builder::new_multi_thread().enable_all().build()?.block_on(serve(*options))
        }
        // One thread: a block more or less is no work to share out.
        Command::Tftp { root, listen, mtu } => {
            Builder::new_current_thread().enable_all().build()?.block_on(tftp(&root, listen, mtu))
        }
    }
}

async fn serve(options: Options) -> anyhow::Result<()> {
    let running = provisioner::run::start(options.with_file()?).await?;
    println!("{}\nready", running.banner);
    told_to_stop().await?;
    tokio::task::spawn_blocking(move || running.timeline.flush(Duration::from_secs(5))).await?;
    // Connections that still run (watchers' never end) are cut.
    std::process::exit(0)
}

async fn tftp(root: &Path, listen: SocketAddrV4, mtu: u16) -> anyhow::Result<()> {
    let socket = net::udp(listen, None, "TFTP")?;
    let observer = Arc::new(|report: Report| match report {
        Report::Ended(transfer) => tracing::debug!("{transfer:?}"),
        Report::Refused { peer, reason, .. } => tracing::warn!("{peer} gets nothing: {reason}"),
        Report::Began { .. } => {}
    });
    let server = Server::new(socket, Some(root), vec![], mtu, observer)
        .with_context(|| format!("the folder {} cannot be served", root.display()))?;
    println!("TFTP {}\nready", server.address()?);
    tokio::select! {
        () = server.serve() => Ok(()),
        stop = told_to_stop() => stop,
    }
}

async fn told_to_stop() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    Ok(())
}

fn approve(database: &Path, mac: Mac, node: &PublicKey) -> anyhow::Result<()> {
    if !database.exists() {
        bail!("{}: there is no database here; name the one that `serve` uses", database.display());
    }
    let store = Store::open(database, BTreeMap::new())?;
    if !store.approve(mac, node)? {
        bail!("no machine {mac} is known; it appears once it asks what to boot");
    }
    println!("{mac} may come in with node key {node}");
    Ok(())
}

fn key(path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let key = match made {
        Ok(mut file) => {
            let key = SecretKey::generate()?;
            writeln!(file, "{}", key.to_hex()).with_context(|| format!("{shown}"))?;
            file.sync_all().with_context(|| format!("{shown}"))?;
            key
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let text = std::fs::read_to_string(path).with_context(|| format!("{shown}"))?;
            SecretKey::from_hex(&text).with_context(|| format!("{shown}"))?
        }
        Err(error) => bail!("{shown}: {error}"),
    };
    println!("{}", key.public());
    Ok(())
}
