//! `cargo xtask`.

use clap::{Parser, Subcommand};
use std::{path::PathBuf, process::ExitCode};
use xtask::{bench, fleet, image, keys, release, secure_boot, test, up};

/// The commands of aliaOS.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Flags {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Up(Box<up::Flags>),
    Test(test::Flags),
    Image(image::Flags),
    Keys(keys::Flags),
    Release(release::Flags),
    Bench(bench::Flags),
    Fleet(Box<fleet::Flags>),
    Uki(secure_boot::UkiFlags),
    Stick(secure_boot::StickFlags),
    Medium(secure_boot::MediumFlags),
    /// Inside of `up`.
    #[command(hide = true)]
    UpInside {
        plan: PathBuf,
    },
}

fn main() -> ExitCode {
    let result = match Flags::parse().command {
        Command::Up(flags) => up::run(*flags),
        Command::Test(flags) => test::run(flags),
        Command::Image(flags) => image::run(flags),
        Command::Keys(flags) => keys::run(flags),
        Command::Release(flags) => release::run(flags),
        Command::Bench(flags) => bench::run(flags),
        Command::Fleet(flags) => fleet::run(*flags),
        Command::Uki(flags) => secure_boot::uki(flags),
        Command::Stick(flags) => secure_boot::stick(flags),
        Command::Medium(flags) => secure_boot::medium(flags),
        Command::UpInside { plan } => up::inside::run(&plan),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", protocol::told(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}
