//! `alia key`, `alia delegate`.

use super::HomeFlag;
use crate::output::Output;
use clap::{Args, Subcommand};
use cli::{Error, Exit};
use protocol::{PublicKey, Signed, node::Delegation};
use serde_json::json;

/// The account's key.
#[derive(Subcommand)]
pub(crate) enum Key {
    /// Print the account's address and public key.
    #[command(after_help = "Example: alia key show")]
    Show,
}

impl Key {
    pub(crate) fn run(self, home: &HomeFlag, output: &Output) -> Result<Exit, Error> {
        let Self::Show = self;
        let key = home.open()?.key()?.public();
        output.give(&json!({"address": key.address(), "public_key": key}));
        output.say(format_args!("address     {}", key.address()));
        output.say(format_args!("public key  {key}"));
        Ok(Exit::Ok)
    }
}

/// Let a node work in this account's name: print the signed delegation as JSON.
///
/// Worker and parameter server take it as --delegation FILE; what they earn is this account's. A
/// provisioner takes one for its own key, and passes it on to the machines that it takes in.
#[derive(Args)]
#[command(after_help = "Example: alia delegate $(compute standalone --show-key) > delegation.json")]
pub(crate) struct Delegate {
    /// The node's (or the provisioner's) public key, as its own `--show-key` prints it.
    #[arg(value_name = "NODE_PUBLIC_KEY")]
    delegate: PublicKey,
}

impl Delegate {
    pub(crate) fn run(self, home: &HomeFlag, output: &Output) -> Result<Exit, Error> {
        let home = home.open()?;
        let body = Delegation { delegate: self.delegate };
        let signed = Signed::sign(&home.settings.chain, body, &home.key()?);
        let text = serde_json::to_string_pretty(&signed)
            .map_err(|error| Error::Refused(error.to_string()))?;
        output.raw(format_args!("{text}\n"));
        Ok(Exit::Ok)
    }
}
