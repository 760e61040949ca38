//! `alia fleet media`: what miners registered, as the provisioner's operator sees it.

use super::{
    fleet_site::{meant, open},
    medium::line,
};
use crate::output::Output;
use clap::Subcommand;
use cli::{Error, Exit};
use protocol::{Address, PublicKey, medium::TokenStatus};
use std::path::Path;

/// Media of miners: what was registered here. `alia medium` is for the miners themselves.
#[derive(Subcommand)]
pub(crate) enum Media {
    /// Those of an owner, newest first.
    #[command(after_help = "Example: alia fleet media list alia1…")]
    List {
        /// Whose.
        owner: Address,
    },
    /// One, by its token.
    #[command(after_help = "Example: alia fleet media show TOKEN")]
    Show {
        /// Which.
        token: PublicKey,
    },
    /// Take one back: it binds no machine any more, and the node that came of it is refused.
    #[command(after_help = "Example: alia fleet media revoke TOKEN --yes")]
    Revoke {
        /// Which.
        token: PublicKey,
        /// Do not ask whether it is meant.
        #[arg(short, long)]
        yes: bool,
    },
}

impl Media {
    pub(crate) async fn run(self, home: &Path, output: &Output) -> Result<Exit, Error> {
        let fleet = open(home)?;
        match self {
            Self::List { owner } => {
                let media: Vec<TokenStatus> = fleet.get(&format!("/v1/media/of/{owner}")).await?;
                output.give(&media);
                media.iter().for_each(|status| output.say(line(status)));
            }
            Self::Show { token } => {
                let status: TokenStatus = fleet.get(&format!("/v1/media/{token}")).await?;
                output.give(&status);
                output.say(line(&status));
            }
            Self::Revoke { token, yes } => {
                let path = format!("/v1/media/{token}");
                let (status, tag) = fleet.tagged::<TokenStatus>(&path).await?;
                if !yes && !meant(&format!("Take back {}?", line(&status)))? {
                    output.note("nothing was done");
                    return Ok(Exit::Failed);
                }
                // What was seen is what is meant.
                let status: TokenStatus =
                    fleet.ask(&format!("{path}/revoke"), tag.as_deref()).await?;
                output.give(&status);
                output.say(line(&status));
            }
        }
        Ok(Exit::Ok)
    }
}
