//! `alia medium`: media for machines at home.

use super::{HomeFlag, now};
use crate::output::Output;
use clap::{Args, Subcommand};
use cli::{
    Error, Exit,
    medium::{self, MediumError, Provisioner, esp},
};
use protocol::{PublicKey, medium::TokenStatus};
use std::{path::PathBuf, time::Duration};

const DAY: u64 = 86_400;

/// A provisioner that serves miners.
#[derive(Args)]
pub(crate) struct Of {
    /// Its address by TLS, as its page for miners shows it.
    #[arg(long, value_name = "URL")]
    provisioner: String,
    /// Its key, which it is known by: no authority is asked.
    #[arg(long, value_name = "KEY")]
    provisioner_key: PublicKey,
}

impl Of {
    fn open(&self) -> Result<Provisioner, MediumError> {
        Ok(Provisioner::new(&self.provisioner, self.provisioner_key)?)
    }
}

/// Media for machines at home: a file that a PC boots, which then works for this account.
#[derive(Subcommand)]
pub(crate) enum Medium {
    /// Get a medium of your own: makes its key, signs, registers, fetches, and writes the file.
    #[command(after_help = "Examples:\n  alia medium get --provisioner https://boot.example:8443 \
        --provisioner-key KEY --out medium.img\n  alia medium get --provisioner \
        https://boot.example:8443 --provisioner-key KEY --esp /boot/efi/EFI/aliaos")]
    #[command(group = clap::ArgGroup::new("to").required(true))]
    Get {
        #[command(flatten)]
        of: Of,
        /// Within how many days a machine has to boot from it.
        #[arg(long, value_name = "DAYS", default_value_t = 30,
              value_parser = clap::value_parser!(u64).range(1..=90))]
        days: u64,
        /// Where it is written, for a stick or a CD; nothing is overwritten.
        #[arg(long, value_name = "FILE", group = "to")]
        out: Option<PathBuf>,
        /// Write its files apart instead, to a folder of a disk's EFI System Partition.
        #[arg(long, value_name = "FOLDER", group = "to")]
        esp: Option<PathBuf>,
    },
    /// Sign on a computer without a network: prints what the provisioner's page for miners takes.
    ///
    /// It has the medium's secret in it: who reads it may let machines work for this account.
    #[command(after_help = "Example: alia medium sign --provisioner-key KEY > registration.json")]
    Sign {
        /// The provisioner's key.
        #[arg(long, value_name = "KEY")]
        provisioner_key: PublicKey,
        /// Within how many days a machine has to boot from it.
        #[arg(long, value_name = "DAYS", default_value_t = 30,
              value_parser = clap::value_parser!(u64).range(1..=90))]
        days: u64,
    },
    /// This account's media: the provisioner's word.
    #[command(after_help = "Example: alia medium list --provisioner https://boot.example:8443 \
        --provisioner-key KEY")]
    List(Of),
    /// Take a medium back: it binds no machine any more, and the node that came of it is refused.
    #[command(after_help = "Example: alia medium revoke TOKEN \
        --provisioner https://boot.example:8443 --provisioner-key KEY")]
    Revoke {
        /// The medium's token, as `list` shows it.
        token: PublicKey,
        #[command(flatten)]
        of: Of,
    },
}

impl Medium {
    pub(crate) async fn run(self, home: &HomeFlag, output: &Output) -> Result<Exit, Error> {
        let home = home.open()?;
        let (chain, owner) = (&home.settings.chain, home.key()?);
        match self {
            Self::Get { of, days, out, esp } => {
                let to = out.as_ref().or(esp.as_ref());
                if let Some(there) = to.filter(|path| path.exists()) {
                    return Err(Error::Refused(format!("{} is there already", there.display())));
                }
                let server = of.open()?;
                let offer = medium::offer(&server, chain).await?;
                // The provisioner's clock says when it ends, so it says when it begins.
                let record = medium::sign(chain, &owner, server.key(), offer.unix_time, days * DAY)
                    .map_err(MediumError::from)?;
                let told = |came: u64| {
                    output.progress(format_args!("{} of {} MB", came >> 20, offer.bytes >> 20));
                };
                let content = medium::fetch(&server, &offer, told).await?;
                let status = medium::register(&server, &record).await?;
                match (&out, &esp) {
                    (Some(file), _) => medium::write(file, content, &record)?,
                    (None, Some(folder)) => esp::write(folder, content, &record)?,
                    (None, None) => {}
                }
                output.give(&status);
                output.say(format_args!("token {}, for {}", status.token, status.owner));
                if let Some(out) = out.as_ref().map(|path| path.display()) {
                    output.say(format_args!(
                        "{out}: write it to a stick (`dd if={out} of=/dev/sdX bs=4M oflag=direct`) and \
                         boot one machine from it within {days} days; then delete the file: who has it \
                         can let machines work for you"
                    ));
                }
                if let Some(folder) = esp.as_ref().map(|path| path.display()) {
                    output.say(format_args!(
                        "{folder}: have firmware start {} of it within {days} days (`efibootmgr --create \
                         --disk /dev/sdX --part N --label aliaOS --loader '\\EFI\\aliaos\\{}'`); who \
                         reads the folder can let machines work for you",
                        esp::STARTED,
                        esp::STARTED
                    ));
                }
            }
            Self::Sign { provisioner_key, days } => {
                let now = now().as_secs();
                let record = medium::sign(chain, &owner, provisioner_key, now, days * DAY)
                    .map_err(MediumError::from)?;
                let text = serde_json::to_string(&record.to_text())
                    .map_err(|error| Error::Refused(error.to_string()))?;
                output.raw(format_args!("{text}\n"));
            }
            Self::List(of) => {
                let media = medium::list(&of.open()?, owner.public().address()).await?;
                output.give(&media);
                if media.is_empty() {
                    output.say("none");
                }
                for status in &media {
                    output.say(line(status));
                }
            }
            Self::Revoke { token, of } => {
                let status = medium::revoke(&of.open()?, chain, &owner, token).await?;
                output.give(&status);
                output.say(line(&status));
            }
        }
        Ok(Exit::Ok)
    }
}

/// A token in a line: `TOKEN bound, node 1a2b3c4d at 52:54:00:12:34:56`.
pub(super) fn line(status: &TokenStatus) -> String {
    let machine = match (&status.node, &status.mac) {
        (Some(node), Some(mac)) => format!(", node {} at {mac}", node.short()),
        _ => {
            let left = Duration::from_secs(status.expires).saturating_sub(now());
            format!(", {} days left", left.as_secs() / DAY)
        }
    };
    format!("{} {}{machine}", status.token, status.state.as_str())
}
