//! `abci-app`: serves the ledger to a CometBFT node.

use abci_app::{
    Ledger,
    state::Store,
    transport::{Address, Failure, Server},
};
use anyhow::Context;
use clap::Parser;
use std::{io::IsTerminal, path::PathBuf, process::ExitCode};
use tokio::{
    select,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

/// The aliaOS ledger, an ABCI 2.0 application for CometBFT 0.38.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where CometBFT connects: its `proxy_app`.
    #[arg(long, default_value = "tcp://127.0.0.1:26658")]
    listen: Address,
    /// Directory of the state database.
    #[arg(long)]
    home: PathBuf,
}

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|_| "info".into()))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", protocol::told(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let ledger = Ledger::new(Store::open(&arguments.home)?)?;
    let server = Server::bind(&arguments.listen)?;
    let address = server.address().context("the bound address cannot be asked for")?;
    let height = ledger.height();
    tracing::info!("the ledger stands at height {height} and listens on {address}");
    let serving = ledger.clone();
    let (failed, failure) = oneshot::channel::<Failure>();
    std::thread::Builder::new().name("abci-serve".into()).spawn(move || {
        // The receiver is gone only where the process ends already.
        let _ = failed.send(server.serve(serving));
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        select! {
            failure = failure => Err(failure.context("the server is gone")?.into()),
            _ = terminate.recv() => anyhow::Ok(()),
            _ = interrupt.recv() => Ok(()),
        }
    })?;
    // A commit at hand is finished first; the database marks itself as closed in order.
    ledger.close();
    tracing::info!("stopped in order");
    Ok(())
}
