//! `alia`, the program: flags in, text or JSON out, an exit code for scripts.

mod commands;
mod output;

use clap::{CommandFactory, Parser, Subcommand};
use cli::{Error, Exit};
use commands::{fleet, init, job, key, medium, node, receipts, release, replay, translate};
use output::Output;
use std::{path::PathBuf, process::ExitCode};

/// Keys, jobs, receipts, proofs and translations of an aliaOS network.
///
/// It trusts no server: files are checked by their digests, what the chain says is proven from a
/// header that `alia init` pins, and `alia replay` does a receipt's work again on this CPU.
///
/// Exit codes: 0 done; 1 it could not be done; 2 called wrongly; 3 a proof or replay found a lie.
#[derive(Parser)]
#[command(
    name = "alia",
    version,
    after_help = "Begin with: alia init --ledger URL; then \
    alia job example > JOB.toml, alia job submit JOB.toml"
)]
struct Flags {
    /// The home folder: settings, the owner's key, the trust root; ~/.alia by default.
    #[arg(long, global = true, value_name = "DIR", env = cli::home::ENVIRONMENT)]
    home: Option<PathBuf>,
    /// Print JSON, one value (of `job watch`: one a line), for scripts.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Set up the home folder: make the account's key and pin the chain's trust root.
    Init(init::Init),
    /// The account's key.
    #[command(subcommand)]
    Key(key::Key),
    /// Let a node work in this account's name: print the signed delegation.
    Delegate(key::Delegate),
    /// Jobs: submit, watch, fetch, score.
    #[command(subcommand)]
    Job(job::Job),
    /// Media for machines at home.
    #[command(subcommand)]
    Medium(medium::Medium),
    /// Nodes: look into them, drain them, restart them.
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Machines of a provisioner, as its operator: see them, take them in, steer them.
    #[command(subcommand)]
    Fleet(fleet::FleetCommand),
    /// List receipts, as a ledger server has them: its word, not a proof.
    Receipts(receipts::Receipts),
    /// Show a receipt; with --prove, prove that it stands in a block.
    Receipt(receipts::Receipt),
    /// Releases of the image that machines boot.
    #[command(subcommand)]
    Release(release::Release),
    /// Do a receipt's batch again on this CPU and compare every digest.
    Replay(replay::Replay),
    /// Translate text with a trained model, here or by the network's workers.
    Translate(translate::Translate),
    /// BLEU of translations against references, a sentence a line.
    Score(translate::Score),
    /// Print what a shell completes `alia` by.
    #[command(
        after_help = "Example: alia completion bash > ~/.local/share/bash-completion/completions/alia"
    )]
    Completion {
        /// For which shell.
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    let output = Output::new(flags.json);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output.note(format_args!("error: no threads can be started: {error}"));
            return Exit::Failed.into();
        }
    };
    let exit = runtime.block_on(run(flags, &output)).unwrap_or_else(|error| {
        output.note(format_args!("error: {error}"));
        error.exit()
    });
    // Nothing of what may still run in the background matters any more.
    runtime.shutdown_background();
    exit.into()
}

async fn run(flags: Flags, output: &Output) -> Result<Exit, Error> {
    if let Ok(name) = std::env::var("ALIA_ISA") {
        let forced = name.parse().and_then(kernels::isa::force);
        forced.map_err(|error| Error::Refused(format!("ALIA_ISA: {error}")))?;
    }
    let home = commands::HomeFlag(flags.home);
    match flags.command {
        Command::Init(command) => command.run(&home, output).await,
        Command::Key(command) => command.run(&home, output),
        Command::Delegate(command) => command.run(&home, output),
        Command::Job(command) => command.run(&home, output).await,
        Command::Medium(command) => command.run(&home, output).await,
        Command::Node(command) => command.run(&home, output).await,
        Command::Fleet(command) => command.run(&home, output).await,
        Command::Receipts(command) => command.run(&home, output).await,
        Command::Receipt(command) => command.run(&home, output).await,
        Command::Release(command) => command.run(output).await,
        Command::Replay(command) => command.run(&home, output).await,
        Command::Translate(command) => command.run(&home, output).await,
        Command::Score(command) => command.run(output),
        Command::Completion { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Flags::command(), "alia", &mut text);
            output.raw(String::from_utf8_lossy(&text));
            Ok(Exit::Ok)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_hold_together_and_every_command_teaches_by_an_example() {
        Flags::command().debug_assert();
        fn check(command: &clap::Command, path: String) {
            let leaf = command.get_subcommands().next().is_none();
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(!leaf || after.contains("alia "), "{path} has no example");
            for inner in command.get_subcommands() {
                check(inner, format!("{path} {}", inner.get_name()));
            }
        }
        for command in Flags::command().get_subcommands() {
            check(command, command.get_name().into());
        }
    }
}
